"""Prompts as the text encoders of several families read them."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import BatchEncoding, PreTrainedTokenizerBase


def chat_prompt(tokenizer: PreTrainedTokenizerBase, caption: str, **template: bool) -> str:
    """Return a caption as a user's message in the tokenizer's chat template, before the answer.
    template: variables of the template, such as `enable_thinking`."""
    messages = [{"role": "user", "content": caption}]
    return tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, **template
    )


def tokenize(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], tokens: int
) -> BatchEncoding:
    """Return `input_ids` and `attention_mask`, (B, tokens): cut, or padded on the right."""
    return tokenizer(
        list(prompts),
        padding="max_length",
        padding_side="right",
        max_length=tokens,
        truncation=True,
        return_tensors="pt",
    )
