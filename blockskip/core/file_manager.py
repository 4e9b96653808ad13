"""Show a file in the file manager of this computer: Explorer, Finder, or that of a Linux desktop."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path


def show(path: Path) -> bool:
    """Open the folder of a file, with the file selected where that is possible.

    Return False where there is no file manager, such as on a server. It is not waited for.
    """
    words = command(path)
    if not words:
        return False
    try:
        quiet = subprocess.DEVNULL
        subprocess.Popen(words, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
    except OSError:
        return False
    return True


def command(path: Path) -> list[str]:
    """Return the command that shows a file, [] where there is none."""
    if (
        sys.platform == "win32"
    ):  # the comma belongs to the option, and the path is a word of its own
        return (
            ["explorer", "/select,", str(path)] if path.exists() else ["explorer", str(path.parent)]
        )
    if sys.platform == "darwin":
        return ["open", "-R", str(path)]
    desktop = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    opener = shutil.which("xdg-open") if desktop else None
    return [opener, str(path.parent)] if opener else []
