"""Hide the text from the image in some blocks, through the library's own attention (METHOD.md §1.7).

In joint attention (FLUX) the rows of image queries get -inf in the columns of text keys, so that the
softmax is over image keys alone; text queries see all as before. In cross attention (SANA's `attn2`)
all keys are text: its output is zero. What text says by the pooled vector (modulation) is not
hidden: it is no attention.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class TextHidden:
    """The library's processor of an attention, with a mask. text_tokens: the first so many tokens
    of the joint sequence are text."""

    def __init__(self, processor: object, text_tokens: int) -> None:
        self.processor, self.text_tokens = processor, text_tokens

    def __call__(
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        if attention_mask is not None:
            raise ValueError("this attention has a mask already; two are not combined here")
        tokens = hidden_states.shape[1]  # of a single block: text and image together
        if encoder_hidden_states is not None:
            tokens += encoder_hidden_states.shape[1]
        mask = image_to_text_mask(tokens, self.text_tokens).to(hidden_states)
        return self.processor(attn, hidden_states, encoder_hidden_states, mask, image_rotary_emb)


class NoText:
    """A processor of a cross attention whose keys are all text: nothing comes of it."""

    def __call__(self, attn: nn.Module, hidden_states: Tensor, *_: object, **__: object) -> Tensor:
        return torch.zeros_like(hidden_states)


def image_to_text_mask(tokens: int, text_tokens: int) -> Tensor:
    """(tokens, tokens), added to the scores: -inf where an image query meets a text key, else 0."""
    mask = torch.zeros(tokens, tokens)
    mask[text_tokens:, :text_tokens] = -torch.inf
    return mask


@contextmanager
def text_hidden(
    blocks: Sequence[tuple[str, nn.Module]], span: range, text_tokens: int
) -> Iterator[None]:
    """Inside, the image does not see the text in the blocks of `span`.

    blocks: as `Family.blocks` gives them; each has a cross attention at `attn2`, or else its joint
    attention at `attn`.
    """
    attentions = [getattr(blocks[i][1], "attn2", None) or blocks[i][1].attn for i in span]
    own = [attention.processor for attention in attentions]
    for i, attention, processor in zip(span, attentions, own, strict=True):
        crossed = hasattr(blocks[i][1], "attn2")
        attention.set_processor(NoText() if crossed else TextHidden(processor, text_tokens))
    try:
        yield
    finally:
        for attention, processor in zip(attentions, own, strict=True):
            attention.set_processor(processor)
