"""What goes from block to block, in the three ways the library's models hand it on.

A block is called with streams among its arguments and gives the new ones. All three kinds answer the
same questions, so nothing else need know how a model does it. T image tokens, S text tokens, width D.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

BlockInputs = Mapping[str, Any]  # a block's arguments by name
Outputs = Tensor | tuple[Tensor | None, ...]  # what it gives
TextImagePair = tuple[Tensor | None, Tensor]  # (text, image); the last block of SD3 gives no text
BlockOutput = TypeVar("BlockOutput")  # which of the outputs blocks of a kind give
Stream = TypeVar("Stream", bound=Tensor | None)


class Streams(Protocol[BlockOutput]):
    """How a block takes and gives its streams."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of its arguments that are streams, in the order it gives them."""

    @property
    def image_first(self) -> bool:
        """Where image and text tokens stand in one sequence, in attention at least."""

    def identity_output(self, given: BlockInputs) -> BlockOutput:
        """What a block would give that did nothing."""

    def text_slice(self, total: int, tokens: int) -> slice:
        """Where text is among the `total` tokens of joint attention, T = `tokens` of them the
        image's."""

    def image(self, outputs: BlockOutput, tokens: int) -> Tensor:
        """The image stream (B, T, D) of what a block gives; tokens: T."""

    def with_image(self, outputs: BlockOutput, image: Tensor) -> BlockOutput:
        """The same with another image stream."""


@dataclass(frozen=True)
class DoubleStream:
    """Two streams, given as (text, image): FLUX, the double blocks of FLUX.2 and Chroma, SD3,
    Qwen-Image. In attention text comes first, but for SD3."""

    names: tuple[str, ...] = ("encoder_hidden_states", "hidden_states")
    image_first: bool = False

    def identity_output(self, given: BlockInputs) -> TextImagePair:
        return tuple(given[name] for name in self.names)

    def text_slice(self, total: int, tokens: int) -> slice:
        """As `SingleStream.text_slice`, where attention joins the streams."""
        return slice(tokens, total) if self.image_first else slice(0, total - tokens)

    def image(self, outputs: TextImagePair, tokens: int) -> Tensor:
        return outputs[1]

    def with_image(self, outputs: TextImagePair, image: Tensor) -> TextImagePair:
        return outputs[0], image


@dataclass(frozen=True)
class ImageOnly:
    """Image tokens only; text comes in by cross attention: SANA."""

    names: tuple[str, ...] = ("hidden_states",)
    image_first: bool = True

    def identity_output(self, given: BlockInputs) -> Tensor:
        return given[self.names[0]]

    def text_slice(self, total: int, tokens: int) -> slice:
        """Nowhere."""
        return slice(0)

    def image(self, outputs: Tensor, tokens: int) -> Tensor:
        return outputs

    def with_image(self, outputs: Tensor, image: Tensor) -> Tensor:
        return image


@dataclass(frozen=True)
class SingleStream:
    """Text and image as one sequence (B, S + T, D): the single blocks of FLUX.2 and Chroma (text
    first), Z-Image (image first). multiple: an image that comes first is padded to so many tokens;
    the padding is no part of the image stream, for no head reads it."""

    names: tuple[str, ...] = ("hidden_states",)
    image_first: bool = False
    multiple: int = 1

    def identity_output(self, given: BlockInputs) -> Tensor:
        return given[self.names[0]]

    def image(self, outputs: Tensor, tokens: int) -> Tensor:
        return outputs[:, :tokens] if self.image_first else outputs[:, -tokens:]

    def with_image(self, outputs: Tensor, image: Tensor) -> Tensor:
        tokens = image.shape[1]
        if self.image_first:
            return torch.cat([image, outputs[:, tokens:]], 1)
        return torch.cat([outputs[:, :-tokens], image], 1)

    def text_slice(self, total: int, tokens: int) -> slice:
        """Where text is among `total` tokens, T = `tokens` of them the image's. An image's padding
        is the image's: what it sees, the image sees in the next block."""
        if self.image_first:
            return slice(tokens + -tokens % self.multiple, total)
        return slice(0, total - tokens)


def as_tuple(outputs: Tensor | tuple[Stream, ...]) -> tuple[Tensor | Stream, ...]:
    """What a block gives, as a tuple."""
    return outputs if isinstance(outputs, tuple) else (outputs,)


def from_tuple(streams: Sequence[Tensor | None]) -> Outputs:
    """The reverse of `as_tuple`."""
    first, *others = streams
    return tuple(streams) if others or first is None else first
