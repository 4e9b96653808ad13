"""The demo model with fresh weights: a small but otherwise ordinary FLUX."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import AutoencoderKL, FluxPipeline, FluxTransformer2DModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from blockskip.lab.demo_world.model import TEXT_WIDTH, Demo, build_scheduler
from blockskip.lab.demo_world.tokenizers import (
    CLIP_LENGTH,
    MAX_SEQUENCE_LENGTH,
    build_clip,
    build_t5,
)

LATENT_CHANNELS = 8


class DemoFlux(Demo):
    """A FLUX of 6 double and 12 single blocks, 128 wide, with a VAE of 4 pixels per cell, T5 and
    CLIP."""

    SHALLOW, DEEP = (3, 6), (6, 12)
    ENCODERS = ("text_encoder", "text_encoder_2")
    FAMILY = "flux"
    FOLDER = "demo-model-128"  # until it is good enough; assets/demo-model is of 64 px
    MAX_SEQUENCE_LENGTH = MAX_SEQUENCE_LENGTH
    NATIVE_PX = 128
    BATCH = {"full": 16, "close": 56, "half": 56, "crop": 56}  # about equal seconds

    @staticmethod
    def bucket_shares(progress: float) -> dict[str, float]:
        """Return mostly whole pictures, since 64 px was trained before and faces need detail."""
        return {"full": 0.55, "close": 0.15, "half": 0.1, "crop": 0.2}

    def __init__(self, double: int = DEEP[0], single: int = DEEP[1]) -> None:
        super().__init__()
        self.transformer = build_transformer(double, single)
        self.text_encoder = build_clip_encoder()
        self.text_encoder_2 = build_t5_encoder()

    def forward(self, latents: Tensor, t: Tensor, t5_ids: Tensor, clip_ids: Tensor) -> Tensor:
        b, c, h, w = latents.shape
        velocity = self.transformer(
            FluxPipeline._pack_latents(latents, b, c, h, w),
            encoder_hidden_states=self.text_encoder_2(t5_ids)[0],
            pooled_projections=self.text_encoder(clip_ids).pooler_output,
            timestep=t,
            img_ids=FluxPipeline._prepare_latent_image_ids(
                1, h // 2, w // 2, latents.device, torch.float32
            ),
            txt_ids=torch.zeros(t5_ids.shape[1], 3, device=latents.device),
            return_dict=False,
        )[0]
        return FluxPipeline._unpack_latents(velocity, h, w, vae_scale_factor=1)

    def pipeline(self, ae: AutoencoderKL) -> FluxPipeline:
        return FluxPipeline(
            scheduler=build_scheduler(),
            vae=ae,
            text_encoder=self.text_encoder,
            tokenizer=build_clip(),
            text_encoder_2=self.text_encoder_2,
            tokenizer_2=build_t5(),
            transformer=self.transformer,
        )

    @staticmethod
    def build_ae() -> AutoencoderKL:
        return build_vae()

    @staticmethod
    def code(ae: AutoencoderKL, pixels: Tensor) -> Tensor:
        return ae.encode(pixels).latent_dist.mean

    @staticmethod
    def noisy_code(ae: AutoencoderKL, pixels: Tensor) -> tuple[Tensor, Tensor]:
        posterior = ae.encode(pixels).latent_dist
        return posterior.sample(), 0.5 * (
            posterior.mean**2 + posterior.var - 1 - posterior.logvar
        ).mean()

    @staticmethod
    def token_ids(texts: Sequence[str]) -> dict[str, list[list[int]]]:
        lengths = {
            "t5_ids": (build_t5(), MAX_SEQUENCE_LENGTH),
            "clip_ids": (build_clip(), CLIP_LENGTH),
        }
        return {
            name: tokenizer(
                list(texts), padding="max_length", truncation=True, max_length=length
            ).input_ids
            for name, (tokenizer, length) in lengths.items()
        }


def build_vae() -> AutoencoderKL:
    """Return a VAE with 4x downsampling, 8 latent channels and 0.66 M parameters. Its noise starts
    small."""
    vae = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=LATENT_CHANNELS,
        sample_size=64,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=1.0,
        shift_factor=0.0,
        force_upcast=False,
    )
    with torch.no_grad():
        vae.encoder.conv_out.bias[LATENT_CHANNELS:] = -5.0
    return vae


def build_transformer(double: int, single: int, heads: int = 4) -> FluxTransformer2DModel:
    """Return a transformer of width ``heads`` x 32. Modulation and output start at zero, so that
    each block starts as the identity."""
    model = FluxTransformer2DModel(
        patch_size=1,
        in_channels=4 * LATENT_CHANNELS,
        num_layers=double,
        num_single_layers=single,
        attention_head_dim=32,
        num_attention_heads=heads,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=TEXT_WIDTH,
        guidance_embeds=False,
        axes_dims_rope=(8, 12, 12),
    )
    for name, part in model.named_modules():
        if isinstance(part, nn.Linear):
            zero = "norm" in name.split(".")[-2:][0] or name == "proj_out"
            (nn.init.zeros_ if zero else nn.init.xavier_uniform_)(part.weight)
            nn.init.zeros_(part.bias) if part.bias is not None else None
    return model


def build_t5_encoder() -> T5EncoderModel:
    """Return a T5 encoder of two layers, 96 wide, with gated GELU."""
    tokenizer = build_t5()
    return T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=TEXT_WIDTH,
            d_kv=24,
            d_ff=192,
            num_layers=2,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
            is_encoder_decoder=False,
            use_cache=False,
            relative_attention_num_buckets=32,
            tie_word_embeddings=False,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def build_clip_encoder() -> CLIPTextModel:
    """Return a CLIP text encoder of two layers, 96 wide. Only its pooled vector is used."""
    tokenizer = build_clip()
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=192,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=CLIP_LENGTH,
            projection_dim=TEXT_WIDTH,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
