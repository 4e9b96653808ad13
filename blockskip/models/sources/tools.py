"""Models of others that help with training (presets/tools.toml): the finder of pets, the writer of
captions, the judge of likeness. They are downloaded on a click alone, and looked for in
huggingface_hub's cache too. Nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blockskip.core.errors import BadFile, ModelMissing, UserError, command
from blockskip.core.repositories import ToolRow, tool_row
from blockskip.core.units import GIB
from blockskip.models.sources import data_only, hub
from blockskip.models.sources.hub import Progress
from blockskip.models.sources.layouts import read_config
from blockskip.models.sources.tensors import tensor_table

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, kw_only=True)
class ToolStatus:
    """Availability of a tool. state: ready | partial (download begun) | missing | broken.
    download_gib: GiB still to download. problem: error message, "" unless broken."""

    name: str
    title: str
    about: str
    licence: str
    licence_url: str
    state: str
    download_gib: float
    problem: str = ""


def find_tool(name: str) -> Path:
    """Return a tool's folder. Raises UserError if it is not on this machine, or not whole."""
    row = tool_row(name)
    folder = hub.downloaded(row)
    if folder is None:
        raise ModelMissing(
            f"{row.title} is not on this machine.", f"Download it: {command('models fetch')} {name}"
        )
    return folder


def has_tool(name: str) -> bool:
    """Return whether a tool is ready."""
    return tool_status(name).state == "ready"


def tool_status(name: str) -> ToolStatus:
    """Return a tool's status, for the page and `models list`."""
    row, problem = tool_row(name), ""
    try:
        find_tool(name)
        state = "ready"
    except hub.IncompleteDownload:
        state = "partial"
    except ModelMissing:
        state = "missing"
    except UserError as error:
        state, problem = "broken", f"{error.title} {error.remedy}"
    missing = 0 if state == "ready" else hub.missing_bytes(row)
    return ToolStatus(
        name=name,
        title=row.title,
        about=row.about,
        licence=row.licence,
        licence_url=row.licence_url,
        state=state,
        download_gib=row.download_gib if missing is None else missing / GIB,
        problem=problem,
    )


def fetch_tool(row: ToolRow, progress: Progress = lambda *_: None) -> Path:
    """Download a tool's missing files. Return its folder. progress, errors: as hub.fetch."""
    return hub.fetch(row, _check, progress)


def _check(folder: Path) -> None:
    """Raise UserError if a downloaded tool is no model."""
    read_config(folder / "config.json")
    if not tensor_table(sorted(folder.glob("*.safetensors"))):
        raise BadFile(f"{folder} holds no weights (*.safetensors).", "Fetch it again.")


def load_tool(kind: type[PreTrainedModel], folder: Path, dtype: str = "float32") -> PreTrainedModel:
    """Load a tool's model for the processor, without network. dtype: torch's name.

    transformers leaves weights that a file lacks random, and only logs it. Raises UserError for
    such a file, and for one of another model.
    """
    from safetensors import SafetensorError

    data_only.check_folder(folder)
    try:
        model, told = kind.from_pretrained(
            folder, dtype=dtype, output_loading_info=True, **data_only.WEIGHTS
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise _unusable(folder, str(error).partition("\n")[0]) from error
    for problem in ("missing_keys", "mismatched_keys"):
        if told.get(problem):
            raise _unusable(folder, f"“{sorted(told[problem])[0]}” is missing or of another size")
    return model.eval()


def _unusable(folder: Path, reason: str) -> BadFile:
    return BadFile(f"The model in {folder} cannot be used: {reason}.", "Fetch it again.")
