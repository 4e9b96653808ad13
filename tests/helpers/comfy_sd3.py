"""Stable Diffusion 3.5 as ComfyUI's users have it, tiny, with medium's second attention."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from gguf import MODEL_ARCH
from helpers import comfy_text_encoders as encoders
from helpers import family_checks as checks
from helpers.comfy import CLIP, T5, original_vae
from helpers.comfy_families import (
    ComfyCase,
    State,
    by_diffusers,
    fused,
    ldm_by_diffusers,
    renamed,
)
from transformers import CLIPTextModelWithProjection

_STREAMS = {
    "x_block": {
        "norm1.linear": "adaLN_modulation.1",
        "ff.net.0.proj": "mlp.fc1",
        "ff.net.2": "mlp.fc2",
        "attn.norm_q": "attn.ln_q",
        "attn.norm_k": "attn.ln_k",
        "attn.to_out.0": "attn.proj",
        "attn2.norm_q": "attn2.ln_q",
        "attn2.norm_k": "attn2.ln_k",
        "attn2.to_out.0": "attn2.proj",
    },
    "context_block": {
        "norm1_context.linear": "adaLN_modulation.1",
        "ff_context.net.0.proj": "mlp.fc1",
        "ff_context.net.2": "mlp.fc2",
        "attn.norm_added_q": "attn.ln_q",
        "attn.norm_added_k": "attn.ln_k",
        "attn.to_add_out": "attn.proj",
    },
}
_FUSED = {
    "x_block.attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "x_block.attn2.qkv": ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
    "context_block.attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
}


def save(folder: Path, vocabulary: Path) -> None:
    words, t5_words = encoders.clip_words(vocabulary), encoders.t5_words(vocabulary)
    transformer = SD3Transformer2DModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        num_layers=4,
        attention_head_dim=32,
        num_attention_heads=2,
        joint_attention_dim=128,
        caption_projection_dim=64,
        pooled_projection_dim=96,
        pos_embed_max_size=16,
        dual_attention_layers=(0, 1),
        qk_norm="rms_norm",
    )
    transformer.pos_embed.pos_embed.normal_()  # the file's positions, not those of the class
    small = encoders.clip(CLIPTextModelWithProjection, words, 32)
    small.text_projection.weight.data = torch.eye(32)  # as published for Stable Diffusion 3
    StableDiffusion3Pipeline(
        transformer,
        FlowMatchEulerDiscreteScheduler(shift=3.0),
        checks.tiny_vae(4, 1.5305, 0.0609),
        small,
        words,
        encoders.clip(CLIPTextModelWithProjection, words, 64, "gelu"),
        encoders.clip_words(vocabulary, pad_token="!"),
        encoders.t5(t5_words, 128),
        t5_words,
    ).save_pretrained(folder)


def original_transformer(state: State) -> State:
    last = max(int(k.split(".")[1]) for k in state if k.startswith("transformer_blocks."))
    state = dict(state)
    for layer in ("norm_out", f"transformer_blocks.{last}.norm1_context"):
        for kind in ("weight", "bias"):  # scale and shift there, shift and scale in files
            scale, shift = state[f"{layer}.linear.{kind}"].chunk(2)
            state[f"{layer}.linear.{kind}"] = torch.cat([shift, scale])
    rules = [
        (r"^pos_embed\.pos_embed$", "pos_embed"),
        (r"^pos_embed\.proj\.", "x_embedder.proj."),
        (r"^time_text_embed\.timestep_embedder\.linear_1\.", "t_embedder.mlp.0."),
        (r"^time_text_embed\.timestep_embedder\.linear_2\.", "t_embedder.mlp.2."),
        (r"^time_text_embed\.text_embedder\.linear_1\.", "y_embedder.mlp.0."),
        (r"^time_text_embed\.text_embedder\.linear_2\.", "y_embedder.mlp.2."),
        (r"^norm_out\.linear\.", "final_layer.adaLN_modulation.1."),
        (r"^proj_out\.", "final_layer.linear."),
    ]
    for i in range(last + 1):
        for new, names in _FUSED.items():
            ours = [f"transformer_blocks.{i}.{name}" for name in names]
            fused(state, ours, f"joint_blocks.{i}.{new}")
    return renamed({_in_block(name): tensor for name, tensor in state.items()}, rules)


def _in_block(name: str) -> str:
    """Return the original name of a layer of a block that is not fused, other names as they are."""
    stack, _, rest = name.partition(".")
    number, _, rest = rest.partition(".")
    layer, _, kind = rest.rpartition(".")
    for stream, layers in _STREAMS.items():
        if stack == "transformer_blocks" and layer in layers:
            return f"joint_blocks.{number}.{stream}.{layers[layer]}.{kind}"
    return name


def original_clip_l(state: State) -> State:
    return {key: value for key, value in state.items() if key != "text_projection.weight"}


def projected_clip_l(state: State) -> State:
    """Return CLIP-L with a projection, which Stable Diffusion 3 does not use."""
    return state | {"text_projection.weight": torch.ones(32, 32)}


CASE = ComfyCase(
    "sd35-medium",
    save,
    {
        "transformer": original_transformer,
        "text_encoder": original_clip_l,
        "text_encoder_2": dict,
        "text_encoder_3": encoders.original_t5,
        "vae": original_vae,
    },
    {
        "transformer": "model.diffusion_model.",
        "text_encoder": "text_encoders.clip_l.transformer.",
        "text_encoder_2": "text_encoders.clip_g.transformer.",
        "text_encoder_3": "text_encoders.t5xxl.transformer.",
        "vae": "first_stage_model.",
    },
    {"tokenizer": CLIP, "tokenizer_2": CLIP, "tokenizer_3": T5},
    {
        "transformer": by_diffusers("convert_sd3_transformer_checkpoint_to_diffusers"),
        "vae": ldm_by_diffusers,
    },
    llama={"text_encoder_3": MODEL_ARCH.T5ENCODER},
    spellings={"text_encoder": projected_clip_l, "text_encoder_3": encoders.t5_with_both},
)
