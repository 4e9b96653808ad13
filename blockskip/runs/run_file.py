"""`run.toml`: what a run was made from. It is checked whenever it is read.

Does not import torch.
"""

from __future__ import annotations

import copy
import datetime
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from blockskip.core.errors import BadFile, UserError
from blockskip.core.files import content_problem
from blockskip.core.formats import check_format
from blockskip.core.settings import Settings, settings_from_dict
from blockskip.core.validation import validated

# in format 1 the execution plan's fields are flat settings (0e42927 and before)
FORMAT = 2
NAME = "run.toml"
_REMEDY = "Delete the run and train again."


def _point_in_time(text: str) -> str:
    """Return an ISO time that has a local one. Raises ValueError."""
    try:
        datetime.datetime.fromisoformat(text).astimezone()
    except (OverflowError, OSError) as error:
        raise ValueError(str(error)) from error
    return text


@dataclass(frozen=True, kw_only=True)
class _Photo:
    file: str
    sha: str
    caption: str
    box: list[float] | None = None


@dataclass(frozen=True, kw_only=True)
class _Info:
    """The keys of `run.toml`. eased, lengthened: settings changed since the run was made. photos,
    model_fingerprint: recorded by the first start. held_out: number of photos that training does
    not see, 0 in runs of versions that held none out."""

    settings: dict[str, Any]
    started: Annotated[str, AfterValidator(_point_in_time)] = ""
    version: str = ""
    eased: dict[str, Any] | None = None
    lengthened: dict[str, int] | None = None
    photos: list[_Photo] | None = None
    model_fingerprint: str | None = None
    torch: str = ""
    held_out: Annotated[int, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        if (self.photos is None) != (self.model_fingerprint is None):
            raise ValueError("photos and model_fingerprint belong together")


def read(folder: Path) -> dict:
    """Return the checked `run.toml` of a run's folder, as written: its hash identifies the run.

    Raises UserError if it is unreadable or from a later version of this program.
    """
    return copy.deepcopy(_read(folder, *_signature(folder)))


def read_settings(folder: Path, original: bool = False) -> Settings:
    """Return the settings of a run's folder, as `settings_of`. Raises UserError."""
    return _read_settings(folder, original, *_signature(folder))


@lru_cache(maxsize=128)
def _read_settings(folder: Path, original: bool, *signature: int) -> Settings:
    return settings_of(_read(folder, *signature), folder.name, original)


def _signature(folder: Path) -> tuple[int, int, int]:
    """Return what changes with `run.toml`. Raises UserError."""
    try:
        stat = (folder / NAME).stat()
    except OSError as error:
        reason = content_problem(error)
        raise BadFile(f"Run “{folder.name}” cannot be read: {NAME}: {reason}.", _REMEDY) from error
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


@lru_cache(maxsize=128)  # the page asks several times a second
def _read(folder: Path, *signature: int) -> dict:
    name = folder.name
    try:
        info = tomllib.loads((folder / NAME).read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        reason = content_problem(error)
        raise BadFile(f"Run “{name}” cannot be read: {NAME}: {reason}.", _REMEDY) from error
    subject = f"Run “{name}” cannot be read: {NAME}"
    check_format(info, FORMAT, subject, f"Run “{name}” was made")
    validated(_Info, info, subject, error=BadFile, remedy=_REMEDY)
    return info


def settings_of(info: dict, name: str, original: bool = False) -> Settings:
    """Return the settings in `run.toml` with later changes: out-of-memory fallbacks and added
    steps. original: without those. Raises UserError.

    name: the run's.
    """
    table = dict(info["settings"])
    if not original:
        changes = info.get("eased", {}) | info.get("lengthened", {})
        plan = table.pop("plan", {})
        table |= (plan if isinstance(plan, dict) else {"plan": plan}) | changes
    try:
        return settings_from_dict(table)
    except UserError as error:
        title = f"Run “{name}” cannot be read: {NAME}: {error.title}"
        raise BadFile(title, error.remedy) from error
