"""Chroma as ComfyUI's users have it, tiny."""

from __future__ import annotations

from pathlib import Path

from diffusers import ChromaPipeline, ChromaTransformer2DModel, FlowMatchEulerDiscreteScheduler
from gguf import MODEL_ARCH
from helpers import comfy_text_encoders as encoders
from helpers import family_checks as checks
from helpers.comfy import T5, original_vae
from helpers.comfy_families import (
    ComfyCase,
    State,
    by_diffusers,
    fused,
    ldm_by_diffusers,
    renamed,
)


def save(folder: Path, vocabulary: Path) -> None:
    words = encoders.t5_words(vocabulary)
    transformer = ChromaTransformer2DModel(
        in_channels=16,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=32,
        num_attention_heads=2,
        joint_attention_dim=64,
        axes_dims_rope=(8, 12, 12),
        approximator_num_channels=32,
        approximator_hidden_dim=32,
        approximator_layers=2,
    )
    ChromaPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=checks.tiny_vae(4, 0.3611, 0.1159),
        text_encoder=encoders.t5(words, 64),
        tokenizer=words,
        transformer=transformer,
    ).save_pretrained(folder)


def original_transformer(state: State) -> State:
    state = dict(state)
    for name in [key for key in state if key.endswith(".attn.to_q.weight")]:
        block = name.removesuffix(".attn.to_q.weight")
        number = block.rpartition(".")[2]
        query_key_value = [f"{block}.attn.to_{letter}" for letter in "qkv"]
        if block.startswith("single_"):
            fused(state, [*query_key_value, f"{block}.proj_mlp"], f"single_blocks.{number}.linear1")
        else:
            added = [f"{block}.attn.add_{letter}_proj" for letter in "qkv"]
            fused(state, query_key_value, f"double_blocks.{number}.img_attn.qkv")
            fused(state, added, f"double_blocks.{number}.txt_attn.qkv")
    return renamed(
        state,
        [
            (r"^x_embedder\.", "img_in."),
            (r"^context_embedder\.", "txt_in."),
            (r"^proj_out\.", "final_layer.linear."),
            (r"^(distilled_.*)\.linear_1\.", r"\1.in_layer."),
            (r"^(distilled_.*)\.linear_2\.", r"\1.out_layer."),
            (r"^(distilled_.*\.norms\.\d+)\.weight", r"\1.scale"),
            (r"^single_transformer_blocks\.(\d+)\.proj_out\.", r"single_blocks.\1.linear2."),
            (
                r"^single_transformer_blocks\.(\d+)\.attn\.norm_q\.weight",
                r"single_blocks.\1.norm.query_norm.scale",
            ),
            (
                r"^single_transformer_blocks\.(\d+)\.attn\.norm_k\.weight",
                r"single_blocks.\1.norm.key_norm.scale",
            ),
            (r"^transformer_blocks\.", "double_blocks."),
            (r"\.attn\.norm_q\.weight", ".img_attn.norm.query_norm.scale"),
            (r"\.attn\.norm_k\.weight", ".img_attn.norm.key_norm.scale"),
            (r"\.attn\.norm_added_q\.weight", ".txt_attn.norm.query_norm.scale"),
            (r"\.attn\.norm_added_k\.weight", ".txt_attn.norm.key_norm.scale"),
            (r"\.attn\.to_out\.0\.", ".img_attn.proj."),
            (r"\.attn\.to_add_out\.", ".txt_attn.proj."),
            (r"\.ff\.net\.(0\.proj|2)\.", lambda m: f".img_mlp.{m[1][0]}."),
            (r"\.ff_context\.net\.(0\.proj|2)\.", lambda m: f".txt_mlp.{m[1][0]}."),
        ],
    )


def saved_by_comfyui(state: State) -> State:
    """ComfyUI calls norms' scales weights."""
    return renamed(state, [(r"\.scale$", ".weight")])


CASE = ComfyCase(
    "chroma-hd",
    save,
    {
        "transformer": original_transformer,
        "text_encoder": encoders.original_t5,
        "vae": original_vae,
    },
    {
        "transformer": "model.diffusion_model.",
        "text_encoder": "text_encoders.t5xxl.transformer.",
        "vae": "vae.",
    },
    {"tokenizer": T5},
    {"vae": ldm_by_diffusers},
    {"transformer": by_diffusers("convert_chroma_transformer_checkpoint_to_diffusers")},
    llama={"text_encoder": MODEL_ARCH.T5ENCODER},
    spellings={"transformer": saved_by_comfyui, "text_encoder": encoders.t5_with_both},
)
