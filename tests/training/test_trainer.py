"""The loop learns, and a run cut off anywhere gives the same bytes (docs/method.md §1.5, property 6)."""

import dataclasses

import pytest
import torch
from helpers.tiny import randomise, tiny_flux
from helpers.training import CPU, SETTINGS, losses, trainer

from blockskip.core import flow_matching, safetensors_files
from blockskip.core.errors import UserError
from blockskip.memory.compiled_blocks import Uncompiled
from blockskip.models.families.flux import Flux
from blockskip.training import optimizer
from blockskip.training import trainer as trainer_module
from blockskip.training.checkpoint import checkpoint_lora
from blockskip.training.lora import add_lora, snapshot
from blockskip.training.residuals import Span, full_velocity
from blockskip.training.windows import load_rows


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"front": 0},
        {"back": 0},
        {"refresh": "once"},
        {"recomputed": 2},
        {"patches": "full"},
        {"prior": 0.4},
        {"rate_schedule": "constant", "caption_dropout": 0.4},
        {"reuse": 2},
    ],
)
@pytest.mark.parametrize("cut", [1, 3, 5])
def test_a_resumed_run_gives_the_uninterrupted_runs_bytes(tmp_path, change, cut):
    settings = SETTINGS.changed(**change)
    if settings.plan.patches == "full":
        settings = settings.changed(s_max_px=48)
    whole = trainer(tmp_path / "a", settings)
    expected = losses(whole)
    whole.save(tmp_path / "whole.safetensors")
    first = trainer(tmp_path / "b", settings)
    start = losses(first, cut)
    first.save(tmp_path / "cut.safetensors")
    for window in (tmp_path / "b").glob("*.safetensors"):
        window.unlink()  # a deleted cache is rebuilt identically
    again = trainer(tmp_path / "b", settings)
    again.load(tmp_path / "cut.safetensors")
    assert start + losses(again) == expected
    again.save(tmp_path / "resumed.safetensors")
    assert (tmp_path / "resumed.safetensors").read_bytes() == (
        tmp_path / "whole.safetensors"
    ).read_bytes()


def test_a_window_that_is_there_serves_the_resumed_run(tmp_path, monkeypatch):
    first = trainer(tmp_path / "a")
    losses(first, 4)
    first.save(tmp_path / "cut.safetensors")
    again = trainer(tmp_path / "a")
    again.load(tmp_path / "cut.safetensors")
    monkeypatch.delattr("blockskip.training.trainer.compute_window")
    assert len(losses(again, 2)) == 2


@pytest.mark.parametrize("end", [3, 6, 7])  # windows have three steps: 7 cuts one short
def test_a_lengthened_run_is_the_one_that_was_so_long_from_the_start(tmp_path, monkeypatch, end):
    """But for the learning rate, which looks ahead to the end and so is held still here; and to
    float error where the old end cut a window short: fewer draws went through the blocks together.
    """
    monkeypatch.setattr(optimizer, "learning_rate", lambda settings, step: settings.lr)
    longer = SETTINGS.changed(steps=11, prior=0.3)
    whole = trainer(tmp_path / "a", longer)
    losses(whole)
    whole.save(tmp_path / "whole.safetensors")
    first = trainer(tmp_path / "b", dataclasses.replace(longer, steps=end))
    first.data = dataclasses.replace(
        first.data, latents=whole.data.latents[: len(first.data.draws)], text=whole.data.text
    )
    assert first.data.draws == whole.data.draws[: len(first.data.draws)]
    for loss in first.run():
        if loss.step == end:
            break  # killed here: the window of the old end stays behind
    first.save(tmp_path / "end.safetensors")
    assert list((tmp_path / "b").glob("window-*"))
    again = trainer(tmp_path / "b", longer)
    again.load(tmp_path / "end.safetensors")
    losses(again)
    again.save(tmp_path / "again.safetensors")
    one, other = (tmp_path / f"{name}.safetensors" for name in ("again", "whole"))
    assert one.read_bytes() == other.read_bytes() or end % 3
    torch.testing.assert_close(checkpoint_lora(one), checkpoint_lora(other), atol=1e-5, rtol=1e-4)


def test_a_run_lengthened_before_its_rate_decays_is_the_longer_one_to_the_byte(tmp_path):
    longer = SETTINGS.changed(steps=12, prior=0.3, rate_schedule="constant")
    whole = trainer(tmp_path / "a", longer)
    losses(whole)
    whole.save(tmp_path / "whole.safetensors")
    first = trainer(tmp_path / "b", longer.changed(steps=9))  # its last step decays
    first.data = dataclasses.replace(
        first.data, latents=whole.data.latents[: len(first.data.draws)], text=whole.data.text
    )
    losses(first, 7)
    first.save(tmp_path / "cut.safetensors")
    again = trainer(tmp_path / "b", longer)
    again.load(tmp_path / "cut.safetensors")
    losses(again)
    again.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (
        tmp_path / "whole.safetensors"
    ).read_bytes()


def test_an_empty_caption_is_read_where_the_draw_has_one(tmp_path):
    data = trainer(tmp_path, SETTINGS.changed(prior=0.3, caption_dropout=0.5)).data
    data = dataclasses.replace(data, class_caption=0, captions=[1, 1], empty_caption=2)
    rows = range(len(data.draws))
    expected = [0 if draw.prior else 2 if draw.blank else 1 for draw in data.draws]
    assert set(expected) == {0, 1, 2}
    assert torch.equal(data.texts(rows).embeds, data.text.embeds[expected])


def test_a_lengthened_run_goes_on_the_same_way_each_time(tmp_path):
    """Cut within a window whose draws are used twice, with the true learning rate, killed again."""
    short = SETTINGS.changed(steps=5, reuse=2)
    first = trainer(tmp_path / "a", short)
    losses(first)
    first.save(tmp_path / "end.safetensors")
    longer = dataclasses.replace(short, steps=11)
    found = []
    for name, cuts in (("b", [6]), ("c", [2, 1, 3])):
        at = tmp_path / "end.safetensors"
        for cut in cuts:
            one = trainer(tmp_path / name, longer)
            one.load(at)
            losses(one, cut)
            at = tmp_path / f"{name}.safetensors"
            one.save(at)
        found.append(at.read_bytes())
    assert one.step == 11 and found[0] == found[1]


def test_a_torn_window_is_computed_again(tmp_path):
    expected = losses(trainer(tmp_path / "a"))
    (tmp_path / "b").mkdir()
    stale = tmp_path / "b" / "window-0001.safetensors"
    safetensors_files.save_tensors(stale, {"x": torch.zeros(1)}, {"fingerprint": "another run's"})
    assert losses(trainer(tmp_path / "b")) == expected
    assert not stale.exists(), "windows are deleted once they served"


def test_a_windows_draws_are_used_again_and_only_they_are_computed(tmp_path, monkeypatch):
    """Seven steps in windows of three, each draw twice: draws of 2 + 2 + 1 steps."""
    read = []

    def loading(path, start, stop, device):
        read.append((path.name[7:11], start))
        return load_rows(path, start, stop, device)

    monkeypatch.setattr("blockskip.training.trainer.load_rows", loading)
    one = trainer(tmp_path, SETTINGS.changed(reuse=2))
    assert len(one.data.draws) == 5 * 4
    assert [one.window_rows(first) for first in (0, 3, 6)] == [
        range(8),
        range(8, 16),
        range(16, 20),
    ]
    losses(one)
    window = [0, 2, 4, 6, 0, 2]  # two micro-steps of two draws a step
    assert read == [(n, at) for n in ("0000", "0001") for at in window] + [("0002", 0), ("0002", 2)]


@pytest.mark.parametrize("batch", [1, 4])
def test_how_many_draws_pass_together_changes_nothing(tmp_path, batch):
    """Loss and gradients of a step, some of whose draws are of the bare class word."""
    found = []
    for size in (2, batch):
        halves = {"batch": size, "accumulation": 4 // size, "prior": 0.4}
        one = trainer(tmp_path / f"{size}", SETTINGS.changed(**halves))
        for parameter in one.lora.values():  # B at 0 would leave A without gradients
            parameter.data += 0.1
        given = {}
        one.optimizer.step = lambda one=one, given=given: given.update(
            {name: p.grad.clone() for name, p in one.lora.items()}
        )
        found.append((losses(one, 1), given))
    (first, grads), (other, others) = found
    assert other == pytest.approx(first, rel=1e-6)
    for name, grad in grads.items():
        assert grad.abs().max() > 0
        torch.testing.assert_close(others[name], grad, atol=1e-7, rtol=1e-4)


def test_training_learns(tmp_path):
    settings = SETTINGS.changed(steps=60, window_steps=6, lr=1e-2)
    one = trainer(tmp_path, settings)
    # one draw repeated: the loss on it must fall when it is learnt
    one.data = dataclasses.replace(
        one.data,
        draws=[one.data.draws[0]] * len(one.data.draws),
        latents=one.data.latents[:1].expand(len(one.data.draws), -1, -1),
    )
    found = losses(one)
    assert sum(found[-10:]) < 0.8 * sum(found[:10])


def test_a_checkpoint_of_another_run_is_refused_by_name(tmp_path):
    one = trainer(tmp_path / "a")
    losses(one, 1)
    one.save(tmp_path / "step-1.safetensors")
    with pytest.raises(UserError, match="step-1.safetensors"):
        trainer(tmp_path / "b", fingerprint="other").load(tmp_path / "step-1.safetensors")


def test_a_checkpoint_holds_the_full_models_names(tmp_path):
    one = trainer(tmp_path)
    losses(one, 1)
    one.save(tmp_path / "step-1.safetensors")
    lora = checkpoint_lora(tmp_path / "step-1.safetensors")
    assert "transformer.transformer_blocks.1.attn.to_q.lora_A.weight" in lora
    assert not [n for n in lora if n.startswith("transformer.transformer_blocks.0.")]


@pytest.mark.parametrize("calls", [1, 2])
def test_a_step_whose_compiler_fails_is_repeated_to_the_byte(tmp_path, monkeypatch, calls):
    """calls: micro-steps until it fails, in the backward pass."""
    whole = trainer(tmp_path / "a")
    expected = losses(whole, 2)
    whole.save(tmp_path / "whole.safetensors")
    job, left, micro_step = trainer(tmp_path / "b"), [calls], trainer_module.micro_step

    def failing(*args):
        loss = micro_step(*args)
        left[0] -= 1
        if not left[0]:
            raise Uncompiled
        return loss

    monkeypatch.setattr(trainer_module, "micro_step", failing)
    assert losses(job, 2) == expected
    job.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (
        tmp_path / "whole.safetensors"
    ).read_bytes()


def test_steps_that_go_astray_are_said(tmp_path):
    one = trainer(tmp_path)
    one.data = dataclasses.replace(one.data, latents=one.data.latents * float("nan"))
    with pytest.raises(UserError, match="loss became nan at step 1"):
        losses(one)


def passing(model, monkeypatch) -> list[int]:
    """Count the draws in each forward pass of every block."""
    counts: list[list[int]] = []
    for block in (*model.transformer_blocks, *model.single_transformer_blocks):
        counted: list[int] = []
        counts.append(counted)

        def forward(hidden_states, *args, _forward=block.forward, _counted=counted, **kwargs):
            _counted.append(len(hidden_states))
            return _forward(hidden_states, *args, **kwargs)

        monkeypatch.setattr(block, "forward", forward)
    return counts


@pytest.mark.parametrize("prior", [0.0, 0.5])
def test_with_nothing_skipped_a_window_runs_draws_of_the_bare_class_word_alone(
    tmp_path, prior, monkeypatch
):
    one = trainer(tmp_path, SETTINGS.changed(prior=prior, front=0, back=0))
    counts = passing(one.model, monkeypatch)
    path = one.make_window(0)
    wanted = sum(draw.prior for draw in one.data.draws[:12])
    assert [sum(counted) for counted in counts] == [wanted] * 6 and bool(wanted) == bool(prior)
    assert load_rows(path, 0, 12, CPU).keys() == {"noisy", "t", "target"}


def test_with_nothing_skipped_training_is_that_of_the_whole_model(tmp_path):
    """As a loop written out: the library's forward, a mean over the step's draws, AdamW."""
    settings = SETTINGS.changed(front=0, back=0)
    one = trainer(tmp_path, settings)
    model, rows = tiny_flux(), range(len(one.data.draws))
    lora = add_lora(model, Flux(), Span(0, 0), settings.rank, settings.targets, settings.seed)
    adam, expected = optimizer.make(lora, settings.lr), []
    for step in range(settings.steps):
        some = rows[4 * step : 4 * step + 4]
        draws = one.inputs(some)
        given = Flux().inputs(model.config, draws.noisy, draws.text, draws.t, draws.side_px)
        loss = flow_matching.loss(Flux().velocity(model(**given)), one.data.velocity(some))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(lora.values(), 1.0)
        adam.param_groups[0]["lr"] = optimizer.learning_rate(settings, step)
        adam.step()
        adam.zero_grad()
        expected.append(loss.item())
    assert losses(one) == pytest.approx(expected, rel=1e-4)
    for name, tensor in snapshot(one.lora).items():
        torch.testing.assert_close(lora[name].detach(), tensor, atol=1e-4, rtol=1e-2)


def test_draws_of_the_bare_class_word_pass_the_front_once(tmp_path, monkeypatch):
    one = trainer(tmp_path, SETTINGS.changed(prior=0.5, front=2, back=1))
    counts = passing(one.model, monkeypatch)
    one.make_window(0)
    prior = sum(draw.prior for draw in one.data.draws[:12])
    assert [sum(counted) for counted in counts] == [12] * 2 + [12 + prior] * 4 and prior > 2


@pytest.mark.parametrize("front", [0, 2])
def test_prior_draws_ask_for_the_untrained_models_answer(tmp_path, front):
    """Whatever was learnt before, the bare class word is pulled back to what it was."""
    settings = SETTINGS.changed(prior=0.5, front=front, back=0)
    one = trainer(tmp_path, settings)
    rows = range(settings.num_draws)
    prior = [i for i in rows if one.data.draws[i].prior]
    others = [i for i in rows if i not in prior]
    assert len(prior) > 5 and len(others) > 5
    expected = full_velocity(tiny_flux(), Flux(), one.inputs(prior), 4, torch.device("cpu"))
    randomise(one.lora)
    before = snapshot(one.lora)
    one.settings = settings.changed(window_steps=settings.steps)
    target = load_rows(one.make_window(0), 0, len(rows), torch.device("cpu"))["target"]
    torch.testing.assert_close(target[prior], expected, atol=1e-5, rtol=1e-4)
    plain = flow_matching.velocity(one.data.latents[others], one.data.noise(others))
    torch.testing.assert_close(target[others], plain)
    assert all(torch.equal(t, before[n]) for n, t in snapshot(one.lora).items())
    words = one.inputs(prior).text.embeds
    assert torch.equal(words, one.data.text.embeds[2].expand_as(words))
