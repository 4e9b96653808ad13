"""Status of every model for the models page and `models list`, from ready to missing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from blockskip.core import files, presets
from blockskip.core.errors import BadFile, BadInput, ModelMissing, UserError
from blockskip.core.presets import ModelRow
from blockskip.core.units import GIB
from blockskip.models.sources import hub, registry
from blockskip.models.sources.source import Source
from blockskip.models.sources.tensors import tensor_table

PictureModel = Literal["auto", "trained", "sibling"]


@dataclass(frozen=True, kw_only=True)
class ModelStatus:
    """Availability of a model on this machine.

    state: ready | partial (download begun) | missing | broken. where: folder or file, "" unless
    ready. download_gib: GiB still to download; the size in presets/models.toml until the hub's list
    of files is known. free_gib: GiB free on the data folder's drive. fits: whether that is enough.
    problem: error message, "" unless broken. page: page of a gated model's licence. common: whether
    it is a usual choice. passes: of the model, for a sample picture. sibling: the status of the
    distilled model for pictures, if there is one. adapter: that of its training adapter.
    """

    model: str
    title: str
    about: str
    licence: str
    licence_url: str
    page: str
    gated: bool
    state: str
    where: str
    download_gib: float
    free_gib: float
    fits: bool
    problem: str
    demo: bool
    common: bool
    passes: int
    sibling: ModelStatus | None = None
    adapter: ModelStatus | None = None


def list_models() -> list[ModelStatus]:
    """Return the status of each row of presets/models.toml. Reads only file headers, each once."""
    return [_status(row)[0] for row in presets.model_rows().values()]


def picture_model(row: ModelRow, choice: PictureModel = "auto") -> str:
    """Return the name of the sibling to make pictures with, "" for the trained model.

    auto: the sibling if it is on this machine. Raises UserError if `sibling` is asked for and there
    is none, or not here.
    """
    sibling = row.sibling_row
    if choice == "sibling":
        if sibling is None:
            raise BadInput(f"{row.title} has no distilled model.", "Use --pictures trained.")
        registry.find_model(sibling)
        return sibling.name
    ready = choice == "auto" and sibling is not None and _locate(sibling)[0] == "ready"
    return sibling.name if sibling and ready else ""


def status_dict(row: ModelRow) -> dict:
    """Return the status for `models list --json`: with `ready`, and with the problem also of a
    missing or partial model."""
    status, error = _status(row)
    problem = f"{error.title} {error.remedy}" if error else ""
    return {**asdict(status), "ready": status.state == "ready", "problem": problem}


def _status(row: ModelRow) -> tuple[ModelStatus, UserError | None]:
    state, where, error = _locate(row)
    missing = 0 if row.demo else sum(map(_missing_bytes, _with_adapter(row)))
    try:
        free = files.free_bytes(hub.download_folder(row))
    except UserError as drive_error:  # the data folder's drive is missing
        free, error = 0, error or drive_error
    status = ModelStatus(
        model=row.name,
        title=row.title,
        about=row.about,
        licence=row.licence,
        licence_url=row.licence_url,
        page=hub.model_page(row) if row.gated else "",
        gated=row.gated,
        state=state,
        where=where,
        download_gib=round(missing / GIB, 2),
        free_gib=round(free / GIB, 1),
        fits=missing == 0 or missing + hub.RESERVED_BYTES <= free,
        problem=f"{error.title} {error.remedy}" if error and state == "broken" else "",
        demo=row.demo,
        common=row.common,
        passes=row.preview_passes,
        sibling=_status(sibling)[0] if (sibling := row.sibling_row) else None,
        adapter=_status(adapter)[0] if (adapter := row.adapter_row) else None,
    )
    return status, error


def _with_adapter(row: ModelRow) -> list[ModelRow]:
    return [row, row.adapter_row] if row.adapter_row else [row]


def _missing_bytes(row: ModelRow) -> int:
    if _locate_files(row)[0] == "ready":
        return 0
    missing = hub.missing_bytes(row)
    return round(row.download_gib * GIB) if missing is None else missing


def _locate(row: ModelRow) -> tuple[str, str, UserError | None]:
    """Return (state, where, error) of a model; it is ready with its training adapter only."""
    states = [_locate_files(each) for each in _with_adapter(row)]
    return next((each for each in states if each[0] != "ready"), states[0])


def _locate_files(row: ModelRow) -> tuple[str, str, UserError | None]:
    try:
        source = registry.find_model(row)
        _check_heads(source)
    except hub.IncompleteDownload as error:
        return "partial", "", error
    except ModelMissing as error:
        return "missing", "", error
    except UserError as error:
        return "broken", "", error
    return "ready", source.location, None


def _check_heads(source: Source) -> None:
    """Raise UserError if a file is missing or truncated. Headers are cached until a file changes;
    `check_model` looks for every weight when a model is selected."""
    if source.row.files:
        tensor_table([source.lora])
        return
    for part in source.row.parts:
        paths = source.paths(part)
        if not paths:
            title = source.format(part).title
            raise BadFile(
                f"{source.row.title}'s {title} is missing in {source.location}.",
                "Put it back, or choose or download the model again.",
            )
        tensor_table(paths)
