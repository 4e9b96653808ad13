"""A model's download as a process of its own, which outlives the studio and can be ended at any
moment: what came is kept, and the next start goes on from there.

The process alone writes `downloads/MODEL.json` in the data folder (what everybody shows) and holds
`MODEL.lock` while it lives, so that one model is never downloaded twice at once.
`python -m blockskip.models.sources.download_process MODEL` is that process; with `--token` before the model, it tests the
token on its stdin instead (models/sources/hub_token.py).
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections import deque
from dataclasses import dataclass, fields, replace
from pathlib import Path

import psutil

from blockskip.core import files, presets, processes
from blockskip.core.errors import Unexpected, UserError
from blockskip.core.paths import data_dir
from blockskip.core.power import keep_awake
from blockskip.core.presets import ModelRow
from blockskip.models import sources
from blockskip.models.sources import hub_token

log = logging.getLogger(__name__)
INTERVAL_S = 1.0  # seconds from one report to the next
_SPEED_WINDOW_S = 15.0  # seconds over which the speed is taken
_CHUNK_BYTES = (
    1 << 20
)  # bytes written at a time: what a killed process loses, and how fine progress is


@dataclass(frozen=True, kw_only=True)
class Download:
    """How far a download is.

    state: running | stopped | failed | done. bytes_*: of the whole model, also what was here before.
    bytes_per_s: of the last seconds. eta_s: seconds left, < 0 when unknown. file: the one it is at;
    “checking NAME” while its digest is computed. title, remedy, kind (of
    error): why it failed, else "".
    """

    model: str
    state: str
    bytes_done: int = 0
    bytes_total: int = 0
    bytes_per_s: float = 0.0
    eta_s: float = -1.0
    file: str = ""
    title: str = ""
    remedy: str = ""
    kind: str = ""


def start(row: ModelRow) -> None:
    """Begin a download, or go on with it, in a process of its own; nothing when one is under way.

    Returns when the process has spoken: `progress` tells of it from then on. Raises UserError when
    no process can be started.
    """
    if (process := _process(row)) is not None:
        now = progress(row)
        if now is None or now.state == "running":
            return
        process.wait(timeout=10)  # it has said its last word
    said = _status_file(row, "log")
    child = processes.start(
        "blockskip.models.sources.download_process", [row.name], said, online=True, speaks=True
    )
    assert child.stdout is not None  # it speaks
    with child.stdout:
        spoken = child.stdout.readline()
    if not spoken and child.wait() != 0:
        raise Unexpected(f"The download of {row.title} could not be started.", f"Details: {said}")


def stop(row: ModelRow) -> None:
    """End a download; what came is kept. Nothing when none is under way."""
    process = _process(row)
    if process is None:
        return
    try:
        process.kill()  # its files are good at any moment
        process.wait(timeout=10)
    except psutil.NoSuchProcess:
        pass


def progress(row: ModelRow) -> Download | None:
    """How far the last download of this model is or came; None when there was none."""
    said = _read_status(row)
    if said is None or said["state"] != "running":
        return _parse_status(said) if said else None
    if _process(row) is None:
        said = _read_status(row) or said  # its last word may have come just now
        ended = said | {"state": "stopped"} if said["state"] == "running" else said
        return replace(_parse_status(ended), bytes_per_s=0.0, eta_s=-1.0)
    if (
        time.time() - said.get("time", 0) > _SPEED_WINDOW_S
    ):  # nothing comes: the connection is retried
        return replace(_parse_status(said), bytes_per_s=0.0, eta_s=-1.0)
    return _parse_status(said)


def _status_file(row: ModelRow, ending: str) -> Path:
    return data_dir() / "downloads" / f"{row.name}.{ending}"


def _process(row: ModelRow) -> psutil.Process | None:
    return processes.find_running(_status_file(row, "json"))


def _read_status(row: ModelRow) -> dict | None:
    """What the process says; None when there is nothing to read. On Windows a file cannot be opened
    while it is replaced."""
    for _ in range(5):
        try:
            said = files.read_json(_status_file(row, "json"))
            return said if isinstance(said, dict) and {"model", "state"} <= set(said) else None
        except PermissionError:
            time.sleep(0.02)
        except (OSError, ValueError):
            return None
    return None


def _parse_status(said: dict) -> Download:
    known = {field.name for field in fields(Download)}
    return Download(**{name: value for name, value in said.items() if name in known})


class _StatusWriter:
    """What the process says of itself, once a second."""

    def __init__(self, row: ModelRow) -> None:
        self.path = _status_file(row, "json")
        self.said = {"model": row.name, "state": "running", **processes.identity(os.getpid())}
        self.recent: deque[tuple[float, int]] = deque()
        self.written = 0.0

    def write(self, **news: str | float) -> None:
        self.said |= news | {"time": time.time()}
        files.write_json(self.path, self.said)
        self.written = time.monotonic()

    def update(self, done: int, total: int, file: str) -> None:
        """As sources.fetch tells it."""
        now = time.monotonic()
        if file != self.said.get("file"):  # the time a digest takes says nothing of the connection
            self.recent.clear()
        elif now - self.written < INTERVAL_S and done < total:
            return
        self.recent.append((now, done))
        while now - self.recent[0][0] > _SPEED_WINDOW_S:
            self.recent.popleft()
        (since, before), speed = self.recent[0], 0.0
        if now > since:
            speed = max(0.0, (done - before) / (now - since))
        left = (total - done) / speed if speed > 0 else -1.0
        counts = {"bytes_done": done, "bytes_total": total}
        self.write(**counts, bytes_per_s=round(speed), eta_s=round(left, 1), file=file)


def _download(row: ModelRow) -> int:
    """The download, in its own process, which holds the lock. Returns the exit code."""
    report = _StatusWriter(row)
    report.write()
    print("begun", flush=True)  # `start` waits for this
    try:
        with keep_awake():
            sources.fetch(row, report.update)
    except UserError as error:
        log.exception("failed")
        failed = error
    except Exception as error:
        log.exception("failed")
        title = f"The download of {row.title} broke off ({type(error).__name__})."
        failed = Unexpected(title, f"Start it again. Details: {_status_file(row, 'log')}")
    else:
        report.write(state="done", bytes_per_s=0.0, eta_s=0.0, file="")
        return 0
    why = {"title": failed.title, "remedy": failed.remedy, "kind": failed.kind}
    report.write(state="failed", bytes_per_s=0.0, eta_s=-1.0, **why)
    return 1


def main(words: list[str]) -> int:
    """See the top. 0 also when another process downloads this model."""
    from huggingface_hub import constants

    if words[0] == "--token":
        said = hub_token.token_error(presets.model_row(words[1]), sys.stdin.read())
        print(json.dumps(said))
        return 0
    # of others only warnings: addresses of files may be signed for this user
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("blockskip").setLevel(logging.INFO)
    constants.DOWNLOAD_CHUNK_SIZE = _CHUNK_BYTES
    row = presets.model_row(words[0])
    with processes.locked(_status_file(row, "lock")) as ours:
        if ours:
            return _download(row)
        log.info("%s is being downloaded by another process", row.name)
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
