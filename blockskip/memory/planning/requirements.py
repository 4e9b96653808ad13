"""Byte tables: what every stage of a run needs of card, RAM and disk, without torch.

All of it is counted from shapes. A model's own numbers stand in presets/bytes.toml; what is done with
them is the same for all and was checked against `blockskip lab simulate`, which runs the library's
blocks (docs/method.md §1.8, ours).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from blockskip.core.presets import ModelRow
from blockskip.core.stages import PLANNED
from blockskip.core.units import GIB
from blockskip.memory.planning.model_stats import Kind, numbers

# bytes a weight: int8 with an fp32 scale a block of 256 (memory/quantisation.py has one a row: up to
# 1.5 % less); NF4 with a byte a block of 64 and an fp32
# for 256 such blocks (double quantisation as bitsandbytes does)
WEIGHT_BYTES = {"bf16": 2.0, "int8": 1 + 4 / 256, "nf4": 0.5 + 1 / 64 + 4 / (64 * 256)}
_HELD_AT_ONCE = 256 << 20  # memory/placement.py's, which imports torch
_TOGETHER = 8  # sampling/sample.py's, which does too
PROGRAM_RAM_GIB = 2.5  # Python, torch with CUDA's libraries, pipelines: assumed until measured


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Everything that decides what a run needs. Sizes in pixels, tokens, draws and blocks."""

    model: str = "flux-dev"
    front: int = 19
    back: int = 10
    # side training sees: s_min, or s_max with patches "full"; larger crops are shrunk to it on the
    # CPU, so the largest crop's side counts nowhere
    side_px: int = 256
    text_tokens: int = 512
    precision: str = "bf16"  # of the frozen blocks: bf16 | int8 | nf4
    checkpointing: bool = False
    rank: int = 16
    targets: str = "attention"
    batch: int = 1
    accumulates: bool = False  # a step has more draws than a batch: gradients wait in between
    # on the card: stays always | leaves for windows and previews | streamed, block by block
    middle: str = "stays"
    window_draws: int = 200
    prior: float = 0.0  # share of draws that pass a second time, as the untrained model sees them
    window_on_card: int = 0  # draws whose state waits on the card while a window is computed
    rows: int = 4  # draws at a time through a block
    encode_rows: int = 4  # crops at a time through the VAE
    preview_px: int = 1024
    tiled: bool = True  # the VAE decodes previews in tiles
    cached: bool = False  # previews are sampled with a step cache (sampling/step_cache.py)
    adapters: float = (
        0.0  # bytes of what larger patches need (sampling/patch_adapters.py), beside a step cache
    )
    num_draws: int = 2000
    offload: str = "mapped"  # where weights wait that are not on the card: pinned | mapped


@dataclass(frozen=True)
class Need:
    """Peak of one stage in GiB. disk_gib: what it leaves in the run's folder or the model cache."""

    vram_gib: float
    ram_gib: float
    disk_gib: float


def stage_needs(row: ModelRow, choice: Choice) -> dict[str, Need]:
    """What each planned stage needs for a choice."""
    card = {
        "text": _text_card(row, choice),
        "latents": _latents_card(row, choice),
        "residuals": _residuals_card(row, choice),
        "train": _train_card(row, choice),
        "preview": _preview_card(row, choice),
    }
    ram, disk = _ram(row, choice), _disk(row, choice)
    return {s: Need(card[s] / GIB, PROGRAM_RAM_GIB + ram[s] / GIB, disk[s] / GIB) for s in PLANNED}


def block_bytes(row: ModelRow, index: int, precision: str, modulation: bool) -> float:
    """Bytes of a block on the card; biases and norms stay bf16."""
    kind = numbers(row.name).kind(index)
    linear = kind.linear + kind.modulation * modulation
    return linear * WEIGHT_BYTES[precision] + 2 * (kind.small + kind.small_modulation * modulation)


def model_bytes(row: ModelRow, precision: str) -> float:
    """All blocks of the transformer in that precision."""
    return sum(block_bytes(row, i, precision, True) for i in range(row.num_blocks))


def middle_bytes(row: ModelRow, choice: Choice) -> float:
    """What training keeps of the middle: its blocks without their modulation (docs/method.md §1.3)."""
    return sum(block_bytes(row, i, choice.precision, False) for i in _middle(row, choice))


def waiting_bytes(row: ModelRow, choice: Choice) -> float:
    """Weights of blocks that come to the card again and again. A middle that stays comes once,
    past RAM (`hold` without `keep`); its modulation comes with every window."""
    staying = middle_bytes(row, choice) if choice.middle == "stays" else 0.0
    return model_bytes(row, choice.precision) + 2.0 * numbers(row.name).layers - staying


def lora_params(row: ModelRow, choice: Choice) -> int:
    """Parameters of the LoRA: rank times (in + out) of every linear it adapts."""
    return sum(_block_lora(row, choice, i) for i in _middle(row, choice))


def _block_lora(row: ModelRow, choice: Choice, index: int) -> int:
    kind = numbers(row.name).kind(index)
    return choice.rank * (kind.lora + kind.lora_ff * (choice.targets == "attention+ff"))


def _middle(row: ModelRow, choice: Choice) -> range:
    return range(choice.front, row.num_blocks - choice.back)


def image_tokens(row: ModelRow, side_px: int) -> int:
    """Of one draw of that side."""
    return (side_px // numbers(row.name).pixels_a_token) ** 2


def text_rows(row: ModelRow, choice: Choice) -> int:
    """Of a caption's embedding."""
    return choice.text_tokens + numbers(row.name).more_tokens


def _around(row: ModelRow, embedders: bool) -> float:
    """What is no block: embeddings of time, guidance and text, the head; and the embedders."""
    own = numbers(row.name)
    return 2.0 * (own.around + own.embedders * embedders)


def _stream(row: ModelRow, choice: Choice, indices: range, modulation: bool) -> float:
    """The largest two neighbours among streamed blocks, or layers before them: one computes, the next
    one comes."""
    sizes = [block_bytes(row, i, choice.precision, modulation) for i in indices]
    blocks = max((a + b for a, b in zip(sizes, sizes[1:], strict=False)), default=sum(sizes))
    return max(blocks, 4.0 * numbers(row.name).layer)


def _units(row: ModelRow, choice: Choice, image: float, text: float, side_px: int = 0) -> float:
    """Bytes of so many numbers an image token and a text token of a draw, for each of the model's
    width, in bf16."""
    count = image * image_tokens(row, side_px or choice.side_px) + text * text_rows(row, choice)
    return 2.0 * count * row.width


def _unit(row: ModelRow, choice: Choice, side_px: int = 0) -> float:
    """Bytes of what goes from block to block, of one draw."""
    return _units(row, choice, 1.0, numbers(row.name).stream_text, side_px)


def _train_card(row: ModelRow, choice: Choice) -> float:
    middle, lora = _middle(row, choice), lora_params(row, choice)
    own, ff = numbers(row.name), choice.targets == "attention+ff"
    kept = [choice.batch * _kept(row, choice, own.kind(i), ff) for i in middle]
    there = _around(row, embedders=not choice.front) + 12 * lora
    there += 0.0 if choice.front else 2.0 * own.layers
    if choice.middle != "streamed":
        there += middle_bytes(row, choice)
    # what backward makes and lets go
    passing = choice.batch * _units(row, choice, own.passing_image, own.passing_text)
    if choice.precision != "bf16":
        unpacked = own.passing_unpacked * choice.batch * _unit(row, choice)
        passing = max(passing, 2.0 * own.largest + unpacked)
    if not choice.checkpointing:
        # with every LoRA matrix rounded to bf16
        return there + passing + sum(kept) + 2 * lora + 4 * lora * choice.accumulates
    passing += 2 * lora / len(kept) + _checkpointed(row, choice, kept)
    # AdamW: all gradients, and the root of one of its numbers
    return there + max(passing, 8 * lora + _two_streamed(row, choice))


def _kept(row: ModelRow, choice: Choice, kind: Kind, ff: bool) -> float:
    """What a block keeps of one draw for its backward pass, in bytes."""
    image, text = kind.kept_image + kind.kept_ff * ff, kind.kept_text + kind.kept_ff * ff
    return _units(row, choice, image, text)


def _two_streamed(row: ModelRow, choice: Choice) -> float:
    """The first two blocks of a streamed middle, the last to have come in a backward pass."""
    if choice.middle != "streamed":
        return 0.0
    return sum(block_bytes(row, i, choice.precision, False) for i in _middle(row, choice)[:2])


def _checkpointed(row: ModelRow, choice: Choice, kept: list[float]) -> float:
    """The worst block of a checkpointed backward: inputs up to it, its own activations, gradients
    of the blocks behind it and, when the middle is streamed, its weights and those of the block
    before it, which is coming."""
    middle, unit = _middle(row, choice), choice.batch * _unit(row, choice)
    sizes = [0.0] + [
        block_bytes(row, i, choice.precision, False) * (choice.middle == "streamed") for i in middle
    ]
    lora = (4 * _block_lora(row, choice, i) for i in reversed(middle))
    behind = [*accumulate(lora, initial=0)][-2::-1]
    if choice.accumulates:
        behind = [4 * lora_params(row, choice)] * len(kept)  # of draws that passed before
    return max(
        (n + 1) * unit + kept[n] + behind[n] + sizes[n] + sizes[n + 1] for n in range(len(kept))
    )


def _forward(
    row: ModelRow, choice: Choice, kind: Kind, learns: bool, rows: int, side_px: int
) -> float:
    """What passes through a block without gradients: most in attention, where image and text meet
    and rotation is done in fp32, or in a product whose weight is unpacked for it."""
    passing = rows * _units(row, choice, kind.forward_image, kind.forward_text, side_px)
    if choice.targets == "attention+ff" and learns:
        # a LoRA's sum beside what it adds to
        passing = max(passing, rows * _units(row, choice, kind.wide_image, kind.wide_text, side_px))
    if choice.precision == "bf16":
        return passing
    unpacked = kind.forward_unpacked * rows * _unit(row, choice, side_px)
    return max(passing, 2.0 * kind.unpacked + unpacked)


def _through(row: ModelRow, choice: Choice, rows: int, side_px: int, text: float = 0.0) -> float:
    """While draws pass the whole model, where it is most: the block that computes, the next one,
    which is coming, and what passes; or such a layer before the blocks. text: bytes that lie beside
    all blocks but the first kind's."""
    stays = set(_middle(row, choice)) if choice.middle == "stays" else set()

    def comes(index: int) -> float:
        whole = block_bytes(row, index, choice.precision, True)
        return whole - block_bytes(row, index, choice.precision, False) * (index in stays)

    own, middle = numbers(row.name), _middle(row, choice)
    sizes = [*(comes(i) for i in range(row.num_blocks)), 0.0]
    passes = [  # of a kind, outside the middle and in it
        [_forward(row, choice, kind, learns, rows, side_px) for learns in (False, True)]
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
    image = _units(row, choice, kind.forward_image, 0.0, side_px)
    text = _units(row, choice, 0.0, kind.forward_text, side_px)
    return max(blocks, 4.0 * own.layer + rows * max(image, text))


def _between_steps(row: ModelRow, choice: Choice) -> float:
    """On the card while windows are computed or pictures sampled: all but what passes."""
    total = _around(row, embedders=True) + 2.0 * numbers(row.name).shared
    total += 12 * lora_params(row, choice)
    return total + middle_bytes(row, choice) * (choice.middle == "stays")


def _residuals_card(row: ModelRow, choice: Choice) -> float:
    draws, joined = choice.window_on_card * (1 + choice.prior), numbers(row.name).joined
    state = draws * _unit(row, choice)
    # once text and image are one sequence, the text's own stays beside it …
    text = draws * joined * _units(row, choice, 0.0, 1.0)
    passing = state + _through(row, choice, choice.rows, choice.side_px, text)
    # … and at that moment all of both is there twice, and the block that comes
    coming = max(block_bytes(row, i, choice.precision, True) for i in range(row.num_blocks))
    joining = joined * (2 * state + coming)
    return _between_steps(row, choice) + max(passing, joining)


def _preview_card(row: ModelRow, choice: Choice) -> float:
    """Sampling, or decoding when the streamed blocks are gone, whichever takes more."""
    tile = min(choice.preview_px, 512) if choice.tiled else choice.preview_px
    vae = numbers(row.name).vae
    decoding = vae.decode * tile**2 + (16.0 * choice.preview_px**2 if choice.tiled else 0)
    sampling = _through(row, choice, 1, choice.preview_px)
    return _between_steps(row, choice) + max(sampling, 2 * vae.weights + decoding)


def _latents_card(row: ModelRow, choice: Choice) -> float:
    vae = numbers(row.name).vae
    return 2 * vae.weights + vae.encode * choice.encode_rows * choice.side_px**2


def _text_card(row: ModelRow, choice: Choice) -> float:
    """What stays of the encoders, and two blocks: one computes, the next one comes."""
    text, count = numbers(row.name).text, choice.text_tokens
    working = text.scores * count**2 + text.token * count + text.fixed
    return 2 * text.resident + 4 * text.block + working


def window_bytes(row: ModelRow, choice: Choice, num_draws: int) -> float:
    """A stored window: f_n, Δ, the middle's modulation, x_t's target (docs/method.md §1.3)."""
    own, image = numbers(row.name), image_tokens(row, choice.side_px)
    modulation = own.told + sum(own.kind(i).told for i in _middle(row, choice))
    a_draw = _unit(row, choice) + 2 * bool(choice.back) * image * row.width + 2 * modulation
    return num_draws * (a_draw + 6 * image * own.latent_width)  # x_t in 2 bytes, its target in 4


def _ram(row: ModelRow, choice: Choice) -> dict[str, float]:
    """RAM beyond the program's own. A mapped file's pages are the system's to drop, and not in.

    Pinned memory (staging, a window's state, kept weights) is counted as the bytes asked for, since
    torch's host allocator is told not to round them up to powers of two.
    """
    lora, own = lora_params(row, choice), numbers(row.name)
    latents = 4.0 * choice.num_draws * image_tokens(row, choice.side_px) * own.latent_width
    waiting = waiting_bytes(row, choice) if choice.offload == "pinned" else 0.0
    staging = _stream(row, choice, range(row.num_blocks), modulation=True)  # two pinned buffers
    # a middle that comes to stay comes in such pieces, the last weight of one may go beyond
    pieces = 2 * (_HELD_AT_ONCE + own.largest * WEIGHT_BYTES[choice.precision])
    base = latents + waiting + staging + 2 * 4 * lora
    texts = 2.0 * choice.window_draws * text_rows(row, choice) * own.text_width
    texts *= 1 + choice.prior
    state = (choice.window_draws - choice.window_on_card) * (1 + choice.prior) * _unit(row, choice)
    state *= 1 + own.joined  # both sequences are there while text and image become one
    window = window_bytes(row, choice, choice.window_draws)
    return {
        "text": 2.0 * own.text.ram + 4 * own.text.block,
        "latents": 2 * latents + 2 * own.vae.weights,
        "residuals": base + texts + state + window,
        "train": base + max(0.0, pieces - staging) + 16 * lora,
        "preview": base + 2 * own.vae.weights + _pictures(row, choice),
    }


def _pictures(row: ModelRow, choice: Choice) -> float:
    """What waits in RAM while pictures are sampled: what goes from block to block, twice (two streams
    become one, or a step cache keeps what the first block is given) and what a step cache keeps of
    the image: what the first block gave and added, what all the others added, and the newest of these
    beside two numbers' worth of comparing them. Guidance asks the model twice."""
    guided = row.preview_guidance > 1 and not row.guidance_embedding
    kept = 6.0 * choice.cached * _units(row, choice, 1.0, 0.0, choice.preview_px)
    passing = 2 * _unit(row, choice, choice.preview_px) + kept
    return choice.cached * choice.adapters + _TOGETHER * (1 + guided) * passing


def _disk(row: ModelRow, choice: Choice) -> dict[str, float]:
    """What a run writes; quantised blocks are cached once for all runs of a model."""
    own = numbers(row.name)
    latents = 4.0 * choice.num_draws * image_tokens(row, choice.side_px) * own.latent_width
    quantised = model_bytes(row, choice.precision) if choice.precision != "bf16" else 0.0
    return {
        "text": 16.0 * text_rows(row, choice) * own.text_width * 2,
        "latents": latents,
        "residuals": quantised + window_bytes(row, choice, choice.window_draws),
        # two checkpoints, each with both LoRAs; the LoRA alone of five steps with pictures
        "train": (2 * 16.0 + 5 * 4.0) * lora_params(row, choice),
        "preview": 5 * 4 * 3.0 * choice.preview_px**2,
    }
