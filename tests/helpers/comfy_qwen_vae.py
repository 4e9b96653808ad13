"""Qwen-Image's VAE, tiny, and under the names of Wan 2.1's."""

from __future__ import annotations

import re

from diffusers import AutoencoderKLQwenImage
from helpers.comfy_families import State, by_diffusers, renamed

vae_by_diffusers = by_diffusers("convert_wan_vae_to_diffusers")


def tiny_qwen_vae(channels: int = 8) -> AutoencoderKLQwenImage:
    """Return one with as many blocks as the whole one, which diffusers' conversion counts on."""
    return AutoencoderKLQwenImage(
        base_dim=4,
        z_dim=channels,
        dim_mult=[1, 2, 4, 4],
        num_res_blocks=2,
        temperal_downsample=[False, True, True],
        latents_mean=[0.1 * i - 0.3 for i in range(channels)],
        latents_std=[0.5 + 0.2 * i for i in range(channels)],
    ).eval()


def wan_names(state: State) -> State:
    """Stages of the decoder have three blocks and something that doubles the side, in one list."""
    flat = {re.sub(r"up_blocks\.(\d+)\.(resnets|upsamplers)\.(\d)", _in_list, key): tensor
            for key, tensor in state.items()}  # fmt: skip
    return renamed(
        flat,
        [
            (r"^quant_conv\.", "conv1."),
            (r"^post_quant_conv\.", "conv2."),
            (r"\.conv_in\.", ".conv1."),
            (r"\.norm_out\.", ".head.0."),
            (r"\.conv_out\.", ".head.2."),
            (r"\.down_blocks\.", ".downsamples."),
            (r"\.mid_block\.resnets\.0\.", ".middle.0."),
            (r"\.mid_block\.attentions\.0\.", ".middle.1."),
            (r"\.mid_block\.resnets\.1\.", ".middle.2."),
            (r"(samples|middle)\.(\d+)\.norm1\.", r"\1.\2.residual.0."),
            (r"(samples|middle)\.(\d+)\.conv1\.", r"\1.\2.residual.2."),
            (r"(samples|middle)\.(\d+)\.norm2\.", r"\1.\2.residual.3."),
            (r"(samples|middle)\.(\d+)\.conv2\.", r"\1.\2.residual.6."),
            (r"\.conv_shortcut\.", ".shortcut."),
        ],
    )


def _in_list(match: re.Match[str]) -> str:
    stage, number = int(match[1]), 3 if match[2] == "upsamplers" else int(match[3])
    return f"upsamples.{4 * stage + number}"
