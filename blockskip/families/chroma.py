"""Chroma: FLUX.1's blocks without modulation of their own; single blocks over text and image as one
sequence; T5 alone.

Facts read from diffusers 0.42.1: `distilled_guidance_layer` makes the modulation of all blocks of t
alone, (B, rows, D), of which the forward hands each block its rows; so a window stores it whole.
Text goes first and is masked but for the first token of padding. The library's mask is 1 and 0 and
meant as true and false (its issue 12116), but its pipeline still hands it on as numbers, which
attention adds to the scores: here it is true and false. The model's own gradient checkpointing drops
the mask in single blocks; ours (skipping.py) wraps blocks and does not. True guidance by the empty
prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import ChromaPipeline, ChromaTransformer2DModel
from diffusers.models.transformers.transformer_chroma import ChromaSingleTransformerBlock
from PIL import Image
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel

from blockskip.families.base import Sampling, Text
from blockskip.families.names import LibraryNames
from blockskip.families.painter import painter
from blockskip.families.streams import Joint, Streams, TextAndImage
from blockskip.memory.placement import empty
from blockskip.sources import Source

_ATTENTION = (
    "attn.to_q",
    "attn.to_k",
    "attn.to_v",
    "attn.to_out.0",
    "attn.add_q_proj",
    "attn.add_k_proj",
    "attn.add_v_proj",
    "attn.to_add_out",
)
_FEED_FORWARD = ("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2")
_SINGLE_ATTENTION = ("attn.to_q", "attn.to_k", "attn.to_v")
_SINGLE_FEED_FORWARD = ("proj_mlp", "proj_out")


class Chroma:
    """See families/base.py for what each member means."""

    pixel_multiple = 16
    batched = ("hidden_states", "encoder_hidden_states", "temb", "attention_mask")
    embedders = ("x_embedder", "context_embedder")
    reads_text = False
    shared_modulation = ("distilled_guidance_layer",)
    # sd-scripts' spelling in the header; in ComfyUI it is a kind of FLUX.1, with its names
    names = LibraryNames(
        "chroma/lora",
        "https://huggingface.co/lodestones/Chroma",
        "chroma",
        comfy=r"(transformer_blocks\.\d+\.(attn\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out)"
        r"|ff(_context)?\.net\.(0\.proj|2))"
        r"|single_transformer_blocks\.\d+\.(attn\.to_[qkv]|proj_mlp|proj_out))",
    )
    workflow = None
    large = ("transformer", "text_encoder")

    def load(self, source: Source | Path, dtype: torch.dtype) -> ChromaPipeline:
        folder = source.folder if isinstance(source, Source) else source
        return self._ready(
            ChromaPipeline.from_pretrained(folder, dtype=dtype, local_files_only=True)
        )

    def open(self, source: Source, dtype: torch.dtype) -> ChromaPipeline:
        shape = ChromaTransformer2DModel.load_config(source.folder / "transformer")
        text = T5Config.from_pretrained(source.folder / "text_encoder")
        return self._ready(
            ChromaPipeline.from_pretrained(
                source.folder,
                dtype=dtype,
                local_files_only=True,
                transformer=empty(lambda: ChromaTransformer2DModel.from_config(shape), dtype),
                text_encoder=empty(lambda: T5EncoderModel(text), dtype),
            )
        )

    def text_encoders(self, pipe: ChromaPipeline) -> list[nn.Module]:
        return [pipe.text_encoder]

    def _ready(self, pipe: ChromaPipeline) -> ChromaPipeline:
        for part in (pipe.transformer, pipe.vae, pipe.text_encoder):
            part.requires_grad_(False).eval()
        self.pixel_multiple = pipe.vae_scale_factor * 2  # the VAE's factor times 2 x 2 packing
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def blocks(self, transformer: nn.Module) -> list[tuple[str, nn.Module]]:
        return [
            (f"{stack}.{i}", block)
            for stack in ("transformer_blocks", "single_transformer_blocks")
            for i, block in enumerate(getattr(transformer, stack))
        ]

    def streams(self, block: nn.Module) -> Streams:
        return Joint() if isinstance(block, ChromaSingleTransformerBlock) else TextAndImage()

    def modulation(self, block: nn.Module) -> tuple[str, ...]:
        return ()

    def lora_targets(self, block: nn.Module, targets: str) -> tuple[str, ...]:
        attention, feed_forward = (
            (_SINGLE_ATTENTION, _SINGLE_FEED_FORWARD)
            if isinstance(block, ChromaSingleTransformerBlock)
            else (_ATTENTION, _FEED_FORWARD)
        )
        return attention if targets == "attention" else attention + feed_forward

    def encode_text(self, pipe: ChromaPipeline, captions: Sequence[str], tokens: int) -> Text:
        embeds, _, mask, *_ = pipe.encode_prompt(
            list(captions),
            do_classifier_free_guidance=False,
            device=pipe.text_encoder.device,
            max_sequence_length=tokens,
        )
        return Text(embeds, mask)

    def caption_shape(self, transformer: nn.Module, tokens: int) -> tuple[int, int, int]:
        return tokens, transformer.config.joint_attention_dim, tokens

    def encode_images(self, pipe: ChromaPipeline, pixels: Tensor) -> Tensor:
        config = pipe.vae.config
        latent = pipe.vae.encode(pixels.to(pipe.vae.dtype)).latent_dist.mode()
        latent = (latent - config.shift_factor) * config.scaling_factor
        return ChromaPipeline._pack_latents(latent, *latent.shape)

    def inputs(self, noisy: Tensor, text: Text, t: Tensor, side_px: int, guidance: bool) -> dict:
        cells = side_px // self.pixel_multiple
        place = noisy.device
        ids = ChromaPipeline._prepare_latent_image_ids(1, cells, cells, place, torch.float32)
        reads = text.beside.bool()
        return {
            "hidden_states": noisy,
            "encoder_hidden_states": text.embeds,
            "timestep": t,
            "img_ids": ids,
            "txt_ids": torch.zeros(text.embeds.shape[1], 3, device=place),
            "attention_mask": torch.cat([reads, reads.new_ones(noisy.shape[:2])], 1),
            "return_dict": False,
        }

    def velocity(self, output: object) -> Tensor:
        return output[0]

    def sample(
        self,
        pipe: ChromaPipeline,
        text: Text,
        negative: Text,
        sampling: Sampling,
        seeds: Sequence[int],
    ) -> list[Image.Image]:
        images = painter(
            ChromaPipeline,
            text.embeds.device,
            pipe.scheduler,
            pipe.vae,
            None,
            None,
            pipe.transformer,
        )
        return images(
            prompt_embeds=text.embeds,
            prompt_attention_mask=text.beside.bool(),
            negative_prompt_embeds=negative.embeds,
            negative_prompt_attention_mask=negative.beside.bool(),
            guidance_scale=sampling.guidance,
            height=sampling.side_px,
            width=sampling.side_px,
            num_inference_steps=sampling.steps,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        ).images


FAMILY = Chroma
