"""Qwen-Image as ComfyUI's users have it, tiny."""

from __future__ import annotations

from pathlib import Path

from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
)
from gguf import MODEL_ARCH
from helpers.comfy_families import QWEN, ComfyCase, State, randomised, renamed
from helpers.comfy_qwen_vae import tiny_qwen_vae, vae_by_diffusers, wan_names
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
)

# 34 tokens before the caption
TEMPLATE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, "
    "text, spatial relationships of the objects and background:<|im_end|>\n<|im_start|>user\n"
    "{}<|im_end|>\n<|im_start|>assistant\n"
)


def save(folder: Path, vocabulary: Path) -> None:
    words = Qwen2Tokenizer.from_pretrained(vocabulary / Path(QWEN).name)
    assert len(words(TEMPLATE.partition("{}")[0]).input_ids) == 34
    encoder = Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            text_config={
                "vocab_size": len(words),
                "hidden_size": 32,
                "intermediate_size": 32,
                "num_hidden_layers": 3,
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3]},
            },
            vision_config={
                "depth": 1,
                "hidden_size": 32,
                "intermediate_size": 32,
                "num_heads": 2,
                "out_hidden_size": 32,
            },
        )
    )
    transformer = QwenImageTransformer2DModel(
        in_channels=32,
        out_channels=8,
        num_layers=4,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=(4, 6, 6),
    )
    QwenImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=tiny_qwen_vae(),
        text_encoder=encoder.eval(),
        tokenizer=words,
        transformer=randomised(transformer),
    ).save_pretrained(folder)


def original_encoder(state: State) -> State:
    """The names of transformers before its release 4.52."""
    return renamed(
        state, [(r"^model\.language_model\.", "model."), (r"^model\.visual\.", "visual.")]
    )


def new_encoder(state: State) -> State:
    return renamed(state, [(r"^model\.", "model.language_model."), (r"^visual\.", "model.visual.")])


CASE = ComfyCase(
    "qwen-image",
    save,
    {"transformer": dict, "text_encoder": original_encoder, "vae": wan_names},
    {
        "transformer": "model.diffusion_model.",
        "text_encoder": "text_encoders.qwen25_7b.transformer.",
        "vae": "vae.",
    },
    {"tokenizer": QWEN},
    {"transformer": dict, "vae": vae_by_diffusers},
    llama={"text_encoder": MODEL_ARCH.QWEN2VL},
    spellings={"text_encoder": new_encoder},
    texts=TEMPLATE,
    side_px=64,
)
