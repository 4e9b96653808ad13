"""Qwen-Image-2.1 as ComfyUI's users have it, tiny."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLQwenImage21,
    FlowMatchEulerDiscreteScheduler,
    QwenImage21Pipeline,
    QwenImage21Transformer2DModel,
)
from gguf import MODEL_ARCH
from helpers.comfy_families import (
    QWEN,
    ComfyCase,
    State,
    by_diffusers,
    fuse_everywhere,
    randomised,
    renamed,
)
from transformers import Qwen2Tokenizer, Qwen3VLConfig, Qwen3VLForConditionalGeneration

from blockskip.models.families.qwen_image21 import TextProcessor

TEMPLATE = (
    "<|im_start|>system\nComprehend and analyze the provided prompt.<|im_end|>\n"
    "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)


def text_encoder(words: Qwen2Tokenizer) -> Qwen3VLForConditionalGeneration:
    return Qwen3VLForConditionalGeneration(
        Qwen3VLConfig(
            text_config={
                "vocab_size": len(words),
                "hidden_size": 64,
                "intermediate_size": 64,
                "num_hidden_layers": 3,
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "head_dim": 32,
                "rope_parameters": {"rope_type": "default", "mrope_section": [6, 5, 5]},
            },
            vision_config={
                "depth": 1,
                "hidden_size": 32,
                "intermediate_size": 32,
                "num_heads": 2,
                "out_hidden_size": 64,
                "deepstack_visual_indexes": [0],
            },
        )
    ).eval()


def save(folder: Path, vocabulary: Path) -> None:
    words = Qwen2Tokenizer.from_pretrained(vocabulary / Path(QWEN).name)
    transformer = QwenImage21Transformer2DModel(
        in_channels=32,
        out_channels=32,
        num_layers=4,
        attention_head_dim=32,
        num_attention_heads=2,
        context_in_dim=64,
        axes_dims_rope=(8, 12, 12),
    )
    vae = AutoencoderKLQwenImage21(
        base_dim=4,
        decoder_base_dim=8,
        z_dim=32,
        dim_mult=[1, 1, 2, 2, 2],
        num_res_blocks=1,
        latents_mean=[0.1 * (i % 5) - 0.2 for i in range(32)],
        latents_std=[0.5 + 0.1 * (i % 7) for i in range(32)],
    )
    QwenImage21Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(
            max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02, use_dynamic_shifting=True
        ),
        vae=vae.eval(),
        text_encoder=text_encoder(words),
        processor=TextProcessor(words),
        transformer=randomised(transformer),
    ).save_pretrained(folder)
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    index["processor"] = ["transformers", "Qwen3VLProcessor"]  # as published
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")


def original_transformer(state: State) -> State:
    return fuse_everywhere(dict(state), ["gate_layer", "proj"], "gate_up")


def original_vae(state: State) -> State:
    """Return the VAE under the names of Wan 2.2's: a sampler is the last layer of its block, and
    kernels have an axis of one frame more."""
    residual = {"norm1": "residual.0", "conv1": "residual.2", "norm2": "residual.3"}
    residual |= {"conv2": "residual.6", "conv_shortcut": "shortcut"}
    depth = {  # (encoder, down, block) → number of its resnets
        tuple(key.split(".")[:3]): 1 + max(int(k.split(".")[4]) for k in state if k.startswith(key))
        for key in {".".join(k.split(".")[:3]) + ".resnets." for k in state if ".resnets." in k}
        if "mid_block" not in key
    }

    def sampler(match) -> str:
        half, kind, block, rest = match.groups()
        number = depth[half, f"{kind}_blocks", block]
        return f"{half}.{kind}samples.{block}.{kind}samples.{number}.{rest}"

    out = renamed(
        state,
        [
            (r"^quant_conv\.", "conv1."),
            (r"^post_quant_conv\.", "conv2."),
            (r"\.conv_in\.", ".conv1."),
            (r"\.norm_out\.", ".head.0."),
            (r"\.conv_out\.", ".head.2."),
            (r"^(\w+)\.(down|up)_blocks\.(\d+)\.(?:down|up)sampler\.(.*)", sampler),
            (r"\.(down|up)_blocks\.(\d+)\.resnets\.(\d+)\.", r".\1samples.\2.\1samples.\3."),
            (r"\.mid_block\.attentions\.0\.", ".middle.1."),
            (r"\.mid_block\.resnets\.([01])\.", lambda m: f".middle.{2 * int(m[1])}."),
            *(
                (rf"\.((?:down|up)samples\.\d+|middle\.\d)\.{old}\.", rf".\1.{new}.")
                for old, new in residual.items()
            ),
        ],
    )
    return {
        name: tensor[:, :, None] if tensor.ndim == 4 and is_causal(name, tensor) else tensor
        for name, tensor in out.items()
    }


def is_causal(name: str, tensor: torch.Tensor) -> bool:
    """Return whether a kernel runs over frames too in Wan 2.2's VAE: all but those of resampling
    and attention, which run over frames one by one."""
    return not any(word in name for word in ("resample.1", "to_qkv", "proj", "gamma"))


CASE = ComfyCase(
    "qwen-image-2.1",
    save,
    {
        "transformer": original_transformer,
        "text_encoder": dict,
        "vae": original_vae,
    },
    {
        "transformer": "model.diffusion_model.",
        "text_encoder": "text_encoders.qwen3vl_8b.transformer.",
        "vae": "vae.",
    },
    {"processor": QWEN},
    {"transformer": by_diffusers("convert_qwen_image21_transformer_checkpoint_to_diffusers")},
    llama={"text_encoder": MODEL_ARCH.QWEN3VL},
    texts=TEMPLATE,
    side_px=64,
)
