"""Map llama.cpp's names of text encoders' layers, as in GGUF files, to those of transformers.

The names are those of llama.cpp's architectures `t5`, `t5encoder`, `qwen2vl`, `qwen3` and `qwen3vl`
(gguf 0.19.0, `tensor_mapping`). Tensors have the same layout in both, not transposed or reordered.
"""

from __future__ import annotations

import re
from typing import TypeVar

_Tensor = TypeVar("_Tensor")
_T5_OUTSIDE = {
    "token_embd.weight": "shared.weight",
    "enc.output_norm.weight": "encoder.final_layer_norm.weight",
}
_T5_LAYERS = {
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
_QWEN_OUTSIDE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_QWEN_LAYERS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def t5_names(tensors: dict[str, _Tensor]) -> dict[str, _Tensor]:
    """Rename the tensors of T5's encoder to transformers' names. Keep all other names."""
    return _renamed(tensors, "enc.blk", _T5_OUTSIDE, _T5_LAYERS, "encoder.block.{}.layer.{}")


def qwen_names(tensors: dict[str, _Tensor]) -> dict[str, _Tensor]:
    """Rename the tensors of a Qwen language model to transformers' names. Keep all other names."""
    return _renamed(tensors, "blk", _QWEN_OUTSIDE, _QWEN_LAYERS, "model.layers.{}.{}")


def _renamed(
    tensors: dict[str, _Tensor],
    stack: str,
    outside: dict[str, str],
    layers: dict[str, str],
    form: str,
) -> dict[str, _Tensor]:
    """Rename the tensors of a file with the blocks `stack`. form: of a layer's new name, for the
    block's number and the layer."""
    if f"{stack}.0.attn_q.weight" not in tensors:
        return tensors
    block = re.compile(rf"{re.escape(stack)}\.(\d+)\.(\w+)\.(weight|bias)")

    def name_of(name: str) -> str:
        match = block.fullmatch(name)
        if match and match[2] in layers:
            return f"{form.format(match[1], layers[match[2]])}.{match[3]}"
        return outside.get(name, name)

    return {name_of(name): tensor for name, tensor in tensors.items()}
