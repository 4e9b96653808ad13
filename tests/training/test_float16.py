"""Training in float16: near float32, and an overflow costs a retry, not a step."""

import pytest
import torch
from helpers.training import SETTINGS, losses, trainer

from blockskip.core.errors import UserError
from blockskip.sampling.loaded_model import LoadedModel
from blockskip.training.trainer import FIRST_LOSS_SCALE, Trainer

HALF = torch.float16
FLOAT16 = SETTINGS.changed(number_type="float16", steps=4)


def trained(job: Trainer) -> tuple[list[float], dict[str, torch.Tensor]]:
    return losses(job), {name: tensor.detach().clone() for name, tensor in job.lora.items()}


def overflow(job: Trainer, times: int) -> None:
    """Make the gradient of one LoRA matrix infinite that many times."""
    left = [times]

    def broken(grad):
        left[0] -= 1
        return torch.full_like(grad, torch.inf) if left[0] >= 0 else grad

    list(job.lora.values())[1].register_hook(broken)


def test_float16_is_nearer_to_float32_than_bfloat16(tmp_path):
    plain = SETTINGS.changed(steps=4)
    theirs, golden = trained(trainer(tmp_path / "full", plain))
    off = []
    for name, settings, dtype in (("half", FLOAT16, HALF), ("brain", plain, torch.bfloat16)):
        ours, lora = trained(trainer(tmp_path / name, settings, dtype=dtype))
        assert ours == pytest.approx(theirs, rel=2e-2)
        off.append(sum(float((lora[n] - golden[n]).norm()) for n in golden))
    assert off[0] < off[1] / 2


def test_an_overflow_is_skipped_rescaled_and_leaves_no_trace(tmp_path):
    broken, whole = (trainer(tmp_path / n, FLOAT16, dtype=HALF) for n in ("broken", "whole"))
    overflow(broken, 3)  # with two micro-batches a step, so two attempts fail
    assert broken.loss_scale == FIRST_LOSS_SCALE
    ours, lora = trained(broken)
    assert broken.loss_scale == FIRST_LOSS_SCALE / 4
    whole.loss_scale = FIRST_LOSS_SCALE / 4
    theirs, golden = trained(whole)
    assert ours == theirs and len(ours) == 4
    assert all(torch.equal(lora[name], golden[name]) for name in golden)


def test_the_scale_is_resumed(tmp_path):
    job = trainer(tmp_path / "a", FLOAT16, dtype=HALF)
    overflow(job, 1)
    losses(job, 2)
    job.save(tmp_path / "x.safetensors")
    again = trainer(tmp_path / "b", FLOAT16, dtype=HALF)
    again.load(tmp_path / "x.safetensors")
    assert again.loss_scale == FIRST_LOSS_SCALE / 2 and losses(again) == losses(job)


def test_what_no_scale_mends_is_said(tmp_path):
    job = trainer(tmp_path / "half", FLOAT16, dtype=HALF)
    overflow(job, 1000)
    with pytest.raises(UserError, match="gradients became"):
        losses(job)
    full = trainer(tmp_path / "full", SETTINGS)
    overflow(full, 1)
    with pytest.raises(UserError, match="gradients became"):
        losses(full)
    assert full.loss_scale == 1


@pytest.mark.parametrize("precision", ["full", "int8"])
def test_only_the_transformer_is_float16_and_pictures_come_out(precision):
    """The VAE decodes in float32, captions are read in the model's own type."""
    settings = SETTINGS.changed(
        model="demo",
        number_type="float16",
        precision=precision,
        device="cpu",
        preview_px=32,
        preview_steps=2,
        preview_batch=1,
        text_tokens=22,
    )
    model = LoadedModel(settings)
    assert next(model.transformer.parameters()).dtype == HALF
    assert {model.pipe.vae.dtype, model.pipe.text_encoder_2.dtype} == {torch.float32}
    (picture,) = model.sample_prompts(["a photo of a cat"], [0])
    exact = settings.changed(number_type="model", precision="full")
    (golden,) = LoadedModel(exact).sample_prompts(["a photo of a cat"], [0])
    near = [abs(a - b) for a, b in zip(picture.tobytes(), golden.tobytes(), strict=True)]
    assert sum(near) / len(near) < 8 and min(picture.tobytes()) < max(picture.tobytes())
