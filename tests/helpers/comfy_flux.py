"""FLUX.1 as ComfyUI's users have it, tiny."""

from __future__ import annotations

from pathlib import Path

from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from gguf import MODEL_ARCH
from helpers import comfy_text_encoders as encoders
from helpers import family_checks as checks
from helpers.comfy import CLIP, T5, original_transformer, original_vae
from helpers.comfy_families import ComfyCase, by_diffusers, ldm_by_diffusers
from transformers import CLIPTextModel


def save(folder: Path, vocabulary: Path) -> None:
    clip_words, t5_words = encoders.clip_words(vocabulary), encoders.t5_words(vocabulary)
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=32,
        num_attention_heads=2,
        joint_attention_dim=64,
        pooled_projection_dim=32,
        axes_dims_rope=(8, 12, 12),
        guidance_embeds=True,
    )
    FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=checks.tiny_vae(4, 0.3611, 0.1159),
        text_encoder=encoders.clip(CLIPTextModel, clip_words, 32),
        tokenizer=clip_words,
        text_encoder_2=encoders.t5(t5_words, 64),
        tokenizer_2=t5_words,
        transformer=transformer,
    ).save_pretrained(folder)


CASE = ComfyCase(
    "flux-dev",
    save,
    {
        "transformer": original_transformer,
        "text_encoder": lambda state: {f"text_model.{key}": value for key, value in state.items()},
        "text_encoder_2": encoders.original_t5,
        "vae": original_vae,
    },
    {
        "transformer": "model.diffusion_model.",
        "text_encoder": "text_encoders.clip_l.transformer.",
        "text_encoder_2": "text_encoders.t5xxl.transformer.",
        "vae": "vae.",
    },
    {"tokenizer": CLIP, "tokenizer_2": T5},
    {"vae": ldm_by_diffusers},
    {"transformer": by_diffusers("convert_flux_transformer_checkpoint_to_diffusers")},
    llama={"text_encoder_2": MODEL_ARCH.T5ENCODER},
    spellings={"text_encoder_2": encoders.t5_with_both},
)
