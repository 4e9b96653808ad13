"""Each baseline does what its name says, on a tiny random FLUX (docs/method.md §3)."""

import dataclasses

import torch
from helpers.tiny import randomise, tiny_flux
from helpers.training import SETTINGS, losses, trainer

from blockskip.lab.ablation import baselines
from blockskip.memory.placement import replace_modules
from blockskip.models.families.streams import DoubleStream
from blockskip.training.lora import snapshot
from blockskip.training.residuals import IdentityBlock, full_velocity
from blockskip.training.skipping import velocity
from blockskip.training.trainer import Trainer
from blockskip.training.windows import load_rows

WHOLE = SETTINGS.changed(front=0, back=0, prior=0.4)
CLOSE = {"atol": 2e-5, "rtol": 1e-4}


def made(kind: type[Trainer], folder, settings) -> Trainer:
    """`trainer` of helpers/training.py, but of another kind."""
    like = trainer(folder / "like", settings)
    return kind(
        tiny_flux(), like.family, settings, like.data, like.device, folder, like.fingerprint
    )


def predicted(one: Trainer, rows: int = 4) -> torch.Tensor:
    """What the model of a training step says of the first draws of the first window."""
    window = load_rows(one.make_window(0), 0, rows, one.device)
    with torch.no_grad(), one.step_model() as step_inputs, step_inputs.bind(window):
        text = one.step_text(range(rows))
        return velocity(one.model, one.family, step_inputs, window, text, one.side_px)


def test_a_hollow_centre_with_fresh_residuals_gives_the_full_output(tmp_path):
    one = made(baselines.HollowTrainer, tmp_path, SETTINGS.changed(prior=0.4))
    blocks = [name for name, _ in one.family.blocks(one.model)]
    trained = {name for name in blocks if any(f".{name}." in key for key in one.lora)}
    assert trained == {*blocks[:1], *blocks[-2:]}, "both ends, not the centre"
    randomise(one.lora)
    one.window_lora = snapshot(one.lora)
    inputs = one.inputs(range(4))
    expected = full_velocity(one.model, one.family, inputs, 3, one.device)
    torch.testing.assert_close(predicted(one), expected, **CLOSE)


def test_lora_on_the_middle_alone_may_skip_nothing(tmp_path):
    """The loss of fewer blocks that learn, without that of skipping."""
    one = made(baselines.WholeTrainer, tmp_path, SETTINGS.changed(prior=0.4))
    blocks = [name for name, _ in one.family.blocks(one.model)]
    middle = {name for name in blocks if any(f".{name}." in key for key in one.lora)}
    assert 0 < len(middle) < len(blocks)
    randomise(one.lora)
    expected = full_velocity(one.model, one.family, one.inputs(range(4)), 3, one.device)
    torch.testing.assert_close(predicted(one), expected, **CLOSE)


def test_a_hollow_centre_computes_nothing_of_it_in_a_step(tmp_path):
    one = made(baselines.HollowTrainer, tmp_path, SETTINGS)
    expected = predicted(one)
    for _, block in one._centre():
        for parameter in block.parameters():
            parameter.data.fill_(float("nan"))
    torch.testing.assert_close(predicted(one), expected)  # the window is there


def test_without_residuals_the_middle_stands_alone(tmp_path):
    """As the library's own forward with the skipped blocks gone and the embedders there."""
    one = made(baselines.NoResidualTrainer, tmp_path, SETTINGS)
    randomise(one.lora)
    one.window_lora = snapshot(one.lora)
    blocks = [name for name, _ in one.family.blocks(one.model)]
    gone = {
        name: IdentityBlock(one.model.get_submodule(name), DoubleStream())
        for name in (*blocks[:1], *blocks[-2:])
    }
    inputs = one.inputs(range(4))
    given = one.family.inputs(one.model.config, inputs.noisy, inputs.text, inputs.t, inputs.side_px)
    with torch.no_grad(), replace_modules(one.model, gone):
        (expected,) = one.model(**given)
    torch.testing.assert_close(predicted(one), expected, **CLOSE)
    full = full_velocity(one.model, one.family, inputs, 3, one.device)
    assert (full - expected).abs().max() > 0.05, "which is another model"


def test_lora_fa_moves_b_alone(tmp_path):
    one = made(baselines.LoraFATrainer, tmp_path, WHOLE)
    before = snapshot(one.lora)
    losses(one)
    for name, tensor in snapshot(one.lora).items():
        assert torch.equal(tensor, before[name]) == ("lora_A" in name), name


def test_lisa_moves_two_blocks_then_others(tmp_path, monkeypatch):
    monkeypatch.setattr(baselines, "LISA_STEPS", 3)
    one = made(baselines.LisaTrainer, tmp_path, dataclasses.replace(WHOLE, steps=12))
    moved, before = [], snapshot(one.lora)
    for loss in one.run():
        if loss.step % 3 == 0:
            now = snapshot(one.lora)
            names = {n.split(".lora")[0] for n in now if not torch.equal(now[n], before[n])}
            moved.append(frozenset(".".join(n.split(".")[1:3]) for n in names))
            before = now
    assert [len(blocks) for blocks in moved] == [2] * 4
    assert len(set(moved)) > 1


def test_lisa_cut_off_goes_on_with_the_same_blocks(tmp_path):
    whole, cut = (made(baselines.LisaTrainer, tmp_path / name, WHOLE) for name in "ab")
    expected = losses(whole)
    start = losses(cut, 4)
    cut.save(tmp_path / "cut.safetensors")
    again = made(baselines.LisaTrainer, tmp_path / "c", WHOLE)
    again.load(tmp_path / "cut.safetensors")
    assert start + losses(again) == expected


def test_eight_bits_keep_a_residual_to_one_part_in_254_of_its_greatest():
    x = torch.randn(5, 3, 2 * baselines.SCALE_GROUP) * torch.logspace(-3, 3, 5).view(5, 1, 1)
    parts = x.unflatten(-1, (-1, baselines.SCALE_GROUP))
    off = (baselines.round_to_8_bits(x) - x).abs().unflatten(-1, (-1, baselines.SCALE_GROUP))
    assert (off <= parts.abs().amax(-1, keepdim=True) / 254 * 1.001).all()
    assert off.max() > 0


def test_baselines_override_named_hooks_only():
    """What a trainer keeps to itself may change without a look at the baselines."""
    private = {name for name in vars(Trainer) if name.startswith("_") and not name.endswith("__")}
    kinds = [kind for kind in vars(baselines).values() if isinstance(kind, type)]
    others = [kind for kind in kinds if issubclass(kind, Trainer) and kind is not Trainer]
    assert len(others) == 8 and not [kind for kind in others if private & set(vars(kind))]
