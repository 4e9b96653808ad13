"""A LoRA is on every layer that can learn and on no other; LoRAs of earlier versions are read."""

import pytest
import torch
from helpers.family_cases import CASES
from helpers.tiny import randomise

from blockskip.core import presets
from blockskip.core.settings import Settings
from blockskip.memory.planning.run_sizes import lora_params
from blockskip.training import optimizer
from blockskip.training.front_output import with_text
from blockskip.training.lora import add_lora, restore, snapshot
from blockskip.training.residuals import Span, compute_window
from blockskip.training.skipping import skip_blocks, text_for_middle
from blockskip.training.trainer import micro_step

CPU = torch.device("cpu")
# the first without skipping; the last middle of the others ends before the last block, in models of
# two stacks also among the double blocks
SPANS = [Span(0, 0), Span(1, 2), Span(0, 4)]


def learning_layers(case, span):
    """Return (layers with a LoRA, those of them in which A or B gets a gradient) after one step."""
    model, family, draws = case.model(), case.family, case.draws(2)
    lora = add_lora(model, family, span, 2, "attention+ff", 0)
    randomise(lora)
    window = with_text(compute_window(model, family, span, draws, 2, CPU))
    window["target"] = torch.randn(draws.noisy.shape, generator=torch.Generator().manual_seed(5))
    with skip_blocks(model, family, span) as step_inputs:
        text = text_for_middle(family, span, draws.text)
        micro_step(model, family, step_inputs, window, text, case.side_px, 1)
    layers: dict[str, list[bool]] = {}
    for name, parameter in lora.items():
        moved = parameter.grad is not None and bool(parameter.grad.abs().max() > 0)
        layers.setdefault(name.rpartition(".lora_")[0], []).append(moved)
    assert all(len(set(pair)) == 1 and len(pair) == 2 for pair in layers.values())
    return set(layers), {layer for layer, pair in layers.items() if all(pair)}


@pytest.mark.parametrize("span", SPANS, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_every_layer_with_a_lora_gets_a_gradient_and_no_other_would(name, span, monkeypatch):
    case = CASES[name]
    adapted, learning = learning_layers(case, span)
    assert adapted == learning and adapted
    monkeypatch.setattr(type(case.family), "text_outputs", ())
    everywhere, learning_of_all = learning_layers(case, span)
    assert learning_of_all == adapted, "nothing that could learn is left out"
    if name == "qwen_image":
        last = f"transformer.transformer_blocks.{5 - span.back}."
        left = ("attn.add_q_proj", "attn.to_add_out", "txt_mlp.net.0.proj", "txt_mlp.net.2")
        assert everywhere - adapted == {last + layer for layer in left}


@pytest.mark.parametrize("scaling", [1.0, 0.5])
def test_the_output_is_added_in_the_product_with_b_as_peft_adds_it(scaling):
    """Output and gradients are those of peft's own forward."""
    found = []
    for own in (True, False):
        case = CASES["flux"]
        model = case.model()
        lora = add_lora(model, case.family, Span(0, 0), 2, "attention+ff", 0)
        randomise(lora)
        layer = model.transformer_blocks[0].attn.to_q
        layer.scaling["default"] = scaling
        if not own:
            layer.lora_variant.clear()
        x = torch.randn(2, 3, layer.in_features, generator=torch.Generator().manual_seed(1))
        y = layer(x.requires_grad_())
        y.square().sum().backward()
        found.append(
            (y, x.grad, layer.lora_A.default.weight.grad, layer.lora_B.default.weight.grad)
        )
    for ours, theirs in zip(*found, strict=True):
        assert theirs.abs().max() > 0.1
        torch.testing.assert_close(ours, theirs)


def test_what_an_earlier_version_adapted_in_vain_is_left_out_and_nothing_else(monkeypatch):
    case = CASES["qwen_image"]
    new = add_lora(case.model(), case.family, Span(1, 2), 2, "attention", 0)
    monkeypatch.setattr(type(case.family), "text_outputs", ())
    old = add_lora(case.model(), case.family, Span(1, 2), 2, "attention", 0)
    dead = old.keys() - new.keys()
    assert len(dead) == 4 and len(old) == 3 * 8 * 2
    learnt = {name: p for name, p in old.items() if name not in dead}
    randomise(learnt)  # B of the others stays 0
    for parameter in learnt.values():
        parameter.grad = torch.ones_like(parameter)
    adam, adam_of_old = optimizer.make(new, 0.1), optimizer.make(old, 0.1)
    for name in dead:
        old[name].grad = torch.zeros_like(old[name])
    adam_of_old.step()
    restore(new, snapshot(old))
    optimizer.restore(adam, new, optimizer.snapshot(adam_of_old, old))
    assert all(torch.equal(new[name], old[name]) for name in new)
    for name in new:
        ours, theirs = adam.state[new[name]], adam_of_old.state[old[name]]
        assert ours.keys() == theirs.keys() and ours
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    taught = snapshot(old)
    name = next(name for name in dead if "lora_B" in name)
    taught[name][0, 0] = 1
    with pytest.raises(KeyError, match=name.rpartition(".lora_B")[0]):
        restore(new, taught)
    with pytest.raises(KeyError):
        restore(old, snapshot(new))


@pytest.mark.parametrize("targets, width", [("attention", 8 * 6144), ("attention+ff", 110592)])
def test_the_plan_counts_the_same_layers(targets, width):
    """Qwen-Image: 3072 wide. Of its last trained block, attention's two and two of the MLP."""
    row = presets.model_row("qwen-image")
    dead = 12288 if targets == "attention" else 12288 + 30720
    settings = Settings.of(model=row.name, rank=16, targets=targets)
    for front, back in ((0, 0), (8, 10)):
        planned = lora_params(row, settings.changed(front=front, back=back))
        assert planned == 16 * ((60 - front - back) * width - dead)
