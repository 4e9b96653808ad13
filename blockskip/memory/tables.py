"""Byte tables: what every stage of a run needs of card, RAM and disk, without torch.

All of it is counted from shapes. The numbers of tensors that autograd keeps were derived from the
library's blocks and checked against `blockskip lab simulate`, which runs them (METHOD.md §1.8,
ours). Unit of activations: one stream of all tokens at the model's width, in bf16.

    single block  layer norm's input and output, feed-forward before its GELU (4), q and k before
                  and after norm and rotation (4), v, attention's output           12
    double block  the same, and the second layer norm's input                      13
    LoRA on the feed-forward as well keeps the inputs of its linears           +5  +5
"""

from __future__ import annotations

from dataclasses import dataclass

from blockskip.config import ModelRow

GIB = 1024**3
STAGES = ("text", "latents", "residuals", "train", "preview")
PIXELS_A_TOKEN = 16  # FLUX: 8 of the VAE times 2 of packing
TEXT_WIDTH, POOLED_WIDTH, LATENT_WIDTH = 4096, 768, 64
# bytes a weight: int8 with an fp32 scale a block of 256 (memory/quantise.py has one a row: up to
# 1.5 % less); NF4 with a byte a block of 64 and an fp32
# for 256 such blocks (double quantisation as bitsandbytes does)
WEIGHT_BYTES = {"bf16": 2.0, "int8": 1 + 4 / 256, "nf4": 0.5 + 1 / 64 + 4 / (64 * 256)}
# T5-XXL: d 4096, feed-forward 10240 (gated), 32128 words; CLIP-L: 123 M
_T5_BLOCK = (4 * 4096**2 + 3 * 4096 * 10240 + 2 * 4096) * 2
_T5_WORDS = 32128 * 4096 * 2
_CLIP = 123_060_480 * 2
_VAE = 83_819_683 * 2
_HELD_AT_ONCE = 256 << 20  # memory/placement.py's, which imports torch
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
    # on the card: stays always | leaves for windows and previews | streamed, block by block
    middle: str = "stays"
    window_draws: int = 200
    prior: float = 0.0  # share of draws that pass a second time, as the untrained model sees them
    window_on_card: int = 0  # draws whose state waits on the card while a window is computed
    rows: int = 4  # draws at a time through a block
    encode_rows: int = 4  # crops at a time through the VAE
    preview_px: int = 1024
    tiled: bool = True  # the VAE decodes previews in tiles
    num_draws: int = 2000
    offload: str = "mapped"  # where weights wait that are not on the card: pinned | mapped


@dataclass(frozen=True)
class Need:
    """Peak of one stage in GiB. disk_gib: what it leaves in the run's folder or the model cache."""

    vram_gib: float
    ram_gib: float
    disk_gib: float


def stage_needs(row: ModelRow, choice: Choice) -> dict[str, Need]:
    """What each of STAGES needs for a choice."""
    card = {
        "text": _text_card(choice),
        "latents": _latents_card(choice),
        "residuals": _residuals_card(row, choice),
        "train": _train_card(row, choice),
        "preview": _preview_card(row, choice),
    }
    ram, disk = _ram(row, choice), _disk(row, choice)
    return {s: Need(card[s] / GIB, PROGRAM_RAM_GIB + ram[s] / GIB, disk[s] / GIB) for s in STAGES}


def linear_params(row: ModelRow, index: int, modulation: bool = False) -> int:
    """Weights of block `index`'s linears. FLUX, in squares of the width: a double block has 8 of
    attention, 16 of feed-forward and 12 of modulation, a single one 3, 9 and 3."""
    double = index < row.blocks[0]
    squares = (24 + 12 * modulation) if double else (12 + 3 * modulation)
    return squares * row.width**2


def block_bytes(row: ModelRow, index: int, precision: str, modulation: bool) -> float:
    """Bytes of a block on the card; biases and norms stay bf16."""
    double = index < row.blocks[0]
    biases = (18 + 12 * modulation) if double else (8 + 3 * modulation)
    small = 2 * (biases * row.width + (4 if double else 2) * 128)
    return linear_params(row, index, modulation) * WEIGHT_BYTES[precision] + small


def model_bytes(row: ModelRow, precision: str) -> float:
    """All blocks of the transformer in that precision."""
    return sum(block_bytes(row, i, precision, True) for i in range(row.num_blocks))


def middle_bytes(row: ModelRow, choice: Choice) -> float:
    """What training keeps of the middle: its blocks without their modulation (METHOD.md §1.3)."""
    return sum(block_bytes(row, i, choice.precision, False) for i in _middle(row, choice))


def waiting_bytes(row: ModelRow, choice: Choice) -> float:
    """Weights of blocks that come to the card again and again. A middle that stays comes once,
    past RAM (`hold` without `keep`); its modulation comes with every window."""
    staying = middle_bytes(row, choice) if choice.middle == "stays" else 0.0
    return model_bytes(row, choice.precision) - staying


def work(row: ModelRow, side_px: int, text_tokens: int) -> float:
    """Arithmetic of one draw in any block, in multiply-adds: linears (12 squares of the width a
    token, in double and single blocks alike) and attention."""
    count = (side_px // PIXELS_A_TOKEN) ** 2 + text_tokens
    return count * (12.0 * row.width**2 + 2.0 * count * row.width)


def lora_params(row: ModelRow, choice: Choice) -> int:
    """Parameters of the LoRA: rank times (in + out) of every linear it adapts."""
    return sum(_block_lora(row, choice, i) for i in _middle(row, choice))


def _block_lora(row: ModelRow, choice: Choice, index: int) -> int:
    widths = {"attention": (16, 6), "attention+ff": (36, 17)}[choice.targets]
    return choice.rank * widths[index >= row.blocks[0]] * row.width


def _middle(row: ModelRow, choice: Choice) -> range:
    return range(choice.front, row.num_blocks - choice.back)


def tokens(choice: Choice, side_px: int = 0) -> int:
    """Image and text tokens of one draw of that side."""
    return ((side_px or choice.side_px) // PIXELS_A_TOKEN) ** 2 + choice.text_tokens


def _around(row: ModelRow, choice: Choice, embedders: bool) -> float:
    """What is no block: embeddings of time, guidance and text, the head, the embedders."""
    d = row.width
    time = (1 + row.guidance_embedding) * (256 * d + d * d + 2 * d)
    params = time + (POOLED_WIDTH + 2 + d) * d + 2 * d * d + 2 * d + (d + 1) * LATENT_WIDTH
    if embedders:
        params += (LATENT_WIDTH + 1 + TEXT_WIDTH + 1) * d
    return 2 * params


def _stream(row: ModelRow, choice: Choice, indices: range, modulation: bool) -> float:
    """The largest two neighbours among streamed blocks: one computes, the next one comes."""
    sizes = [block_bytes(row, i, choice.precision, modulation) for i in indices]
    return max((a + b for a, b in zip(sizes, sizes[1:], strict=False)), default=sum(sizes))


def _unit(row: ModelRow, choice: Choice, side_px: int = 0) -> float:
    """Bytes of one stream of all tokens of a draw at the model's width, in bf16."""
    return 2.0 * tokens(choice, side_px) * row.width


def _unpacked(row: ModelRow, choice: Choice) -> float:
    """The largest weight in bf16, unpacked for the product that needs it."""
    return 10.0 * row.width**2 if choice.precision != "bf16" else 0.0


def _train_card(row: ModelRow, choice: Choice) -> float:
    middle, lora = _middle(row, choice), lora_params(row, choice)
    unit = choice.batch * _unit(row, choice)
    ff = 5 if choice.targets == "attention+ff" else 0
    kept = [(13.4 if i < row.blocks[0] else 12.05) + ff for i in middle]
    there = _around(row, choice, embedders=not choice.front) + 12 * lora
    if choice.middle != "streamed":
        there += middle_bytes(row, choice)
    # what backward makes and lets go
    passing = 11 * unit + _unpacked(row, choice)
    if not choice.checkpointing:
        # with every LoRA matrix rounded to bf16
        return there + passing + sum(kept) * unit + 2 * lora
    passing += 2 * lora / len(kept) + _checkpointed(row, choice, kept, unit)
    # AdamW: all gradients, and the root of one of its numbers
    return there + max(passing, 8 * lora + _two_streamed(row, choice))


def _two_streamed(row: ModelRow, choice: Choice) -> float:
    """The first two blocks of a streamed middle, the last to have come in a backward pass."""
    if choice.middle != "streamed":
        return 0.0
    return sum(block_bytes(row, i, choice.precision, False) for i in _middle(row, choice)[:2])


def _checkpointed(row: ModelRow, choice: Choice, kept: list[float], unit: float) -> float:
    """The worst block of a checkpointed backward: inputs up to it, its own activations, gradients
    of the blocks behind it and, when the middle is streamed, its weights and those of the block
    before it, which is coming."""
    middle = _middle(row, choice)
    sizes = [0.0] + [
        block_bytes(row, i, choice.precision, False) * (choice.middle == "streamed") for i in middle
    ]
    behind = [
        4 * sum(_block_lora(row, choice, j) for j in middle[n + 1 :]) for n in range(len(kept))
    ]
    return max(
        (n + 1 + kept[n]) * unit + behind[n] + sizes[n] + sizes[n + 1] for n in range(len(kept))
    )


def _forward(row: ModelRow, choice: Choice, rows: int, side_px: int) -> float:
    """What passes through a block without gradients: most in attention, where image and text meet
    and rotation is done in fp32, or in the feed-forward while its weight is unpacked."""
    unit = rows * _unit(row, choice, side_px)
    image = 1 - choice.text_tokens / tokens(choice, side_px)
    wide = choice.targets == "attention+ff" and choice.front < row.blocks[0]
    attention = (16.5 - 4.2 * image + 1.3 * wide) * unit  # a LoRA's sum beside what it adds to
    unpacked = 8.0 * row.width**2 + 10 * unit if choice.precision != "bf16" else 0.0
    return max(attention, unpacked)


def _between_steps(row: ModelRow, choice: Choice) -> float:
    """On the card while windows are computed or pictures sampled: all but activations."""
    total = _around(row, choice, embedders=True) + 12 * lora_params(row, choice)
    total += _stream(row, choice, range(row.num_blocks), modulation=True)
    if choice.middle == "stays":
        total += middle_bytes(row, choice)
    return total


def _residuals_card(row: ModelRow, choice: Choice) -> float:
    passing = _forward(row, choice, choice.rows, choice.side_px)
    return _between_steps(row, choice) + passing + choice.window_on_card * _unit(row, choice)


def _preview_card(row: ModelRow, choice: Choice) -> float:
    """Sampling, or decoding when the streamed blocks are gone, whichever takes more."""
    passing = _forward(row, choice, 1, choice.preview_px)
    there = _between_steps(row, choice)
    streamed = _stream(row, choice, range(row.num_blocks), modulation=True)
    tile = min(choice.preview_px, 512) if choice.tiled else choice.preview_px
    decoding = 1540.0 * tile**2 + (16.0 * choice.preview_px**2 if choice.tiled else 0)
    return max(there + passing, there - streamed + _VAE + decoding)


def _latents_card(choice: Choice) -> float:
    return _VAE + 1310.0 * choice.encode_rows * choice.side_px**2


def _text_card(choice: Choice) -> float:
    """CLIP, the table of words and two blocks of T5-XXL: one computes, the next one comes."""
    scores = 64 * choice.text_tokens**2 * 5.0 + choice.text_tokens * 10240 * 3.0 + 6e6
    return _CLIP + _T5_WORDS + 2 * _T5_BLOCK + scores


def window_bytes(row: ModelRow, choice: Choice, num_draws: int) -> float:
    """A stored window: f_n, Δ, the middle's modulation, x_t's target (METHOD.md §1.3)."""
    image = tokens(choice) - choice.text_tokens
    modulation = sum((12 if i < row.blocks[0] else 3) for i in _middle(row, choice)) * row.width
    a_draw = 2 * (tokens(choice) + bool(choice.back) * image) * row.width + 2 * modulation
    return num_draws * (a_draw + 4 * image * LATENT_WIDTH)


def _ram(row: ModelRow, choice: Choice) -> dict[str, float]:
    """RAM beyond the program's own. A mapped file's pages are the system's to drop, and not in.

    Pinned memory (staging, a window's state, kept weights) is counted as the bytes asked for, since
    torch's host allocator is told not to round them up to powers of two.
    """
    lora = lora_params(row, choice)
    image = tokens(choice) - choice.text_tokens
    latents = 4.0 * choice.num_draws * image * LATENT_WIDTH
    waiting = waiting_bytes(row, choice) if choice.offload == "pinned" else 0.0
    staging = _stream(row, choice, range(row.num_blocks), modulation=True)  # two pinned buffers
    # a middle that comes to stay comes in such pieces, the last weight of one may go beyond
    pieces = 2 * (_HELD_AT_ONCE + 5 * row.width**2 * WEIGHT_BYTES[choice.precision])
    base = latents + waiting + staging + 2 * 4 * lora
    texts = 2.0 * choice.window_draws * choice.text_tokens * TEXT_WIDTH
    state = (choice.window_draws - choice.window_on_card) * _unit(row, choice)
    again = choice.prior * (texts + choice.window_draws * _unit(row, choice))
    window = window_bytes(row, choice, choice.window_draws)
    return {
        "text": _CLIP + 2 * _T5_BLOCK,
        "latents": 2 * latents + _VAE,
        "residuals": base + texts + state + again + window,
        "train": base + max(0.0, pieces - staging) + 16 * lora,
        "preview": base + _VAE,
    }


def _disk(row: ModelRow, choice: Choice) -> dict[str, float]:
    """What a run writes; quantised blocks are cached once for all runs of a model."""
    image = tokens(choice) - choice.text_tokens
    quantised = model_bytes(row, choice.precision) if choice.precision != "bf16" else 0.0
    return {
        "text": 16.0 * choice.text_tokens * TEXT_WIDTH * 2,
        "latents": 4.0 * choice.num_draws * image * LATENT_WIDTH,
        "residuals": quantised + window_bytes(row, choice, choice.window_draws),
        # two checkpoints, each with both LoRAs; the LoRA alone of five steps with pictures
        "train": (2 * 16.0 + 5 * 4.0) * lora_params(row, choice),
        "preview": 5 * 4 * 3.0 * choice.preview_px**2,
    }
