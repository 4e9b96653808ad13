"""The events of a run, stored in `events.jsonl` as one JSON object per line.

Only the worker process writes events. The terminal and the studio only read them.
"""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass, field
from pathlib import PureWindowsPath
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from blockskip.core.stages import STAGES


def _inside(path: str) -> str:
    """Return a path inside the run's folder. Raises ValueError for any other."""
    parsed = PureWindowsPath(path)  # knows the separators and anchors of every system
    if parsed.anchor or ".." in parsed.parts or "\0" in path:
        raise ValueError("it leads out of the run's folder")
    return path


# what a line of a log may hold; limits let the page compute with the values
Count = Annotated[int, Field(ge=0, le=2**53)]
Real = Annotated[float, Field(ge=-1e15, le=1e15)]  # not NaN either
StopReason = Literal["paused", "stopped"]
RelativePath = Annotated[str, AfterValidator(_inside)]


@dataclass(frozen=True, kw_only=True)
class Event:
    """Base of all events. time: seconds since the epoch."""

    time: Real = field(default_factory=time.time)


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    """A worker started or resumed. steps: optimiser steps in total. resumed_from: first step."""

    steps: Count
    resumed_from: Count = 0
    device: str = "cpu"
    stages: tuple[str, ...] = STAGES


@dataclass(frozen=True, kw_only=True)
class Progress(Event):
    """Stage `stage` has done n of total. eta_s: seconds left for the run, < 0 if unknown."""

    stage: str
    n: Count
    total: Count
    eta_s: Real = -1.0
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class Loss(Event):
    """One optimiser step. loss: mean squared error on the velocity. seconds: its duration."""

    step: Count
    loss: Real
    seconds: Real


@dataclass(frozen=True, kw_only=True)
class Memory(Event):
    """Memory in GiB, < 0 if unknown.

    vram_gib: graphics memory of this process. vram_used_gib, vram_total_gib: the whole card's.
    disk_free_gib: free space on the run's drive. disk_run_gib: size of the run's folder.
    card_celsius: the card's temperature.
    """

    rss_gib: Real
    ram_used_gib: Real
    ram_total_gib: Real
    vram_gib: Real = -1.0
    vram_used_gib: Real = -1.0
    vram_total_gib: Real = -1.0
    disk_free_gib: Real = -1.0
    disk_run_gib: Real = -1.0
    card_celsius: Real = -1.0


@dataclass(frozen=True, kw_only=True)
class Peak(Event):
    """Measured and planned peak memory of a stage, in GiB.

    vram_gib: tensors on the card. held_gib: including the allocator's gaps. Both are < 0 without a
    card.
    """

    stage: str
    vram_gib: Real
    held_gib: Real
    ram_gib: Real
    planned_vram_gib: Real
    planned_ram_gib: Real


@dataclass(frozen=True, kw_only=True)
class Image(Event):
    """A preview picture was written. path: relative to the run folder. Step 0 is the untrained
    model. large: it is in full size, and not compared with those of other steps."""

    step: Count
    prompt: str
    path: RelativePath
    index: Count
    large: bool = False


@dataclass(frozen=True, kw_only=True)
class Saved(Event):
    """A lasting file was written. kind: checkpoint | export. path: relative to the run folder."""

    kind: str
    path: RelativePath
    step: Count


@dataclass(frozen=True, kw_only=True)
class Note(Event):
    """A message for the user that does not stop the run. level: info | warning."""

    text: str
    level: Literal["info", "warning"] = "info"


@dataclass(frozen=True, kw_only=True)
class Stopped(Event):
    """The worker ended on request. reason: paused | stopped. step: where `resume` continues."""

    reason: StopReason
    step: Count


@dataclass(frozen=True, kw_only=True)
class Failed(Event):
    """The worker ended with an error. kind: see core/errors.py. The traceback goes to worker.log,
    never to the user."""

    title: str
    remedy: str = ""
    kind: str = "UserError"


@dataclass(frozen=True, kw_only=True)
class Done(Event):
    """The run finished and its LoRA was exported, reopened and checked. Paths are relative to the
    run folder."""

    adapter: RelativePath
    exported: RelativePath
    steps: Count
    seconds: Real
    stages: dict[str, Real]
    final_loss: Real
    peak_rss_gib: Real
    peak_vram_gib: Real


_TYPES = {
    cls.__name__.lower(): cls
    for cls in (Started, Progress, Loss, Memory, Peak, Image, Saved, Note, Stopped, Failed, Done)
}
_SCHEMAS = {name: TypeAdapter(cls) for name, cls in _TYPES.items()}


def to_json(event: Event) -> str:
    """Return one line of JSON without the newline. The key "event" holds the type."""
    return json.dumps({"event": type(event).__name__.lower(), **dataclasses.asdict(event)})


def from_json(line: str | bytes) -> Event:
    """Parse one line. Raises ValueError if it is not an event of this version."""
    try:
        data = json.loads(line)
        return _SCHEMAS[data.pop("event")].validate_python(data)
    except (AttributeError, KeyError, TypeError, RecursionError, ValidationError) as error:
        raise ValueError(f"not an event: {line[:80]!r}") from error
