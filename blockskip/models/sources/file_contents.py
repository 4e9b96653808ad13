"""Tell what a weight file holds by the names of its tensors, for messages."""

from __future__ import annotations

import re
from collections.abc import Collection

from blockskip.models.sources.tensors import is_lora

TRANSFORMERS = (
    *("FLUX.1", "FLUX.2", "Chroma", "Stable Diffusion 3", "Qwen-Image", "Qwen-Image-2.1"),
    *("Z-Image", "Krea 2", "SANA", "Wan", "Stable Diffusion 1, 2 or XL"),
)
# what it is → patterns of which one key matches each; a prefix may come before them. The first fits
_SIGNS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("a ControlNet", (r"controlnet|control_model\.|input_hint_block|control_(img|blocks)",)),
    ("FLUX.2", (r"double_stream_modulation_img",)),
    ("Chroma", (r"distilled_guidance_layer",)),
    ("FLUX.1", (r"double_blocks\.\d+\.img_attn|single_transformer_blocks\.\d+\.",)),
    ("Stable Diffusion 3", (r"joint_blocks\.\d+\.|transformer_blocks\.\d+\.ff_context\.",)),
    ("Qwen-Image-2.1", (r"transformer_blocks\.\d+\.img_mlp\.(gate_up|gate_layer)\.",)),
    ("Krea 2", (r"txtfusion\.|text_fusion\.projector",)),
    ("Qwen-Image", (r"transformer_blocks\.\d+\.img_mod\.",)),
    ("Z-Image", (r"cap_embedder\.", r"(noise|context)_refiner\.")),
    ("SANA", (r"blocks\.\d+\.(mlp|ff)\.(inverted_conv|conv_inverted)",)),
    ("Wan", (r"blocks\.\d+\.cross_attn\.", r"(text|time)_embedding\.")),
    ("Stable Diffusion 1, 2 or XL", (r"(input|down)_blocks\.\d+\.(\d+|attentions)\.",)),
    ("a text encoder", (r"SelfAttention\.|enc\.blk\.\d+|token_embd\.|text_model\.encoder\.",)),
    ("a text encoder", (r"embed_tokens\.weight|layers\.\d+\.self_attn\.",)),
    ("a VAE", (r"decoder\.(conv_in|conv1|up|up_blocks|layers)\.",)),
)


def description(keys: Collection[str]) -> str:
    """Return what the tensors belong to: a family's name, “a LoRA”, “a VAE” …, or ""
    if unknown."""
    if is_lora(keys):
        return "a LoRA"
    for what, patterns in _SIGNS:
        if all(any(re.search(pattern, key) for key in keys) for pattern in patterns):
            return what
    return ""
