"""The events of a run, stored in `events.jsonl` as one JSON object per line.

Only the worker process writes events. The terminal and the studio only read them.
"""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass, field

from blockskip.core.stages import STAGES


@dataclass(frozen=True, kw_only=True)
class Event:
    """Base of all events. time: seconds since the epoch."""

    time: float = field(default_factory=time.time)


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    """A worker started or resumed. steps: optimiser steps in total. resumed_from: first step."""

    steps: int
    resumed_from: int = 0
    device: str = "cpu"
    stages: tuple[str, ...] = STAGES


@dataclass(frozen=True, kw_only=True)
class Progress(Event):
    """Stage `stage` has done n of total. eta_s: seconds left for the run, < 0 if unknown."""

    stage: str
    n: int
    total: int
    eta_s: float = -1.0
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class Loss(Event):
    """One optimiser step. loss: mean squared error on the velocity. seconds: its duration."""

    step: int
    loss: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Memory(Event):
    """Memory in GiB, < 0 if unknown.

    vram_gib: graphics memory of this process. vram_used_gib, vram_total_gib: the whole card's.
    disk_free_gib: free space on the run's drive. disk_run_gib: size of the run's folder.
    card_celsius: the card's temperature.
    """

    rss_gib: float
    ram_used_gib: float
    ram_total_gib: float
    vram_gib: float = -1.0
    vram_used_gib: float = -1.0
    vram_total_gib: float = -1.0
    disk_free_gib: float = -1.0
    disk_run_gib: float = -1.0
    card_celsius: float = -1.0


@dataclass(frozen=True, kw_only=True)
class Peak(Event):
    """Measured and planned peak memory of a stage, in GiB.

    vram_gib: tensors on the card. held_gib: including the allocator's gaps. Both are < 0 without a
    card.
    """

    stage: str
    vram_gib: float
    held_gib: float
    ram_gib: float
    planned_vram_gib: float
    planned_ram_gib: float


@dataclass(frozen=True, kw_only=True)
class Image(Event):
    """A preview picture was written. path: relative to the run folder. Step 0 is the untrained
    model."""

    step: int
    prompt: str
    path: str
    index: int


@dataclass(frozen=True, kw_only=True)
class Saved(Event):
    """A lasting file was written. kind: checkpoint | export. path: relative to the run folder."""

    kind: str
    path: str
    step: int


@dataclass(frozen=True, kw_only=True)
class Note(Event):
    """A message for the user that does not stop the run. level: info | warning."""

    text: str
    level: str = "info"


@dataclass(frozen=True, kw_only=True)
class Stopped(Event):
    """The worker ended on request. reason: paused | stopped. step: where `resume` continues."""

    reason: str
    step: int


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

    adapter: str
    exported: str
    steps: int
    seconds: float
    stages: dict[str, float]
    final_loss: float
    peak_rss_gib: float
    peak_vram_gib: float


_TYPES = {
    cls.__name__.lower(): cls
    for cls in (Started, Progress, Loss, Memory, Peak, Image, Saved, Note, Stopped, Failed, Done)
}
_FIELDS = {cls: {f.name for f in dataclasses.fields(cls)} for cls in _TYPES.values()}


def to_json(event: Event) -> str:
    """Return one line of JSON without the newline. The key "event" holds the type."""
    return json.dumps({"event": type(event).__name__.lower(), **dataclasses.asdict(event)})


def from_json(line: str | bytes) -> Event:
    """Parse one line. Raises ValueError if it is not an event of this version."""
    data = json.loads(line)
    try:
        cls = _TYPES[data.pop("event")]
        fields = {key: value for key, value in data.items() if key in _FIELDS[cls]}
        if isinstance(fields.get("stages"), list):
            fields["stages"] = tuple(fields["stages"])
        return cls(**fields)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"not an event: {line[:80]!r}") from error
