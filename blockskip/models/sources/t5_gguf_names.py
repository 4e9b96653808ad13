"""Map llama.cpp's names of T5 encoder layers, as in GGUF files, to those of transformers.

The names are those of llama.cpp's architectures `t5` and `t5encoder` (gguf 0.19.0,
`tensor_mapping`). Tensors have the same layout in both, not transposed or reordered.
"""

from __future__ import annotations

import re
from typing import TypeVar

_Tensor = TypeVar("_Tensor")
_OUTSIDE_BLOCKS = {
    "token_embd.weight": "shared.weight",
    "enc.output_norm.weight": "encoder.final_layer_norm.weight",
}
_IN_BLOCKS = {
    "attn_norm": "0.layer_norm",
    "attn_q": "0.SelfAttention.q",
    "attn_k": "0.SelfAttention.k",
    "attn_v": "0.SelfAttention.v",
    "attn_o": "0.SelfAttention.o",
    "attn_rel_b": "0.SelfAttention.relative_attention_bias",
    "ffn_norm": "1.layer_norm",
    "ffn_gate": "1.DenseReluDense.wi_0",
    "ffn_up": "1.DenseReluDense.wi_1",
    "ffn_down": "1.DenseReluDense.wo",
}
_BLOCK = re.compile(r"enc\.blk\.(\d+)\.(\w+)\.weight")


def diffusers_names(tensors: dict[str, _Tensor]) -> dict[str, _Tensor]:
    """Rename the tensors of T5's encoder to transformers' names. Keep all other names."""
    if "enc.blk.0.attn_q.weight" not in tensors:
        return tensors
    return {_diffusers_name(name): tensor for name, tensor in tensors.items()}


def _diffusers_name(name: str) -> str:
    match = _BLOCK.fullmatch(name)
    if match and match[2] in _IN_BLOCKS:
        return f"encoder.block.{match[1]}.layer.{_IN_BLOCKS[match[2]]}.weight"
    return _OUTSIDE_BLOCKS.get(name, name)
