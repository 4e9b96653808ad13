"""Compiled blocks equal uncompiled ones, and a kind is compiled once. Backends without a compiler."""

import dataclasses

import pytest
import torch
import torch._functorch.config as functorch
import torch.fx.experimental._config as fx
from helpers.family_cases import CASES
from helpers.tiny import randomise
from torch import nn
from torch._dynamo import lookup_backend
from torch._dynamo.utils import counters
from torch.utils.checkpoint import checkpoint

from blockskip.core import presets
from blockskip.core.settings import Settings
from blockskip.memory import compiled_blocks
from blockskip.memory.compiled_blocks import CompiledBlocks, Uncompiled
from blockskip.memory.planning.measured_speed import compiling_pays
from blockskip.memory.planning.planner import choose_settings
from blockskip.memory.quantisation import QuantisedLinear, quantise
from blockskip.training.lora import add_lora
from blockskip.training.residuals import Span, compute_window
from blockskip.training.skipping import skip_blocks, velocity

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    counters.clear()
    with fx.patch(use_duck_shape=True), functorch.patch(force_non_lazy_backward_lowering=False):
        yield
    torch._dynamo.reset()


def draws_of(case, cells, num):
    """Return draws of pictures of cells × cells tokens; the case has 3 × 3. (A picture of a single
    token, which no model makes, would have graphs of its own: torch ties them to sizes of 1.)"""
    latent, side_px = (cells**2, case.latent[1]), cells * case.side_px // 3
    if len(case.latent) == 3:
        latent = case.latent[0], *[case.latent[1] * cells // 3] * 2
    return dataclasses.replace(case, latent=latent, side_px=side_px).draws(num)


@pytest.mark.parametrize(
    "name, backend, most",
    [
        ("sana", "eager", 6),
        pytest.param("flux", "eager", 6, marks=pytest.mark.long),
        pytest.param("sana", "aot_eager", 6, marks=pytest.mark.long),
    ],
)
def test_windows_and_steps_of_any_size_share_a_kinds_graphs(name, backend, most):
    case = CASES[name]
    model, family, span = case.model(), case.family, Span(1, 2)
    lora = add_lora(model, family, span, 4, "attention+ff", seed=0)
    randomise(lora)

    def window_and_step(cells, num, micro_batch, rows, recomputed):
        draws = draws_of(case, cells, num)
        window = compute_window(model, family, span, draws, micro_batch, CPU)
        some = {key: value[rows] for key, value in window.items()}
        text = draws.text.rows(range(num)[rows])
        with skip_blocks(model, family, span, recomputed) as inputs, inputs.bind(some):
            velocity(model, family, inputs, some, text, draws.side_px).square().sum().backward()
        found = {key: p.grad for key, p in lora.items() if p.grad is not None}
        for parameter in lora.values():
            parameter.grad = None
        return window | found

    sizes = [(3, 4, 2, slice(2), 0), (3, 6, 3, slice(1, 4), 2), (4, 4, 2, slice(2, 4), 3)]
    expected, notes = [window_and_step(*size) for size in sizes], []
    blocks = [block for _, block in family.blocks(model)]
    compiled = CompiledBlocks(blocks, notes.append, lookup_backend(backend))
    graphs = []
    for size, before in zip(sizes, expected, strict=True):
        now = window_and_step(*size)
        graphs.append(compiled.graphs)
        assert now.keys() == before.keys()
        for key, value in now.items():
            torch.testing.assert_close(value, before[key], msg=key, atol=1e-5, rtol=1e-4)
    model.unload_lora()  # another run, with a LoRA of its own
    lora = add_lora(model, family, span, 4, "attention+ff", seed=1)
    window_and_step(*sizes[0])
    assert notes == [] and not counters["graph_break"]
    assert 0 < graphs[0] == graphs[-1] == compiled.graphs <= most


class Block(nn.Module):
    """A block of two linears of a kind of weight."""

    def __init__(self, precision="full", in_int8=False):
        super().__init__()
        self.up, self.down = (
            self._filled(nn.Linear(*shape).requires_grad_(False), precision, in_int8)
            for shape in ((64, 128), (128, 64))
        )

    @staticmethod
    def _filled(linear, precision, in_int8):
        if precision == "full":
            return linear
        layer = QuantisedLinear(linear, precision, rotates=in_int8)
        for part, value in quantise(linear.weight.detach(), precision, layer.rotation).items():
            setattr(layer, part, nn.Parameter(value, requires_grad=False))
        layer.in_int8 = in_int8
        return layer

    def forward(self, x):
        return x + self.down(nn.functional.gelu(self.up(x)))


def swapped(block):
    """Give a block other parameters of equal values, as streaming does."""
    for leaf in block.modules():
        for key, old in leaf._parameters.items():
            leaf._parameters[key] = nn.Parameter(old.detach().clone(), requires_grad=False)


def output_gradient_and_kept(blocks, x, recomputed=False):
    """Return the blocks' output, the gradient of x, and the bytes kept for the backward pass."""
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    x = x.clone().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = x
        for block in blocks:
            swapped(block)
            y = checkpoint(block, y, use_reentrant=False) if recomputed else block(y)
    y.square().sum().backward()
    return y.detach(), x.grad, sum(kept.values())


@pytest.mark.parametrize(
    "precision, in_int8", [("full", False), ("int8", False), ("int8", True), ("nf4", False)]
)
def test_weights_of_any_precision_are_inputs_of_one_graph(precision, in_int8):
    torch.manual_seed(0)
    blocks, notes = [Block(precision, in_int8) for _ in range(3)], []
    # the last one takes several pieces of a product in 8 bits
    inputs = [torch.randn(2, 20, 64), torch.randn(3, 40, 64), torch.randn(2, 5000, 64)]
    cases = [(x, recomputed) for x in inputs for recomputed in (False, True)]
    expected = [output_gradient_and_kept(blocks, *case) for case in cases]
    compiled = CompiledBlocks(blocks, notes.append, lookup_backend("aot_eager"))
    for case, (output, grad, kept) in zip(cases, expected, strict=True):
        actual = output_gradient_and_kept(blocks, *case)
        torch.testing.assert_close(actual[0], output)
        torch.testing.assert_close(actual[1], grad)
        assert actual[2] <= kept, "memory must stay within the plan"
    assert (compiled.graphs, notes) == (1, []) and not counters["graph_break"]


def broken(graph, inputs):
    raise RuntimeError("no such compiler\nat all")


def wrong(graph, inputs):
    return lambda *args: [output + 1 for output in graph(*args)]


def failing_later(graph, inputs):
    def run(*args):
        if args[0].device.type == "meta" or any(len(a) == 7 for a in args if a.dim() == 3):
            raise RuntimeError("launch failed")
        return graph(*args)

    return run


@pytest.mark.parametrize("backend", [broken, wrong, failing_later])
def test_a_run_goes_on_uncompiled_and_says_so_once(backend):
    torch.manual_seed(0)
    blocks, notes = [Block() for _ in range(3)], []
    inputs = [torch.randn(2, 20, 64), torch.randn(7, 20, 64)]
    expected = [blocks[0](x) for x in inputs]
    CompiledBlocks(blocks, notes.append, backend)
    with torch.no_grad():
        for x, output in [*zip(inputs, expected, strict=True)] * 2:
            torch.testing.assert_close(blocks[0](x), output)
    assert len(notes) == 1 and "Training goes on" in notes[0] and "\n" not in notes[0]
    assert not any("forward" in vars(block) for block in blocks)


class OtherBlock(Block):
    """A block of another kind."""

    def forward(self, x):
        return super().forward(x)


@pytest.mark.parametrize("failing", [broken, wrong])
def test_a_step_that_fails_half_way_is_repeated_uncompiled(failing):
    """Checkpointing does not fit a block that was compiled in the forward pass alone."""
    torch.manual_seed(0)
    blocks, notes, x = [Block(), OtherBlock()], [], torch.randn(2, 20, 64)
    output, grad, kept = output_gradient_and_kept(blocks, x, recomputed=True)
    compilers = iter([lookup_backend("aot_eager"), failing])
    CompiledBlocks(blocks, notes.append, lambda graph, inputs: next(compilers)(graph, inputs))
    with pytest.raises(Uncompiled):
        output_gradient_and_kept(blocks, x, recomputed=True)
    again = output_gradient_and_kept(blocks, x, recomputed=True)
    torch.testing.assert_close(again, (output, grad, kept))
    assert len(notes) == 1


def test_blocks_beyond_the_last_graph_stay_uncompiled_alone(monkeypatch):
    monkeypatch.setattr(compiled_blocks, "MAX_GRAPHS", 1)
    torch.manual_seed(0)
    blocks, notes = [Block("int8"), Block("int8", in_int8=True), Block("int8")], []
    x = torch.randn(2, 20, 64)
    output, grad, _ = output_gradient_and_kept(blocks, x, recomputed=True)
    compiled = CompiledBlocks(blocks, notes.append, lookup_backend("aot_eager"))
    for _ in range(2):
        actual = output_gradient_and_kept(blocks, x, recomputed=True)
        torch.testing.assert_close(actual[:2], (output, grad))
    assert ["forward" in vars(block) for block in blocks] == [True, False, True]
    assert (compiled.graphs, notes) == (1, [])


def test_what_the_block_itself_raises_is_not_the_compilers_fault():
    block, notes = Block(), []
    CompiledBlocks([block], notes.append, lookup_backend("eager"))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        block(torch.randn(2, 20, 63))
    assert notes == [] and "forward" in vars(block)


def test_a_computer_without_a_compiler_is_known(monkeypatch):
    monkeypatch.setattr(compiled_blocks, "find_spec", lambda name: None)
    assert compiled_blocks.unusable_compiler(torch.device("cuda")) == "triton is not installed"
    assert compiled_blocks.unusable_compiler(CPU)


@pytest.mark.parametrize(
    "backend, problem",
    [("eager", ""), (wrong, "its results are wrong"), (broken, "RuntimeError: no such compiler")],
)
def test_a_compiler_is_tried_with_the_settings_of_blocks(monkeypatch, backend, problem):
    backend = lookup_backend(backend) if isinstance(backend, str) else backend
    monkeypatch.setattr(compiled_blocks, "_inductor", backend)
    monkeypatch.setattr(compiled_blocks, "find_spec", lambda name: "triton")
    x = torch.randn(4, 8, requires_grad=True)
    monkeypatch.setattr(torch, "randn", lambda *shape, **_: x)  # there is no card
    found = compiled_blocks.unusable_compiler(torch.device("cuda"))
    assert found == problem


def test_only_a_long_run_is_compiled():
    row = presets.model_row("flux-dev")
    settings = choose_settings(model="flux-dev", budget_gib=12, free_gib=11.0, capability=8.6)
    assert settings.compile == "auto" and compiling_pays(row, settings)
    short = settings.changed(steps=1, preview_prompts=())
    assert not compiling_pays(row, short)
    assert not compiling_pays(presets.model_row("demo"), Settings())
