"""`events.jsonl`: one writer adds lines at its end, many read. No torch in here.

A killed writer leaves half a line; every way of reading passes over it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from blockskip.core import events
from blockskip.core.events import Event

_CHUNK = 1 << 14  # bytes


def read(path: Path, offset: int = 0) -> tuple[list[Event], int]:
    """Events from byte `offset` up to the last whole line, and the offset to go on from."""
    if not path.exists():
        return [], offset
    with open(path, "rb") as file:
        file.seek(offset)
        data = file.read()
    whole = data[: data.rfind(b"\n") + 1]
    found = (_event(line) for line in whole.splitlines())
    return [event for event in found if event is not None], offset + len(whole)


def append(path: Path, event: Event) -> None:
    """Add an event, on a line of its own even when half a line stands before it."""
    with open(path, "ab+") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            torn = file.read(1) != b"\n"
            if torn:
                file.write(b"\n")
        file.write((events.to_json(event) + "\n").encode("utf-8"))


def last_event(path: Path, kinds: tuple[type[Event], ...]) -> Event | None:
    """The last event of these kinds, read from the end: a long log costs no more than what was
    said since."""
    try:
        for lines in _chunks_from_end(path):
            for line in reversed(lines.splitlines()):
                event = _event(line)
                if isinstance(event, kinds):
                    return event
    except FileNotFoundError:
        pass
    return None


def _chunks_from_end(path: Path) -> Iterator[bytes]:
    """The whole lines of a file in chunks, the last chunk first."""
    with open(path, "rb") as file:
        start = file.seek(0, os.SEEK_END)
        rest = b""  # begins in the middle of a line that ends in a later chunk
        torn = True  # what stands behind the last line end is no line yet
        while start > 0:
            size = min(_CHUNK, start)
            start -= size
            file.seek(start)
            data = file.read(size) + rest
            if torn:
                data, torn = data[: data.rfind(b"\n") + 1], b"\n" not in data
            cut = (data.find(b"\n") + 1 or len(data)) if start else 0
            rest, whole = data[:cut], data[cut:]
            yield whole


def _event(line: bytes) -> Event | None:
    try:
        return events.from_json(line)
    except ValueError:  # half a line of a killed worker, or a newer version's event
        return None
