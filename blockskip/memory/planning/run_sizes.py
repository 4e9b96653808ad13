"""Counts what a run's settings make of a model's sizes: the trained middle, waiting weights, LoRA,
tokens and activations. No torch.

requirements.py adds them up to the memory of stages, duration.py to bytes that are moved.
"""

from __future__ import annotations

from blockskip.core.presets import ModelRow
from blockskip.core.settings import Settings
from blockskip.core.units import GIB
from blockskip.memory.planning.model_stats import block_bytes, lora_widths, model_bytes, model_stats


def image_tokens(row: ModelRow, side_px: int) -> int:
    """Return the image tokens of one draw of that side."""
    return (side_px // model_stats(row.name).pixels_a_token) ** 2


def text_rows(row: ModelRow, settings: Settings) -> int:
    """Return the tokens of a caption's embedding."""
    return settings.plan.text_tokens + model_stats(row.name).more_tokens


def middle_blocks(row: ModelRow, settings: Settings) -> range:
    """Return the indices of the trained blocks."""
    return range(settings.plan.front, row.num_blocks - settings.plan.back)


def recomputed_blocks(row: ModelRow, settings: Settings) -> int:
    """Return how many trained blocks compute their activations again in the backward pass."""
    trained = len(middle_blocks(row, settings))
    streamed = settings.plan.middle == "streamed"
    return trained if streamed else min(settings.plan.recomputed, trained)


def block_passes(row: ModelRow, settings: Settings) -> int:
    """Return how often a draw passes a trained block in a step: forward, backward (which costs as
    much through frozen weights), and forward again where it is recomputed."""
    return 2 * len(middle_blocks(row, settings)) + recomputed_blocks(row, settings)


def middle_bytes(row: ModelRow, settings: Settings) -> float:
    """Return the bytes of the middle that training keeps."""
    return sum(trained_bytes(row, settings))


def trained_bytes(row: ModelRow, settings: Settings) -> tuple[float, ...]:
    """Return the bytes that steps need of every trained block: no modulation, whose outputs are
    stored (docs/method.md §1.3), unless nothing is skipped."""
    middle = middle_blocks(row, settings)
    sizes = block_bytes(row, settings.plan.precision, not settings.plan.skips)
    return sizes[middle.start : middle.stop]


def waiting_bytes(row: ModelRow, settings: Settings) -> float:
    """Return the bytes of block weights that are loaded to the GPU repeatedly.

    A middle that stays is loaded once and not kept in RAM (`pin_on_device` without `keep`). Its
    modulation is loaded with every window."""
    staying = middle_bytes(row, settings) if settings.plan.middle == "stays" else 0.0
    layers = row.number_bytes * model_stats(row.name).layers
    return model_bytes(row, settings.plan.precision) + layers - staying


def kept_bytes(row: ModelRow, settings: Settings) -> float:
    """Return the bytes of waiting weights that RAM keeps once they were read."""
    return min(waiting_bytes(row, settings), settings.plan.ram_weights_gib * GIB)


def kept_middle_bytes(row: ModelRow, settings: Settings) -> float:
    """Return the bytes of a middle that leaves or is streamed, that RAM keeps. It comes first, since
    it is loaded most often (training/trainer.py)."""
    comes_back = settings.plan.middle != "stays"
    return min(middle_bytes(row, settings), kept_bytes(row, settings)) * comes_back


def on_sibling(row: ModelRow, settings: Settings) -> bool:
    """Return whether pictures are made with another transformer than the trained one."""
    return bool(settings.preview_model and row.sibling and not row.sibling.lora)


def other_loras_bytes(row: ModelRow, settings: Settings) -> float:
    """Return the bytes of LoRAs of others: a training adapter, and a few-step LoRA for pictures."""
    gib = row.adapter.download_gib if row.adapter and settings.training_adapter else 0.0
    if settings.preview_model and row.sibling and row.sibling.lora:
        gib += row.sibling.download_gib
    return gib * GIB


def guides(row: ModelRow, settings: Settings) -> bool:
    """Return whether pictures need a second pass a step, with the empty prompt."""
    return settings.preview_guidance > 1 and not row.guidance_embedding


def offload(row: ModelRow, settings: Settings) -> str:
    """Return where waiting weights are: pinned (all in RAM), partly, or mapped (all in files)."""
    kept = kept_bytes(row, settings)
    if kept == waiting_bytes(row, settings):
        return "pinned"
    return "partly" if kept else "mapped"


def lora_params(row: ModelRow, settings: Settings) -> int:
    """Return the number of LoRA parameters: rank times (in + out) of every adapted linear."""
    return sum(block_lora(row, settings))


def block_lora(row: ModelRow, settings: Settings) -> list[int]:
    """Return the number of LoRA parameters of every trained block."""
    middle, ff = middle_blocks(row, settings), settings.targets == "attention+ff"
    widths = list(lora_widths(row.name, ff)[middle.start : middle.stop])
    if widths:
        widths[-1] = model_stats(row.name).block_type(middle[-1]).lora_width(ff, True)
    return [settings.rank * width for width in widths]


def activation_bytes(
    row: ModelRow, settings: Settings, image: float, text: float, side_px: int = 0
) -> float:
    """Return the bytes of one draw's activations: `image` and `text` numbers a token, times the
    model's width, in the model's dtype."""
    count = image * image_tokens(row, side_px or settings.plan.side_px)
    count += text * text_rows(row, settings)
    return row.number_bytes * count * row.width


def state_bytes(row: ModelRow, settings: Settings, side_px: int = 0) -> float:
    """Return the bytes of one draw's hidden states between two blocks."""
    return activation_bytes(row, settings, 1.0, model_stats(row.name).stream_text, side_px)


def vae_bytes(row: ModelRow, settings: Settings) -> tuple[float, float, float]:
    """Return the VAE's bytes: weights, a pixel encoded, a pixel decoded. Beside float16 it is
    float32, since it overflows there."""
    vae, times = model_stats(row.name).vae, 1 + (settings.plan.number_type == "float16")
    return times * row.number_bytes * vae.weights, times * vae.encode, times * vae.decode
