"""Z-Image as ComfyUI's users have it, tiny."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
from gguf import MODEL_ARCH
from helpers import family_checks as checks
from helpers.comfy import original_vae
from helpers.comfy_families import (
    QWEN,
    ComfyCase,
    State,
    by_diffusers,
    fuse_everywhere,
    ldm_by_diffusers,
    randomised,
    renamed,
)
from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3Model

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{{ '<|im_start|>assistant\n' }}"
)


def qwen3(words: Qwen2Tokenizer, layers: int = 3, width: int = 64) -> Qwen3Model:
    return Qwen3Model(
        Qwen3Config(
            vocab_size=len(words),
            hidden_size=width,
            intermediate_size=64,
            num_hidden_layers=layers,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=32,
        )
    ).eval()


def save(folder: Path, vocabulary: Path) -> None:
    words = Qwen2Tokenizer.from_pretrained(vocabulary / Path(QWEN).name)
    words.chat_template = CHAT
    transformer = ZImageTransformer2DModel(
        in_channels=4,
        dim=64,
        n_layers=4,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=64,
        axes_dims=[8, 12, 12],
        axes_lens=[256, 16, 16],
    )
    ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=6.0),
        vae=checks.tiny_vae(4, 0.36, 0.12),
        text_encoder=qwen3(words),
        tokenizer=words,
        transformer=randomised(transformer),
    ).save_pretrained(folder)


def original_transformer(state: State) -> State:
    state = fuse_everywhere(dict(state), ["to_q", "to_k", "to_v"], "qkv")
    return renamed(
        state,
        [
            (r"^all_x_embedder\.2-1\.", "x_embedder."),
            (r"^all_final_layer\.2-1\.", "final_layer."),
            (r"attention\.norm_([qk])\.", r"attention.\1_norm."),
            (r"attention\.to_out\.0\.", "attention.out."),
        ],
    )


def odd_transformer(state: State) -> State:
    """With Lumina's norm that is never used, and stable-diffusion.cpp's flat padding."""
    flat = {key: state[key].flatten() for key in ("x_pad_token", "cap_pad_token")}
    return state | flat | {"norm_final.weight": torch.ones(64)}


CASE = ComfyCase(
    "z-image",
    save,
    {
        "transformer": original_transformer,
        "text_encoder": lambda state: renamed(state, [(r"^(model\.)?", "model.")]),
        "vae": original_vae,
    },
    {
        "transformer": "model.diffusion_model.",
        "text_encoder": "text_encoders.qwen3_4b.transformer.",
        "vae": "vae.",
    },
    {"tokenizer": QWEN},
    {
        "transformer": by_diffusers("convert_z_image_transformer_checkpoint_to_diffusers"),
        "vae": ldm_by_diffusers,
    },
    llama={"text_encoder": MODEL_ARCH.QWEN3},
    spellings={"transformer": odd_transformer},
)
