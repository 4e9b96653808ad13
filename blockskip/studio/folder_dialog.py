"""The system's own dialog to choose a folder, for the fields where a path is typed.

It is opened by `python -m blockskip.studio.folder_dialog TITLE`, a process of its own, since tkinter
wants a main thread. The studio listens on this computer alone, so that who presses the button sees
the dialog. Without tkinter or a display there is no button, and the path is typed.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path

from blockskip.core import processes
from blockskip.core.paths import ROOT

_open = threading.Lock()


@cache
def is_possible() -> bool:
    """Return whether this computer can show the dialog."""
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform.startswith("linux") and not display:
        return False
    return all(importlib.util.find_spec(name) for name in ("_tkinter", "tkinter"))


def choose(title: str) -> Path | None:
    """Show the dialog and wait. Return the folder, None if it was closed, one is open already, or
    none can be shown."""
    if not is_possible() or not _open.acquire(blocking=False):
        return None
    try:
        done = subprocess.run(
            [sys.executable, "-m", "blockskip.studio.folder_dialog", title],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=ROOT,
            env=processes.child_environment(),
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    finally:
        _open.release()
    chosen = done.stdout.decode("utf-8", "replace").rstrip("\r\n")
    return Path(chosen) if chosen and Path(chosen).is_dir() else None


def main(title: str) -> None:
    """Show the dialog and print the folder."""
    from tkinter import Tk, filedialog

    root = Tk()
    root.withdraw()
    root.attributes("-topmost", True)
    chosen = filedialog.askdirectory(parent=root, title=title, mustexist=True)
    sys.stdout.buffer.write(str(chosen or "").encode())


if __name__ == "__main__":
    main(sys.argv[1])
