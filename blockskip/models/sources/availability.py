"""What the models page and `models list` say of every model: here, half here, or what it takes."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from blockskip.core import files, presets
from blockskip.core.errors import BadFile, ModelMissing, UserError
from blockskip.core.presets import ModelRow
from blockskip.core.units import GIB
from blockskip.models.sources import hub, registry
from blockskip.models.sources.layouts import layout_of
from blockskip.models.sources.source import Source
from blockskip.models.sources.tensors import tensor_table


@dataclass(frozen=True, kw_only=True)
class ModelStatus:
    """A model as it can be had on this machine.

    state: ready | partial (its download was begun) | missing | broken. where: folder or file, ""
    unless ready. download_gib: what must still come; the size that presets/models.toml tells until
    the hub was asked. free_gib: of the drive of the data folder. fits: whether that is enough.
    problem: in words, when broken. page: where a gated model's licence is accepted. common: what
    people usually want.
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


def list_models() -> list[ModelStatus]:
    """One for each row of presets/models.toml. Nothing but heads of files is read, each once."""
    return [_status(row)[0] for row in presets.model_rows().values()]


def status_dict(row: ModelRow) -> dict:
    """For `models list --json`: an offer with ready, and with the problem also of a model that is
    not here or not whole."""
    offer, error = _status(row)
    problem = f"{error.title} {error.remedy}" if error else ""
    return {**asdict(offer), "ready": offer.state == "ready", "problem": problem}


def _status(row: ModelRow) -> tuple[ModelStatus, UserError | None]:
    at, where, error = _locate(row)
    missing = 0 if at == "ready" or row.demo else hub.missing_bytes(row)
    if missing is None:
        missing = round(row.download_gib * GIB)
    try:
        free = files.free_bytes(hub.download_folder(row))
    except UserError as gone:  # the drive of the data folder is not there
        free, error = 0, error or gone
    offer = ModelStatus(
        model=row.name,
        title=row.title,
        about=row.about,
        licence=row.licence,
        licence_url=row.licence_url,
        page=hub.model_page(row) if row.gated else "",
        gated=row.gated,
        state=at,
        where=where,
        download_gib=round(missing / GIB, 2),
        free_gib=round(free / GIB, 1),
        fits=missing == 0 or missing + hub.RESERVED_BYTES <= free,
        problem=f"{error.title} {error.remedy}" if error and at == "broken" else "",
        demo=row.demo,
        common=row.common,
    )
    return offer, error


def _locate(row: ModelRow) -> tuple[str, str, UserError | None]:
    """(state, where, what is wrong)."""
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
    """Raises UserError when a file is missing or cut short. Heads are remembered until a file
    changes; whether every weight is there is `check`'s business, when a model is chosen."""
    for part, (what, *_) in layout_of(source.row).PARTS.items():
        paths = source.paths(part)
        if not paths:
            raise BadFile(
                f"{source.row.title}'s {what} is missing in {source.location}.",
                "Put it back, or choose or download the model again.",
            )
        tensor_table(paths)
