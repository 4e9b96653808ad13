"""Compile a model's blocks, where the run is long enough to gain by it (docs/method.md §1.4e).

All blocks of a class share one compiled forward. Their weights, and replayed modulation, are inputs
of its graphs, so that loaded, streamed and swapped weights are alike. A class has one graph each
with and without gradients, LoRA and products in 8 bits, and for one draw or several; the numbers of
draws and tokens are free. Checkpointing stays outside. When the compiler fails, all blocks run as
if there was none.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo.exc import FailOnRecompileLimitHit
from torch.utils.checkpoint import _StopRecomputationError

from blockskip.memory.int8_products import relative_error
from blockskip.models.families.streams import Outputs, as_tuple

log = logging.getLogger(__name__)
# Of a class. Blocks whose linears in 8 bits are others need graphs of their own, and few are worth it.
MAX_GRAPHS = 24
# Largest relative difference from the uncompiled block. Other roundings of 16 bits make a
# hundredth; torch 2.13 is known to compile some programs wrongly (pytorch issue 193183).
MAX_DIFFERENCE = 0.05
_PROCESSES = 4  # that compile kernels at a time: each takes RAM
Backend = Callable[[Any, Any], Callable]  # (graph, inputs) → a function


def unusable_compiler(device: torch.device) -> str:
    """Return why torch cannot compile for the device, or "". A small function is tried."""
    if device.type != "cuda":
        return f"not for {device.type}"
    if find_spec("triton") is None:
        return "triton is not installed"
    try:
        x = torch.randn(64, 64, device=device, requires_grad=True)
        expected = _probe(x)
        actual = torch.compile(_probe, backend=_inductor, fullgraph=True, dynamic=True)(x)
        grads = [torch.autograd.grad(output.sum(), x)[0] for output in (expected, actual)]
        agrees = relative_error(actual, expected) + relative_error(*grads) < MAX_DIFFERENCE
    except Exception as error:  # whatever a compiler raises
        log.warning("torch cannot compile here", exc_info=True)
        return _short(error)
    return "" if agrees else "its results are wrong"


def _probe(x: Tensor) -> Tensor:
    return nn.functional.layer_norm(nn.functional.gelu(x) * x, x.shape[-1:])


def _short(error: Exception) -> str:
    error = getattr(error, "inner_exception", error)  # torch says first that something raised it
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:120]}" if lines else type(error).__name__


class Uncompiled(Exception):
    """The compiler failed in a pass with gradients, which must be repeated. No block is compiled any
    more, and what checkpointing noted of compiled ones does not fit."""


class CompiledBlocks:
    """Lets the blocks of a model run compiled, until something fails.

    note: is called with the reason once, if that happens; it may be replaced. problem: the reason,
    "" so far. backend: compiles a graph; None: torch's usual compiler. graphs: how many were
    compiled so far.
    """

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        note: Callable[[str], object],
        backend: Backend | None = None,
    ) -> None:
        self._blocks, self.note, self.graphs, self.problem = blocks, note, 0, ""
        self._backend = backend or _inductor
        _configure()
        compiled = partial(
            torch.compile,
            backend=self._compile,
            fullgraph=True,
            dynamic=True,
            recompile_limit=MAX_GRAPHS,
            isolate_recompiles=True,
        )
        kinds: set[type[nn.Module]] = {type(block) for block in blocks}
        self._forward = {kind: compiled(kind.forward) for kind in kinds}
        for block in blocks:
            vars(block)["forward"] = partial(self._run, block)

    def _compile(self, graph: Any, inputs: Any) -> Callable:
        self.graphs += 1
        started = time.perf_counter()
        result = self._backend(graph, inputs)
        log.info("graph %d compiled in %.1f s", self.graphs, time.perf_counter() - started)
        return result

    def _run(self, block: nn.Module, *args: Any, **kwargs: Any) -> Outputs:
        """Return the block's outputs. What the compiled block cannot do, the block does, or raises
        Uncompiled if gradients are wanted."""
        kind, graphs = type(block), self.graphs
        uncompiled = partial(kind.forward, block, *args, **kwargs)
        try:
            outputs = self._forward[kind](
                block,
                *(_plain(value) for value in args),
                **{name: _plain(value) for name, value in kwargs.items()},
            )
            if self.graphs == graphs or _agree(outputs, uncompiled):
                return outputs
            problem = "its results are wrong"
        except _StopRecomputationError:  # checkpointing has what it needs
            raise
        except FailOnRecompileLimitHit:
            log.info("a block is not compiled: %d graphs are enough", MAX_GRAPHS)
            del vars(block)["forward"]
            return uncompiled()
        except Exception as error:  # whatever a compiler raises, and what a graph does
            log.warning("a compiled block failed", exc_info=True)
            problem = _short(error)
        with torch.no_grad():
            expected = uncompiled()  # raises if the compiler was not to blame
        self._stop(problem)
        if torch.is_grad_enabled():
            raise Uncompiled
        return expected

    def _stop(self, problem: str) -> None:
        for block in self._blocks:
            vars(block).pop("forward", None)
        self.problem = problem
        self.note(not_compiled(problem))


def not_compiled(problem: str) -> str:
    """Return what a user is told about blocks that are not compiled."""
    return (
        f"torch cannot compile the model's blocks on this computer ({problem}). Training goes on "
        "without, a little slower."
    )


@torch.no_grad()
def _agree(outputs: Outputs, uncompiled: Callable[[], Outputs]) -> bool:
    """Return whether the first outputs of a graph are those of the uncompiled block."""
    pairs = zip(as_tuple(outputs), as_tuple(uncompiled()), strict=True)
    errors = [relative_error(a, b) for a, b in pairs if a is not None and b is not None]
    return all(error < MAX_DIFFERENCE for error in errors)


def _plain(value: Any) -> Any:
    """Return a tensor, or a tuple of tensors, as if just allocated: a graph is tied to how its
    inputs lie in memory, and to the tensors that they are parts of."""
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    if not isinstance(value, Tensor) or (value._base is None and _dense(value)):
        return value
    return value.clone(memory_format=torch.contiguous_format)


def _dense(x: Tensor) -> bool:
    expected = torch.empty(x.shape, device="meta").stride()
    return x.stride() == expected and not x.storage_offset()


def _configure() -> None:
    """Set torch's compiler to what the plan counts with."""
    import torch._functorch.config as functorch
    import torch.fx.experimental._config as fx

    fx.use_duck_shape = False  # two sizes that happen to be equal stay two
    functorch.force_non_lazy_backward_lowering = True  # fails in the forward, which can be repeated


def _inductor(graph: Any, inputs: Any) -> Callable:
    from torch._inductor import config
    from torch._inductor.compile_fx import compile_fx

    threads = min(_PROCESSES, config.compile_threads or 1)
    # padded copies of weights are not in the plan
    options = {"compile_threads": threads, "shape_padding": False, "comprehensive_padding": False}
    compiled: Any = compile_fx(graph, inputs, config_patches=options)
    return compiled
