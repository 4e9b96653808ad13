"""Sizes of a model's weights and activations, read from presets/bytes.toml, which explains them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, cached_property

from pydantic.dataclasses import dataclass

from blockskip.core.presets import STRICT, ModelRow, byte_table

# bytes a weight. int8: an fp32 scale per 256 weights (memory/quantisation.py has one a row, up to
# 1.5 % less). NF4: a byte per block of 64 and an fp32 per 256 such blocks (double quantisation, as
# in bitsandbytes).
PACKED_BYTES = {"int8": 1 + 4 / 256, "nf4": 0.5 + 1 / 64 + 4 / (64 * 256)}

# what a product in 8 bits takes beside its input and output (memory/int8_products.py)
INT8_PIECE_BYTES = 40 << 20


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BlockType:
    """Sizes of one type of block; the model has `count` in a row (presets/bytes.toml)."""

    count: int
    linear: int
    modulation: int
    small: int
    small_modulation: int
    told: int
    lora: int
    lora_ff: int
    lora_text: int
    lora_text_ff: int
    kept_image: float
    kept_text: float
    kept_ff: float
    forward_image: float
    forward_text: float
    forward_unpacked: float
    unpacked: int

    def lora_width(self, feed_forward: bool, last: bool) -> int:
        """Return the inputs plus outputs of a block's linears with LoRA. last: whether it is the
        last trained block, which has none in layers that only reach the text."""
        attention = self.lora - last * self.lora_text
        return attention + feed_forward * (self.lora_ff - last * self.lora_text_ff)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TextStats:
    """Weights of the text encoders; numbers a token that wait in RAM; bytes of activations."""

    resident: int
    block: int
    ram: int
    states: int = 0
    scores: float
    token: float
    fixed: float


@dataclass(frozen=True, kw_only=True, config=STRICT)
class VaeStats:
    """Weights of a VAE; bytes a pixel of its activations; the side of its tiles, pixels."""

    weights: int
    encode: float
    decode: float
    tile: int = 512


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ModelStats:
    """A model's entry in presets/bytes.toml, which explains every field."""

    pixels_a_token: int
    latent_width: int
    text_width: int
    more_tokens: int
    around: int
    embedders: int
    layers: int
    layer: int
    largest: int
    told: int
    shared: int
    stream_text: float
    joined: float
    static_text: float = 0.0
    passing_image: float
    passing_text: float
    passing_unpacked: float
    multiply_adds: int
    int8_multiply_adds: int
    text: TextStats
    vae: VaeStats
    kinds: tuple[BlockType, ...]

    def block_type(self, index: int) -> BlockType:
        """Return the type of block `index`. Raises IndexError if there is no such block."""
        return self._types[index]

    @cached_property
    def _types(self) -> tuple[BlockType, ...]:
        return tuple(kind for kind in self.kinds for _ in range(kind.count))


_overrides: dict[str, ModelStats] = {}  # while sizes are measured


def model_stats(model: str) -> ModelStats:
    """Return the sizes of a full-size model. Raises KeyError if the table lacks it."""
    return _overrides.get(model) or _from_table(model)


def is_tabulated(model: str) -> bool:
    """Return whether the sizes of a model are known; those of one that is being added are not yet."""
    return model in _overrides or model in byte_table()


@cache
def _from_table(model: str) -> ModelStats:
    table = byte_table()
    entry = table[model]
    return ModelStats(**(table[entry] if isinstance(entry, str) else entry))


@contextmanager
def override_stats(model: str, data: dict) -> Iterator[None]:
    """Context manager that overrides a model's sizes while they are being measured."""
    _overrides[model] = ModelStats(**data)
    _block_bytes.cache_clear()
    lora_widths.cache_clear()
    try:
        yield
    finally:
        del _overrides[model]
        _block_bytes.cache_clear()
        lora_widths.cache_clear()


def block_bytes(row: ModelRow, precision: str, modulation: bool) -> tuple[float, ...]:
    """Return the bytes of every block on the GPU; biases and norms keep the model's dtype."""
    return _block_bytes(row.name, weight_bytes(row, precision), row.number_bytes, modulation)


@cache  # a search asks for the same blocks again and again
def _block_bytes(
    model: str, a_weight: float, number_bytes: int, modulation: bool
) -> tuple[float, ...]:
    def size(kind: BlockType) -> float:
        linear = kind.linear + kind.modulation * modulation
        return linear * a_weight + number_bytes * (kind.small + kind.small_modulation * modulation)

    return tuple(size(kind) for kind in model_stats(model).kinds for _ in range(kind.count))


@cache
def lora_widths(model: str, feed_forward: bool) -> tuple[int, ...]:
    """Return the LoRA parameters per rank of every block that is not the last trained one."""
    kinds = model_stats(model).kinds
    return tuple(kind.lora_width(feed_forward, False) for kind in kinds for _ in range(kind.count))


def weight_bytes(row: ModelRow, precision: str) -> float:
    """Return the bytes of one weight of a linear."""
    return PACKED_BYTES.get(precision, row.number_bytes)


def model_bytes(row: ModelRow, precision: str) -> float:
    """Return the bytes of all blocks of the transformer."""
    return sum(block_bytes(row, precision, True))


def block_multiply_adds(row: ModelRow, side_px: int, text_tokens: int) -> float:
    """Return the multiply-adds of one draw in one block: linears and attention."""
    stats = model_stats(row.name)
    count = (side_px // stats.pixels_a_token) ** 2 + text_tokens
    return count * (stats.multiply_adds + 2.0 * count * row.width)


def numbers_per_multiply_add(row: ModelRow) -> float:
    """Return how many numbers go into and come out of linears, per multiply-add in them."""
    kinds = model_stats(row.name).kinds
    numbers = sum(kind.count * kind.lora_width(True, False) for kind in kinds)
    return numbers / sum(kind.count * kind.linear for kind in kinds)


def int8_share(row: ModelRow, side_px: int, text_tokens: int) -> float:
    """Return the share of `block_multiply_adds` that can be done in 8 bits: that of the linears."""
    stats = model_stats(row.name)
    count = (side_px // stats.pixels_a_token) ** 2 + text_tokens
    return count * stats.int8_multiply_adds / block_multiply_adds(row, side_px, text_tokens)
