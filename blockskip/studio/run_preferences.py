"""Choices made on the page for an existing training, in `studio.json` in its folder.

They are separate from run.toml, which the worker may be writing.
"""

from __future__ import annotations

from blockskip.core import files
from blockskip.runs.run import Run


def load(run: Run) -> dict:
    """Return the choices: pet (its name), drawn (demo pet), step and format of the LoRA."""
    try:
        choices = files.read_json(run.folder / "studio.json")
    except (OSError, ValueError):
        choices = {}
    return choices if isinstance(choices, dict) else {}


def save(run: Run, **chosen: int | str) -> None:
    """Save choices, beside those made earlier."""
    files.write_json(run.folder / "studio.json", load(run) | chosen)


def pet_name(run: Run) -> str:
    """Return the pet's name, or the trigger word of a run started in the terminal."""
    return load(run).get("pet") or run.settings().trigger.capitalize()
