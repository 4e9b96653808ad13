"""What was chosen on the page about a training that exists: `studio.json` in its folder.

Beside run.toml, which the worker may be writing.
"""

from __future__ import annotations

from blockskip.core import files
from blockskip.runs.run import Run


def load(run: Run) -> dict:
    """pet: its name. drawn: a demo pet. step: whose LoRA is kept. format: of the file."""
    try:
        now = files.read_json(run.folder / "studio.json")
    except (OSError, ValueError):
        now = {}
    return now if isinstance(now, dict) else {}


def save(run: Run, **chosen: int | str) -> None:
    """Keep choices, beside those made earlier."""
    files.write_json(run.folder / "studio.json", load(run) | chosen)


def pet_name(run: Run) -> str:
    """What the user called the pet; a run of the terminal has only its trigger word."""
    return load(run).get("pet") or run.settings().trigger.capitalize()
