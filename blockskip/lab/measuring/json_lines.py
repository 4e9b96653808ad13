"""Measurements as JSON lines, which survive when a job is stopped."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import BinaryIO

log = logging.getLogger(__name__)


def read_lines(path: Path) -> list[dict]:
    """Return all complete lines of a file, or the list in a .json file. Truncated lines are skipped
    with a warning."""
    if not path.exists():
        return []
    if path.suffix == ".json":
        return json.loads(path.read_text(encoding="utf-8"))
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:
            log.warning("%s: a line that was cut off is left out", path.name)
    return entries


def append_line(path: Path, line: dict) -> None:
    """Append a line and flush it to disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab+") as file:
        if file.tell() and not _ends_with_newline(file):
            file.write(b"\n")
        file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _ends_with_newline(file: BinaryIO) -> bool:
    file.seek(-1, os.SEEK_END)
    complete = file.read(1) == b"\n"
    file.seek(0, os.SEEK_END)
    return complete
