"""The pets of a batch: a folder of folders of photos, or a TOML file with a table for each."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as pydantic_dataclass

from blockskip.core import files
from blockskip.core.errors import BadInput, BadPhoto
from blockskip.core.settings import Rank, Seed, Text, Word
from blockskip.core.validation import validated
from blockskip.studio.actions import trigger_word


@pydantic_dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Options:
    """What `train` can be told of a pet, under the same names; None: the batch's or the preset's."""

    model: Word | None = None
    trigger: Word | None = None
    kind: Annotated[Word | None, Field(alias="class")] = None
    budget: Annotated[float | None, Field(gt=0, lt=1e6)] = None
    steps: Annotated[int | None, Field(ge=1)] = None
    rank: Rank | None = None
    seed: Seed | None = None
    lr: Annotated[float | None, Field(gt=0, lt=1e6)] = None
    skip: Text | None = None
    precision: Text | None = None
    caption: Text | None = None


@dataclass(frozen=True)
class Pet:
    """A run to be made. name: of its folder or table. options: without None where one is known."""

    name: str
    photos: list[Path]
    options: Options


def read_pets(path: Path, given: dict[str, Any]) -> list[Pet]:
    """Return the pets of a folder or a file. given: options for all that have none of their own.

    Raises UserError if there are none, or for an option that is not possible. Whether photos can be
    used is not looked at.
    """
    if path.is_dir():
        folders = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
        if not folders:
            raise BadPhoto(
                f"{path} has no folders.", "Make one folder of photos for each pet in it."
            )
        return [
            _pet(folder.name, {"photos": str(folder.absolute())}, given, path) for folder in folders
        ]
    read = _read(path)
    tables = validated(dict[str, dict[str, Any]], read.pop("pets", {}), f"{path}: pets")
    if not tables:
        raise BadInput(f"{path} lists no pets.", "Write a table for each: [pets.luna]")
    return [_pet(name, table, given | read, path) for name, table in tables.items()]


def _pet(name: str, table: dict[str, Any], others: dict[str, Any], path: Path) -> Pet:
    own = {key: value for key, value in table.items() if key != "photos"}
    where = f"{path}: pets.{name}"
    options = validated(Options, {"trigger": trigger_word(name) or None} | others | own, where)
    photos = validated(str | list[str], table.get("photos"), f"{where}: photos")
    named = [photos] if isinstance(photos, str) else photos
    return Pet(name, [path.parent / files.user_path(photo) for photo in named], options)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise files.read_error(error, path) from error
    except (ValueError, RecursionError) as error:
        raise BadInput(
            f"{path} cannot be read: {files.content_problem(error)}.", "It should be a TOML file."
        ) from error
