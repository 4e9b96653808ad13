"""`control.json`: what people ask of a run's worker, one order at a time; the worker takes it away.

No torch in here.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from blockskip.core import files
from blockskip.core.errors import BadInput, WrongState

COMMANDS = ("pause", "stop", "preview")
MAX_PROMPT = 500  # characters


def send(path: Path, word: str, prompts: Sequence[str] = ()) -> None:
    """Leave an order. Prompts of a preview that still waits are kept. Raises UserError when the
    worker was told to end, or for a prompt that cannot be used."""
    if word not in COMMANDS:
        raise ValueError(f"command {word!r} is not one of {COMMANDS}")
    wanted = [checked_prompt(prompt) for prompt in prompts]
    if word == "preview":
        waiting = _read(path)
        if waiting.get("command") in ("pause", "stop"):
            raise WrongState("This run is about to end.", "Resume it first.")
        wanted = [*waiting.get("prompts", []), *wanted]
    files.write_json(path, {"command": word, "prompts": wanted})


def take(path: Path, words: Sequence[str]) -> dict:
    """The waiting order, `command` and `prompts`, if its command is one of `words`; else {}."""
    waiting = _read(path)
    if waiting.get("command") not in words:
        return {}
    try:
        path.unlink()
    except OSError:  # being replaced this moment: next time
        return {}
    return waiting


def checked_prompt(prompt: str) -> str:
    """A prompt as it can be sampled. Raises UserError for none, for too long a one, and for one
    with characters that cannot be seen."""
    prompt = prompt.strip()
    if not prompt:
        raise BadInput("The picture has no description.", "Write what it should show.")
    if len(prompt) > MAX_PROMPT:
        raise BadInput(
            f"The description has {len(prompt)} characters.", f"Use at most {MAX_PROMPT}."
        )
    if any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in prompt):
        raise BadInput(
            "The description has line breaks or characters that cannot be seen.",
            "Write it on one line.",
        )
    return prompt


def _read(path: Path) -> dict:
    try:
        return files.read_json(path)
    except (OSError, ValueError):
        return {}
