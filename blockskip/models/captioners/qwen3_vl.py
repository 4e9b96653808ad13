"""Qwen3-VL describes photos: a model's own text encoder, or the tool.

Training reads such an encoder's layers without the vision tower and the head
(models/sources/part_checks.py). Here it is built whole, as
`Qwen3VLForConditionalGeneration`; where the head is tied to the embedding, files lack it.

The library's processor needs torchvision, so prompt and pixels are made by hand. A photo's tokens
must be marked by `mm_token_type_ids`: without them the model reads them as text, and only its
answers tell.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from PIL import Image
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    Qwen2VLImageProcessorPil,
    Qwen3VLForConditionalGeneration,
)

from blockskip.core.errors import BadFile
from blockskip.models.captioners import Answer, Describe
from blockskip.models.captioners.found import ENCODER
from blockskip.models.sources import data_only, tools
from blockskip.models.sources.empty_model import build_empty
from blockskip.models.sources.layouts import read_index
from blockskip.models.sources.part_checks import load_part
from blockskip.models.sources.source import Source
from blockskip.models.sources.tensor_reader import Reader
from blockskip.models.sources.vocabularies import load_tokenizer

MAX_PIXELS = 512 * 512  # of a photo; 256 tokens
MIN_PIXELS = 256 * 256
NEW_TOKENS = 120
_TURN = "<|im_start|>user\n<|vision_start|>{photo}<|vision_end|>{text}<|im_end|>\n<|im_start|>assistant\n"
_PHOTO, _END, _END_OF_TEXT = "<|image_pad|>", "<|im_end|>", "<|endoftext|>"
_MARKS = ("<|im_start|>", "<|vision_start|>", "<|vision_end|>", _PHOTO, _END, _END_OF_TEXT)


def number_type() -> torch.dtype:
    """Return bfloat16 if this processor computes in it, else float32, which needs twice the RAM."""
    can = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if can else torch.float32


def open_encoder(source: Source) -> Describe:
    """Load a model's text encoder with its vision tower, tensor by tensor. Raises UserError."""
    config = AutoConfig.for_model(**source.published_config(ENCODER))
    model = build_empty(partial(Qwen3VLForConditionalGeneration, config), number_type())
    load_part(source, ENCODER, model, Reader())
    index = read_index(source.published_folder)
    part = next(name for name in ("tokenizer", "processor") if name in index)
    if source.is_folder:
        tokenizer = _tokenizer(source.folder / part)
    else:
        tokenizer = load_tokenizer(source, part)
    return partial(_describe, model, tokenizer, _image_processor(model))


def open_tool(folder: Path) -> Describe:
    """Load the tool `captioner`. Raises UserError."""
    name = str(number_type()).removeprefix("torch.")
    model = tools.load_tool(Qwen3VLForConditionalGeneration, folder, name)
    return partial(_describe, model, _tokenizer(folder), _image_processor(model))


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(folder, **data_only.TEXTS)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).partition("\n")[0]
        raise BadFile(f"The vocabulary in {folder} cannot be used: {reason}.", "") from error


def _image_processor(model: Qwen3VLForConditionalGeneration) -> Qwen2VLImageProcessorPil:
    """Return what cuts a photo into patches. Its defaults are an older model's."""
    vision = model.config.vision_config
    return Qwen2VLImageProcessorPil(
        patch_size=vision.patch_size,
        temporal_patch_size=vision.temporal_patch_size,
        merge_size=vision.spatial_merge_size,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        size={"shortest_edge": MIN_PIXELS, "longest_edge": MAX_PIXELS},  # pixels, despite the names
    )


def _describe(
    model: Qwen3VLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    processor: Qwen2VLImageProcessorPil,
    photo: Image.Image,
    instruction: str,
) -> Answer:
    ids = dict(zip(_MARKS, tokenizer.convert_tokens_to_ids(list(_MARKS)), strict=True))
    if ids[_PHOTO] != model.config.image_token_id or len(set(ids.values())) < len(ids):
        raise BadFile(
            f"The vocabulary of {tokenizer.name_or_path} is not this model's: it lacks marks as {_PHOTO}.",
            "Fetch the model again.",
        )
    patches = processor(images=photo, return_tensors="pt")
    cells = int(patches.image_grid_thw.prod()) // processor.merge_size**2
    # a mark that a user types is text, and would move the photo's place
    for mark in _MARKS:
        instruction = instruction.replace(mark, " ")
    prompt = _TURN.format(photo=_PHOTO * cells, text=instruction)
    tokens = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
    with torch.inference_mode():
        told = model.generate(
            input_ids=tokens.input_ids,
            attention_mask=tokens.attention_mask,
            mm_token_type_ids=(tokens.input_ids == ids[_PHOTO]).int(),
            pixel_values=patches.pixel_values.to(model.dtype),
            image_grid_thw=patches.image_grid_thw,
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            eos_token_id=[ids[_END], ids[_END_OF_TEXT]],
            pad_token_id=ids[_END_OF_TEXT],
        )
    new = told[0, tokens.input_ids.shape[1] :]
    ended = bool((new == ids[_END]).any() or (new == ids[_END_OF_TEXT]).any())
    return Answer(tokenizer.decode(new, skip_special_tokens=True).strip(), cut=not ended)
