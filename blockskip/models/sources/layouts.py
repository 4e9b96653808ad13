"""Configs of models in diffusers' layout, and the folders that hold them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from blockskip.core import files
from blockskip.core.errors import BadFile
from blockskip.core.paths import PRESETS, ROOT
from blockskip.core.presets import ModelRow, model_rows
from blockskip.core.validation import validated


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
    return next((path for path in found if os.path.exists(path)), None)


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


def configs_folder(row: ModelRow) -> Path:
    """Return the folder of a model's configs: the shipped one, else the model's own. A sibling has
    those of a row of the same repository, else those of its model, unless it has others."""
    names = [row.name]
    if row.sibling_of:
        same = (other.name for other in model_rows().values() if other.source == row.source)
        names += [*same, row.sibling_of]
    shipped = (PRESETS / name for name in names)
    return next((folder for folder in shipped if index_file(folder)), ROOT / row.source)
