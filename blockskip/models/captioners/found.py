"""Find captioners on this computer. Nothing is downloaded, and torch is not imported.

In this order: the text encoder of a model that is here, if it is Qwen3-VL with its vision tower
(Krea 2's, FLUX 3's, Qwen-Image-2.1's); the tool `captioner` (presets/tools.toml), a small Qwen3-VL;
BLIP, which follows no instructions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from blockskip.core import files, presets
from blockskip.core.errors import ModelMissing, NotFound, UserError, command
from blockskip.core.paths import data_dir
from blockskip.core.repositories import tool_row
from blockskip.core.units import GIB
from blockskip.models.sources import find_model, tools
from blockskip.models.sources.entry import TensorEntry
from blockskip.models.sources.source import Source
from blockskip.models.sources.tensors import tensor_table

TOOL, BLIP = "captioner", "blip"  # names of captioners; the others have a model's
BLIP_HUB_ID = "Salesforce/blip-image-captioning-base"
ENCODER = "text_encoder"
WORK_GIB = 2.0  # of RAM beside the weights; 1.8 to 2.1 measured with random ones of 2B and 4B
_SEEING = ("Qwen3VLModel", "Qwen3VLForConditionalGeneration")  # classes in a pipeline's index
_VISION = "visual."  # in the names of the vision tower's tensors
_WEIGHTS = "*.safetensors"
_SHARE_OF_RAM = 0.6  # that a captioner may take to be chosen by itself


@dataclass(frozen=True, kw_only=True)
class Captioner:
    """A captioner on this machine. name: as `--captioner` takes it. weights: how many."""

    name: str
    title: str
    weights: int

    def ram_gib(self, number_bytes: int = 2) -> float:
        """Return the RAM that it needs with weights of so many bytes, GiB."""
        return self.weights * number_bytes / GIB + WORK_GIB


def captioners() -> list[Captioner]:
    """Return the captioners on this machine, the best first. Reads headers of files only."""
    found = [captioner for name in _names() if (captioner := _look(name)) is not None]
    own = [one for one in found if one.name not in (TOOL, BLIP)]
    return sorted(own, key=lambda one: one.weights) + found[len(own) :]


def best(found: Sequence[Captioner]) -> Captioner:
    """Return the first of some captioners that suits this computer's RAM, else the smallest."""
    most_gib = _SHARE_OF_RAM * psutil.virtual_memory().total / GIB
    smallest = min(found, key=lambda one: one.weights)
    return next((one for one in found if one.ram_gib() < most_gib), smallest)


def find_captioner(name: str = "") -> Captioner:
    """Return the captioner of a name, "" for the best one that suits this computer's RAM. Raises
    UserError if it is not here."""
    fetch = f"{command('models fetch')} {TOOL}"
    if not name:
        found = captioners()
        if not found:
            raise ModelMissing(
                "No model that describes photos is on this computer.",
                f"Download one: {fetch}. Or name a server: --captioner ADDRESS.",
            )
        return best(found)
    if name not in _names():
        raise NotFound(
            f"There is no captioner called “{name}”.",
            f"Use one of {', '.join(_names())}, or the address of a server.",
        )
    if (named := _look(name)) is None:
        raise ModelMissing(
            f"“{name}” cannot describe photos: it is not on this computer, or its text encoder "
            "cannot see (GGUF files cannot).",
            f"Leave the choice open, or download a captioner: {fetch}.",
        )
    return named


def seeing_encoder(name: str) -> Source | None:
    """Return a model whose text encoder is Qwen3-VL with its vision tower; None if it has no such
    encoder, or is not here."""
    try:
        source = find_model(presets.model_row(name))
        if ENCODER not in source.row.parts or source.class_name(ENCODER) not in _SEEING:
            return None
        return source if any(_VISION in key for key in source.tensors(ENCODER)) else None
    except UserError:
        return None


def find_blip() -> Path | None:
    """Return the folder of an installed BLIP, or None.

    Looks at `models/captioner` and `models/blip` in the data folder, then in the Hugging Face hub's
    cache.
    """
    from huggingface_hub import constants

    hub = Path(constants.HF_HUB_CACHE) / f"models--{BLIP_HUB_ID.replace('/', '--')}"
    places = [data_dir() / "models" / name for name in (TOOL, BLIP)]
    for folder in (*places, *sorted(hub.glob("snapshots/*"))):
        if _is_blip(folder) and any(folder.glob(_WEIGHTS)):
            return folder
    return None


def _is_blip(folder: Path) -> bool:
    try:
        return files.read_json(folder / "config.json").get("model_type", "") == "blip"
    except (OSError, ValueError):
        return False


def _names() -> list[str]:
    return [*(row.name for row in presets.model_rows().values() if not row.demo), TOOL, BLIP]


def _look(name: str) -> Captioner | None:
    """Return a captioner if it is here."""
    try:
        title, tensors = _title_and_tensors(name)
    except UserError:
        return None
    weights = sum(math.prod(entry.shape) for entry in tensors.values())
    return Captioner(name=name, title=title, weights=weights) if tensors else None


def _title_and_tensors(name: str) -> tuple[str, dict[str, TensorEntry]]:
    """Return a captioner's title and stored tensors, {} if it is not here. Raises UserError."""
    if name == TOOL:
        return tool_row(TOOL).title, tensor_table(sorted(tools.find_tool(TOOL).glob(_WEIGHTS)))
    if name == BLIP:
        folder = find_blip()
        return "BLIP", tensor_table(sorted(folder.glob(_WEIGHTS))) if folder else {}
    if (source := seeing_encoder(name)) is None:
        return "", {}
    return f"{source.row.title}’s own text encoder (Qwen3-VL)", source.tensors(ENCODER)
