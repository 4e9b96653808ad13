"""The files of VAEs, by their class."""

from __future__ import annotations

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

_VAE_PREFIXES = ("", "vae.", "first_stage_model.")
_SD3_SCALING = 1.5305


def _autoencoder(config: Config) -> Signs:
    channels = 2 * config["latent_channels"], config["block_out_channels"][-1], 3, 3
    quantised = ("quant_conv.", "encoder.quant_conv.")
    return Signs(
        either_name("encoder.conv_out", shape=channels),
        absent=() if config.get("use_quant_conv", True) else quantised,
    )


def _beside(config: Config, family: str) -> bool:
    """Stable Diffusion 3's VAE has the shapes of the one that FLUX.1, Chroma and Z-Image share."""
    return (family == "Stable Diffusion 3") == (config["scaling_factor"] == _SD3_SCALING)


def _autoencoder_weights(tensors: Tensors, config: Config) -> WeightIndex:
    original = any(key.startswith("encoder.down.") for key in tensors)
    return (conversions.ldm_vae_weights if original else plain_weights)(tensors, config)


def _wan22(config: Config) -> Signs:
    """The layout of Wan 2.2's VAE, with kernels of one frame; or diffusers' own."""
    channels = 2 * config["z_dim"], 2 * config["z_dim"]
    return Signs({"conv1.weight": (*channels, 1, 1, 1), "quant_conv.weight": (*channels, 1, 1)})


def _wan22_weights(tensors: Tensors, config: Config) -> WeightIndex:
    original = "conv1.weight" in tensors
    return (conversions.wan22_vae_weights if original else plain_weights)(tensors, config)


def _wan(config: Config) -> Signs:
    """The layout of Wan's VAE, with other names for diffusers' parameters."""
    channels = 2 * config["z_dim"], 2 * config["z_dim"], 1, 1, 1
    picture = config.get("in_channels", 3)
    return Signs(
        either_name("conv1", "quant_conv", shape=channels)
        | either_name(
            "encoder.conv1", "encoder.conv_in", shape=(config["base_dim"], picture, 3, 3, 3)
        )
    )


_AUTOENCODER = PartFormat(
    "VAE",
    "vae",
    ("encoder.down.0.block.0.conv1", "encoder.down_blocks.0.resnets.0.conv1"),
    _VAE_PREFIXES,
    _autoencoder,
    weights=_autoencoder_weights,
)

VAES = {
    "AutoencoderKL": replace(_AUTOENCODER, beside=_beside),
    "AutoencoderKLFlux2": _AUTOENCODER,
    "AutoencoderKLQwenImage": PartFormat(
        "VAE",
        "vae",
        ("encoder.conv1", "encoder.conv_in"),
        _VAE_PREFIXES,
        _wan,
        weights=by_library("convert_wan_vae_to_diffusers", "encoder.conv1"),
    ),
    "AutoencoderKLQwenImage21": PartFormat(
        "VAE",
        "vae",
        ("encoder.downsamples.0.downsamples.0.residual.2", "encoder.down_blocks.0.resnets.0.conv1"),
        _VAE_PREFIXES,
        _wan22,
        weights=_wan22_weights,
    ),
}
