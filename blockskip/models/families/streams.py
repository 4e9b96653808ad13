"""The streams that pass from block to block, in the three layouts of diffusers' models.

A block takes streams among its arguments and returns the new ones. The three classes share one
interface, so other code does not depend on the layout. Shapes: T image tokens, S text tokens, width
D.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

BlockInputs = Mapping[str, Any]  # a block's arguments by name
Outputs = Tensor | tuple[Tensor | None, ...]  # a block's return value
TextImagePair = tuple[Tensor | None, Tensor]  # (text, image); text is None in SD3's last block
BlockOutput = TypeVar("BlockOutput")  # return type of a layout's blocks
Stream = TypeVar("Stream", bound=Tensor | None)


class Streams(Protocol[BlockOutput]):
    """How a block takes and returns its streams."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the stream arguments, in the order of the returned streams."""

    @property
    def image_first(self) -> bool:
        """Whether image tokens come before text tokens where both form one sequence."""

    def identity_output(self, block_kwargs: BlockInputs) -> BlockOutput:
        """Return the output of a block that changes nothing."""

    def text_slice(self, total: int, tokens: int) -> slice:
        """Return the text's slice of the `total` tokens of joint attention, T = `tokens` of them
        image tokens."""

    def image(self, outputs: BlockOutput, tokens: int) -> Tensor:
        """Return the image stream (B, T, D) of a block's output. tokens: T."""

    def with_image(self, outputs: BlockOutput, image: Tensor) -> BlockOutput:
        """Return the outputs with the image stream replaced."""


@dataclass(frozen=True)
class DoubleStream:
    """Two streams, returned as (text, image): FLUX, the double blocks of FLUX.2 and Chroma, SD3,
    Qwen-Image. In attention text comes first, except in SD3."""

    names: tuple[str, ...] = ("encoder_hidden_states", "hidden_states")
    image_first: bool = False

    def identity_output(self, block_kwargs: BlockInputs) -> TextImagePair:
        return tuple(block_kwargs[name] for name in self.names)

    def text_slice(self, total: int, tokens: int) -> slice:
        """Return the text's slice of the joined streams in attention."""
        return slice(tokens, total) if self.image_first else slice(0, total - tokens)

    def image(self, outputs: TextImagePair, tokens: int) -> Tensor:
        return outputs[1]

    def with_image(self, outputs: TextImagePair, image: Tensor) -> TextImagePair:
        return outputs[0], image


@dataclass(frozen=True)
class ImageOnly:
    """Image tokens only, with cross attention to text: SANA."""

    names: tuple[str, ...] = ("hidden_states",)
    image_first: bool = True

    def identity_output(self, block_kwargs: BlockInputs) -> Tensor:
        return block_kwargs[self.names[0]]

    def text_slice(self, total: int, tokens: int) -> slice:
        """Return an empty slice."""
        return slice(0)

    def image(self, outputs: Tensor, tokens: int) -> Tensor:
        return outputs

    def with_image(self, outputs: Tensor, image: Tensor) -> Tensor:
        return image


@dataclass(frozen=True)
class SingleStream:
    """Text and image as one sequence (B, S + T, D): the single blocks of FLUX.2 and Chroma (text
    first), Z-Image (image first). multiple: an image that comes first is padded to a multiple of
    this many tokens. The padding is not part of the image stream, because the head does not read
    it."""

    names: tuple[str, ...] = ("hidden_states",)
    image_first: bool = False
    multiple: int = 1

    def identity_output(self, block_kwargs: BlockInputs) -> Tensor:
        return block_kwargs[self.names[0]]

    def image(self, outputs: Tensor, tokens: int) -> Tensor:
        return outputs[:, :tokens] if self.image_first else outputs[:, -tokens:]

    def with_image(self, outputs: Tensor, image: Tensor) -> Tensor:
        tokens = image.shape[1]
        if self.image_first:
            return torch.cat([image, outputs[:, tokens:]], 1)
        return torch.cat([outputs[:, :-tokens], image], 1)

    def text_slice(self, total: int, tokens: int) -> slice:
        """Return the text's slice of `total` tokens, T = `tokens` of them image tokens. The image's
        padding is not text: the image attends to it in the next block."""
        if self.image_first:
            return slice(tokens + -tokens % self.multiple, total)
        return slice(0, total - tokens)


def as_tuple(outputs: Tensor | tuple[Stream, ...]) -> tuple[Tensor | Stream, ...]:
    """Return a block's output as a tuple."""
    return outputs if isinstance(outputs, tuple) else (outputs,)


def from_tuple(streams: Sequence[Tensor | None]) -> Outputs:
    """Undo `as_tuple`."""
    first, *others = streams
    return tuple(streams) if others or first is None else first
