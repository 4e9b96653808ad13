"""The table of part formats, by the classes that a pipeline's index names.

Facts: ComfyUI 0.33 to 0.37 (comfy/model_detection.py, comfy/sd.py), city96/ComfyUI-GGUF, and
diffusers 0.42.1 (loaders/single_file_utils.py), whose conversions are used.
"""

from __future__ import annotations

from blockskip.models.sources.formats_text_encoder import TEXT_ENCODERS
from blockskip.models.sources.formats_transformer import TRANSFORMERS
from blockskip.models.sources.formats_vae import VAES
from blockskip.models.sources.part_formats import PartFormat, encoder_weights

_FORMATS = TRANSFORMERS | TEXT_ENCODERS | VAES


def format_of(class_name: str) -> PartFormat:
    """Return the format of a class's files; for an unknown one, that of diffusers' folders."""
    if class_name in _FORMATS:
        return _FORMATS[class_name]
    if "Transformer" in class_name:
        return PartFormat("transformer")
    if class_name.startswith("Autoencoder"):
        return PartFormat("VAE")
    return PartFormat("text encoder", weights=encoder_weights)
