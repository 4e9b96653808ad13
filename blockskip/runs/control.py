"""`control.json`: one pending command for a run's worker, which deletes the file when it reads it.

Does not import torch.
"""

from __future__ import annotations

import contextlib
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from blockskip.core import files
from blockskip.core.errors import BadFile, BadInput, WrongState

COMMANDS = ("pause", "stop", "preview")
MAX_PROMPT = 500  # characters


@dataclass
class _Request:
    command: Literal["pause", "stop", "preview"]
    prompts: list[str] = field(default_factory=list)


def send(path: Path, word: str, prompts: Sequence[str] = ()) -> None:
    """Write a command. A preview keeps the prompts of one that is still pending.

    Raises UserError if the worker was already asked to end, or for an invalid prompt.
    """
    if word not in COMMANDS:
        raise ValueError(f"command {word!r} is not one of {COMMANDS}")
    wanted = [checked_prompt(prompt) for prompt in prompts]
    if word == "preview":
        waiting = pending(path)
        if waiting.get("command") in ("pause", "stop"):
            raise WrongState("This run is about to end.", "Resume it first.")
        wanted = [*waiting.get("prompts", []), *wanted]
    files.write_json(path, {"command": word, "prompts": wanted}, lasting=False)


def take(path: Path, words: Sequence[str]) -> dict:
    """Remove and return the pending `command` and `prompts` if it is one of `words`, else {}.

    Raises BadFile, once it is removed, if the file is no command.
    """
    try:
        request = _read(path)
    except FileNotFoundError:
        return {}
    except (OSError, files.Unreadable) as error:
        if isinstance(error, PermissionError) and path.is_file():
            return {}  # it is being replaced right now, so try again next time
        with contextlib.suppress(OSError):
            files.remove(path)
        raise BadFile(
            f"{path} is no command and was ignored.", "Use the page's buttons."
        ) from error
    if request["command"] not in words:
        return {}
    try:
        path.unlink()
    except OSError:  # it is being replaced right now, so try again next time
        return {}
    return request


def pending(path: Path) -> dict:
    """Return the command that the worker has not taken yet, {} without a valid one."""
    try:
        return _read(path)
    except (OSError, files.Unreadable):
        return {}


def checked_prompt(prompt: str) -> str:
    """Return a prompt without surrounding blanks. Raises UserError if it is empty, too long or has
    invisible characters."""
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
    """Raises OSError, Unreadable."""
    request = files.read_json(path, _Request)
    try:
        request.prompts = [checked_prompt(prompt) for prompt in request.prompts]
    except BadInput as error:
        raise files.Unreadable(f"{path} cannot be read: {error.title}", "Delete it.") from error
    return asdict(request)
