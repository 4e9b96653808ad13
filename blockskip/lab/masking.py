"""Hide the text from the image in some blocks, through the library's own attention (METHOD.md §1.7).

In joint attention (FLUX, SD3) image queries leave text keys out, so that the softmax is over image
keys alone; text queries see all as before. In cross attention (SANA) all keys are text: its output is
zero. What text says by the pooled vector (modulation) is not hidden: it is no attention.

The mask goes to torch's own function, since not every processor of the library passes one on (SD3's
takes it and drops it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from blockskip.families.base import Family

_ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")


class _Masked(TorchFunctionMode):
    """Inside, attention over text and image together leaves text keys out for image queries."""

    def __init__(self, text_tokens: int, image_first: bool) -> None:
        super().__init__()
        self.text_tokens, self.image_first, self.used = text_tokens, image_first, False

    def __torch_function__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        if func is not nn.functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        given = dict(zip(_ARGUMENTS, args, strict=False)) | (kwargs or {})
        query, own = given["query"], given.get("attn_mask")
        mask = seen(query.shape[-2], self.text_tokens, self.image_first).to(query.device)
        if own is not None:  # the model's own, as yes and no or as a sum to the scores
            mask = own & mask if own.dtype == torch.bool else own.masked_fill(~mask, -torch.inf)
        self.used = True
        return func(**given | {"attn_mask": mask})


def seen(tokens: int, text_tokens: int, image_first: bool) -> Tensor:
    """(tokens, tokens) of bool: which key a query sees; not a text key, if it is of the image."""
    is_text = torch.arange(tokens) < text_tokens
    if image_first:
        is_text = is_text.flip(0)
    return is_text[:, None] | ~is_text[None, :]


@contextmanager
def text_hidden(model: nn.Module, family: Family, span: range, text_tokens: int) -> Iterator[None]:
    """Inside, the image does not see the text in the blocks of `span`.

    text_tokens: of a joint sequence; where a block is given its text apart, that has its own
    length.
    """
    blind = {}
    for _, block in (family.blocks(model)[i] for i in span):
        attention = _reads_text(block)
        blind[attention] = (
            _nothing
            if getattr(attention, "is_cross_attention", False)
            else _without_text(attention.forward, text_tokens, family.streams(block).image_first)
        )
    for attention, forward in blind.items():
        attention.forward = forward
    try:
        yield
    finally:
        for attention in blind:
            del attention.forward  # the class has its own


def _reads_text(block: nn.Module) -> nn.Module:
    """The attention by which a block reads text: its cross attention if it has one, else the joint
    one. SD3.5's second attention is of the image with itself."""
    second = getattr(block, "attn2", None)
    return second if getattr(second, "is_cross_attention", False) else block.attn


def _nothing(hidden_states: Tensor, *_: object, **__: object) -> Tensor:
    """What comes of a cross attention without keys."""
    return torch.zeros_like(hidden_states)


def _without_text(forward: Callable, text_tokens: int, image_first: bool) -> Callable:
    """The forward of a joint attention, masked."""

    def masked(
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        *more: object,
        **named: object,
    ) -> Tensor | tuple[Tensor, Tensor]:
        apart = encoder_hidden_states is not None
        length = encoder_hidden_states.shape[1] if apart else text_tokens
        with _Masked(length, image_first) as mask:
            outputs = forward(hidden_states, encoder_hidden_states, *more, **named)
        if not mask.used:
            raise ValueError("this attention is not torch's, and cannot be masked here")
        return outputs

    return masked
