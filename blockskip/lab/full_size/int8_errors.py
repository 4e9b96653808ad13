"""Measure how exact products in 8 bits are on random blocks of FLUX.1's width, with outliers.

Eight of 3072 channels of every linear's input are made 20 times as large as the others. Without
them, random blocks are easier than trained ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor, nn

from blockskip.lab.full_size.random_model import FLUX_DEV
from blockskip.memory.int8_products import MAX_ERROR, relative_error
from blockskip.memory.placement import replace_modules
from blockskip.memory.quantisation import QuantisedLinear, block_linears, quantise
from blockskip.models.families.base import Family, Text
from blockskip.models.families.flux import Flux
from blockskip.models.families.streams import as_tuple
from blockskip.training.lora import add_lora
from blockskip.training.residuals import Span

RANK = 16


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to measure: a FLUX.1 of `heads` heads (128 channels each) and so many blocks. times: how
    much larger the outliers are. tokens: of the image and of the text."""

    heads: int = 24
    double: int = 1
    single: int = 1
    times: float = 20.0
    tokens: tuple[int, int] = (256, 64)


@dataclass(frozen=True)
class _Pass:
    """What a block was given, what it returned, and what its LoRA learnt."""

    kwargs: dict
    outputs: tuple[Tensor, ...]
    gradients: Tensor


def measure(job: Job, progress: Callable[[str], None] = lambda text: None) -> dict:
    """Return the errors of linears, and the cosines of LoRA gradients by block and in all,
    JSON-ready."""
    model, family = _random_model(job), Flux()
    lora = _random_lora(model, family)
    linears, blocks = _linears(model, family), family.blocks(model)
    with _outliers(model, linears, job.times):
        given = _inputs(model, job)
        seen = _block_inputs(model, family, given)
        exact = {name: _run(block, seen[name]) for name, block in blocks}
        whole = _whole(model, given, lora)
        progress("exact")
        quantised = {name: _in_int8(layer) for name, layer in linears.items()}
        errors = _errors(model, linears, quantised, seen, family)
        progress("linears")
        chosen = {name: layer for name, layer in quantised.items() if errors[name][1] <= MAX_ERROR}
        for layer in chosen.values():
            layer.in_int8 = True
        with replace_modules(model, quantised):
            rounded = {name: _run(block, seen[name]) for name, block in blocks}
            whole_rounded = _whole(model, given, lora)
    return {
        "width": 128 * job.heads,
        "blocks": [job.double, job.single],
        "times": job.times,
        "in_int8": len(chosen),
        "linears": len(linears),
        "worst_error": max(error for error, _ in errors.values()),
        "errors": {
            name.removesuffix(".base_layer"): round(error, 5) for name, (error, _) in errors.items()
        },
        "block_cosines": {
            name: round(_cosine(exact[name].gradients, rounded[name].gradients), 6)
            for name, _ in blocks
        },
        "output_error": relative_error(whole_rounded.outputs[0], whole.outputs[0]),
        "cosine_in_all": _cosine(whole.gradients, whole_rounded.gradients),
    }


def _random_model(job: Job) -> nn.Module:
    torch.manual_seed(0)
    shape = FLUX_DEV | {"num_attention_heads": job.heads}
    shape |= {"num_layers": job.double, "num_single_layers": job.single}
    return FluxTransformer2DModel(**shape).requires_grad_(False).eval()


def _random_lora(model: nn.Module, family: Family) -> dict[str, nn.Parameter]:
    lora = add_lora(model, family, Span(0, 0), RANK, "attention+ff", seed=0)
    source = torch.Generator().manual_seed(2)
    for parameter in lora.values():
        parameter.data = 0.02 * torch.randn(parameter.shape, generator=source)
    return lora


def _linears(model: nn.Module, family: Family) -> dict[str, nn.Linear]:
    """Return the frozen linears of all blocks that see tokens, by name; LoRA's are beside them."""
    found = {}
    for block_name, block in family.blocks(model):
        told = {f"{block_name}.{name}" for name in family.modulation(block)}
        linears = block_linears([(block_name, block)])
        found |= {n: each for n, each in linears.items() if type(each) is nn.Linear}
        for name in told:
            found.pop(name)
    return found


@contextmanager
def _outliers(model: nn.Module, linears: dict[str, nn.Linear], times: float) -> Iterator[None]:
    """Context manager that enlarges the same eight of 3072 channels of every linear's input."""

    def enlarge(gain: Tensor) -> Callable:
        return lambda _module, given: (given[0] * gain, *given[1:])

    with ExitStack() as stack:
        for name, linear in linears.items():
            width = linear.in_features
            gain, source = torch.ones(width), torch.Generator().manual_seed(width)
            gain[torch.randperm(width, generator=source)[: 8 * width // 3072]] = times
            layer = model.get_submodule(name.removesuffix(".base_layer"))
            stack.callback(layer.register_forward_pre_hook(enlarge(gain)).remove)
        yield


def _inputs(model: nn.Module, job: Job) -> dict:
    source, family = torch.Generator().manual_seed(1), Flux()
    image, text = job.tokens
    side = 16 * round(image**0.5)
    length, width, beside = family.caption_shape(model, text)
    noisy = torch.randn(1, image, FLUX_DEV["in_channels"], generator=source)
    embeds = torch.randn(1, length, width, generator=source)
    pooled = torch.randn(1, beside, generator=source)
    return family.inputs(model.config, noisy, Text(embeds, pooled), torch.tensor([0.7]), side)


@torch.no_grad()
def _block_inputs(model: nn.Module, family: Family, given: dict) -> dict[str, dict]:
    """Return the arguments of every block in one pass, by the block's name."""
    seen: dict[str, dict] = {}
    with ExitStack() as stack:
        for name, block in family.blocks(model):
            handle = block.register_forward_pre_hook(
                lambda _block, _args, kwargs, name=name: seen.update({name: dict(kwargs)}),
                with_kwargs=True,
            )
            stack.callback(handle.remove)
        model(**given)
    return seen


def _run(block: nn.Module, kwargs: dict) -> _Pass:
    """Pass a block forward and backward, with a random gradient of its outputs."""
    outputs = tuple(stream for stream in as_tuple(block(**kwargs)) if stream is not None)
    source = torch.Generator().manual_seed(3)
    grads = [torch.randn(stream.shape, generator=source) for stream in outputs]
    torch.autograd.backward(outputs, grads)
    return _Pass(kwargs, tuple(o.detach() for o in outputs), _gradients(block.parameters()))


def _whole(model: nn.Module, given: dict, lora: dict[str, nn.Parameter]) -> _Pass:
    """Pass the model forward and backward, with the gradient of a loss against a random target."""
    output = model(**given)[0]
    target = torch.randn(output.shape, generator=torch.Generator().manual_seed(4))
    (output - target).square().mean().backward()
    return _Pass({}, (output.detach(),), _gradients(lora.values()))


def _gradients(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Return all gradients in one vector, and take them away."""
    found = []
    for parameter in parameters:
        if parameter.grad is not None:
            found.append(parameter.grad.flatten())
            parameter.grad = None
    return torch.cat(found)


def _in_int8(linear: nn.Linear) -> QuantisedLinear:
    layer = QuantisedLinear(linear, "int8", rotates=True)
    for name, part in quantise(linear.weight.detach(), "int8", layer.rotation).items():
        setattr(layer, name, nn.Parameter(part, requires_grad=False))
    return layer


@torch.no_grad()
def _errors(
    model: nn.Module,
    linears: dict[str, nn.Linear],
    quantised: dict[str, QuantisedLinear],
    seen: dict[str, dict],
    family: Family,
) -> dict[str, tuple[float, float]]:
    """Return the error of every linear's product in 8 bits against the exact one, and against its
    unpacked weight, which decides (sampling/arithmetic.py)."""
    errors = {}

    def compare(name: str, x: Tensor, output: Tensor) -> None:
        product = quantised[name].int8_product(x)
        errors[name] = relative_error(product, output), relative_error(product, quantised[name](x))

    with ExitStack() as stack:
        for name, linear in linears.items():
            handle = linear.register_forward_hook(
                lambda _layer, given, output, name=name: compare(name, given[0], output)
            )
            stack.callback(handle.remove)
        for name, block in family.blocks(model):
            block(**seen[name])
    return errors


def _cosine(one: Tensor, other: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(one.double(), other.double(), dim=0))
