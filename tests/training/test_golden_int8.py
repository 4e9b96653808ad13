"""The golden properties of docs/method.md §1.5 inside 8-bit arithmetic: windows, steps and pictures round alike.

In float64, since there a sum in another order hardly ever moves a digit."""

import dataclasses

import pytest
import torch
from helpers.family_cases import CASES
from helpers.tiny import randomise
from helpers.training import SETTINGS, trainer
from torch import nn

from blockskip.core import flow_matching, safetensors_files
from blockskip.memory.int8_products import relative_error
from blockskip.memory.quantisation import QuantisedLinear, block_linears, quantise
from blockskip.training import residuals
from blockskip.training.front_output import with_text
from blockskip.training.lora import add_lora
from blockskip.training.residuals import Span, compute_window, full_velocity
from blockskip.training.skipping import skip_blocks, velocity

CPU = torch.device("cpu")
EQUAL = 1e-5


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture(autouse=True)
def in_float64(monkeypatch):
    """The clip of residuals for float16 knows no float64."""
    monkeypatch.setattr(residuals, "_within", lambda tensor, _: tensor)


def filled(linear, in_int8):
    layer = QuantisedLinear(linear, "int8", rotates=True)
    for part, value in quantise(linear.weight.detach(), "int8", layer.rotation).items():
        setattr(layer, part, nn.Parameter(value, requires_grad=False))
    layer.in_int8 = in_int8
    return layer


def quantised(case, in_int8=True):
    """Return a family's tiny model with blocks in 8 bits; products too, but for modulation."""
    model, family = case.model().double(), case.family
    for block_name, block in family.blocks(model):
        for name, linear in block_linears([(block_name, block)]).items():
            inner = name.removeprefix(f"{block_name}.")
            product = in_int8 and inner not in family.modulation(block)
            model.set_submodule(name, filled(linear, product))
    return model


def doubled(draws):
    text = draws.text.to(torch.float64)
    return dataclasses.replace(draws, noisy=draws.noisy.double(), text=text)


def skipped(model, family, span, window, draws, target=None):
    window = with_text(window)
    with skip_blocks(model, family, span, 2) as step_inputs, step_inputs.bind(window):
        given = (window, draws.text, draws.side_px)
        output = velocity(model, family, step_inputs, *given)
        if target is not None:
            flow_matching.loss(output, target).backward()
    return output.detach()


def test_fresh_residuals_give_the_full_output_for_any_lora(case):
    span, family, draws = Span(1, 2), case.family, doubled(case.draws())
    outputs = []
    for in_int8 in (True, False):
        model = quantised(case, in_int8)
        randomise(add_lora(model, family, span, 4, "attention", seed=0))
        outputs.append(full_velocity(model, family, draws, 5, CPU))
        if in_int8:
            window = compute_window(model, family, span, draws, 2, CPU)
            step = skipped(model, family, span, window, draws)
    assert relative_error(step, outputs[0]) < EQUAL
    assert relative_error(outputs[1], outputs[0]) > 50 * EQUAL, "the arithmetic must matter"


def test_gradients_are_the_full_models_when_no_back_is_skipped(case):
    span, family, draws = Span(2, 0), case.family, doubled(case.draws())
    model, target = quantised(case), torch.randn_like(draws.noisy)
    lora = add_lora(model, family, span, 4, "attention+ff", seed=0)
    randomise(lora)
    given = family.inputs(model.config, draws.noisy, draws.text, draws.t, draws.side_px)
    flow_matching.loss(family.predict(model, given), target).backward()
    expected = {name: p.grad for name, p in lora.items() if p.grad is not None}
    for parameter in lora.values():
        parameter.grad = None
    window = compute_window(model, family, span, draws, 2, CPU)
    skipped(model, family, span, window, draws, target)
    actual = torch.cat([lora[name].grad.flatten() for name in expected])
    assert relative_error(actual, torch.cat([g.flatten() for g in expected.values()])) < EQUAL


def test_the_choice_of_linears_is_part_of_a_windows_stamp(tmp_path):
    stamps = []
    for in_int8 in (True, False, True):
        job = trainer(tmp_path / "windows", SETTINGS.changed(precision="int8", arithmetic="int8"))
        name = "transformer_blocks.0.attn.to_q"
        linear = job.model.get_submodule(name)
        job.model.set_submodule(name, filled(linear, in_int8))
        stamps.append(safetensors_files.read_metadata(job.make_window(0))["fingerprint"])
    assert stamps[0] == stamps[2] != stamps[1]


@pytest.mark.parametrize("micro_batch", [1, 4])
def test_a_window_equals_its_draws_in_other_batches(case, micro_batch):
    span, family, draws = Span(2, 2), case.family, doubled(case.draws())
    model = quantised(case)
    randomise(add_lora(model, family, span, 4, "attention", seed=0))
    whole, some = (
        with_text(compute_window(model, family, span, draws, batch, CPU))
        for batch in (5, micro_batch)
    )
    for name, tensor in whole.items():
        # SANA's attention sums in float32, where a digit may move
        assert relative_error(some[name], tensor) < 3e-3, name
