"""`events.jsonl`: one writer appends lines, many readers read them. Does not import torch.

A power cut may take the lines since the last `sync`, which follows the end of a run by itself.

A killed writer leaves an incomplete line, which all readers skip, like any line that is no event.
All functions raise UserError if the file cannot be used; a missing one is an empty one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from blockskip.core import events, files
from blockskip.core.events import Done, Event, Failed, Stopped
from blockskip.core.lasting_folders import sync_folder

_CHUNK = 1 << 14  # bytes
_ENDS = (Done, Failed, Stopped)


def read(path: Path, offset: int = 0) -> tuple[list[Event], int]:
    """Return the events from byte `offset` to the last complete line, and the next offset."""
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    except OSError as error:
        raise files.read_error(error, path) from error
    complete = data[: data.rfind(b"\n") + 1]
    parsed = (_event(line) for line in complete.splitlines())
    return [event for event in parsed if event is not None], offset + len(complete)


def append(path: Path, event: Event) -> None:
    """Append an event on a line of its own, even after an incomplete line."""
    try:
        with open(path, "ab+") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                torn = file.read(1) != b"\n"
                if torn:
                    file.write(b"\n")
            file.write((events.to_json(event) + "\n").encode("utf-8"))
        if isinstance(event, _ENDS):
            sync(path)
    except OSError as error:
        raise files.disk_error(path, error) from error


def sync(path: Path) -> None:
    """Return once all events are on the disk."""
    try:
        with open(path, "ab") as file:
            os.fsync(file.fileno())
        sync_folder(path.parent)
    except OSError as error:
        raise files.disk_error(path, error) from error


def last_event(path: Path, kinds: tuple[type[Event], ...]) -> Event | None:
    """Return the last event of these types.

    Reads from the end, so that the cost does not depend on the length of the log.
    """
    try:
        for lines in _chunks_from_end(path):
            for line in reversed(lines.splitlines()):
                event = _event(line)
                if isinstance(event, kinds):
                    return event
    except FileNotFoundError:
        pass
    except OSError as error:
        raise files.read_error(error, path) from error
    return None


def _chunks_from_end(path: Path) -> Iterator[bytes]:
    """Yield the complete lines of a file in chunks, last chunk first."""
    with open(path, "rb") as file:
        start = file.seek(0, os.SEEK_END)
        remainder = b""  # the end of a line that begins in an earlier chunk
        torn = True  # anything after the last newline is not a complete line
        while start > 0:
            size = min(_CHUNK, start)
            start -= size
            file.seek(start)
            data = file.read(size) + remainder
            if torn:
                data, torn = data[: data.rfind(b"\n") + 1], b"\n" not in data
            cut = (data.find(b"\n") + 1 or len(data)) if start else 0
            remainder, complete = data[:cut], data[cut:]
            yield complete


def _event(line: bytes) -> Event | None:
    try:
        return events.from_json(line)
    except ValueError:  # an incomplete line of a killed worker, or an event of a newer version
        return None
