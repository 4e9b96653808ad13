"""Z-Image as ComfyUI's users have it, tiny."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
from helpers import family_checks as checks
from helpers.comfy import original_vae
from helpers.comfy_families import QWEN, ComfyCase, State, fused, renamed
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
    torch.manual_seed(0)
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
    for parameter in transformer.parameters():
        if not parameter.abs().max() > 0:
            torch.nn.init.normal_(parameter, std=0.1)
    ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=6.0),
        vae=checks.tiny_vae(4, 0.36, 0.12),
        text_encoder=qwen3(words),
        tokenizer=words,
        transformer=transformer,
    ).save_pretrained(folder)


def original_transformer(state: State) -> State:
    state = renamed(
        state,
        [
            (r"^all_x_embedder\.2-1\.", "x_embedder."),
            (r"^all_final_layer\.2-1\.", "final_layer."),
            (r"attention\.norm_([qk])\.", r"attention.\1_norm."),
            (r"attention\.to_out\.0\.", "attention.out."),
        ],
    )
    for name in [key for key in state if key.endswith("attention.to_q.weight")]:
        base = name.removesuffix(".to_q.weight")
        fused(state, [f"{base}.to_{letter}" for letter in "qkv"], f"{base}.qkv")
    return state


CASE = ComfyCase(
    "z-image",
    save,
    {
        "transformer": original_transformer,
        "text_encoder": lambda state: {f"model.{key}": value for key, value in state.items()},
        "vae": original_vae,
    },
    {
        "transformer": "model.diffusion_model.",
        "text_encoder": "text_encoders.qwen3_4b.transformer.",
        "vae": "vae.",
    },
    {"tokenizer": QWEN},
)
