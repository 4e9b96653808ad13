"""A temporary folder for what is made once a process."""

import atexit
import shutil
import tempfile
from pathlib import Path


def scratch(name: str) -> Path:
    """Return a new folder that goes when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix=f"corpus-{name}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
