"""How a model lies in files that are not in the diffusers layout."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from blockskip.core.paths import PRESETS, ROOT
from blockskip.core.presets import ModelRow
from blockskip.models.sources import flux_checkpoint
from blockskip.models.sources.diffusers_checkpoint import DiffusersFiles
from blockskip.models.sources.entry import Entry
from blockskip.models.sources.tensors import WeightIndex


class SingleFiles(Protocol):
    """What a module answers of a model that ComfyUI's single files hold: see flux_checkpoint.py."""

    PARTS: dict[str, tuple[str, str, str]]
    TOKENIZERS: dict[str, tuple[str, tuple[str, ...]]]
    PREFERRED: dict[str, str | tuple[str, ...]]
    NAMESAKES: tuple[str, ...]

    def find(self, part: str, tensors: dict[str, Entry], config: dict) -> dict[str, Entry] | None:
        """The tensors of `part` in a file; None when the file does not hold it."""

    def index(self, part: str, tensors: dict[str, Entry], config: dict) -> WeightIndex:
        """The library's parameter name → where it lies. Raises UserError."""


def layouts(row: ModelRow) -> DiffusersFiles | SingleFiles:
    """What knows how a model's files look."""
    return DiffusersFiles(row) if row.parts else flux_checkpoint


def configs_folder(row: ModelRow) -> Path:
    """Configurations of a model without its weights: shipped, or the model's own folder."""
    shipped = PRESETS / row.name
    return shipped if (shipped / "model_index.json").exists() else ROOT / row.source
