"""File layouts of models, and the folders of their configs."""

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
    """Interface of a layout of single files, as ComfyUI has them; see flux_checkpoint.py."""

    PARTS: dict[str, tuple[str, str, str]]
    TOKENIZERS: dict[str, tuple[str, tuple[str, ...]]]
    PREFERRED: dict[str, str | tuple[str, ...]]
    NAMESAKES: tuple[str, ...]

    def part_tensors(
        self, part: str, tensors: dict[str, TensorEntry], config: dict
    ) -> dict[str, TensorEntry] | None:
        """Return the tensors of `part` in a file, None if the file lacks it."""

    def weight_index(self, part: str, tensors: dict[str, TensorEntry], config: dict) -> WeightIndex:
        """Return parameter name → stored weight. Raises UserError."""


def layout_of(row: ModelRow) -> DiffusersFiles | SingleFileLayout:
    """Return the layout of a model's files."""
    return DiffusersFiles(row) if row.parts else flux_checkpoint


def configs_folder(row: ModelRow) -> Path:
    """Return the folder of a model's configs: the shipped one, else the model's own."""
    shipped = PRESETS / row.name
    return shipped if (shipped / "model_index.json").exists() else ROOT / row.source
