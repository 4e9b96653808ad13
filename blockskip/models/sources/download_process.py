"""Download a model in a separate process, which outlives the studio and can be killed at any
moment. The next start resumes from the bytes on disk.

Only this process writes `downloads/MODEL.json` in the data folder, the status shown to users. It
holds `MODEL.lock` while it runs, so two processes never download the same model.
`python -m blockskip.models.sources.download_process MODEL` is that process. With `--token` before
MODEL it instead tests the token on its stdin (models/sources/hub_token.py).
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal

import psutil

from blockskip.core import files, presets, processes, repositories
from blockskip.core.errors import Unexpected, UserError
from blockskip.core.events import Count, Real
from blockskip.core.paths import data_dir, make_data_dir
from blockskip.core.power import keep_awake
from blockskip.core.repositories import Repository, ToolRow
from blockskip.core.shortage import shortage
from blockskip.models import sources
from blockskip.models.sources import hub_token
from blockskip.models.sources.tools import fetch_tool

log = logging.getLogger(__name__)
INTERVAL_S = 1.0  # seconds between two writes of the status
_SPEED_WINDOW_S = 15.0  # seconds over which the speed is averaged
_CHUNK_BYTES = 1 << 20  # bytes per write, so also the loss when killed and the progress step


@dataclass(frozen=True, kw_only=True)
class Download:
    """Status of a download.

    state: running | stopped | failed | done. bytes_*: of the whole model, including earlier
    downloads. bytes_per_s: average of the last seconds. eta_s: seconds left, < 0 if unknown. file:
    current file, “checking NAME” while its digest is computed. title, remedy, kind: the error if it
    failed, else "".
    """

    model: str
    state: Literal["running", "stopped", "failed", "done"]
    bytes_done: Count = 0
    bytes_total: Count = 0
    bytes_per_s: Real = 0.0
    eta_s: Real = -1.0
    file: str = ""
    title: str = ""
    remedy: str = ""
    kind: str = ""


@dataclass(frozen=True, kw_only=True)
class _Status(Download):
    """The content of the status file. time: when it was written, in seconds since the epoch."""

    time: Real = 0.0


def start(row: Repository) -> None:
    """Start or resume a download in a separate process. Does nothing if one is running.

    Returns once the process has written its status, so that `progress` can read it. Raises
    UserError if the process cannot be started.
    """
    if (process := _process(row)) is not None:
        download = progress(row)
        if download is None or download.state == "running":
            return
        with suppress(psutil.TimeoutExpired):  # it stands still; the lock decides
            process.wait(timeout=10)  # it has written its final status and is about to exit
    make_data_dir()
    log_file = _status_file(row, "log")
    child = processes.start_holder(
        "blockskip.models.sources.download_process", [row.name], log_file, online=True
    )
    if child is not None and child.poll() not in (None, 0) and progress(row) is None:
        raise Unexpected(
            f"The download of {row.title} could not be started.", f"Details: {log_file}"
        )


def stop(row: Repository) -> None:
    """Kill a running download, if any, and keep its files."""
    process = _process(row)
    if process is None:
        return
    try:
        process.kill()  # its files are consistent at any moment
        process.wait(timeout=10)
    except psutil.NoSuchProcess:
        pass


def progress(row: Repository) -> Download | None:
    """Return the status of the model's last download, None if there was none."""
    status = _read_status(row)
    if status is None or status["state"] != "running":
        return _parse_status(status) if status else None
    if _process(row) is None:
        status = _read_status(row) or status  # it may have written its final status meanwhile
        ended = status | {"state": "stopped"} if status["state"] == "running" else status
        return replace(_parse_status(ended), bytes_per_s=0.0, eta_s=-1.0)
    # no status for that long: the connection is being retried
    if time.time() - status.get("time", 0) > _SPEED_WINDOW_S:
        return replace(_parse_status(status), bytes_per_s=0.0, eta_s=-1.0)
    return _parse_status(status)


def _status_file(row: Repository, ending: str) -> Path:
    return data_dir() / "downloads" / f"{row.name}.{ending}"


def _process(row: Repository) -> psutil.Process | None:
    return processes.holder(_status_file(row, "lock"), _status_file(row, "json"))


def _read_status(row: Repository) -> dict | None:
    """Return the process's status file, None if there is none. Retries on PermissionError, because
    Windows cannot open a file while it is replaced."""
    for _ in range(5):
        try:
            return asdict(files.read_json(_status_file(row, "json"), _Status))
        except PermissionError:
            time.sleep(0.02)
        except (OSError, ValueError):
            return None
    return None


def _parse_status(status: dict) -> Download:
    known = {field.name for field in fields(Download)}
    return Download(**{name: value for name, value in status.items() if name in known})


class _StatusWriter:
    """Writes the process's status file, at most once a second during a file."""

    def __init__(self, row: Repository) -> None:
        self.path = _status_file(row, "json")
        self.status: dict[str, str | float] = {"model": row.name, "state": "running"}
        self.recent: deque[tuple[float, int]] = deque()
        self.written_at = 0.0

    def write(self, **changes: str | float) -> None:
        self.status |= changes | {"time": time.time()}
        files.write_json(self.path, self.status, lasting=False)
        self.written_at = time.monotonic()

    def update(self, done: int, total: int, file: str) -> None:
        """Record progress, as the callback of `sources.fetch`."""
        now = time.monotonic()
        if file != self.status.get("file"):  # the time of a digest must not count as download time
            self.recent.clear()
        elif now - self.written_at < INTERVAL_S and done < total:
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


def _download(row: Repository, writer: _StatusWriter) -> int:
    """Run the download; the caller holds the lock. Return the exit code."""
    try:
        with keep_awake():
            if isinstance(row, ToolRow):
                fetch_tool(row, writer.update)
            else:
                sources.fetch(row, writer.update)
    except UserError as error:
        log.exception("failed")
        failure = error
    except Exception as error:
        log.exception("failed")
        title = f"The download of {row.title} broke off ({type(error).__name__})."
        broken = Unexpected(title, f"Start it again. Details: {_status_file(row, 'log')}")
        failure = shortage(error, "the download") or broken
    else:
        writer.write(state="done", bytes_per_s=0.0, eta_s=0.0, file="")
        return 0
    details = {"title": failure.title, "remedy": failure.remedy, "kind": failure.kind}
    writer.write(state="failed", bytes_per_s=0.0, eta_s=-1.0, **details)
    return 1


def main(words: list[str]) -> int:
    """Run the command of the module docstring. Return 0 also if another process has the lock."""
    from huggingface_hub import constants

    if words[0] == "--token":
        answer = hub_token.token_error(presets.model_row(words[1]), sys.stdin.read())
        print(json.dumps(answer))
        return 0
    # only warnings of other packages: URLs in their messages may be signed for this user
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("blockskip").setLevel(logging.INFO)
    constants.DOWNLOAD_CHUNK_SIZE = _CHUNK_BYTES
    row = repositories.repository(words[0])
    writer = _StatusWriter(row)
    with processes.holding(_status_file(row, "lock"), writer.write) as acquired:
        if acquired:
            return _download(row, writer)
        log.info("%s is being downloaded by another process", row.name)
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
