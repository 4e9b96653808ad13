"""File layouts of models, and the folders of their configs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from blockskip.core import files
from blockskip.core.errors import BadFile
from blockskip.core.paths import PRESETS, ROOT
from blockskip.core.presets import ModelRow
from blockskip.core.validation import validated
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
    HARMLESS: tuple[str, ...]

    def part_tensors(
        self, part: str, tensors: dict[str, TensorEntry], config: dict
    ) -> dict[str, TensorEntry] | None:
        """Return the tensors of `part` in a file, None if the file lacks it."""

    def weight_index(self, part: str, tensors: dict[str, TensorEntry], config: dict) -> WeightIndex:
        """Return parameter name → stored weight. Raises UserError."""

    def check_readable(self, part: str, tensors: dict[str, TensorEntry], config: dict) -> None:
        """Raise UserError if the tensors of a part cannot be read. Does not need torch."""


def read_config(path: Path) -> dict:
    """Return the JSON object in a model's config file. Raises UserError."""
    try:
        return validated(dict[str, Any], files.read_json(path), str(path), error=BadFile)
    except OSError as error:
        raise files.read_error(error, path) from error
    except (ValueError, RecursionError) as error:
        raise BadFile(
            f"{path} is damaged: it is not the JSON of a model's config.", "Fetch the model again."
        ) from error


def index_file(folder: Path) -> Path | None:
    """Return the file that lists the parts of a pipeline in diffusers' layout, None if there is
    none."""
    found = (folder / name for name in ("model_index.json", "modular_model_index.json"))
    return next((path for path in found if path.exists()), None)


def read_index(folder: Path) -> dict[str, Any]:
    """Return `_class_name` of the pipeline in a folder, and its parts → [library, class]. Raises
    UserError."""
    index = read_config(index_file(folder) or folder / "model_index.json")
    return {name: _library_and_class(value) for name, value in index.items()}


def _library_and_class(value: Any) -> Any:
    """Return a modular pipeline's entry for a part, [library, class, how to load it], as other
    pipelines have it. Those of parts that were not loaded when it was saved are null."""
    if isinstance(value, list) and len(value) == 3 and isinstance(value[2], dict):
        return value[2].get("type_hint") or value[:2]
    return value


def layout_of(row: ModelRow) -> DiffusersFiles | SingleFileLayout:
    """Return the layout of a model's files."""
    return DiffusersFiles(row) if row.parts else flux_checkpoint


def configs_folder(row: ModelRow) -> Path:
    """Return the folder of a model's configs: the shipped one, else the model's own. A sibling has
    those of its model unless it has others."""
    names = (row.name, row.sibling_of) if row.sibling_of else (row.name,)
    shipped = (PRESETS / name for name in names)
    return next((folder for folder in shipped if index_file(folder)), ROOT / row.source)
