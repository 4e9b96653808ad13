"""What a run says while it works: one JSON object a line in `events.jsonl`, one shape everywhere.

The worker process writes events, and every screen (terminal, studio) only reads them. Errors meant
for people are `UserError`: what happened, to which file or setting, and what to do.
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
    """A worker began (again). steps: optimiser steps in all. resumed_from: step it goes on from."""

    steps: int
    resumed_from: int = 0
    device: str = "cpu"
    stages: tuple[str, ...] = STAGES


@dataclass(frozen=True, kw_only=True)
class Progress(Event):
    """Stage `stage` has done n of total. eta_s: seconds left for the whole run, < 0 when
    unknown."""

    stage: str
    n: int
    total: int
    eta_s: float = -1.0
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class Loss(Event):
    """One optimiser step. loss: mean squared error on the velocity. seconds: of this step."""

    step: int
    loss: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Memory(Event):
    """Memory in GiB, < 0: not known. vram_*: ours and the whole card. disk_free_gib: of the drive
    that the run is on. disk_run_gib: what the run's folder takes. card_celsius: the card's
    temperature."""

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
    """The most memory a stage took beside what was planned, in GiB. vram_gib: tensors on the card;
    held_gib: with the allocator's gaps (both < 0 where there is no card)."""

    stage: str
    vram_gib: float
    held_gib: float
    ram_gib: float
    planned_vram_gib: float
    planned_ram_gib: float


@dataclass(frozen=True, kw_only=True)
class Image(Event):
    """A preview picture was written. path: relative to the run folder. step 0: the untrained
    model."""

    step: int
    prompt: str
    path: str
    index: int


@dataclass(frozen=True, kw_only=True)
class Saved(Event):
    """A file that outlives the run's process. kind: checkpoint | export. path: relative."""

    kind: str
    path: str
    step: int


@dataclass(frozen=True, kw_only=True)
class Note(Event):
    """Something the user should know; the run goes on. level: info | warning."""

    text: str
    level: str = "info"


@dataclass(frozen=True, kw_only=True)
class Stopped(Event):
    """The worker ended on request. reason: paused | stopped. step: where `resume` goes on."""

    reason: str
    step: int


@dataclass(frozen=True, kw_only=True)
class Failed(Event):
    """The worker ended on an error. kind: of error, see core/errors.py. traceback goes to worker.log,
    never to the user."""

    title: str
    remedy: str = ""
    kind: str = "UserError"


@dataclass(frozen=True, kw_only=True)
class Done(Event):
    """The LoRA was exported, reopened and checked. Paths are relative to the run folder."""

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
    """One line of JSON, without the newline; the type stands under "event"."""
    return json.dumps({"event": type(event).__name__.lower(), **dataclasses.asdict(event)})


def from_json(line: str | bytes) -> Event:
    """The event in a line. Raises ValueError for a line that is no event of this version."""
    data = json.loads(line)
    try:
        cls = _TYPES[data.pop("event")]
        given = {key: value for key, value in data.items() if key in _FIELDS[cls]}
        if isinstance(given.get("stages"), list):
            given["stages"] = tuple(given["stages"])
        return cls(**given)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"not an event: {line[:80]!r}") from error
