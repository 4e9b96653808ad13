"""Choices made on the page for an existing training, in `studio.json` in its folder.

They are separate from run.toml, which the worker may be writing.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from functools import cache

from blockskip.core import files
from blockskip.core.errors import UserError
from blockskip.runs.run import Run

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Preferences:
    pet: str | None = None
    drawn: bool | None = None
    step: int | None = None
    format: str | None = None


def load(run: Run) -> dict:
    """Return the choices: pet (its name), drawn (demo pet), step and format of the LoRA."""
    try:
        choices = asdict(files.read_json(run.folder / "studio.json", _Preferences))
    except (OSError, ValueError) as error:
        if not isinstance(error, FileNotFoundError):
            _warn_once(f"The choices made on the page for run “{run.name}” are ignored: {error}")
        return {}
    return {key: value for key, value in choices.items() if value is not None}


def save(run: Run, **chosen: int | str) -> None:
    """Save choices, beside those made earlier."""
    files.write_json(run.folder / "studio.json", load(run) | chosen)


def pet_name(run: Run) -> str:
    """Return the pet's name, or the trigger word of a run started in the terminal."""
    if pet := load(run).get("pet"):
        return pet
    try:
        return run.settings().trigger.capitalize()
    except UserError:
        return run.name


@cache
def _warn_once(text: str) -> None:
    log.warning(text)
