"""Explain a worker that ended without a word: the kernel ended it, or the computer went off.

A worker records when it begins what can be compared afterwards (`mark`). So the reason is known to
whoever looks, also to a studio that did not start it. Does not import torch.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from blockskip.core import files, oom_kills, shortage, stages
from blockskip.core.errors import OutOfMemory, UserError
from blockskip.core.events import Done, Failed, Loss, Memory, Progress, Started, Stopped
from blockskip.runs import event_log, ram_figures
from blockskip.runs.run import Run

_TOLD = (Started, Progress, Loss, Memory, Stopped, Failed, Done)
_LAST_WORDS = 4096  # bytes of a worker's log


@dataclass(frozen=True)
class _Begun:
    """What a worker recorded. boot: of the computer. log_bytes: of worker.log at that time, None if
    unknown."""

    pid: int
    boot: str = ""
    oom_kills: int = -1
    log_bytes: Annotated[int, Field(ge=0)] | None = None


def mark(run: Run) -> dict:
    """Return what a worker records when it begins: its id, for people and other programs, and what
    `explain` compares."""
    facts: dict = {"pid": os.getpid()}
    if (now := oom_kills.kills()) is not None:
        facts |= {"boot": now.boot, "oom_kills": now.count}
    with suppress(OSError):
        facts["log_bytes"] = _log(run).stat().st_size
    return facts


def explain(run: Run, code: int | None = None) -> UserError | None:
    """Return why the run's last worker ended without saying so, None if nothing tells, or if it
    said so. code: its exit code, None if unknown.

    A worker ended for want of RAM is told with its plan, and with what it took when last measured.
    """
    if _was_said(run):
        return None
    begun, now = _begun(run), oom_kills.kills()
    if begun.boot and now and now.boot != begun.boot:
        return UserError(
            "The computer went off, or was started again, during the training.",
            "Resume; nothing saved is lost.",
        )
    counted = bool(begun.boot and now and now.count > begun.oom_kills)
    by_code = shortage.of_exit_code(code)
    if by_code is not None or (code is None and counted):
        return with_figures(run, shortage.ended_by_system("the training", certain=counted))
    short = shortage.of_last_words(_last_words(run, begun.log_bytes), "this run")
    return with_figures(run, short) if short else None


def last_pid(run: Run) -> int:
    """Return the process id of the run's last worker, 0 if it is unknown."""
    return _begun(run).pid


def stage_without_ram(run: Run) -> str | None:
    """Return the stage in which the run's last worker ended for want of RAM, "" outside of all;
    None if it did not."""
    with suppress(UserError):  # what cannot be read tells nothing
        if isinstance(explain(run), OutOfMemory):
            return _last_stage(run)
    return None


def with_figures(run: Run, error: UserError, taken_gib: float | None = None) -> UserError:
    """Return a shortage of RAM with the plan of the last worker's stage and what it took; other
    errors as they are. taken_gib: None for what its log tells."""
    if not isinstance(error, OutOfMemory):
        return error
    with suppress(UserError, MemoryError):  # settings that cannot be read, or RAM is still short
        if taken_gib is None:
            last = event_log.last_event(run.events_path, (Started, Memory))
            taken_gib = last.rss_gib if isinstance(last, Memory) else -1.0
        began = event_log.last_event(run.events_path, (Started,))
        device = began.device if isinstance(began, Started) else "cpu"
        figures = ram_figures.of_ram(run.settings(), _last_stage(run), taken_gib, device)
        return OutOfMemory(error.title, f"{figures} {error.remedy}")
    return error


def _last_stage(run: Run) -> str:
    """Return the stage that the last worker was in, "" if it was between stages or told none."""
    match event_log.last_event(run.events_path, (Started, Progress, Loss)):
        case Progress(stage=stage, n=n, total=total) if n < total:
            return stage
        case Loss():
            return stages.TRAIN
    return ""


def _was_said(run: Run) -> bool:
    return isinstance(event_log.last_event(run.events_path, _TOLD), (Stopped, Failed, Done))


def _begun(run: Run) -> _Begun:
    try:
        found: _Begun = files.read_json(run.folder / "worker.json", _Begun)
    except FileNotFoundError:  # the first worker did not come so far
        return _Begun(pid=0, log_bytes=0)
    except (OSError, ValueError):
        return _Begun(pid=0)
    return found if found.oom_kills >= 0 else replace(found, boot="")


def _last_words(run: Run, since: int | None) -> str:
    """Return the end of what the last worker wrote to its log. since: where it began, None if that is
    unknown."""
    if since is None:
        return ""
    try:
        with open(_log(run), "rb") as file:
            file.seek(max(since, file.seek(0, os.SEEK_END) - _LAST_WORDS))
            return file.read(_LAST_WORDS).decode("utf-8", "replace")
    except OSError:
        return ""


def _log(run: Run) -> Path:
    return run.folder / "worker.log"
