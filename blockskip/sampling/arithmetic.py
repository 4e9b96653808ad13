"""Choose the linears that multiply in 8 bits, by the error measured while a picture is sampled.

The choice is the model's alone, so that windows, steps and pictures of every run use one
arithmetic: the prompt, the seed and the size of the picture are fixed. The errors are kept beside
the quantised weights.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from torch import Tensor, nn

from blockskip.core import files
from blockskip.core.errors import UserError
from blockskip.memory import int8_products
from blockskip.memory.quantisation import QuantisedLinear

log = logging.getLogger(__name__)
PROMPT = "a photo of a cat that sits on a wooden bench beside a dog"
STEPS = 4  # so many levels of noise are seen


def choose_products(model: nn.Module, folder: Path, sample: Callable[[], object]) -> None:
    """Let those linears of an open model multiply in 8 bits whose error is small enough.

    folder: of its quantised weights. sample: passes a picture through the model, if the errors are
    not known yet. Raises UserError if they cannot be written.
    """
    path = folder / "int8_errors.json"
    errors = _known(path)
    if errors is None:
        with _measured(model) as errors:
            sample()
        files.write_json(path, errors)
    for name, layer in _linears(model).items():
        layer.in_int8 = errors.get(name, 1.0) <= int8_products.MAX_ERROR
    chosen = sum(layer.in_int8 for layer in _linears(model).values())
    log.info("%d of %d linears multiply in 8 bits", chosen, len(_linears(model)))


def _linears(model: nn.Module) -> dict[str, QuantisedLinear]:
    return {
        name.removesuffix(".base_layer"): layer  # of a LoRA
        for name, layer in model.named_modules()
        if isinstance(layer, QuantisedLinear)
    }


def _known(path: Path) -> dict[str, float] | None:
    """Return the errors of an earlier start; None if there are none, or they cannot be read."""
    if not path.exists():
        return None
    try:
        return files.read_json(path, dict[str, float])
    except UserError:
        log.exception("the errors of products in 8 bits are measured again")
        return None


@contextmanager
def _measured(model: nn.Module) -> Iterator[dict[str, float]]:
    """Context manager that collects each linear's largest error, by name.

    Linears that see less than a token a draw (modulation) are left out: they cost little, and all
    tokens share their error.
    """
    errors: dict[str, float] = {}

    def measure(layer: QuantisedLinear, name: str, x: Tensor, output: Tensor) -> None:
        if int8_products.allowed(x[..., 0].numel(), layer.in_features, layer.out_features):
            error = int8_products.relative_error(layer.int8_product(x), output)
            errors[name] = max(errors.get(name, 0.0), error if math.isfinite(error) else 1.0)

    with ExitStack() as stack:
        for name, layer in _linears(model).items():
            handle = layer.register_forward_hook(
                lambda layer, given, output, name=name: measure(layer, name, given[0], output)
            )
            stack.callback(handle.remove)
        yield errors
