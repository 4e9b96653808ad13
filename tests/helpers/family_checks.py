"""Checks that hold for every family's pipeline, on tiny random ones in diffusers' layout."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderKLFlux2, FirstBlockCacheConfig
from helpers.tiny import randomise
from huggingface_hub.utils import filter_repo_objects
from PIL import Image
from torch import nn

from blockskip.core import presets
from blockskip.core.presets import ModelRow
from blockskip.core.settings import Settings
from blockskip.data.photos import find_photos, read_photos
from blockskip.data.schedule import build_schedule
from blockskip.lab.ablation.baselines import WholeTrainer
from blockskip.memory.open_model import open_model
from blockskip.memory.placement import on_device, pin_on_device, replace_modules
from blockskip.models.families.base import Family, Sampling, get_family
from blockskip.models.families.caption_modules import caption_modules, set_aside
from blockskip.models.lora.export import export_lora
from blockskip.models.sources import Source, check_model
from blockskip.models.sources.hub_api import FILE_PATTERNS
from blockskip.sampling import sample as preview
from blockskip.training import encode
from blockskip.training.draws import TrainingData
from blockskip.training.lora import add_lora
from blockskip.training.residuals import Span
from blockskip.training.trainer import Trainer

CPU = torch.device("cpu")
CAPTIONS = ["a photo of sks cat", "", "a photo of a cat that sits on a very long wooden bench"]


def tiny_row(name: str, parts: tuple[str, ...], **changes: object) -> ModelRow:
    """Return a row of presets/models.toml for a tiny model of that family."""
    demo = presets.model_row("demo")
    family_fields = {
        "name": f"tiny-{name}",
        "source": f"nobody/tiny-{name}",
        "family": name,
        "parts": parts,
    }
    return dataclasses.replace(demo, **family_fields | changes)


def tokenizer(kind: type, words: list[str], **special: str):
    """Return a whole-word tokenizer of the class that the pipeline needs."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokens = dict.fromkeys([*special.values(), *words])
    table = Tokenizer(models.WordLevel({w: i for i, w in enumerate(tokens)}, special["unk_token"]))
    table.pre_tokenizer = pre_tokenizers.Whitespace()
    return kind(tokenizer_object=table, **special)


def tiny_vae(channels: int, scale: float, shift: float) -> nn.Module:
    """Return a VAE of two pixels per cell, built like FLUX.1's."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=32,
        scaling_factor=scale,
        shift_factor=shift,
        use_quant_conv=False,
        use_post_quant_conv=False,
    ).eval()


def tiny_flux2_vae(channels: int) -> nn.Module:
    """Return a VAE of two pixels per cell, built like FLUX.2's."""
    vae = AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=32,
    )
    vae.bn.running_mean.normal_()
    vae.bn.running_var.uniform_(0.2, 3)
    return vae.eval()


WORDS = sorted({word for caption in CAPTIONS for word in caption.split()} | {"on", "the", "beach"})


def opened(row: ModelRow, folder: Path, precision: str = "full") -> tuple[Family, object]:
    """Return (family, pipeline) as a run opens it, with the large parts offloaded to their
    files."""
    family, source = get_family(row.family), Source(row, folder)
    checked = check_model(source)
    assert set(checked) == set(row.parts) and all(part["gib"] >= 0 for part in checked.values())
    return family, open_model(family, row, source, Settings.of(precision=precision), CPU)


def check_opened(row: ModelRow, folder: Path) -> None:
    """Check, in bfloat16, that opening gives the weights and buffers (position frequencies) of the
    library, in the same types, that pictures are made in the pipeline's configuration, and that a
    download brings every file."""
    row = dataclasses.replace(row, dtype="bfloat16")
    (family, pipe), theirs = (
        opened(row, folder),
        get_family(row.family).load(folder, torch.bfloat16),
    )
    readers = caption_modules(pipe.transformer, family)
    for part, expected in theirs.components.items():
        if isinstance(expected, nn.Module):
            with (
                replace_modules(pipe.transformer, readers),
                on_device(CPU, ours := getattr(pipe, part)),
            ):
                _check_equal(ours, expected)
    sampler = family.sampler(pipe, CPU).config
    for option in theirs.config.keys() - theirs.components.keys():
        assert option.startswith("_") or sampler[option] == theirs.config[option], option
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert set(filter_repo_objects(names, allow_patterns=FILE_PATTERNS)) == names


def _check_equal(ours: nn.Module, theirs: nn.Module) -> None:
    found = dict(ours.named_parameters()) | dict(ours.named_buffers())
    for name, expected in (*theirs.named_parameters(), *theirs.named_buffers()):
        actual = found.pop(name)
        assert actual.dtype == expected.dtype and torch.equal(actual, expected), name
    assert not found


def check_text(row: ModelRow, folder: Path, tokens: int, before: int = 0) -> None:
    """Check that batched captions, encoded block by block, equal each caption encoded alone by a
    whole encoder.

    before: rows of embeddings in addition to `tokens`.
    """
    family, pipe = opened(row, folder)
    together = encode.encode_captions(family, pipe, CAPTIONS, tokens)
    in_memory = family.load(folder, torch.float32)
    for i, caption in enumerate(CAPTIONS):
        with torch.no_grad():
            alone = family.encode_text(in_memory, [caption], tokens)
        assert together.embeds.shape[1] == alone.embeds.shape[1] == before + tokens
        torch.testing.assert_close(together.embeds[i], alone.embeds[0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(together.pooled_or_mask[i], alone.pooled_or_mask[0])
    differ = (together.embeds[0] - together.embeds[2]).abs().max()
    assert differ > 1e-3, "captions differ"
    check_opened(row, folder)


def check_pictures(
    row: ModelRow,
    folder: Path,
    tokens: int,
    side_px: int,
    guidance: float,
    mend: Callable[[object], None] = lambda pipe: None,
    theirs_of: Callable[[Path, list[str], list[int]], list[Image.Image]] | None = None,
    **call: object,
) -> None:
    """Check that pictures sampled layer by layer equal diffusers' pictures of the same prompts,
    also with a step cache on the pipeline.

    mend: repairs what is broken in diffusers' pipeline. call: its arguments besides prompt, sizes,
    steps and generators. theirs_of(folder, prompts, seeds): makes the library's pictures instead,
    of two steps, where the family's pipeline is not the library's.
    """
    family, pipe = opened(row, folder)
    prompts, seeds = [CAPTIONS[0], CAPTIONS[2]], [3, 3]
    text = encode.encode_captions(family, pipe, [*prompts, ""], tokens)
    sampling = Sampling(side_px, 2, guidance)
    arguments = family, pipe, text.rows([0, 1]), text.rows([2]), sampling, seeds, CPU
    ours = preview.sample(*arguments)
    with mock.patch.object(preview, "cache_config", lambda *_: FirstBlockCacheConfig(0.0)):
        assert preview.sample(*arguments) == ours, "a step cache that never rests"
    if theirs_of:
        theirs = theirs_of(folder, prompts, seeds)
    else:
        library_pipe = family.load(folder, torch.float32)
        mend(library_pipe)
        theirs = library_pipe(
            prompt=prompts,
            height=side_px,
            width=side_px,
            num_inference_steps=2,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            **call,
        ).images

    def max_difference(one: Image.Image, other: Image.Image) -> int:
        other = other.convert(one.mode)  # some models' pictures have an alpha channel
        return np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16)).max()

    for one, other in zip(ours, theirs, strict=True):
        assert one.size == other.size == (side_px, side_px)
        assert max_difference(one, other) <= 2, "the same picture"
    assert np.asarray(ours[0]).std() > 1, "and not a blank one"
    assert max_difference(*ours) > 4, "of these words"


def check_latents(row: ModelRow, folder: Path, side_px: int) -> None:
    """Check that diffusers' pipeline decodes the family's latents: its VAE gets back the latent it
    returned."""
    family, pipe = opened(row, folder)
    pin_on_device(CPU, pipe.transformer)
    torch.manual_seed(0)
    pixels = torch.rand(1, 3, side_px, side_px) * 2 - 1
    recorded = {}

    def encoded(*args, original=pipe.vae.encode, **kwargs):
        output = original(*args, **kwargs)
        recorded["given"] = (
            output.latent if hasattr(output, "latent") else output.latent_dist.mode()
        )
        return output

    def decoded(latent, *args, original=pipe.vae.decode, **kwargs):
        recorded["back"] = latent
        return original(latent, *args, **kwargs)

    pipe.vae.encode, pipe.vae.decode = encoded, decoded
    with torch.no_grad():
        latents = family.encode_images(pipe, pixels)
        decode_with_library(family, pipe, latents, side_px)
    torch.testing.assert_close(recorded["back"], recorded["given"], atol=1e-4, rtol=1e-4)


def decode_with_library(family: Family, pipe: object, latents: torch.Tensor, side_px: int) -> None:
    """Decode latents by diffusers' pipeline, with a scheduler that ignores the transformer."""
    text = encode.encode_captions(family, pipe, ["", ""], 8)
    model_inputs = family.inputs(
        pipe.transformer.config, latents, text.rows([0]), torch.ones(1), side_px
    )
    wanted = torch.stack(
        list(next(iter(model_inputs.values())))
    )  # in the layout of diffusers' transformer

    class Still:
        """A scheduler that returns `wanted` after every step."""

        def __init__(self, scheduler):
            self.scheduler = scheduler

        def __getattr__(self, name):
            return getattr(self.scheduler, name)

        def step(self, _output, _t, sample, **_):
            return (wanted.clone().view_as(sample),)

    pipe.scheduler = Still(pipe.scheduler)
    family.sample(pipe, text.rows([0]), text.rows([1]), Sampling(side_px, 1, 1.0), [0])


def check_training(row: ModelRow, folder: Path, tmp_path: Path, tokens: int, side_px: int) -> None:
    """Run the loop over draws of various noise levels, sizes and captions. Checks that skipping
    matches the whole model until something is learnt, that every trainable parameter changes, and
    that results do not depend on the batch size."""
    for k in range(3):
        random = np.random.default_rng(k).integers(0, 255, (2 * side_px, 3 * side_px, 3), np.uint8)
        Image.fromarray(random).save(tmp_path / f"{k}.png")
    photos, _ = read_photos(find_photos([tmp_path]), CAPTIONS[0])
    sizes = {"s_min_px": side_px // 2, "s_max_px": side_px, "text_tokens": tokens}
    steps = {"steps": 3, "window_steps": 2, "prior": 0.4, "lr": 0.01}
    two, four = {"batch": 2, "accumulation": 2}, {"batch": 4, "accumulation": 1}
    losses, skip = [], {"front": 1, "back": 2}
    for kind_of, ends in ((Trainer, skip | two), (Trainer, skip | four), (WholeTrainer, two)):
        family, pipe = opened(row, folder)
        settings = Settings.of(**sizes, **steps, **ends, rank=2, micro_batch=3)
        draws = build_schedule(photos, settings, family.pixel_multiple)
        assert {draw.prior for draw in draws} == {False, True} and len({d.side for d in draws}) > 1
        latents = encode.encode_draws(family, pipe, photos, draws, settings, CPU)
        text = encode.encode_captions(family, pipe, [CAPTIONS[0], CAPTIONS[2], ""], tokens)
        data = TrainingData(draws, latents, text, [0] * len(photos), 1, 2)
        window = tmp_path / f"windows-{len(losses)}"
        trainer = kind_of(pipe.transformer, family, settings, data, CPU, window, "a run")
        losses.append([event.loss for event in trainer.run()])
        same = [n for n, p in trainer.lora.items() if torch.equal(p, trainer.untrained_lora[n])]
        assert trainer.lora and not same, same
    ours, together, unskipped = losses
    assert len(ours) == len(unskipped) == 3
    assert together == pytest.approx(ours, rel=1e-3), "draws know nothing of each other"
    assert ours[0] == pytest.approx(unskipped[0], rel=1e-4), "the same draws, nothing learnt yet"
    assert ours[1:] != unskipped[1:], "other blocks learn"


def check_export(row: ModelRow, folder: Path, tmp_path: Path, span: Span, targets: str) -> None:
    """Check that diffusers loads an exported LoRA and then gives the same output."""
    family, pipe = opened(row, folder)
    pin_on_device(CPU, pipe.transformer)
    tokens = 8
    text = encode.encode_captions(family, pipe, CAPTIONS[:1], tokens)
    side = 4 * family.pixel_multiple
    pixels = torch.zeros(1, 3, side, side)
    with torch.no_grad():
        noisy = torch.randn_like(family.encode_images(pipe, pixels))

    def velocity(transformer):
        with torch.no_grad():
            model_inputs = family.inputs(transformer.config, noisy, text, torch.tensor([0.4]), side)
            return family.predict(transformer, model_inputs)

    plain = velocity(pipe.transformer)
    lora = add_lora(pipe.transformer, family, span, 3, targets, seed=0)
    randomise(lora)
    ours = velocity(pipe.transformer)
    assert (ours - plain).abs().max() > 1e-3
    settings = Settings.of(rank=3, targets=targets, front=span.front, back=span.back)
    for form in ("comfyui", "diffusers"):
        done = export_lora(
            {name: p.detach() for name, p in lora.items()},
            tmp_path / f"{form}.safetensors",
            format=form,
            settings=settings,
            row=row,
            started="2026-01-01T00:00:00+00:00",
            num_photos=3,
            step=5,
        )
        library_pipe = family.load(folder, torch.float32)
        library_pipe.load_lora_weights(str(done.path))
        set_aside(library_pipe.transformer, family)  # `text` was read already
        torch.testing.assert_close(velocity(library_pipe.transformer), ours, atol=1e-5, rtol=1e-4)
