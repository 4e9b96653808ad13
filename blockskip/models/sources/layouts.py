"""How a model lies in files that are not in the diffusers layout."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from blockskip.core.paths import PRESETS, ROOT
from blockskip.core.presets import ModelRow
from blockskip.models.sources import flux_checkpoint
from blockskip.models.sources.diffusers_checkpoint import DiffusersFiles
from blockskip.models.sources.entry import TensorEntry
from blockskip.models.sources.tensors import WeightIndex


class SingleFileLayout(Protocol):
    """What a module answers of a model that ComfyUI's single files hold: see flux_checkpoint.py."""

    PARTS: dict[str, tuple[str, str, str]]
    TOKENIZERS: dict[str, tuple[str, tuple[str, ...]]]
    PREFERRED: dict[str, str | tuple[str, ...]]
    NAMESAKES: tuple[str, ...]

    def part_tensors(
        self, part: str, tensors: dict[str, TensorEntry], config: dict
    ) -> dict[str, TensorEntry] | None:
        """The tensors of `part` in a file; None when the file does not hold it."""

    def weight_index(self, part: str, tensors: dict[str, TensorEntry], config: dict) -> WeightIndex:
        """The library's parameter name → where it lies. Raises UserError."""


def layout_of(row: ModelRow) -> DiffusersFiles | SingleFileLayout:
    """What knows how a model's files look."""
    return DiffusersFiles(row) if row.parts else flux_checkpoint


def configs_folder(row: ModelRow) -> Path:
    """Configurations of a model without its weights: shipped, or the model's own folder."""
    shipped = PRESETS / row.name
    return shipped if (shipped / "model_index.json").exists() else ROOT / row.source
