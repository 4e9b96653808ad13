"""How a model lies in files that are not in the diffusers layout."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from blockskip.core.paths import PRESETS, ROOT
from blockskip.core.presets import ModelRow
from blockskip.models.sources.diffusers_checkpoint import LibraryFiles


def layouts(row: ModelRow) -> ModuleType | LibraryFiles:
    """What knows how a model's files look."""
    from blockskip.models.sources import flux_checkpoint

    return LibraryFiles(row) if row.parts else flux_checkpoint


def configs_folder(row: ModelRow) -> Path:
    """Configurations of a model without its weights: shipped, or the model's own folder."""
    shipped = PRESETS / row.name
    return shipped if (shipped / "model_index.json").exists() else ROOT / row.source
