"""Computes the memory that every stage of a run needs, without torch: the GPU memory here, RAM and
disk in host_requirements.py.

Everything is counted from shapes. A model's sizes are in presets/bytes.toml. The formulas are the
same for all models and were checked against `blockskip lab simulate`, which runs diffusers' blocks
(docs/method.md §1.8, ours).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from blockskip.core import stages
from blockskip.core.presets import ModelRow
from blockskip.core.settings import MAX_GIB, Settings
from blockskip.core.stages import PLANNED
from blockskip.core.units import GIB
from blockskip.memory.planning.host_requirements import disk_bytes, ram_bytes
from blockskip.memory.planning.model_stats import (
    INT8_PIECE_BYTES,
    BlockType,
    block_bytes,
    model_stats,
)
from blockskip.memory.planning.run_sizes import (
    activation_bytes,
    block_lora,
    lora_params,
    middle_blocks,
    middle_bytes,
    on_sibling,
    other_loras_bytes,
    recomputed_blocks,
    state_bytes,
    trained_bytes,
    vae_bytes,
    waiting_bytes,
)

SPARE_RAM_GIB = 2.0  # of the RAM that is free when a run begins, left to other programs (ours)
PROGRAM_RAM_GIB = 2.5  # Python, torch with CUDA's libraries, pipelines: assumed until measured


ALWAYS_KEPT_GIB = 0.1  # waiting weights of so few GiB, as the demo's, are never read twice


@dataclass(frozen=True)
class StageMemory:
    """Peak memory of one stage, in GiB. disk_gib: left in the run's folder or the model cache."""

    vram_gib: float
    ram_gib: float
    disk_gib: float


def stage_memory(
    row: ModelRow, settings: Settings, names: Sequence[str] = PLANNED
) -> dict[str, StageMemory]:
    """Return the memory that these stages of a run with these settings need."""
    card = {
        "text": _text_card,
        "latents": _latents_card,
        "residuals": _residuals_card,
        "train": _train_card,
        "preview": _preview_card,
    }
    ram, disk = ram_bytes(row, settings), disk_bytes(row, settings)
    return {
        stage: StageMemory(
            card[stage](row, settings) / GIB, PROGRAM_RAM_GIB + ram[stage] / GIB, disk[stage] / GIB
        )
        for stage in names
    }


def ram_for_weights(row: ModelRow, settings: Settings, ram_gib: float, shared: bool) -> float:
    """Return how many GiB of waiting weights a run with `ram_gib` GiB of RAM can keep there beside
    all else, MAX_GIB if that is all of them. shared: whether the device's memory is RAM too."""
    needs = stage_memory(row, settings.changed(ram_weights_gib=0))
    loading = (needs[name] for name in (stages.RESIDUALS, stages.TRAIN, stages.PREVIEW))
    room = ram_gib - max(need.ram_gib + shared * need.vram_gib for need in loading)
    waiting = waiting_bytes(row, settings) / GIB
    return MAX_GIB if waiting <= max(room, ALWAYS_KEPT_GIB) else max(0.0, room)


def _around(row: ModelRow, settings: Settings, embedders: bool) -> float:
    """Return the bytes beside the blocks: time, guidance and text embeddings, head, embedders, and
    LoRAs of others, as if all of them were on the card."""
    stats = model_stats(row.name)
    beside = row.number_bytes * (stats.around + stats.embedders * embedders)
    return beside + other_loras_bytes(row, settings)


def _train_card(row: ModelRow, settings: Settings) -> float:
    # AdamW: all gradients, and the square root of the second moment
    update = 8 * lora_params(row, settings) + _two_streamed(row, settings)
    return _trained_and_state(row, settings) + max(_forward_and_backward(row, settings), update)


def gradient_card(row: ModelRow, settings: Settings) -> float:
    """Return the bytes of GPU memory while a step computes its gradients, without its update."""
    return _trained_and_state(row, settings) + _forward_and_backward(row, settings)


def _trained_and_state(row: ModelRow, settings: Settings) -> float:
    """Return the bytes held between training steps: weights, LoRA and optimiser state."""
    resident = _around(row, settings, embedders=not settings.plan.front) + 12 * lora_params(
        row, settings
    )
    resident += 0.0 if settings.plan.front else row.number_bytes * model_stats(row.name).layers
    staying = settings.plan.middle != "streamed"
    return resident + (middle_bytes(row, settings) if staying else 0.0)


def _forward_and_backward(row: ModelRow, settings: Settings) -> float:
    stats, ff = model_stats(row.name), settings.targets == "attention+ff"
    sizes = [settings.plan.batch * _activations(row, settings, kind, ff) for kind in stats.kinds]
    middle = middle_blocks(row, settings)
    blocks = [size for size, k in zip(sizes, stats.kinds, strict=True) for _ in range(k.count)]
    kept = blocks[middle.start : middle.stop]
    # temporaries of the backward pass
    passing = settings.plan.batch * activation_bytes(
        row, settings, stats.passing_image, stats.passing_text
    )
    if settings.plan.precision != "full":
        unpacked = stats.passing_unpacked * settings.plan.batch * state_bytes(row, settings)
        passing = max(passing, _product_bytes(row, settings, stats.largest) + unpacked)
    return passing + max(_start_of_backward(row, settings, kept), _recomputing(row, settings, kept))


def _activations(row: ModelRow, settings: Settings, kind: BlockType, ff: bool) -> float:
    """Return the bytes that a block keeps of one draw for its backward pass."""
    image, text = kind.kept_image + kind.kept_ff * ff, kind.kept_text + kind.kept_ff * ff
    return activation_bytes(row, settings, image, text)


def _two_streamed(row: ModelRow, settings: Settings) -> float:
    """Return the bytes of the first two blocks of a streamed middle, the last a backward loads."""
    if settings.plan.middle != "streamed":
        return 0.0
    return sum(trained_bytes(row, settings)[:2])


def _start_of_backward(row: ModelRow, settings: Settings, kept: list[float]) -> float:
    """Return the bytes held when the backward pass begins: inputs of the recomputed blocks, and all
    that the others keep, with their LoRA matrices in the model's dtype."""
    again, unit = recomputed_blocks(row, settings), settings.plan.batch * state_bytes(row, settings)
    lora = block_lora(row, settings)
    rounded = 2 * sum(lora[again:]) * (row.number_bytes < 4)
    summed = 4 * sum(lora) * (settings.plan.accumulation > 1)  # of earlier micro-batches
    return again * unit + sum(kept[again:]) + rounded + summed


def _recomputing(row: ModelRow, settings: Settings, kept: list[float]) -> float:
    """Return the bytes held at the worst recomputed block, 0 without one: the inputs up to it, its
    activations and the gradients of later blocks; if the middle is streamed, also its weights and
    those of the block before it, which is being loaded."""
    unit, lora = settings.plan.batch * state_bytes(row, settings), block_lora(row, settings)
    streamed = settings.plan.middle == "streamed"
    sizes = [0.0, *(size * streamed for size in trained_bytes(row, settings))]
    whole = 4 * sum(lora)
    behind = [whole - 4 * before for before in accumulate(lora)]
    if settings.plan.accumulation > 1:
        behind = [whole] * len(kept)  # of earlier micro-batches
    rounded = 2 * sum(lora) / len(lora) * (row.number_bytes < 4)
    return max(
        (
            (n + 1) * unit + kept[n] + behind[n] + sizes[n] + sizes[n + 1] + rounded
            for n in range(recomputed_blocks(row, settings))
        ),
        default=0.0,
    )


def _forward(row: ModelRow, settings: Settings, kind: BlockType, rows: int, side_px: int) -> float:
    """Return the peak bytes of a block's forward without gradients. The peak is in attention, where
    image and text are joined and rotated in fp32, or in a product with an unpacked weight."""
    passing = rows * activation_bytes(row, settings, kind.forward_image, kind.forward_text, side_px)
    if settings.plan.precision == "full" or settings.plan.int8_products:
        return passing + INT8_PIECE_BYTES * settings.plan.int8_products
    unpacked = kind.forward_unpacked * rows * state_bytes(row, settings, side_px)
    return max(passing, _product_bytes(row, settings, kind.unpacked) + unpacked)


def _product_bytes(row: ModelRow, settings: Settings, weights: int) -> float:
    """Return the bytes beside the activations while a quantised weight of so many numbers is
    multiplied: unpacked, or in 8 bits transposed and with the rounded rows."""
    unpacked = row.number_bytes * weights
    return max(unpacked, weights + INT8_PIECE_BYTES) if settings.plan.int8_products else unpacked


def _window_card(
    row: ModelRow, settings: Settings, rows: int, side_px: int, text: float = 0.0
) -> float:
    """Return the peak bytes while draws pass the whole model: the running block, the next one being
    loaded, and activations; or the same of layers before the blocks. text: bytes held beside all
    blocks but those of the first kind."""
    stats = model_stats(row.name)
    sizes = [*block_bytes(row, settings.plan.precision, True), 0.0]
    if settings.plan.middle == "stays":
        kept = zip(middle_blocks(row, settings), trained_bytes(row, settings), strict=True)
        for index, size in kept:
            sizes[index] -= size
    passes = [_forward(row, settings, kind, rows, side_px) for kind in stats.kinds]
    kinds = [k for k, kind in enumerate(stats.kinds) for _ in range(kind.count)]
    blocks = max(
        sizes[i] + sizes[i + 1] + passes[kinds[i]] + text * (kinds[i] > 0)
        for i in range(row.num_blocks)
    )
    if not stats.layer:
        return blocks
    kind = stats.kinds[0]  # each of these layers processes the image or the text, not both
    image = activation_bytes(row, settings, kind.forward_image, 0.0, side_px)
    text = activation_bytes(row, settings, 0.0, kind.forward_text, side_px)
    return max(blocks, 2.0 * row.number_bytes * stats.layer + rows * max(image, text))


def _between_steps(row: ModelRow, settings: Settings) -> float:
    """Return the bytes resident on the GPU while windows are computed or images sampled."""
    total = _around(row, settings, embedders=True) + row.number_bytes * model_stats(row.name).shared
    total += 12 * lora_params(row, settings)
    return total + middle_bytes(row, settings) * (settings.plan.middle == "stays")


def _residuals_card(row: ModelRow, settings: Settings) -> float:
    plan, joined = settings.plan, model_stats(row.name).joined
    draws = plan.window_on_card * (1 + settings.prior)
    state = draws * state_bytes(row, settings)
    # once text and image are joined, the text's own sequence is still held …
    text = draws * joined * activation_bytes(row, settings, 0.0, 1.0)
    passing = state + _window_card(row, settings, plan.micro_batch, plan.side_px, text)
    # … and during the join both exist twice, beside the block being loaded
    largest = max(block_bytes(row, plan.precision, True))
    joining = joined * (2 * state + largest)
    return _between_steps(row, settings) + max(passing, joining)


def _preview_card(row: ModelRow, settings: Settings) -> float:
    """Return the larger of sampling and, with the streamed blocks released, decoding, in bytes."""
    tile = settings.preview_px
    if settings.plan.preview_tiled:
        tile = min(tile, model_stats(row.name).vae.tile)
    weights, _, decode = vae_bytes(row, settings)
    decoding = decode * tile**2 + 16.0 * settings.preview_px**2 * settings.plan.preview_tiled
    resident, pictures = _between_steps(row, settings), settings
    if on_sibling(row, settings):  # the trained model stays as it is; all blocks of this one wait
        pictures = settings.changed(middle="leaves")
        resident += _around(row, settings, embedders=True)
        resident += row.number_bytes * model_stats(row.name).shared
    sampling = _window_card(row, pictures, settings.plan.preview_batch, settings.preview_px)
    return resident + max(sampling, weights + decoding)


def _latents_card(row: ModelRow, settings: Settings) -> float:
    weights, encode, _ = vae_bytes(row, settings)
    return weights + encode * settings.plan.encode_batch * settings.plan.side_px**2


def _text_card(row: ModelRow, settings: Settings) -> float:
    """Return the bytes of encoding captions: resident weights, the running block and the next."""
    text, count = model_stats(row.name).text, settings.plan.text_tokens
    working = text.scores * count**2 + text.token * count + text.fixed
    return row.number_bytes * (text.resident + 2 * text.block) + working
