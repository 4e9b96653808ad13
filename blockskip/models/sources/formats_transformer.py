"""The files of transformers, by their class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from blockskip.models.sources import conversions
from blockskip.models.sources.part_formats import (
    Config,
    PartFormat,
    Signs,
    Tensors,
    by_library,
    either_name,
    plain_weights,
)
from blockskip.models.sources.tensors import WeightIndex

_GUIDANCE = ("guidance_in.", "time_text_embed.guidance_embedder.")
_FLUX2, _CHROMA = ("double_stream_modulation_img.",), ("distilled_guidance_layer.",)


def _flux(config: Config, last_linear: str = "proj_out") -> Signs:
    """Return what Black Forest Labs' models have in common. last_linear: diffusers' name in a single
    block."""
    width = config["num_attention_heads"] * config["attention_head_dim"]
    return Signs(
        either_name("img_in", "x_embedder", shape=(width, config["in_channels"]))
        | either_name("txt_in", "context_embedder", shape=(width, config["joint_attention_dim"])),
        {
            "single_blocks.{}.linear2": config["num_single_layers"],
            f"single_transformer_blocks.{{}}.{last_linear}": config["num_single_layers"],
        },
    )


def _flux1(config: Config) -> Signs:
    signs, others = _flux(config), _FLUX2 + _CHROMA
    if config["guidance_embeds"]:
        return replace(signs, present=_GUIDANCE, absent=others)
    return replace(signs, absent=others + _GUIDANCE)


def _chroma(config: Config) -> Signs:
    return replace(_flux(config), present=_CHROMA, absent=("nerf_blocks.",))


def _flux2(config: Config) -> Signs:
    return replace(_flux(config, "attn.to_out"), present=_FLUX2)


def _z_image(config: Config) -> Signs:
    return Signs(
        either_name("cap_embedder.1", shape=(config["dim"], config["cap_feat_dim"])),
        {"layers.{}.feed_forward.w1": config["n_layers"]},
        present=("noise_refiner.",),
        absent=("siglip_embedder.", "dec_net."),  # Omni, and the model of pixels
    )


def _qwen_image(config: Config) -> Signs:
    width = config["num_attention_heads"] * config["attention_head_dim"]
    return Signs(
        either_name("img_in", shape=(width, config["in_channels"]))
        | either_name("txt_in", shape=(width, config["joint_attention_dim"])),
        {"transformer_blocks.{}.img_mod.1": config["num_layers"]},
        # Qwen-Image-Layered and Qwen-Image-Edit-2511
        absent=("time_text_embed.addition_t_embedding.", "__index_timestep_zero__"),
    )


def _qwen_image21(config: Config) -> Signs:
    return Signs(blocks={"transformer_blocks.{}.attn.to_q": config["num_layers"]})


def _krea2(config: Config) -> Signs:
    width = config["num_attention_heads"] * config["attention_head_dim"]
    return Signs(
        either_name("first", "img_in", shape=(width, config["in_channels"])),
        {
            "blocks.{}.attn.wo": config["num_layers"],
            "transformer_blocks.{}.attn.to_gate": config["num_layers"],
        },
    )


def _sd3(config: Config) -> Signs:
    width = config["num_attention_heads"] * config["attention_head_dim"]
    return Signs(
        either_name("context_embedder", shape=(width, config["joint_attention_dim"])),
        {
            "joint_blocks.{}.x_block.attn.qkv": config["num_layers"],
            "transformer_blocks.{}.attn.to_q": config["num_layers"],
        },
        # Stable Diffusion 3 has no norms of queries
        present=("joint_blocks.0.context_block.attn.ln_q.", "transformer_blocks.0.attn.norm_q."),
    )


def _transformer(
    markers: tuple[str, ...],
    signs: Callable[[Config], Signs],
    weights: Callable[[Tensors, Config], WeightIndex] = plain_weights,
) -> PartFormat:
    prefixes = (
        "model.diffusion_model.",
        "model.model.",
        "net.",
        "diffusion_model.",
        "transformer.",
    )
    return PartFormat(
        "transformer", "diffusion_models", markers, ("", *prefixes), signs, weights=weights
    )


_BFL = ("double_blocks.0.img_attn.qkv", "transformer_blocks.0.attn.to_q")
TRANSFORMERS = {
    "FluxTransformer2DModel": _transformer(_BFL, _flux1, conversions.flux_weights),
    "ChromaTransformer2DModel": _transformer(_BFL, _chroma, conversions.chroma_weights),
    "Flux2Transformer2DModel": _transformer(
        _BFL,
        _flux2,
        by_library("convert_flux2_transformer_checkpoint_to_diffusers", "img_in"),
    ),
    "ZImageTransformer2DModel": _transformer(
        ("layers.0.attention.qkv", "layers.0.attention.to_q"),
        _z_image,
        by_library("convert_z_image_transformer_checkpoint_to_diffusers", "x_embedder"),
    ),
    "QwenImageTransformer2DModel": _transformer(("transformer_blocks.0.img_mod.1",), _qwen_image),
    "QwenImage21Transformer2DModel": _transformer(
        ("transformer_blocks.0.img_mlp.gate_up", "transformer_blocks.0.img_mlp.gate_layer"),
        _qwen_image21,
        by_library(
            "convert_qwen_image21_transformer_checkpoint_to_diffusers",
            "transformer_blocks.0.img_mlp.gate_up",
        ),
    ),
    "Krea2Transformer2DModel": _transformer(
        ("txtfusion.projector", "text_fusion.projector"),
        _krea2,
        by_library("convert_krea2_transformer_checkpoint_to_diffusers", "first"),
    ),
    "SD3Transformer2DModel": _transformer(
        ("joint_blocks.0.x_block.attn.qkv", "transformer_blocks.0.ff_context.net.2"),
        _sd3,
        by_library(
            "convert_sd3_transformer_checkpoint_to_diffusers", "joint_blocks.0.x_block.attn.qkv"
        ),
    ),
}
