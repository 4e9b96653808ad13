"""Byte tables: what every stage of a run needs of card, RAM and disk, without torch.

All of it is counted from shapes. A model's own numbers stand in presets/bytes.toml; what is done with
them is the same for all and was checked against `blockskip lab simulate`, which runs the library's
blocks (docs/method.md §1.8, ours).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

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

_LOAD_CHUNK_BYTES = 256 << 20  # memory/placement.py's, which imports torch
_SAMPLE_BATCH = 8  # sampling/sample.py's, which does too
PROGRAM_RAM_GIB = 2.5  # Python, torch with CUDA's libraries, pipelines: assumed until measured


@dataclass(frozen=True)
class StageMemory:
    """Peak of one stage in GiB. disk_gib: what it leaves in the run's folder or the model cache."""

    vram_gib: float
    ram_gib: float
    disk_gib: float


def stage_memory(row: ModelRow, settings: Settings) -> dict[str, StageMemory]:
    """What each planned stage of a run with these settings needs."""
    card = {
        "text": _text_card(row, settings),
        "latents": _latents_card(row, settings),
        "residuals": _residuals_card(row, settings),
        "train": _train_card(row, settings),
        "preview": _preview_card(row, settings),
    }
    ram, disk = _ram(row, settings), _disk(row, settings)
    gib = {s: (card[s] / GIB, PROGRAM_RAM_GIB + ram[s] / GIB, disk[s] / GIB) for s in PLANNED}
    return {stage: StageMemory(*sizes) for stage, sizes in gib.items()}


def middle_bytes(row: ModelRow, settings: Settings) -> float:
    """What training keeps of the middle: its blocks without their modulation (docs/method.md §1.3)."""
    return sum(block_bytes(row, i, settings.plan.precision, False) for i in _middle(row, settings))


def waiting_bytes(row: ModelRow, settings: Settings) -> float:
    """Weights of blocks that come to the card again and again. A middle that stays comes once,
    past RAM (`pin_on_device` without `keep`); its modulation comes with every window."""
    staying = middle_bytes(row, settings) if settings.plan.middle == "stays" else 0.0
    layers = row.number_bytes * model_stats(row.name).layers
    return model_bytes(row, settings.plan.precision) + layers - staying


def lora_params(row: ModelRow, settings: Settings) -> int:
    """Parameters of the LoRA: rank times (in + out) of every linear it adapts."""
    return sum(_block_lora(row, settings, i) for i in _middle(row, settings))


def _block_lora(row: ModelRow, settings: Settings, index: int) -> int:
    kind = model_stats(row.name).block_type(index)
    return settings.rank * (kind.lora + kind.lora_ff * (settings.targets == "attention+ff"))


def _middle(row: ModelRow, settings: Settings) -> range:
    return range(settings.plan.front, row.num_blocks - settings.plan.back)


def image_tokens(row: ModelRow, side_px: int) -> int:
    """Of one draw of that side."""
    return (side_px // model_stats(row.name).pixels_a_token) ** 2


def text_rows(row: ModelRow, settings: Settings) -> int:
    """Of a caption's embedding."""
    return settings.plan.text_tokens + model_stats(row.name).more_tokens


def _around(row: ModelRow, embedders: bool) -> float:
    """What is no block: embeddings of time, guidance and text, the head; and the embedders."""
    own = model_stats(row.name)
    return row.number_bytes * (own.around + own.embedders * embedders)


def _stream(row: ModelRow, settings: Settings, indices: range, modulation: bool) -> float:
    """The largest two neighbours among streamed blocks, or layers before them: one computes, the next
    one comes."""
    sizes = [block_bytes(row, i, settings.plan.precision, modulation) for i in indices]
    blocks = max((a + b for a, b in zip(sizes, sizes[1:], strict=False)), default=sum(sizes))
    return max(blocks, 2.0 * row.number_bytes * model_stats(row.name).layer)


def _units(row: ModelRow, settings: Settings, image: float, text: float, side_px: int = 0) -> float:
    """Bytes of so many numbers an image token and a text token of a draw, for each of the model's
    width, in bf16."""
    count = image * image_tokens(row, side_px or settings.plan.side_px) + text * text_rows(
        row, settings
    )
    return row.number_bytes * count * row.width


def _unit(row: ModelRow, settings: Settings, side_px: int = 0) -> float:
    """Bytes of what goes from block to block, of one draw."""
    return _units(row, settings, 1.0, model_stats(row.name).stream_text, side_px)


def _train_card(row: ModelRow, settings: Settings) -> float:
    middle, lora = _middle(row, settings), lora_params(row, settings)
    own, ff = model_stats(row.name), settings.targets == "attention+ff"
    rounded = 2 * lora * (row.number_bytes < 4)  # every LoRA matrix in the model's own type
    saved = (_activations(row, settings, own.block_type(i), ff) for i in middle)
    kept = [settings.plan.batch * each for each in saved]
    there = _around(row, embedders=not settings.plan.front) + 12 * lora
    there += 0.0 if settings.plan.front else row.number_bytes * own.layers
    if settings.plan.middle != "streamed":
        there += middle_bytes(row, settings)
    # what backward makes and lets go
    passing = settings.plan.batch * _units(row, settings, own.passing_image, own.passing_text)
    if settings.plan.precision != "full":
        unpacked = own.passing_unpacked * settings.plan.batch * _unit(row, settings)
        passing = max(passing, row.number_bytes * own.largest + unpacked)
    if not settings.plan.checkpointing:
        return there + passing + sum(kept) + rounded + 4 * lora * (settings.plan.accumulation > 1)
    passing += rounded / len(kept) + _checkpointed(row, settings, kept)
    # AdamW: all gradients, and the root of one of its numbers
    return there + max(passing, 8 * lora + _two_streamed(row, settings))


def _activations(row: ModelRow, settings: Settings, kind: BlockType, ff: bool) -> float:
    """What a block keeps of one draw for its backward pass, in bytes."""
    image, text = kind.kept_image + kind.kept_ff * ff, kind.kept_text + kind.kept_ff * ff
    return _units(row, settings, image, text)


def _two_streamed(row: ModelRow, settings: Settings) -> float:
    """The first two blocks of a streamed middle, the last to have come in a backward pass."""
    if settings.plan.middle != "streamed":
        return 0.0
    return sum(
        block_bytes(row, i, settings.plan.precision, False) for i in _middle(row, settings)[:2]
    )


def _checkpointed(row: ModelRow, settings: Settings, kept: list[float]) -> float:
    """The worst block of a checkpointed backward: inputs up to it, its own activations, gradients
    of the blocks behind it and, when the middle is streamed, its weights and those of the block
    before it, which is coming."""
    middle, unit = _middle(row, settings), settings.plan.batch * _unit(row, settings)
    sizes = [0.0] + [
        block_bytes(row, i, settings.plan.precision, False) * (settings.plan.middle == "streamed")
        for i in middle
    ]
    lora = (4 * _block_lora(row, settings, i) for i in reversed(middle))
    behind = [*accumulate(lora, initial=0)][-2::-1]
    if settings.plan.accumulation > 1:
        behind = [4 * lora_params(row, settings)] * len(kept)  # of draws that passed before
    return max(
        (n + 1) * unit + kept[n] + behind[n] + sizes[n] + sizes[n + 1] for n in range(len(kept))
    )


def _forward(
    row: ModelRow, settings: Settings, kind: BlockType, learns: bool, rows: int, side_px: int
) -> float:
    """What passes through a block without gradients: most in attention, where image and text meet
    and rotation is done in fp32, or in a product whose weight is unpacked for it."""
    passing = rows * _units(row, settings, kind.forward_image, kind.forward_text, side_px)
    if settings.targets == "attention+ff" and learns:
        # a LoRA's sum beside what it adds to
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
    """While draws pass the whole model, where it is most: the block that computes, the next one,
    which is coming, and what passes; or such a layer before the blocks. text: bytes that lie beside
    all blocks but the first kind's."""
    stays = set(_middle(row, settings)) if settings.plan.middle == "stays" else set()

    def comes(index: int) -> float:
        whole = block_bytes(row, index, settings.plan.precision, True)
        return whole - block_bytes(row, index, settings.plan.precision, False) * (index in stays)

    own, middle = model_stats(row.name), _middle(row, settings)
    sizes = [*(comes(i) for i in range(row.num_blocks)), 0.0]
    passes = [  # of a kind, outside the middle and in it
        [_forward(row, settings, kind, learns, rows, side_px) for learns in (False, True)]
        for kind in own.kinds
    ]
    kinds = [k for k, kind in enumerate(own.kinds) for _ in range(kind.count)]
    blocks = max(
        sizes[i] + sizes[i + 1] + passes[kinds[i]][i in middle] + text * (kinds[i] > 0)
        for i in range(row.num_blocks)
    )
    if not own.layer:
        return blocks
    kind = own.kinds[0]  # each of these layers sees the image or the text
    image = _units(row, settings, kind.forward_image, 0.0, side_px)
    text = _units(row, settings, 0.0, kind.forward_text, side_px)
    return max(blocks, 2.0 * row.number_bytes * own.layer + rows * max(image, text))


def _between_steps(row: ModelRow, settings: Settings) -> float:
    """On the card while windows are computed or pictures sampled: all but what passes."""
    total = _around(row, embedders=True) + row.number_bytes * model_stats(row.name).shared
    total += 12 * lora_params(row, settings)
    return total + middle_bytes(row, settings) * (settings.plan.middle == "stays")


def _residuals_card(row: ModelRow, settings: Settings) -> float:
    draws = settings.plan.window_on_card * (1 + settings.prior)
    joined = model_stats(row.name).joined
    state = draws * _unit(row, settings)
    # once text and image are one sequence, the text's own stays beside it …
    text = draws * joined * _units(row, settings, 0.0, 1.0)
    passing = state + _window_card(
        row, settings, settings.plan.micro_batch, settings.plan.side_px, text
    )
    # … and at that moment all of both is there twice, and the block that comes
    coming = max(block_bytes(row, i, settings.plan.precision, True) for i in range(row.num_blocks))
    joining = joined * (2 * state + coming)
    return _between_steps(row, settings) + max(passing, joining)


def _preview_card(row: ModelRow, settings: Settings) -> float:
    """Sampling, or decoding when the streamed blocks are gone, whichever takes more."""
    tile = min(settings.preview_px, 512) if settings.plan.preview_tiled else settings.preview_px
    vae = model_stats(row.name).vae
    decoding = vae.decode * tile**2 + (
        16.0 * settings.preview_px**2 if settings.plan.preview_tiled else 0
    )
    sampling = _window_card(row, settings, settings.plan.preview_batch, settings.preview_px)
    return _between_steps(row, settings) + max(sampling, row.number_bytes * vae.weights + decoding)


def _latents_card(row: ModelRow, settings: Settings) -> float:
    vae = model_stats(row.name).vae
    return (
        row.number_bytes * vae.weights
        + vae.encode * settings.plan.encode_batch * settings.plan.side_px**2
    )


def _text_card(row: ModelRow, settings: Settings) -> float:
    """What stays of the encoders, and two blocks: one computes, the next one comes."""
    text, count = model_stats(row.name).text, settings.plan.text_tokens
    working = text.scores * count**2 + text.token * count + text.fixed
    return row.number_bytes * (text.resident + 2 * text.block) + working


def window_bytes(row: ModelRow, settings: Settings, num_draws: int) -> float:
    """A stored window: f_n, Δ, the middle's modulation, x_t's target (docs/method.md §1.3)."""
    own, image = model_stats(row.name), image_tokens(row, settings.plan.side_px)
    modulation = own.told + sum(own.block_type(i).told for i in _middle(row, settings))
    a_draw = (
        _unit(row, settings)
        + row.number_bytes * bool(settings.plan.back) * image * row.width
        + row.number_bytes * modulation
    )
    return num_draws * (
        a_draw + (row.number_bytes + 4) * image * own.latent_width
    )  # x_t, and its target in 4 bytes


def _ram(row: ModelRow, settings: Settings) -> dict[str, float]:
    """RAM beyond the program's own. A mapped file's pages are the system's to drop, and not in.

    Pinned memory (staging, a window's state, kept weights) is counted as the bytes asked for, since
    torch's host allocator is told not to round them up to powers of two.
    """
    lora, own = lora_params(row, settings), model_stats(row.name)
    latents = 4.0 * settings.num_draws * image_tokens(row, settings.plan.side_px) * own.latent_width
    waiting = waiting_bytes(row, settings) if settings.plan.offload == "pinned" else 0.0
    staging = _stream(row, settings, range(row.num_blocks), modulation=True)  # two pinned buffers
    # a middle that comes to stay comes in such pieces, the last weight of one may go beyond
    pieces = 2 * (_LOAD_CHUNK_BYTES + own.largest * weight_bytes(row, settings.plan.precision))
    base = latents + waiting + staging + 2 * 4 * lora
    texts = (
        1.0 * row.number_bytes * settings.window_draws * text_rows(row, settings) * own.text_width
    )
    texts *= 1 + settings.prior
    state = (
        (settings.window_draws - settings.plan.window_on_card)
        * (1 + settings.prior)
        * _unit(row, settings)
    )
    state *= 1 + own.joined  # both sequences are there while text and image become one
    window = window_bytes(row, settings, settings.window_draws)
    return {
        "text": row.number_bytes * (own.text.ram + 2 * own.text.block),
        "latents": 2 * latents + row.number_bytes * own.vae.weights,
        "residuals": base + texts + state + window,
        "train": base + max(0.0, pieces - staging) + 16 * lora,
        "preview": base + row.number_bytes * own.vae.weights + _pictures(row, settings),
    }


def _pictures(row: ModelRow, settings: Settings) -> float:
    """What waits in RAM while pictures are sampled: what goes from block to block, twice (two streams
    become one, or a step cache keeps what the first block is given) and what a step cache keeps of
    the image: what the first block gave and added, what all the others added, and the newest of these
    beside two numbers' worth of comparing them. Guidance asks the model twice."""
    guided = row.preview_guidance > 1 and not row.guidance_embedding
    cached = preview_threshold(settings.plan.preview_speed, settings.preview_steps) > 0
    kept = 6.0 * cached * _units(row, settings, 1.0, 0.0, settings.preview_px)
    passing = 2 * _unit(row, settings, settings.preview_px) + kept
    return cached * _adapters(settings) + _SAMPLE_BATCH * (1 + guided) * passing


def _adapters(settings: Settings) -> float:
    """Bytes of the adapters that previews may have (sampling/dynamic_patches.py)."""
    path = adapter_file(settings.model)
    wanted = settings.plan.preview_speed == "fastest" and path.exists()
    return float(path.stat().st_size) if wanted else 0.0


def _disk(row: ModelRow, settings: Settings) -> dict[str, float]:
    """What a run writes; quantised blocks are cached once for all runs of a model."""
    own = model_stats(row.name)
    latents = 4.0 * settings.num_draws * image_tokens(row, settings.plan.side_px) * own.latent_width
    quantised = (
        model_bytes(row, settings.plan.precision) if settings.plan.precision != "full" else 0.0
    )
    return {
        "text": 16.0 * text_rows(row, settings) * own.text_width * row.number_bytes,
        "latents": latents,
        "residuals": quantised + window_bytes(row, settings, settings.window_draws),
        # two checkpoints, each with both LoRAs; the LoRA alone of five steps with pictures
        "train": (2 * 16.0 + 5 * 4.0) * lora_params(row, settings),
        "preview": 5 * 4 * 3.0 * settings.preview_px**2,
    }
