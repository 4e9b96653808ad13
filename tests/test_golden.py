"""The golden properties of METHOD.md §1.5, 1 to 5, on tiny random FLUX models of uneven sizes."""

import itertools

import pytest
import torch
from tiny import randomise, tiny_draws, tiny_flux

from blockskip import flow
from blockskip.families.flux import Flux
from blockskip.residuals import Span, compute_window
from blockskip.skipping import add_lora, skipping, velocity

CPU = torch.device("cpu")
SPANS = [Span(1, 2), Span(3, 1), Span(0, 2), Span(2, 0), Span(0, 0), Span(2, 3)]
CLOSE = {"atol": 2e-5, "rtol": 1e-4}


def full_output(model, family, draws):
    return model(**family.inputs(draws.noisy, draws.text, draws.t, draws.side_px, draws.guidance))[
        0
    ]


def skipped_output(model, family, span, window, draws, checkpointing=False, backward=None):
    with skipping(model, family, span, checkpointing) as feed, feed.holding(window):
        output = velocity(model, family, feed, window, draws.text, draws.side_px, draws.guidance)
        if backward is not None:
            backward(output)
    return output


@pytest.mark.parametrize("span", SPANS, ids=str)
@pytest.mark.parametrize("guidance", [False, True])
def test_lora_at_zero_gives_the_full_models_output(span, guidance):
    model, family = tiny_flux(guidance=guidance), Flux()
    draws = tiny_draws(guidance=guidance)
    expected = full_output(model, family, draws)
    add_lora(model, family, span, 4, "attention", seed=0)
    window = compute_window(model, family, span, draws, 2, CPU)
    actual = skipped_output(model, family, span, window, draws)
    torch.testing.assert_close(actual, expected, **CLOSE)


@pytest.mark.parametrize("span", SPANS, ids=str)
@pytest.mark.parametrize("targets", ["attention", "attention+ff"])
def test_fresh_residuals_give_the_full_output_for_any_lora(span, targets):
    model, family, draws = tiny_flux(), Flux(), tiny_draws()
    untuned = full_output(model, family, draws)
    randomise(add_lora(model, family, span, 4, targets, seed=0))
    expected = full_output(model, family, draws)
    assert (expected - untuned).abs().max() > 0.05, "the LoRA must do something"
    window = compute_window(model, family, span, draws, 3, CPU)
    actual = skipped_output(model, family, span, window, draws)
    torch.testing.assert_close(actual, expected, **CLOSE)


@pytest.mark.parametrize("front, checkpointing", [*itertools.product([0, 1, 3], [False, True])])
def test_gradients_are_the_full_models_when_no_back_is_skipped(front, checkpointing):
    span, family, draws = Span(front, 0), Flux(), tiny_draws()
    target = torch.randn_like(draws.noisy)
    model = tiny_flux()
    lora = add_lora(model, family, span, 4, "attention+ff", seed=0)
    randomise(lora)
    flow.loss(full_output(model, family, draws), target).backward()
    expected = {name: p.grad.clone() for name, p in lora.items()}
    for parameter in lora.values():
        parameter.grad = None
    window = compute_window(model, family, span, draws, 2, CPU)
    skipped_output(
        model,
        family,
        span,
        window,
        draws,
        checkpointing,
        backward=lambda output: flow.loss(output, target).backward(),
    )
    for name, parameter in lora.items():
        torch.testing.assert_close(parameter.grad, expected[name], msg=name, atol=1e-6, rtol=1e-3)
    assert any(grad.abs().max() > 1e-4 for grad in expected.values())


def test_gradient_passes_a_skipped_back_as_identity():
    span, family, draws = Span(1, 2), Flux(), tiny_draws()
    model = tiny_flux()
    randomise(add_lora(model, family, span, 4, "attention", seed=0))
    window = compute_window(model, family, span, draws, 5, CPU)
    seen = {}

    def keep(name):
        def hook(_module, args, kwargs):
            seen[name] = kwargs.get("hidden_states", args[0] if args else None)
            seen[name].retain_grad()

        return hook

    with skipping(model, family, span) as feed, feed.holding(window):
        first_skipped = family.blocks(model)[span.middle(6).stop][1]
        handles = [
            first_skipped.register_forward_pre_hook(keep("before"), with_kwargs=True),
            model.norm_out.register_forward_pre_hook(keep("after"), with_kwargs=True),
        ]
        velocity(
            model, family, feed, window, draws.text, draws.side_px, False
        ).square().sum().backward()
        for handle in handles:
            handle.remove()
    assert seen["after"].grad.abs().max() > 0
    torch.testing.assert_close(seen["before"].grad, seen["after"].grad, rtol=0, atol=0)
    torch.testing.assert_close(seen["after"] - seen["before"], window["back"], **CLOSE)


@pytest.mark.parametrize("span", [Span(1, 2), Span(3, 1)], ids=str)
def test_lora_names_are_the_full_models(span):
    family = Flux()
    names = set(add_lora(tiny_flux(), family, Span(0, 0), 2, "attention+ff", seed=0))
    model = tiny_flux()
    some = set(add_lora(model, family, span, 2, "attention+ff", seed=0))
    assert some < names
    blocks = [name for name, _ in family.blocks(model)]
    skipped = blocks[: span.front] + blocks[len(blocks) - span.back :]
    assert not [n for n in some if any(n.startswith(f"transformer.{b}.") for b in skipped)]
    with skipping(model, family, span):
        pass
    after = {
        f"transformer.{n.replace('.default', '')}"
        for n, p in model.named_parameters()
        if p.requires_grad
    }
    assert after == some, "skipping leaves the model as it was"


@pytest.mark.parametrize("micro_batch", [1, 2, 4, 5, 64])
def test_a_window_equals_its_draws_one_by_one(micro_batch):
    span, family, draws = Span(2, 2), Flux(), tiny_draws()
    model = tiny_flux()
    randomise(add_lora(model, family, span, 4, "attention", seed=0))
    window = compute_window(model, family, span, draws, micro_batch, CPU)
    for row in range(len(draws.t)):
        one = type(draws)(
            draws.noisy[row : row + 1],
            draws.text.rows([row]),
            draws.t[row : row + 1],
            draws.side_px,
            draws.guidance,
        )
        alone = compute_window(model, family, span, one, 1, CPU)
        assert alone.keys() == window.keys()
        for name, tensor in alone.items():
            torch.testing.assert_close(window[name][row : row + 1], tensor, msg=name, **CLOSE)


def test_the_middle_is_all_that_a_step_touches():
    """Embedders, skipped blocks and the middle's modulation linears may be gone while training."""
    span, family, draws = Span(1, 2), Flux(), tiny_draws()
    model = tiny_flux()
    add_lora(model, family, span, 4, "attention", seed=0)
    window = compute_window(model, family, span, draws, 2, CPU)
    expected = skipped_output(model, family, span, window, draws)
    blocks = family.blocks(model)
    gone = [model.get_submodule(name) for name in family.embedders]
    gone += [block for i, (_, block) in enumerate(blocks) if i not in span.middle(len(blocks))]
    gone += [
        block.get_submodule(name)
        for i, (_, block) in enumerate(blocks)
        for name in family.modulation(block)
        if i in span.middle(len(blocks))
    ]
    with torch.no_grad():
        for module in gone:
            for parameter in module.parameters():
                parameter.fill_(float("nan"))
    torch.testing.assert_close(skipped_output(model, family, span, window, draws), expected)
