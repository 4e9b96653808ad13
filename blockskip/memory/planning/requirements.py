"""Computes the GPU memory, RAM and disk that every stage of a run needs, without torch.

Everything is counted from shapes. A model's sizes are in presets/bytes.toml. The formulas are the
same for all models and were checked against `blockskip lab simulate`, which runs diffusers' blocks
(docs/method.md §1.8, ours).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blockskip.core.paths import adapter_file
from blockskip.core.presets import ModelRow, preview_threshold
from blockskip.core.settings import Settings
from blockskip.core.stages import PLANNED
from blockskip.core.units import GIB
from blockskip.memory.planning.model_stats import (
    BlockType,
    block_bytes,
    model_bytes,
    model_stats,
    weight_bytes,
)

_LOAD_CHUNK_BYTES, _SAMPLE_BATCH = 256 << 20, 8  # copied from modules that import torch
PROGRAM_RAM_GIB = 2.5  # Python, torch with CUDA's libraries, pipelines: assumed until measured


@dataclass(frozen=True)
class StageMemory:
    """Peak memory of one stage, in GiB. disk_gib: left in the run's folder or the model cache."""

    vram_gib: float
    ram_gib: float
    disk_gib: float


def stage_memory(
    row: ModelRow, settings: Settings, stages: Sequence[str] = PLANNED
) -> dict[str, StageMemory]:
    """Return the memory that these stages of a run with these settings need."""
    card = {
        "text": _text_card,
        "latents": _latents_card,
        "residuals": _residuals_card,
        "train": _train_card,
        "preview": _preview_card,
    }
    ram, disk = _ram(row, settings), _disk(row, settings)
    return {
        stage: StageMemory(
            card[stage](row, settings) / GIB, PROGRAM_RAM_GIB + ram[stage] / GIB, disk[stage] / GIB
        )
        for stage in stages
    }


def middle_bytes(row: ModelRow, settings: Settings) -> float:
    """Return the bytes of the middle that training keeps: no modulation (docs/method.md §1.3)."""
    return sum(block_bytes(row, i, settings.plan.precision, False) for i in _middle(row, settings))


def waiting_bytes(row: ModelRow, settings: Settings) -> float:
    """Return the bytes of block weights that are loaded to the GPU repeatedly.

    A middle that stays is loaded once and not kept in RAM (`pin_on_device` without `keep`). Its
    modulation is loaded with every window."""
    staying = middle_bytes(row, settings) if settings.plan.middle == "stays" else 0.0
    layers = row.number_bytes * model_stats(row.name).layers
    return model_bytes(row, settings.plan.precision) + layers - staying


def lora_params(row: ModelRow, settings: Settings) -> int:
    """Return the number of LoRA parameters: rank times (in + out) of every adapted linear."""
    return sum(_block_lora(row, settings, i) for i in _middle(row, settings))


def _block_lora(row: ModelRow, settings: Settings, index: int) -> int:
    kind, last = model_stats(row.name).block_type(index), _middle(row, settings)[-1]
    return settings.rank * kind.lora_width(settings.targets == "attention+ff", index == last)


def _middle(row: ModelRow, settings: Settings) -> range:
    return range(settings.plan.front, row.num_blocks - settings.plan.back)


def image_tokens(row: ModelRow, side_px: int) -> int:
    """Return the image tokens of one draw of that side."""
    return (side_px // model_stats(row.name).pixels_a_token) ** 2


def text_rows(row: ModelRow, settings: Settings) -> int:
    """Return the tokens of a caption's embedding."""
    return settings.plan.text_tokens + model_stats(row.name).more_tokens


def _around(row: ModelRow, embedders: bool) -> float:
    """Return the bytes beside the blocks: time, guidance and text embeddings, head, embedders."""
    stats = model_stats(row.name)
    return row.number_bytes * (stats.around + stats.embedders * embedders)


def _stream(row: ModelRow, settings: Settings, indices: range, modulation: bool) -> float:
    """Return the bytes of the two largest neighbours among streamed blocks, or layers before them:
    one computes while the next is loaded."""
    sizes = [block_bytes(row, i, settings.plan.precision, modulation) for i in indices]
    blocks = max((a + b for a, b in zip(sizes, sizes[1:], strict=False)), default=sum(sizes))
    return max(blocks, 2.0 * row.number_bytes * model_stats(row.name).layer)


def _units(row: ModelRow, settings: Settings, image: float, text: float, side_px: int = 0) -> float:
    """Return the bytes of one draw's activations: `image` and `text` numbers a token, times the
    model's width, in the model's dtype."""
    count = image * image_tokens(row, side_px or settings.plan.side_px)
    count += text * text_rows(row, settings)
    return row.number_bytes * count * row.width


def _unit(row: ModelRow, settings: Settings, side_px: int = 0) -> float:
    """Return the bytes of one draw's hidden states between two blocks."""
    return _units(row, settings, 1.0, model_stats(row.name).stream_text, side_px)


def _train_card(row: ModelRow, settings: Settings) -> float:
    middle, lora = _middle(row, settings), lora_params(row, settings)
    stats, ff = model_stats(row.name), settings.targets == "attention+ff"
    saved = (_activations(row, settings, stats.block_type(i), ff) for i in middle)
    kept = [settings.plan.batch * each for each in saved]
    resident = _around(row, embedders=not settings.plan.front) + 12 * lora
    resident += 0.0 if settings.plan.front else row.number_bytes * stats.layers
    if settings.plan.middle != "streamed":
        resident += middle_bytes(row, settings)
    # temporaries of the backward pass
    passing = settings.plan.batch * _units(row, settings, stats.passing_image, stats.passing_text)
    if settings.plan.precision != "full":
        unpacked = stats.passing_unpacked * settings.plan.batch * _unit(row, settings)
        passing = max(passing, row.number_bytes * stats.largest + unpacked)
    passing += max(_start_of_backward(row, settings, kept), _recomputing(row, settings, kept))
    # AdamW: all gradients, and the square root of the second moment
    return resident + max(passing, 8 * lora + _two_streamed(row, settings))


def _activations(row: ModelRow, settings: Settings, kind: BlockType, ff: bool) -> float:
    """Return the bytes that a block keeps of one draw for its backward pass."""
    image, text = kind.kept_image + kind.kept_ff * ff, kind.kept_text + kind.kept_ff * ff
    return _units(row, settings, image, text)


def _two_streamed(row: ModelRow, settings: Settings) -> float:
    """Return the bytes of the first two blocks of a streamed middle, the last a backward loads."""
    if settings.plan.middle != "streamed":
        return 0.0
    return sum(
        block_bytes(row, i, settings.plan.precision, False) for i in _middle(row, settings)[:2]
    )


def recomputed_blocks(row: ModelRow, settings: Settings) -> int:
    """Return how many trained blocks compute their activations again in the backward pass."""
    trained = len(_middle(row, settings))
    streamed = settings.plan.middle == "streamed"
    return trained if streamed else min(settings.plan.recomputed, trained)


def block_passes(row: ModelRow, settings: Settings) -> int:
    """Return how often a draw passes a trained block in a step: forward, backward (which costs as
    much through frozen weights), and forward again where it is recomputed."""
    return 2 * len(_middle(row, settings)) + recomputed_blocks(row, settings)


def _start_of_backward(row: ModelRow, settings: Settings, kept: list[float]) -> float:
    """Return the bytes held when the backward pass begins: inputs of the recomputed blocks, and all
    that the others keep, with their LoRA matrices in the model's dtype."""
    again, unit = recomputed_blocks(row, settings), settings.plan.batch * _unit(row, settings)
    lora = [_block_lora(row, settings, i) for i in _middle(row, settings)]
    rounded = 2 * sum(lora[again:]) * (row.number_bytes < 4)
    summed = 4 * sum(lora) * (settings.plan.accumulation > 1)  # of earlier micro-batches
    return again * unit + sum(kept[again:]) + rounded + summed


def _recomputing(row: ModelRow, settings: Settings, kept: list[float]) -> float:
    """Return the bytes held at the worst recomputed block, 0 without one: the inputs up to it, its
    activations and the gradients of later blocks; if the middle is streamed, also its weights and
    those of the block before it, which is being loaded."""
    middle, unit = _middle(row, settings), settings.plan.batch * _unit(row, settings)
    sizes = [0.0] + [
        block_bytes(row, i, settings.plan.precision, False) * (settings.plan.middle == "streamed")
        for i in middle
    ]
    lora = [_block_lora(row, settings, i) for i in middle]
    behind = [4 * sum(lora[n + 1 :]) for n in range(len(lora))]
    if settings.plan.accumulation > 1:
        behind = [4 * sum(lora)] * len(kept)  # of earlier micro-batches
    rounded = 2 * sum(lora) / len(lora) * (row.number_bytes < 4)
    return max(
        (
            (n + 1) * unit + kept[n] + behind[n] + sizes[n] + sizes[n + 1] + rounded
            for n in range(recomputed_blocks(row, settings))
        ),
        default=0.0,
    )


def _forward(
    row: ModelRow, settings: Settings, kind: BlockType, learns: bool, rows: int, side_px: int
) -> float:
    """Return the peak bytes of a block's forward without gradients. The peak is in attention, where
    image and text are joined and rotated in fp32, or in a product with an unpacked weight."""
    passing = rows * _units(row, settings, kind.forward_image, kind.forward_text, side_px)
    if settings.targets == "attention+ff" and learns:
        # a LoRA's output beside the linear's
        passing = max(
            passing, rows * _units(row, settings, kind.wide_image, kind.wide_text, side_px)
        )
    if settings.plan.precision == "full":
        return passing
    unpacked = kind.forward_unpacked * rows * _unit(row, settings, side_px)
    return max(passing, row.number_bytes * kind.unpacked + unpacked)


def _window_card(
    row: ModelRow, settings: Settings, rows: int, side_px: int, text: float = 0.0
) -> float:
    """Return the peak bytes while draws pass the whole model: the running block, the next one being
    loaded, and activations; or the same of layers before the blocks. text: bytes held beside all
    blocks but those of the first kind."""
    stays = set(_middle(row, settings)) if settings.plan.middle == "stays" else set()

    def loaded(index: int) -> float:
        block = block_bytes(row, index, settings.plan.precision, True)
        return block - block_bytes(row, index, settings.plan.precision, False) * (index in stays)

    stats, middle = model_stats(row.name), _middle(row, settings)
    sizes = [*(loaded(i) for i in range(row.num_blocks)), 0.0]
    passes = [  # by kind: outside the middle, in it
        [_forward(row, settings, kind, learns, rows, side_px) for learns in (False, True)]
        for kind in stats.kinds
    ]
    kinds = [k for k, kind in enumerate(stats.kinds) for _ in range(kind.count)]
    blocks = max(
        sizes[i] + sizes[i + 1] + passes[kinds[i]][i in middle] + text * (kinds[i] > 0)
        for i in range(row.num_blocks)
    )
    if not stats.layer:
        return blocks
    kind = stats.kinds[0]  # each of these layers processes the image or the text, not both
    image = _units(row, settings, kind.forward_image, 0.0, side_px)
    text = _units(row, settings, 0.0, kind.forward_text, side_px)
    return max(blocks, 2.0 * row.number_bytes * stats.layer + rows * max(image, text))


def _between_steps(row: ModelRow, settings: Settings) -> float:
    """Return the bytes resident on the GPU while windows are computed or images sampled."""
    total = _around(row, embedders=True) + row.number_bytes * model_stats(row.name).shared
    total += 12 * lora_params(row, settings)
    return total + middle_bytes(row, settings) * (settings.plan.middle == "stays")


def _residuals_card(row: ModelRow, settings: Settings) -> float:
    plan, joined = settings.plan, model_stats(row.name).joined
    draws = plan.window_on_card * (1 + settings.prior)
    state = draws * _unit(row, settings)
    # once text and image are joined, the text's own sequence is still held …
    text = draws * joined * _units(row, settings, 0.0, 1.0)
    passing = state + _window_card(row, settings, plan.micro_batch, plan.side_px, text)
    # … and during the join both exist twice, beside the block being loaded
    largest = max(block_bytes(row, i, plan.precision, True) for i in range(row.num_blocks))
    joining = joined * (2 * state + largest)
    return _between_steps(row, settings) + max(passing, joining)


def _preview_card(row: ModelRow, settings: Settings) -> float:
    """Return the larger of sampling and, with the streamed blocks released, decoding, in bytes."""
    tile = min(settings.preview_px, 512) if settings.plan.preview_tiled else settings.preview_px
    weights, _, decode = _vae(row, settings)
    decoding = decode * tile**2 + 16.0 * settings.preview_px**2 * settings.plan.preview_tiled
    sampling = _window_card(row, settings, settings.plan.preview_batch, settings.preview_px)
    return _between_steps(row, settings) + max(sampling, weights + decoding)


def _latents_card(row: ModelRow, settings: Settings) -> float:
    weights, encode, _ = _vae(row, settings)
    return weights + encode * settings.plan.encode_batch * settings.plan.side_px**2


def _vae(row: ModelRow, settings: Settings) -> tuple[float, float, float]:
    """Return the VAE's bytes: weights, a pixel encoded, a pixel decoded. Beside float16 it is
    float32, since it overflows there."""
    vae, times = model_stats(row.name).vae, 1 + (settings.plan.number_type == "float16")
    return times * row.number_bytes * vae.weights, times * vae.encode, times * vae.decode


def _text_card(row: ModelRow, settings: Settings) -> float:
    """Return the bytes of encoding captions: resident weights, the running block and the next."""
    text, count = model_stats(row.name).text, settings.plan.text_tokens
    working = text.scores * count**2 + text.token * count + text.fixed
    return row.number_bytes * (text.resident + 2 * text.block) + working


def window_bytes(row: ModelRow, settings: Settings, num_draws: int) -> float:
    """Return a window's bytes: f_n, Δ, middle modulation, x_t, its target (docs/method.md §1.3)."""
    stats, image = model_stats(row.name), image_tokens(row, settings.plan.side_px)
    modulation = stats.told + sum(stats.block_type(i).told for i in _middle(row, settings))
    a_draw = (
        _unit(row, settings)
        + row.number_bytes * bool(settings.plan.back) * image * row.width
        + row.number_bytes * modulation
    )
    # x_t, and its target in 4 bytes
    return num_draws * (a_draw + (row.number_bytes + 4) * image * stats.latent_width)


def _latents_bytes(row: ModelRow, settings: Settings) -> float:
    width = model_stats(row.name).latent_width
    return 4.0 * settings.num_draws * image_tokens(row, settings.plan.side_px) * width


def _ram(row: ModelRow, settings: Settings) -> dict[str, float]:
    """Return the stages' RAM in bytes, without PROGRAM_RAM_GIB and without the pages of mapped
    files, which the system can drop.

    Pinned memory (staging, a window's state, kept weights) is counted unrounded, since torch's host
    allocator is configured not to round up to powers of two.
    """
    lora, stats = lora_params(row, settings), model_stats(row.name)
    latents, (vae, _, _) = _latents_bytes(row, settings), _vae(row, settings)
    waiting = waiting_bytes(row, settings) if settings.plan.offload == "pinned" else 0.0
    staging = _stream(row, settings, range(row.num_blocks), modulation=True)  # two pinned buffers
    # `pin_on_device` loads the middle in chunks that may exceed the limit by one weight
    pieces = 2 * (_LOAD_CHUNK_BYTES + stats.largest * weight_bytes(row, settings.plan.precision))
    base = latents + waiting + staging + 2 * 4 * lora
    texts = 1.0 * row.number_bytes * settings.window_draws * text_rows(row, settings)
    texts = texts * stats.text_width * (1 + settings.prior)
    state = (settings.window_draws - settings.plan.window_on_card) * (1 + settings.prior)
    # it exists twice while text and image are joined
    state = state * _unit(row, settings) * (1 + stats.joined)
    return {
        "text": row.number_bytes * (stats.text.ram + 2 * stats.text.block),
        "latents": 2 * latents + vae,
        "residuals": base + texts + state + window_bytes(row, settings, settings.window_draws),
        "train": base + max(0.0, pieces - staging) + 16 * lora,
        "preview": base + vae + _pictures(row, settings),
    }


def _pictures(row: ModelRow, settings: Settings) -> float:
    """Return the bytes in RAM while images are sampled: the hidden states twice (two streams become
    one, or a step cache keeps the first block's input) and a step cache's image tensors: the first
    block's output and residual, the other blocks' residual, the newest of these, and two for the
    comparison. Guidance runs the model twice."""
    guided = row.preview_guidance > 1 and not row.guidance_embedding
    cached = preview_threshold(settings.plan.preview_speed, settings.preview_steps) > 0
    kept = 6.0 * cached * _units(row, settings, 1.0, 0.0, settings.preview_px)
    passing = 2 * _unit(row, settings, settings.preview_px) + kept
    return cached * _adapters(settings) + _SAMPLE_BATCH * (1 + guided) * passing


def _adapters(settings: Settings) -> float:
    """Return the bytes of the patch adapters that previews use (sampling/dynamic_patches.py)."""
    path = adapter_file(settings.model)
    used = settings.plan.preview_speed == "fastest" and path.exists()
    return float(path.stat().st_size) if used else 0.0


def _disk(row: ModelRow, settings: Settings) -> dict[str, float]:
    """Return the bytes that a run writes; a model's runs share the cache of quantised blocks."""
    text_width = model_stats(row.name).text_width
    quantised = (
        model_bytes(row, settings.plan.precision) if settings.plan.precision != "full" else 0.0
    )
    pixels = 5 * settings.progress_px**2 + settings.finishes_large * settings.preview_px**2
    return {
        "text": 16.0 * text_rows(row, settings) * text_width * row.number_bytes,
        "latents": _latents_bytes(row, settings),
        "residuals": quantised + window_bytes(row, settings, settings.window_draws),
        # two checkpoints, each with both LoRAs, and the LoRA of the five steps with previews
        "train": (2 * 16.0 + 5 * 4.0) * lora_params(row, settings),
        "preview": 4 * 3.0 * pixels,  # four at five steps and once in full size, uncompressed
    }
