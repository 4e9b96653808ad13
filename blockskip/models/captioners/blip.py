"""BLIP, which describes a photo in one short clause and follows no instructions."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from safetensors import SafetensorError
from transformers import BlipForConditionalGeneration, BlipProcessor

from blockskip.core.errors import BadFile
from blockskip.models.captioners import Answer, Describe
from blockskip.models.captioners.found import BLIP_HUB_ID
from blockskip.models.sources import data_only

NEW_TOKENS = 40
# what transformers raises about a folder that holds something else, or only a part
_UNUSABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RuntimeError,
    SafetensorError,
)


def open_blip(folder: Path) -> Describe:
    """Load BLIP for the processor. Raises UserError if the folder has no such model."""
    data_only.check_folder(folder)
    try:
        processor = BlipProcessor.from_pretrained(folder, **data_only.TEXTS)
        model = BlipForConditionalGeneration.from_pretrained(folder, **data_only.WEIGHTS).eval()
    except _UNUSABLE as error:
        raise BadFile(
            f"The captioner in {folder} cannot be used: {str(error).partition(chr(10))[0]}",
            f"It must be {BLIP_HUB_ID} with its .safetensors file; or write the captions by hand.",
        ) from error

    def describe(photo: Image.Image, instruction: str) -> Answer:
        inputs = processor(images=photo, return_tensors="pt")
        with torch.inference_mode():
            tokens = model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
        return Answer(processor.decode(tokens[0], skip_special_tokens=True).strip())

    return describe
