"""Hide the text from the image in some blocks, through the library's own attention (METHOD.md §1.7).

In joint attention (FLUX.1, FLUX.2, Chroma) the rows of image queries do not see the columns of text
keys, so that the softmax is over image keys alone; text queries see what they saw before. In cross
attention (SANA's `attn2`) all keys are text: its output is zero. What text says by the pooled vector
(modulation) is not hidden: it is no attention.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class TextHidden:
    """The library's processor of an attention, with a mask beside the one it may have.

    text_tokens: the first so many tokens of the joint sequence are text. A mask that the model has
    itself must be boolean.
    """

    def __init__(self, processor: object, text_tokens: int) -> None:
        self.processor, self.text_tokens = processor, text_tokens
        self.signature = inspect.signature(processor.__call__)

    def __call__(self, *given: object, **more: object) -> Tensor | tuple[Tensor, Tensor]:
        call = self.signature.bind(*given, **more)  # processors take a mask at different places
        hidden = call.arguments["hidden_states"]  # of a single block: text and image together
        text, mask = (
            call.arguments.get(name) for name in ("encoder_hidden_states", "attention_mask")
        )
        tokens = hidden.shape[1] + (0 if text is None else text.shape[1])
        seen = without_text(tokens, self.text_tokens).to(hidden.device)
        call.arguments["attention_mask"] = seen if mask is None else mask & seen
        return self.processor(*call.args, **call.kwargs)


class NoText:
    """A processor of a cross attention whose keys are all text: nothing comes of it."""

    def __call__(self, attn: nn.Module, hidden_states: Tensor, *_: object, **__: object) -> Tensor:
        return torch.zeros_like(hidden_states)


def without_text(tokens: int, text_tokens: int) -> Tensor:
    """(1, 1, tokens, tokens): which key (last) a query sees; an image query sees no text key."""
    seen = torch.ones(1, 1, tokens, tokens, dtype=torch.bool)
    seen[..., text_tokens:, :text_tokens] = False
    return seen


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
