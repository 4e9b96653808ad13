"""What is to be described, and what has been: files in `describe/` of the data folder.

The process that describes (process.py) works on one job at a time. job.json is what it is asked,
described.jsonl what it has found, one line a photo, written as soon as it is known.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field

from blockskip.core import files, processes
from blockskip.core.errors import Unexpected, UserError, WrongState, from_kind
from blockskip.core.paths import data_dir, make_data_dir
from blockskip.core.validation import validated

STOPPED = "Describing was stopped."
PROCESS = "blockskip.models.captioners.process"


@dataclass(frozen=True)
class ServerChoice:
    """A server of the user's. address: as typed. model: "" = the only one that it has. elsewhere:
    whether the user allows it to be another computer."""

    address: str
    model: str = ""
    elsewhere: bool = False


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be described. photos: paths. class_name: the kind of pet. instruction: "" = the
    usual one. captioner: a name, "" = the best one here. server: instead of a captioner."""

    photos: tuple[str, ...]
    class_name: str
    instruction: str = ""
    captioner: str = ""
    server: ServerChoice | None = None


@dataclass(frozen=True)
class Line:
    """A line of described.jsonl. photo: path, "" for the end. unusable: why a photo cannot be
    described, a clause. seconds: how long it took. title, remedy, kind: why the process ended."""

    photo: str = ""
    caption: str = ""
    unusable: str = ""
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    title: str = ""
    remedy: str = ""
    kind: str = ""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far the last job is. lines: of photos, in the order of work. problem: why it ended early,
    None if it works or is done."""

    job: Job
    running: bool
    lines: tuple[Line, ...] = field(default=())
    problem: UserError | None = None

    @property
    def eta_s(self) -> float:
        """Seconds left, -1 if unknown."""
        if not self.lines:
            return -1.0
        each = sum(line.seconds for line in self.lines) / len(self.lines)
        return each * (len(self.job.photos) - len(self.lines))


def start(job: Job) -> None:
    """Start describing photos. Returns once `progress` knows of it. Raises UserError if photos are
    being described already."""
    make_data_dir()
    asked = folder() / f"asked-{secrets.token_hex(4)}.json"
    files.write_json(asked, asdict(job))
    try:
        process = processes.start_holder(PROCESS, [str(asked)], folder() / "describe.log")
    finally:
        files.remove(asked)
    if process is None:
        raise WrongState("Photos are being described just now.", "Wait, or stop that first.")


def progress() -> Progress | None:
    """Return how far the last job is, None if there was none."""
    running = is_running()
    try:
        job = files.read_json(folder() / "job.json", Job)
    except (OSError, ValueError):
        return None
    lines, problem = list(_lines()), None
    if lines and lines[-1].title:
        end = lines.pop()
        problem = from_kind(end.kind, end.title, end.remedy)
    if not running and problem is None and len(lines) < len(job.photos):
        problem = Unexpected(
            "Describing ended before all photos were described.",
            "Perhaps RAM ran out: close other programs, then describe the rest. Details: "
            f"{folder() / 'describe.log'}",
        )
    return Progress(job=job, running=running, lines=tuple(lines), problem=problem)


def is_running() -> bool:
    """Return whether photos are being described."""
    return processes.is_locked(lock())


def stop(title: str = STOPPED, remedy: str = "") -> None:
    """End the process, if there is one. What it has described is kept. title, remedy: why."""
    if not is_running():
        return
    processes.kill(processes.holder(lock()))
    with suppress(UserError):
        append(Line(title=title, remedy=remedy, kind=WrongState.__name__))


def append(line: Line) -> None:
    """Append what is set of a line. Raises UserError."""
    said = {key: value for key, value in asdict(line).items() if value}
    try:
        with open(results(), "a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(said) + "\n")
    except OSError as error:
        raise files.disk_error(results(), error) from error


def _lines() -> Iterator[Line]:
    """Yield the lines written so far. The last may be incomplete, and is left out then."""
    try:
        text = results().read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for line in text.split("\n")[:-1]:
        with suppress(ValueError, RecursionError, UserError):
            yield validated(Line, json.loads(line), "described.jsonl")


def folder() -> Path:
    """Return the folder of the present job."""
    return data_dir() / "describe"


def results() -> Path:
    """Return the file of lines."""
    return folder() / "described.jsonl"


def lock() -> Path:
    """Return the file that the process locks."""
    return folder() / "lock"
