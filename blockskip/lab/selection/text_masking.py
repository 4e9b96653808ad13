"""Hide the text from the image in some blocks, through the library's own attention (docs/method.md §1.7).

In joint attention image queries leave text keys out, so that the softmax is over image keys alone; text
queries see all as before. In cross attention (SANA) all keys are text: its output is zero. What text
says by the pooled vector (modulation) is not hidden: it is no attention.

The mask goes to torch's own function, since not every processor of the library passes one on (SD3's
takes it and drops it, Qwen-Image's refuses it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from blockskip.models.families.base import Family

_ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")


class _TextMask(TorchFunctionMode):
    """Inside, attention over text and image together leaves text keys out for image queries.
    text(total): where text is among so many tokens."""

    def __init__(self, text: Callable[[int], slice]) -> None:
        super().__init__()
        self.text, self.used = text, False

    def __torch_function__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        if func is not nn.functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        given = dict(zip(_ARGUMENTS, args, strict=False)) | (kwargs or {})
        query, own = given["query"], given.get("attn_mask")
        total = query.shape[-2]
        mask = visible_keys(total, self.text(total)).to(query.device)
        if own is not None:  # the model's own, as yes and no or as a sum to the scores
            mask = own & mask if own.dtype == torch.bool else own.masked_fill(~mask, -torch.inf)
        self.used = True
        return func(**given | {"attn_mask": mask})


def visible_keys(total: int, text: slice) -> Tensor:
    """(total, total) of bool: which key a query sees; not a text key, if it is of the image."""
    is_text = torch.zeros(total, dtype=torch.bool)
    is_text[text] = True
    return is_text[:, None] | ~is_text[None, :]


@contextmanager
def text_hidden(
    family: Family, blocks: Sequence[tuple[str, nn.Module]], span: range, tokens: int
) -> Iterator[None]:
    """Inside, the image does not see the text in the blocks of `span`.

    blocks: as `family.blocks` gives them. tokens: T of the image. Raises ValueError for an attention
    that is not torch's.
    """
    blind = {}
    for _, block in (blocks[i] for i in span):
        attention = _text_attention(block)
        crossed = getattr(attention, "is_cross_attention", False)
        text = None if crossed else partial(family.streams(block).text_slice, tokens=tokens)
        blind[attention] = _zero_output if crossed else _masked_forward(attention.forward, text)
    for attention, forward in blind.items():
        attention.forward = forward
    try:
        yield
    finally:
        for attention in blind:
            del attention.forward  # the class has its own


def _text_attention(block: nn.Module) -> nn.Module:
    """The attention by which a block reads text: its cross attention if it has one, else the joint
    one. SD3.5's second attention is of the image with itself."""
    second = getattr(block, "attn2", None)
    if getattr(second, "is_cross_attention", False):
        return second
    return block.attn if hasattr(block, "attn") else block.attention


def _zero_output(hidden_states: Tensor, *_: object, **__: object) -> Tensor:
    """What comes of a cross attention without keys."""
    return torch.zeros_like(hidden_states)


def _masked_forward(forward: Callable, text: Callable[[int], slice]) -> Callable:
    """The forward of a joint attention, masked."""

    def masked(*given: object, **named: object) -> Tensor | tuple[Tensor, Tensor]:
        with _TextMask(text) as mask:
            outputs = forward(*given, **named)
        if not mask.used:
            raise ValueError("this attention is not torch's, and cannot be masked here")
        return outputs

    return masked
