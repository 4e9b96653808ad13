"""Hide the text from the image in some blocks, through the library's own attention (METHOD.md §1.7).

In joint attention the rows of image queries see no columns of text keys, so that the softmax is over
image keys alone; text queries see all as before. In cross attention (SANA's `attn2`) all keys are
text: its output is zero. What text says by the pooled vector (modulation) is not hidden: it is no
attention.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from blockskip.families.base import Family


class TextHidden:
    """The library's processor of a joint attention, with a mask. text(total): where text is among
    so many tokens."""

    def __init__(self, processor: object, text: Callable[[int], slice]) -> None:
        self.processor, self.text = processor, text

    def __call__(
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Tensor | None = None,
        freqs_cis: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        tokens = hidden_states.shape[1]  # of one sequence: text and image together
        if encoder_hidden_states is not None:
            tokens += encoder_hidden_states.shape[1]
        mask = image_to_text_mask(tokens, self.text(tokens)).to(hidden_states.device)[None, None]
        if attention_mask is not None:
            if attention_mask.dim() != 2 or attention_mask.dtype != torch.bool:
                raise ValueError("only a mask of keys (B, tokens) can be combined with this one")
            mask = mask & attention_mask[:, None, None]
        places = {"image_rotary_emb": image_rotary_emb, "freqs_cis": freqs_cis}
        return self.processor(
            attn,
            hidden_states,
            encoder_hidden_states=encoder_hidden_states,
            attention_mask=mask,
            **{name: value for name, value in places.items() if value is not None},
        )


class CaptionHidden:
    """As TextHidden, of a processor that takes which text tokens count, and no other mask
    (Qwen-Image): the image's answer is that of an attention where none of them counts."""

    def __init__(self, processor: object) -> None:
        self.processor = processor

    def __call__(
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        encoder_hidden_states_mask: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        none = torch.zeros(
            encoder_hidden_states.shape[:2], dtype=torch.bool, device=hidden_states.device
        )
        (image, _), (_, text) = (
            self.processor(
                attn,
                hidden_states,
                encoder_hidden_states,
                counts,
                attention_mask,
                image_rotary_emb,
            )
            for counts in (none, encoder_hidden_states_mask)
        )
        return image, text


class NoText:
    """A processor of a cross attention whose keys are all text: nothing comes of it."""

    def __call__(self, attn: nn.Module, hidden_states: Tensor, *_: object, **__: object) -> Tensor:
        return torch.zeros_like(hidden_states)


def image_to_text_mask(tokens: int, text: slice) -> Tensor:
    """(tokens, tokens): False where an image query meets a text key."""
    is_text = torch.zeros(tokens, dtype=torch.bool)
    is_text[text] = True
    return is_text[:, None] | ~is_text


@contextmanager
def text_hidden(
    family: Family, blocks: Sequence[tuple[str, nn.Module]], span: range, tokens: int
) -> Iterator[None]:
    """Inside, the image does not see the text in the blocks of `span`.

    blocks: as `family.blocks` gives them; each has a cross attention at `attn2`, or else its joint
    attention at `attn` or `attention`. tokens: T of the image.
    """
    some = [blocks[i][1] for i in span]
    attentions = [_attention(block) for block in some]
    own = [attention.processor for attention in attentions]
    for block, attention, processor in zip(some, attentions, own, strict=True):
        attention.set_processor(_hidden(family, block, processor, tokens))
    try:
        yield
    finally:
        for attention, processor in zip(attentions, own, strict=True):
            attention.set_processor(processor)


def _attention(block: nn.Module) -> nn.Module:
    return next(getattr(block, n) for n in ("attn2", "attn", "attention") if hasattr(block, n))


def _hidden(family: Family, block: nn.Module, processor: object, tokens: int) -> object:
    if hasattr(block, "attn2"):
        return NoText()
    if "encoder_hidden_states_mask" in inspect.signature(processor.__call__).parameters:
        return CaptionHidden(processor)
    return TextHidden(processor, partial(family.streams(block).text, tokens=tokens))
