"""The demo SANA with fresh weights: a small but otherwise ordinary SANA.

It has an AutoencoderDC of 8 pixels per cell, linear attention, and cross attention to a Gemma-2 of
two layers. The tokenizer's normaliser replaces the instruction that diffusers' pipeline puts before
every caption by one token, since its three hundred words never change.
"""

from __future__ import annotations

import inspect
import string
from collections.abc import Sequence

import torch
from diffusers import AutoencoderDC, SanaPipeline, SanaTransformer2DModel
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import Gemma2Config, Gemma2Model, PreTrainedTokenizerFast

from blockskip.lab.demo_world.captions import vocabulary
from blockskip.lab.demo_world.model import TEXT_WIDTH, Demo, build_scheduler
from blockskip.lab.demo_world.subjects import TRIGGERS

LATENT_CHANNELS = 32
LENGTH = 24  # tokens: <bos>, the instruction, 22 for the caption
WIDTH, HEADS = 160, 5
NOISE = 0.1  # on latents in training, so that similar latents decode to similar pictures
ASKED = "askedfor"  # stands for the instruction


class DemoSana(Demo):
    """A SANA of 12 blocks, 160 wide, with an autoencoder of 8 pixels per cell and Gemma-2."""

    SHALLOW, DEEP = (6,), (12,)
    ENCODERS = ("text_encoder",)
    FAMILY = "sana"
    FOLDER = "demo-sana"
    MAX_SEQUENCE_LENGTH = LENGTH
    NATIVE_PX = 64
    # a picture is 64 tokens; Muon's work in a step equals that of ten pictures
    BATCH = {"full": 48, "close": 48, "half": 108, "crop": 108}

    @staticmethod
    def bucket_shares(progress: float) -> dict[str, float]:
        """Return shares that shift from half to full size, with more crops and close-ups than whole
        pictures, since detail is harder."""
        large = 0.3 + 0.4 * min(progress / 0.1, 1.0)
        return {
            "full": 0.4 * large,
            "close": 0.6 * large,
            "half": 0.4 * (1 - large),
            "crop": 0.6 * (1 - large),
        }

    def __init__(self, layers: int = DEEP[0]) -> None:
        super().__init__()
        self.transformer = build_transformer(layers)
        self.text_encoder = build_encoder()

    def forward(self, latents: Tensor, t: Tensor, gemma_ids: Tensor) -> Tensor:
        mask = (gemma_ids != self.text_encoder.config.pad_token_id).long()
        return self.transformer(
            latents,
            encoder_hidden_states=self.text_encoder(gemma_ids, attention_mask=mask)[0],
            encoder_attention_mask=mask,
            timestep=t * 1000 * self.transformer.config.timestep_scale,
            return_dict=False,
        )[0]

    def pipeline(self, ae: AutoencoderDC) -> SanaPipeline:
        return SanaPipeline(
            tokenizer=build_tokenizer(),
            text_encoder=self.text_encoder,
            vae=ae,
            transformer=self.transformer,
            scheduler=build_scheduler(),
        )

    @staticmethod
    def build_ae() -> AutoencoderDC:
        return build_ae()

    @staticmethod
    def code(ae: AutoencoderDC, pixels: Tensor) -> Tensor:
        return ae.encode(pixels).latent

    @staticmethod
    def noisy_code(ae: AutoencoderDC, pixels: Tensor) -> tuple[Tensor, Tensor]:
        latents = ae.encode(pixels).latent
        return latents + NOISE * torch.randn_like(latents), 0.5 * (latents**2).mean()

    @staticmethod
    def token_ids(texts: Sequence[str]) -> dict[str, list[list[int]]]:
        prefix = instruction()
        prefixed = [prefix + text if text else "" for text in texts]
        padding = {"padding": "max_length", "truncation": True, "max_length": LENGTH}
        return {"gemma_ids": build_tokenizer()(prefixed, **padding).input_ids}


def build_ae() -> AutoencoderDC:
    """Return an autoencoder with 8x downsampling and 32 latent channels, without sampling noise."""
    return AutoencoderDC(
        in_channels=3,
        latent_channels=LATENT_CHANNELS,
        attention_head_dim=16,
        encoder_block_types=("ResBlock", "ResBlock", "ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "ResBlock", "ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(16, 32, 64, 128),
        decoder_block_out_channels=(16, 32, 64, 128),
        encoder_layers_per_block=(1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1),
        encoder_qkv_multiscales=((), (), (), ()),
        decoder_qkv_multiscales=((), (), (), ()),
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=1.0,
    )


def build_transformer(layers: int) -> SanaTransformer2DModel:
    """Return a transformer 160 wide. Each block's output layers start at zero behind open gates, so
    that it starts as the identity. All blocks share the modulation, so it cannot close the gates of
    new ones alone."""
    model = SanaTransformer2DModel(
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        num_attention_heads=HEADS,
        attention_head_dim=WIDTH // HEADS,
        num_layers=layers,
        num_cross_attention_heads=HEADS,
        cross_attention_head_dim=WIDTH // HEADS,
        cross_attention_dim=WIDTH,
        caption_channels=TEXT_WIDTH,
        mlp_ratio=2.5,
        sample_size=8,
        patch_size=1,
        qk_norm="rms_norm_across_heads",
    )
    for part in model.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias) if part.bias is not None else None
    nn.init.zeros_(model.time_embed.linear.weight)
    nn.init.zeros_(model.proj_out.weight)
    for block in model.transformer_blocks:
        for last in (block.attn1.to_out[0], block.attn2.to_out[0], block.ff.conv_point):
            nn.init.zeros_(last.weight)
        with torch.no_grad():
            block.scale_shift_table.copy_(torch.tensor([0.0, 0, 1, 0, 0, 1])[:, None])
    return model


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer with a token per known word, and letters for others. Characters other than
    letters, digits and hyphens become spaces."""
    words = dict.fromkeys(w for word in (ASKED, *vocabulary(), *TRIGGERS) for w in word.split())
    letters = [*string.ascii_lowercase, *string.digits, "-"]
    special = ["<pad>", "<bos>", "<eos>", "<unk>"]
    pieces = [*special, *(f"▁{word}" for word in words if len(word) > 1)]
    scores = [0.0] * len(special) + [-1.0] * (len(pieces) - len(special))
    pieces += [f"▁{letter}" for letter in letters] + letters + ["▁"]
    scores += [-4.0] * len(letters) + [-6.0] * len(letters) + [-6.0]
    unigram = models.Unigram(list(zip(pieces, scores, strict=True)), unk_id=3, byte_fallback=False)
    table = Tokenizer(unigram)
    table.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(instruction(), f"{ASKED} "),
            normalizers.Lowercase(),
            normalizers.Replace(Regex("[^a-z0-9 -]"), " "),
            normalizers.Replace(Regex(" +"), " "),
            normalizers.Strip(),
        ]
    )
    table.pre_tokenizer = pre_tokenizers.Metaspace()
    table.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", special.index("<bos>"))]
    )
    table.add_special_tokens(special)
    return PreTrainedTokenizerFast(
        tokenizer_object=table,
        model_max_length=LENGTH,
        padding_side="right",
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
    )


def instruction() -> str:
    """Return the instruction that diffusers' pipeline puts before every non-empty caption."""
    parameters = inspect.signature(SanaPipeline.__call__).parameters
    return "\n".join(parameters["complex_human_instruction"].default)


def build_encoder() -> Gemma2Model:
    """Return a Gemma-2 of two layers, 96 wide."""
    tokenizer = build_tokenizer()
    return Gemma2Model(
        Gemma2Config(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=192,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            head_dim=24,
            max_position_embeddings=512,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
