"""The table of part formats, by the classes that a pipeline's index names.

Facts: ComfyUI 0.33 to 0.37 (comfy/model_detection.py, comfy/sd.py), city96/ComfyUI-GGUF, and
diffusers 0.42.1 (loaders/single_file_utils.py), whose conversions are used.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from blockskip.core.files import read_error
from blockskip.models.sources.file_kinds import read_table
from blockskip.models.sources.formats_text_encoder import TEXT_ENCODERS
from blockskip.models.sources.formats_transformer import TRANSFORMERS
from blockskip.models.sources.formats_vae import VAES
from blockskip.models.sources.part_formats import PartFormat, encoder_weights

_FORMATS = TRANSFORMERS | TEXT_ENCODERS | VAES
_MARKS = frozenset().union(*(format.marks for format in _FORMATS.values()))


def marks(path: Path) -> frozenset[str]:
    """Return the layers in a file that parts are known by. Reads its header once, until it changes,
    so that looking for many models among many files is quick. Raises UserError."""
    try:
        stat = path.stat()
    except OSError as error:
        raise read_error(error, path) from error
    return _marks(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=4096)
def _marks(path: Path, size: int, changed_ns: int) -> frozenset[str]:
    # not kept: hundreds of checkpoints' tables would take hundreds of MB
    layers = (key.rpartition(".")[0] for key in read_table(path)[1])
    # packed weights may have another level of names
    return _MARKS.intersection(
        name for layer in layers for name in (layer, layer.rpartition(".")[0])
    )


def format_of(class_name: str) -> PartFormat:
    """Return the format of a class's files; for an unknown one, that of diffusers' folders."""
    if class_name in _FORMATS:
        return _FORMATS[class_name]
    if "Transformer" in class_name:
        return PartFormat("transformer")
    if class_name.startswith("Autoencoder"):
        return PartFormat("VAE")
    return PartFormat("text encoder", weights=encoder_weights)
