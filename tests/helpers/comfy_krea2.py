"""Krea 2 as ComfyUI's users have it, tiny."""

from __future__ import annotations

from pathlib import Path

from diffusers import FlowMatchEulerDiscreteScheduler, Krea2Pipeline, Krea2Transformer2DModel
from gguf import MODEL_ARCH
from helpers.comfy_families import QWEN, ComfyCase, State, by_diffusers, randomised, renamed
from helpers.comfy_qwen_image import TEMPLATE
from helpers.comfy_qwen_vae import tiny_qwen_vae, vae_by_diffusers, wan_names
from transformers import Qwen2Tokenizer, Qwen3VLConfig, Qwen3VLModel

LAYERS = (1, 2, 4)


def qwen3_vl(words: Qwen2Tokenizer, layers: int) -> Qwen3VLConfig:
    return Qwen3VLConfig(
        text_config={
            "vocab_size": len(words),
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": layers,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [2, 3, 3],
            },
        },
        vision_config={
            "depth": 1,
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": 32,
            "num_position_embeddings": 4,
            "deepstack_visual_indexes": [0],
        },
    )


def save(folder: Path, vocabulary: Path) -> None:
    words = Qwen2Tokenizer.from_pretrained(vocabulary / Path(QWEN).name)
    transformer = Krea2Transformer2DModel(
        in_channels=32,
        num_layers=4,
        attention_head_dim=16,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        timestep_embed_dim=32,
        text_hidden_dim=32,
        num_text_layers=len(LAYERS),
        text_num_attention_heads=2,
        text_num_key_value_heads=2,
        text_intermediate_size=64,
        num_layerwise_text_blocks=1,
        num_refiner_text_blocks=2,
        axes_dims_rope=(4, 6, 6),
    )
    Krea2Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=tiny_qwen_vae(),
        text_encoder=Qwen3VLModel(qwen3_vl(words, max(LAYERS) + 1)).eval(),
        tokenizer=words,
        transformer=randomised(transformer),
        text_encoder_select_layers=LAYERS,
    ).save_pretrained(folder)


def original_transformer(state: State) -> State:
    flat = {k: t.reshape(-1) if _is_table(k) else t
            for k, t in state.items()}  # fmt: skip
    return renamed(
        flat,
        [
            (r"^img_in\.", "first."),
            (r"^time_embed\.linear_1\.", "tmlp.0."),
            (r"^time_embed\.linear_2\.", "tmlp.2."),
            (r"^time_mod_proj\.", "tproj.1."),
            (r"^txt_in\.norm\.weight$", "txtmlp.0.scale"),
            (r"^txt_in\.linear_1\.", "txtmlp.1."),
            (r"^txt_in\.linear_2\.", "txtmlp.3."),
            (r"^text_fusion\.", "txtfusion."),
            (r"^transformer_blocks\.", "blocks."),
            (r"\.attn\.to_([qkv])\.", r".attn.w\1."),
            (r"\.attn\.to_out\.0\.", ".attn.wo."),
            (r"\.attn\.to_gate\.", ".attn.gate."),
            (r"\.attn\.norm_([qk])\.weight$", r".attn.qknorm.\1norm.scale"),
            (r"\.ff\.", ".mlp."),
            (r"\.norm1\.weight$", ".prenorm.scale"),
            (r"\.norm2\.weight$", ".postnorm.scale"),
            (r"^final_layer\.norm\.weight$", "last.norm.scale"),
            (r"^final_layer\.linear\.", "last.linear."),
            (r"^final_layer\.scale_shift_table$", "last.modulation.lin"),
            (r"\.scale_shift_table$", ".mod.lin"),
        ],
    )


def _is_table(key: str) -> bool:
    """Return whether the parameter is a block's table of modulations, which is flat in files."""
    return key.startswith("transformer_blocks.") and key.endswith(".scale_shift_table")


def original_encoder(state: State) -> State:
    return renamed(state, [(r"^(model\.)?(language_model|visual)\.", r"model.\2.")])


def bare_encoder(state: State) -> State:
    """As ComfyUI's CLIPSave and stable-diffusion.cpp name it."""
    return renamed(state, [(r"^model\.language_model\.", "model."), (r"^model\.visual", "visual")])


CASE = ComfyCase(
    "krea2",
    save,
    {"transformer": original_transformer, "text_encoder": original_encoder, "vae": wan_names},
    {
        "transformer": "model.diffusion_model.",
        "text_encoder": "text_encoders.qwen3vl_4b.transformer.",
        "vae": "vae.",
    },
    {"tokenizer": QWEN},
    {
        "transformer": by_diffusers("convert_krea2_transformer_checkpoint_to_diffusers"),
        "vae": vae_by_diffusers,
    },
    llama={"text_encoder": MODEL_ARCH.QWEN3VL},
    spellings={"text_encoder": bare_encoder},
    texts=TEMPLATE,
    side_px=64,
)
