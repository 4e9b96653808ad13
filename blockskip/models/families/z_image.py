"""Z-Image: one sequence of image and text from the first block on, Qwen3, FLUX.1's VAE.

Facts read from diffusers 0.42.1: the forward takes lists, an image (C, 1, H, W) and a caption (S', ·)
a draw, of as many tokens as the caption has. Image and caption are each padded to a multiple of 32 by
learnt tokens that count, pass refiners of their own, and are joined, image first; what is still
shorter than the longest draw of the batch is masked. Positions of image tokens begin after the padded
caption. Time runs the other way: the model is told 1 - t and gives -v. A caption is a user's turn of
Qwen3's chat, and what is read is the state before its last layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import ZImagePipeline, ZImageTransformer2DModel
from diffusers.models.transformers.transformer_z_image import SEQ_MULTI_OF
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle
from transformers import PreTrainedTokenizerBase, Qwen3Model

from blockskip.models.families.base import Text
from blockskip.models.families.diffusers_family import DiffusersFamily
from blockskip.models.families.streams import SingleStream, Streams
from blockskip.models.lora.names import DiffusersNames

_PATCH = 2  # the library's default; the released models have no other


class ZImage(DiffusersFamily):
    """See models/families/base.py for what each member means. A latent is packed here, (B, T, 4·C)."""

    pipeline, transformer, encoder = ZImagePipeline, ZImageTransformer2DModel, Qwen3Model
    stacks = ("layers",)
    patch_size = _PATCH
    attention = ("attention.to_q", "attention.to_k", "attention.to_v", "attention.to_out.0")
    feed_forward = ("feed_forward.w1", "feed_forward.w2", "feed_forward.w3")
    per_sample_args = ("x", "attn_mask", "freqs_cis", "adaln_input")
    embedders = ("all_x_embedder.2-1", "cap_embedder", "noise_refiner", "context_refiner")
    # OneTrainer's and musubi-tuner's spelling in the header
    lora_names = DiffusersNames(
        "Z-Image/lora",
        "https://github.com/Tongyi-MAI/Z-Image",
        "z-image",
        comfy=r"layers\.\d+\.(attention\.(to_[qkv]|to_out\.0)|feed_forward\.w[123]|adaLN_modulation\.0)",
    )

    def streams(self, block: nn.Module) -> Streams:
        return SingleStream(names=("x",), image_first=True, multiple=SEQ_MULTI_OF)

    def modulation(self, block: nn.Module) -> tuple[str, ...]:
        return ("adaLN_modulation.0",)

    def encode_text(self, pipe: ZImagePipeline, captions: Sequence[str], tokens: int) -> Text:
        encoder, kept = pipe.text_encoder, []
        given = pipe.tokenizer(
            [_chat_prompt(pipe.tokenizer, caption) for caption in captions],
            padding="max_length",
            padding_side="right",
            max_length=tokens,
            truncation=True,
            return_tensors="pt",
        ).to(encoder.device)
        # the library's own list of states knows nothing of what stands in a layer's place
        seen = encoder.layers[-1].register_forward_pre_hook(lambda _, args: kept.append(args[0]))
        try:
            encoder(given.input_ids, given.attention_mask.bool(), use_cache=False)
        finally:
            seen.remove()
        mask = given.attention_mask.to(kept[0].dtype)
        return Text(kept[0] * mask[:, :, None], mask)

    def caption_shape(
        self, transformer: ZImageTransformer2DModel, tokens: int
    ) -> tuple[int, int, int]:
        return tokens, transformer.config.cap_feat_dim, tokens

    def encode_images(self, pipe: ZImagePipeline, pixels: Tensor) -> Tensor:
        return _pack_latents(super().encode_images(pipe, pixels))

    def inputs(self, noisy: Tensor, text: Text, t: Tensor, side_px: int, guidance: bool) -> dict:
        cells = side_px // self.pixel_multiple
        latents = pixel_shuffle(noisy.mT.unflatten(2, (cells, cells)), _PATCH)
        return {
            "x": list(latents.unsqueeze(2)),
            "t": 1 - t,
            "cap_feats": _caption_list(text),
            "return_dict": False,
        }

    def velocity(self, output: tuple) -> Tensor:
        return -_pack_latents(torch.stack(output[0]).squeeze(2))

    def sampling_kwargs(
        self, pipe: ZImagePipeline, text: Text, negative: Text, guidance: float
    ) -> dict[str, object]:
        return {
            "prompt_embeds": _caption_list(text),
            "negative_prompt_embeds": _caption_list(negative),
            "guidance_scale": guidance,
        }


def _chat_prompt(tokenizer: PreTrainedTokenizerBase, caption: str) -> str:
    """A caption as the library's pipeline puts it to the text encoder."""
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": caption}],
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=True,
    )


def _pack_latents(latent: Tensor) -> Tensor:
    """(B, C, H, W) → (B, T, 4·C), a token every 2 x 2 cells."""
    return pixel_unshuffle(latent, _PATCH).flatten(2).mT


def _caption_list(text: Text) -> list[Tensor]:
    """Captions (S', ·), each of its own length; `pooled_or_mask` is 1 for tokens that count, (B, S).
    Without memory (lab/full_size/simulate.py) all of them count."""
    if text.pooled_or_mask.is_meta:
        return list(text.embeds)
    lengths = (sum(value > 0 for value in row) for row in text.pooled_or_mask.tolist())
    return [row[:length] for row, length in zip(text.embeds, lengths, strict=True)]


FAMILY = ZImage
