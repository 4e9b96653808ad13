"""Why a run failed, kept where its log cannot be written: full disk, read-only or replaced file.

`failure.json` lies in the run's folder, else in the data folder. A worker reserves its space when
it starts, so that it can be filled even on a full disk. Does not import torch.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

from blockskip.core import events, files
from blockskip.core.errors import DiskFull, UserError
from blockskip.core.events import Event, Failed
from blockskip.core.paths import data_dir
from blockskip.core.shortage import is_disk_full
from blockskip.runs import event_log

log = logging.getLogger(__name__)
_RESERVED = 4096  # bytes
_NO_ROOM = "The disk is full: the training could not begin."


def reserve(folder: Path) -> None:
    """Forget the last failure of the run in `folder`, and reserve the space of the next."""
    remove(folder)
    place = _places(folder)[0]
    try:
        place.write_bytes(b" " * _RESERVED)
    except OSError:
        with suppress(OSError):  # an empty file needs no room, and tells that there was none
            place.write_bytes(b"")


def failed(error: UserError) -> Failed:
    """Return the event of an error."""
    return Failed(title=error.title, remedy=error.remedy, kind=error.kind)


def record(folder: Path, log_path: Path, end: Event) -> bool:
    """Append the last event of a worker to its log. Where that is impossible, record the failure
    instead and return False."""
    try:
        event_log.append(log_path, end)
        return True
    except UserError as error:
        write(folder, end if isinstance(end, Failed) else failed(error))
        return False


def write(folder: Path, event: Failed) -> None:
    """Record a failure that could not be written to the log, in the first place that works."""
    if not folder.exists():
        return
    data = events.to_json(event).encode("utf-8").ljust(_RESERVED)
    for path in _places(folder):
        try:
            if path.parent != folder:
                path.parent.mkdir(parents=True, exist_ok=True)
            # in place, since a full disk has no room for a second file
            with open(path, "r+b" if path.exists() else "wb") as file:
                file.write(data)
                file.truncate()
            return
        except OSError as error:
            log.warning("%s could not be written: %s", path, error)
            if is_disk_full(error):
                with suppress(OSError):
                    path.write_bytes(b"")  # see `reserve`
    log.error("The run failed: %s %s", event.title, event.remedy)


def read(folder: Path) -> Failed | None:
    """Return the failure of the run's last worker that is not in its log, if there is one."""
    for path in _places(folder):
        with suppress(OSError, ValueError):
            data = path.read_bytes()
            if not data and _is_newer(path, folder / "events.jsonl"):
                return failed(DiskFull(_NO_ROOM, "Free some space, then resume."))
            event = events.from_json(data)
            if isinstance(event, Failed):
                return event
    return None


def _is_newer(path: Path, log_path: Path) -> bool:
    """Return whether a file was written after the last event of a run's log."""
    try:
        return log_path.stat().st_mtime_ns < path.stat().st_mtime_ns
    except FileNotFoundError:
        return True


def remove(folder: Path) -> None:
    """Delete the record of a run's failure."""
    for path in _places(folder):
        with suppress(OSError):
            files.remove(path)


def _places(folder: Path) -> tuple[Path, Path]:
    name = files.fingerprint(str(folder.absolute()))
    return folder / "failure.json", data_dir() / "failures" / f"{name}.json"
