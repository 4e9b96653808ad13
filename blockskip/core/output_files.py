"""Check the file that a user names for a result, before the work that makes it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from blockskip.core import files
from blockskip.core.errors import BadInput, UserError


def check_output(
    path: Path,
    *,
    made_here: Callable[[Path], bool] = lambda path: False,
    overwrite: bool = False,
    endings: Sequence[str] = (),
) -> None:
    """Raise BadInput if a result cannot be written to `path`, or would replace a foreign file.

    made_here: tells whether an existing file is an earlier result of the same command; an error of
    it means no. overwrite: replace any file. endings: those that can be written, () = any.
    """
    if endings and path.suffix.lower() not in endings:
        raise BadInput(
            f"“{path}” does not say what to write.", f"End the name with {' or '.join(endings)}."
        )
    try:
        if path.is_dir():
            raise BadInput(f"“{path}” is a folder.", "Name a file in it.")
        existing = path.exists()
        _check_folder(path.parent)
    except OSError as error:  # such as a name that is too long
        raise BadInput(
            f"“{path}” cannot be written: {error.strerror or error}.", "Choose another name."
        ) from error
    if existing and not overwrite and not _answer(made_here, path):
        raise BadInput(
            f"“{path}” exists already and was not made by this command.",
            "Choose another name, or add --force to replace it.",
        )
    if existing and not os.access(path, os.W_OK):
        raise BadInput(f"“{path}” may not be written.", "Choose another name.")


def check_folder(folder: Path) -> None:
    """Raise BadInput if `folder` is a file, or cannot be made or written to."""
    try:
        _check_folder(folder)
    except OSError as error:
        raise BadInput(
            f"“{folder}” cannot be used: {error.strerror or error}.", "Choose another folder."
        ) from error


def _check_folder(folder: Path) -> None:
    try:
        parent = files.existing_parent(folder)
    except UserError as error:
        raise BadInput(error.title, error.remedy) from error
    if not parent.is_dir():
        raise BadInput(f"“{parent}” is not a folder.", "Choose another folder.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise BadInput(f"“{parent}” may not be written to.", "Choose another folder.")


def _answer(made_here: Callable[[Path], bool], path: Path) -> bool:
    try:
        return path.is_file() and made_here(path)
    except (OSError, ValueError, UserError):
        return False
