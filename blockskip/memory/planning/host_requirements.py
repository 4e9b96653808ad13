"""Computes the RAM and disk that every stage of a run needs, without torch, as requirements.py does
the GPU memory."""

from __future__ import annotations

from itertools import pairwise

from blockskip.core.paths import adapter_file
from blockskip.core.presets import ModelRow, preview_threshold
from blockskip.core.settings import Settings
from blockskip.memory.planning.model_stats import (
    block_bytes,
    model_bytes,
    model_stats,
    weight_bytes,
)
from blockskip.memory.planning.run_sizes import (
    activation_bytes,
    guides,
    image_tokens,
    kept_bytes,
    lora_params,
    middle_blocks,
    on_sibling,
    other_loras_bytes,
    state_bytes,
    text_rows,
    vae_bytes,
)

# copied from modules that import torch
_LOAD_CHUNK_BYTES, _SAMPLE_BATCH, _ENCODED_TOGETHER = 256 << 20, 8, 16
_CAPTIONS = 32  # different captions of a run, assumed


def ram_bytes(row: ModelRow, settings: Settings) -> dict[str, float]:
    """Return the stages' RAM in bytes, without PROGRAM_RAM_GIB and without the pages of mapped
    files, which the system can drop.

    Pinned memory (staging, a window's state, kept weights) is counted unrounded, since torch's host
    allocator is configured not to round up to powers of two.
    """
    lora, stats = lora_params(row, settings), model_stats(row.name)
    latents, (vae, _, _) = _latents_bytes(row, settings), vae_bytes(row, settings)
    staging = _stream(row, settings)  # two pinned buffers
    # `pin_on_device` loads the middle in chunks that may exceed the limit by one weight
    pieces = 2 * (_LOAD_CHUNK_BYTES + stats.largest * weight_bytes(row, settings.plan.precision))
    base = latents + kept_bytes(row, settings) + staging + 2 * 4 * lora
    base += other_loras_bytes(row, settings)
    texts = 1.0 * row.number_bytes * settings.window_draws * text_rows(row, settings)
    texts = texts * stats.text_width * (1 + settings.prior)
    state = (settings.window_draws - settings.plan.window_on_card) * (1 + settings.prior)
    # it exists twice while text and image are joined
    state = state * state_bytes(row, settings) * (1 + stats.joined)
    # of the captions encoded together: layer by layer, and stacked for the caption modules
    states = (
        2.0 * row.number_bytes * _ENCODED_TOGETHER * text_rows(row, settings) * stats.text.states
    )
    return {
        "text": row.number_bytes * (stats.text.ram + 2 * stats.text.block) + states,
        "latents": 2 * latents + vae,
        "residuals": base + texts + state + window_bytes(row, settings, settings.window_draws),
        "train": base + max(0.0, pieces - staging) + 16 * lora,
        "preview": base + vae + _pictures(row, settings),
    }


def _stream(row: ModelRow, settings: Settings) -> float:
    """Return the bytes of the two largest neighbours among all blocks, or among layers before them:
    one computes while the next is loaded."""
    blocks = max(a + b for a, b in pairwise(block_bytes(row, settings.plan.precision, True)))
    return max(blocks, 2.0 * row.number_bytes * model_stats(row.name).layer)


def _pictures(row: ModelRow, settings: Settings) -> float:
    """Return the bytes in RAM while images are sampled: the hidden states twice (two streams become
    one, or a step cache keeps the first block's input) and a step cache's image tensors: the first
    block's output and residual, the other blocks' residual, the newest of these, and two for the
    comparison. Guidance runs the model twice."""
    cached = preview_threshold(settings.plan.preview_speed, settings.preview_steps) > 0
    kept = 6.0 * cached * activation_bytes(row, settings, 1.0, 0.0, settings.preview_px)
    passing = 2 * state_bytes(row, settings, settings.preview_px) + kept
    return cached * _adapters(settings) + _SAMPLE_BATCH * (1 + guides(row, settings)) * passing


def _adapters(settings: Settings) -> float:
    """Return the bytes of the patch adapters that previews use (sampling/dynamic_patches.py)."""
    path = adapter_file(settings.model)
    used = settings.plan.preview_speed == "fastest" and path.exists()
    return float(path.stat().st_size) if used else 0.0


def disk_bytes(row: ModelRow, settings: Settings) -> dict[str, float]:
    """Return the bytes that a run writes; a model's runs share the cache of quantised blocks."""
    text_width = model_stats(row.name).text_width
    quantised = (
        model_bytes(row, settings.plan.precision) if settings.plan.precision != "full" else 0.0
    )
    quantised *= 2 if on_sibling(row, settings) else 1
    pixels = 5 * settings.progress_px**2 + settings.finishes_large * settings.preview_px**2
    return {
        "text": 1.0 * _ENCODED_TOGETHER * text_rows(row, settings) * text_width * row.number_bytes,
        "latents": _latents_bytes(row, settings),
        "residuals": quantised + window_bytes(row, settings, settings.window_draws),
        # two checkpoints, each with both LoRAs, and the LoRA of the five steps with previews
        "train": (2 * 16.0 + 5 * 4.0) * lora_params(row, settings),
        "preview": 4 * 3.0 * pixels,  # four at five steps and once in full size, uncompressed
    }


def window_bytes(row: ModelRow, settings: Settings, num_draws: int) -> float:
    """Return a window's bytes: f_n, Δ, middle modulation, x_t, its target (docs/method.md §1.3); x_t
    and target alone if nothing is skipped."""
    stats, image = model_stats(row.name), image_tokens(row, settings.plan.side_px)
    modulation = stats.told + sum(stats.block_type(i).told for i in middle_blocks(row, settings))
    text = activation_bytes(row, settings, 0.0, stats.static_text)  # stored once a caption
    a_draw = (
        state_bytes(row, settings)
        - text
        + row.number_bytes * bool(settings.plan.back) * image * row.width
        + row.number_bytes * modulation
    )
    # x_t, and its target in 4 bytes
    a_draw *= settings.plan.skips
    texts = min(num_draws, _CAPTIONS) * text * settings.plan.skips
    return texts + num_draws * (a_draw + (row.number_bytes + 4) * image * stats.latent_width)


def _latents_bytes(row: ModelRow, settings: Settings) -> float:
    width = model_stats(row.name).latent_width
    return 4.0 * settings.num_draws * image_tokens(row, settings.plan.side_px) * width
