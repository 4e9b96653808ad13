"""The golden properties of docs/method.md §1.5, 1 to 5, for every family, on tiny random models of uneven
sizes."""

from contextlib import contextmanager

import pytest
import torch
from helpers.family_cases import CASES
from helpers.tiny import randomise

from blockskip.core import flow_matching
from blockskip.memory import block_wrappers, layerwise
from blockskip.models.families.caption_modules import caption_modules, set_aside
from blockskip.training import residuals
from blockskip.training.front_output import with_text
from blockskip.training.lora import add_lora, restore, snapshot
from blockskip.training.residuals import (
    PriorPass,
    Span,
    WindowInputs,
    compute_window,
    full_velocity,
)
from blockskip.training.skipping import skip_blocks, text_for_middle, velocity

CPU = torch.device("cpu")
SPANS = [Span(1, 2), Span(3, 1), Span(0, 2), Span(2, 0), Span(0, 0), Span(2, 3)]
CLOSE = {"atol": 2e-5, "rtol": 1e-4}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def common(one, other):
    """A draw's state beside longer captions than its own has more padding, which is cut here."""
    return one if one.dim() < 2 else one[:, : other.shape[1]]


def full_output(model, family, draws):
    given = family.inputs(model.config, draws.noisy, draws.text, draws.t, draws.side_px)
    return family.predict(model, given)


def skipped_output(model, family, span, window, draws, recomputed=0, backward=None):
    window = with_text(window)
    with skip_blocks(model, family, span, recomputed) as step_inputs, step_inputs.bind(window):
        output = velocity(model, family, step_inputs, window, draws.text, draws.side_px)
        if backward is not None:
            backward(output)
    return output


def test_adapting_leaves_the_librarys_output(case):
    draws, model = case.draws(), case.whole_model(adapted=False)
    set_aside(model, case.family)
    expected = full_output(model, case.family, draws)
    for _ in range(2):
        case.family.adapt(model)
        torch.testing.assert_close(full_output(model, case.family, draws), expected, **CLOSE)


@pytest.mark.parametrize("span", SPANS, ids=str)
def test_lora_at_zero_gives_the_full_models_output(case, span):
    model, family, draws = case.model(), case.family, case.draws()
    expected = full_output(model, family, draws)
    add_lora(model, family, span, 4, "attention", seed=0)
    window = compute_window(model, family, span, draws, 2, CPU)
    actual = skipped_output(model, family, span, window, draws)
    torch.testing.assert_close(actual, expected, **CLOSE)


@pytest.mark.parametrize("span", SPANS, ids=str)
@pytest.mark.parametrize("targets", ["attention", "attention+ff"])
def test_fresh_residuals_give_the_full_output_for_any_lora(case, span, targets):
    model, family, draws = case.model(), case.family, case.draws()
    untuned = full_output(model, family, draws)
    randomise(add_lora(model, family, span, 4, targets, seed=0))
    expected = full_output(model, family, draws)
    assert (expected - untuned).abs().max() > 0.02, "the LoRA must do something"
    window = compute_window(model, family, span, draws, 3, CPU)
    actual = skipped_output(model, family, span, window, draws)
    torch.testing.assert_close(actual, expected, **CLOSE)


def gradients(lora):
    """Taken away; zero where nothing reads what a part does (text after the last block)."""
    found = {}
    for name, parameter in lora.items():
        found[name] = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        parameter.grad = None
    return found


@pytest.mark.parametrize(
    "front, recomputed", [(0, 0), (1, 0), (3, 0), *((1, k) for k in range(1, 6))]
)
def test_gradients_are_the_full_models_when_no_back_is_skipped(case, front, recomputed):
    span, family, draws = Span(front, 0), case.family, case.draws()
    target = torch.randn_like(draws.noisy)
    model = case.model()
    lora = add_lora(model, family, span, 4, "attention+ff", seed=0)
    randomise(lora)
    flow_matching.loss(full_output(model, family, draws), target).backward()
    expected = gradients(lora)
    window = compute_window(model, family, span, draws, 2, CPU)
    skipped_output(
        model,
        family,
        span,
        window,
        draws,
        recomputed,
        backward=lambda output: flow_matching.loss(output, target).backward(),
    )
    for name, grad in gradients(lora).items():
        torch.testing.assert_close(grad, expected[name], msg=name, atol=1e-6, rtol=1e-3)
    assert any(grad.abs().max() > 1e-4 for grad in expected.values())


def test_gradient_passes_a_skipped_back_as_identity(case):
    span, family, draws = Span(1, 2), case.family, case.draws()
    model = case.model()
    randomise(add_lora(model, family, span, 4, "attention", seed=0))
    window = with_text(compute_window(model, family, span, draws, 5, CPU))
    blocks, images = family.blocks(model), {}

    def keep(name, streams):
        def hook(_module, _given, outputs):
            images[name] = streams.image(outputs, draws.noisy.shape[1])
            images[name].retain_grad()
            return streams.with_image(outputs, images[name])

        return hook

    with skip_blocks(model, family, span) as step_inputs, step_inputs.bind(window):
        handles = [
            model.get_submodule(blocks[i][0]).register_forward_hook(
                keep(i, family.streams(blocks[i][1]))
            )
            for i in (3, 5)  # the last of the middle, the last of all
        ]
        output = velocity(model, family, step_inputs, window, draws.text, draws.side_px)
        output.square().sum().backward()
        for handle in handles:
            handle.remove()
    assert images[5].grad.abs().max() > 0
    torch.testing.assert_close(images[3].grad, images[5].grad, rtol=0, atol=0)
    torch.testing.assert_close(images[5] - images[3], window["back"], **CLOSE)


@pytest.mark.parametrize("span", [Span(1, 2), Span(3, 1)], ids=str)
def test_lora_names_are_the_full_models(case, span):
    family = case.family
    names = set(add_lora(case.model(), family, Span(0, 0), 2, "attention+ff", seed=0))
    model = case.model()
    some = set(add_lora(model, family, span, 2, "attention+ff", seed=0))
    assert some < names
    blocks = [name for name, _ in family.blocks(model)]
    skipped = blocks[: span.front] + blocks[len(blocks) - span.back :]
    assert not [n for n in some if any(n.startswith(f"transformer.{b}.") for b in skipped)]
    with skip_blocks(model, family, span):
        pass
    after = {
        f"transformer.{n.replace('.default', '')}"
        for n, p in model.named_parameters()
        if p.requires_grad
    }
    assert after == some, "skipping leaves the model as it was"


def test_text_depends_on_the_caption_alone_just_where_a_family_says_so(case, monkeypatch):
    model, family, draws = case.model(), case.family, case.draws()
    static = family.text_is_static
    monkeypatch.setattr(type(family), "text_is_static", False)
    text, streams = [], family.streams(family.blocks(model)[0][1])
    for row in range(3):  # one by one: the last digit depends on the row of a product
        noisy, t = draws.noisy[row : row + 1], draws.t[row : row + 1]
        one = WindowInputs(noisy, draws.text.rows([0]), t, draws.side_px)
        first = compute_window(model, family, Span(3, 0), one, 1, CPU)["front.0"]
        place = streams.text_slice(first.shape[1], noisy.shape[1])
        text.append(first[:, place] if len(streams.names) == 1 else first)
    equal = all(torch.equal(one, text[0]) for one in text)
    assert static == (equal and text[0].numel() > 0)


@pytest.mark.parametrize("micro_batch", [1, 2, 4, 5, 64])
def test_a_window_equals_its_draws_one_by_one(case, micro_batch):
    span, family, draws = Span(2, 2), case.family, case.draws()
    model = case.model()
    randomise(add_lora(model, family, span, 4, "attention", seed=0))
    window = with_text(compute_window(model, family, span, draws, micro_batch, CPU))
    for row in range(len(draws.t)):
        one = type(draws)(
            draws.noisy[row : row + 1],
            draws.text.rows([row]),
            draws.t[row : row + 1],
            draws.side_px,
        )
        alone = with_text(compute_window(model, family, span, one, 1, CPU))
        assert alone.keys() == window.keys()
        for name, tensor in alone.items():
            here = common(window[name][row : row + 1], tensor)
            torch.testing.assert_close(here, tensor, msg=name, **CLOSE)


@pytest.mark.parametrize("micro_batch", [1, 2, 16])
def test_a_window_is_the_same_as_beside_a_card(case, micro_batch, monkeypatch):
    """There embedders and head take some draws at a time, or some tokens of all of them."""
    span, family, draws = Span(2, 2), case.family, case.draws()
    model = case.model()
    randomise(add_lora(model, family, span, 4, "attention", seed=0))
    window = compute_window(model, family, span, draws, 5, CPU)
    velocity = full_velocity(model, family, draws, 5, CPU)
    monkeypatch.setattr(residuals, "offload_side_modules", layerwise.in_host_memory)
    monkeypatch.setattr(block_wrappers, "CHUNK_ROWS", 7)
    some = compute_window(model, family, span, draws, micro_batch, CPU)
    assert some.keys() == window.keys()
    for name, tensor in some.items():
        torch.testing.assert_close(tensor, window[name], msg=name, **CLOSE)
    other = full_velocity(model, family, draws, micro_batch, CPU)
    torch.testing.assert_close(other, velocity, **CLOSE)


def test_any_draws_of_a_window_make_a_step(case):
    span, family, draws = Span(2, 2), case.family, case.draws()
    model = case.model()
    randomise(add_lora(model, family, span, 4, "attention", seed=0))
    expected = full_output(model, family, draws)
    window = with_text(compute_window(model, family, span, draws, 2, CPU))
    for start, stop in ((0, 1), (1, 3), (3, 4), (4, 5)):
        some = range(start, stop)
        step = {name: tensor[start:stop] for name, tensor in window.items()}
        with skip_blocks(model, family, span) as step_inputs, step_inputs.bind(step):
            text = text_for_middle(family, span, draws.text.rows(some))
            actual = velocity(model, family, step_inputs, step, text, draws.side_px)
        torch.testing.assert_close(actual, expected[start:stop], **CLOSE)


def test_the_middle_is_all_that_a_step_touches(case):
    """Embedders, caption modules, skipped blocks and the middle's modulation linears may be gone
    while training."""
    span, family, draws = Span(1, 2), case.family, case.draws()
    model = case.model()
    add_lora(model, family, span, 4, "attention", seed=0)
    window = compute_window(model, family, span, draws, 2, CPU)
    expected = skipped_output(model, family, span, window, draws)
    blocks = family.blocks(model)
    gone = [model.get_submodule(n) for n in (*family.embedders, *family.shared_modulation)]
    gone += caption_modules(model, family).values()
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


def test_draws_of_another_lora_pass_alongside(case):
    """Their answer is the full model's under that LoRA; the window's draws have no part in it."""
    span, family, draws, others = Span(1, 2), case.family, case.draws(), case.draws(3, seed=5)
    model = case.model()
    lora = add_lora(model, family, span, 4, "attention", seed=0)
    untrained = snapshot(lora)
    expected = full_velocity(model, family, others, 2, CPU)
    randomise(lora)
    alone = compute_window(model, family, span, draws, 2, CPU)

    @contextmanager
    def as_it_was(name):
        now = snapshot(lora)
        some = {n: (untrained if f".{name}." in n else now)[n] for n in lora}
        restore(lora, some)
        yield
        restore(lora, now)

    prior_pass = PriorPass(others, as_it_was)
    window = compute_window(model, family, span, draws, 2, CPU, prior_pass=prior_pass)
    torch.testing.assert_close(prior_pass.velocity, expected, **CLOSE)
    assert window.keys() == alone.keys()
    for name, tensor in alone.items():
        torch.testing.assert_close(common(window[name], tensor), tensor, msg=name, **CLOSE)
