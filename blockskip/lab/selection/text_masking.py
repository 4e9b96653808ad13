"""Hide the text from the image in some blocks by masking diffusers' attention (docs/method.md
§1.7).

In joint attention, image queries do not attend to text keys; text queries attend to all keys as
before. In cross attention (SANA) all keys are text, so the output is zero. The pooled text vector
(modulation) is not hidden, since it does not pass through attention.

The mask is applied in torch's attention function, since not every diffusers processor passes one on
(SD3's drops it, Qwen-Image's refuses it).
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
    """Context manager in which image queries of joint attention do not attend to text keys.
    text(total): the slice of text tokens among so many. length: of the attention's first stream."""

    def __init__(self, text: Callable[[int], slice], length: int) -> None:
        super().__init__()
        self.text, self.length, self.used = text, length, False

    def __torch_function__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        if func is not nn.functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        call = dict(zip(_ARGUMENTS, args, strict=False)) | (kwargs or {})
        query, model_mask = call["query"], call.get("attn_mask")
        total, queries = call["key"].shape[-2], query.shape[-2]
        if total < self.length:  # of the text alone (Qwen-Image-2.1), before the image's queries
            return func(**call)
        mask = visible_keys(total, self.text(total))[-queries:].to(query.device)
        if model_mask is not None:  # boolean, or added to the scores
            mask = (
                model_mask & mask
                if model_mask.dtype == torch.bool
                else model_mask.masked_fill(~mask, -torch.inf)
            )
        self.used = True
        return func(**call | {"attn_mask": mask})


def visible_keys(total: int, text: slice) -> Tensor:
    """Return a bool mask (total, total), query by key, that hides text keys from image queries."""
    is_text = torch.zeros(total, dtype=torch.bool)
    is_text[text] = True
    return is_text[:, None] | ~is_text[None, :]


@contextmanager
def text_hidden(
    family: Family, blocks: Sequence[tuple[str, nn.Module]], span: range, tokens: int
) -> Iterator[None]:
    """Context manager in which the image does not attend to the text in the blocks of `span`.

    blocks: from `family.blocks`. tokens: image tokens T. Raises ValueError if an attention does not
    call torch's.
    """
    masked = {}
    for _, block in (blocks[i] for i in span):
        attention = _text_attention(block)
        is_cross = getattr(attention, "is_cross_attention", False)
        text = None if is_cross else partial(family.streams(block).text_slice, tokens=tokens)
        masked[attention] = _zero_output if is_cross else _masked_forward(attention.forward, text)
    for attention, forward in masked.items():
        attention.forward = forward
    try:
        yield
    finally:
        for attention in masked:
            del attention.forward  # uncovers the class's forward


def _text_attention(block: nn.Module) -> nn.Module:
    """Return the attention by which a block reads text: its cross attention, else its joint
    attention. SD3.5's second attention is over the image alone."""
    second = getattr(block, "attn2", None)
    if getattr(second, "is_cross_attention", False):
        return second
    return block.attn if hasattr(block, "attn") else block.attention


def _zero_output(hidden_states: Tensor, *_: object, **__: object) -> Tensor:
    """Return zeros, the output of cross attention without keys."""
    return torch.zeros_like(hidden_states)


def _masked_forward(forward: Callable, text: Callable[[int], slice]) -> Callable:
    """Return the masked forward of a joint attention."""

    def masked(*args: object, **kwargs: object) -> Tensor | tuple[Tensor, Tensor]:
        first = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        with _TextMask(text, first.shape[1]) as mask:
            outputs = forward(*args, **kwargs)
        if not mask.used:
            raise ValueError("this attention is not torch's, and cannot be masked here")
        return outputs

    return masked
