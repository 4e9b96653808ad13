"""A run's state for the page, folded from its events as they arrive.

Many tabs ask once a second, so each event is parsed once and the states are cached in this process.
The run folder is the source of truth; after a restart the cache is rebuilt from it.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from blockskip.core import files
from blockskip.core.errors import UserError
from blockskip.core.events import (
    Done,
    Event,
    Failed,
    Image,
    Loss,
    Memory,
    Note,
    Progress,
    Saved,
    Started,
    Stopped,
)
from blockskip.runs import control, failure, run_queue, vanished
from blockskip.runs.run import RESUMABLE, Run, list_runs
from blockskip.studio.series import Series

CURVES = ("vram_gib", "vram_used_gib", "rss_gib", "ram_used_gib", "disk_run_gib")  # of Memory
GAP_S = 15.0  # a longer silence counts as a pause, which charts leave out
_lock = threading.Lock()
_states: dict[str, RunState] = {}
_sizes: dict[str, tuple[tuple, int]] = {}
_asked: dict[str, str] = {}  # pause or stop, until the worker has ended
_children: dict[str, subprocess.Popen] = {}  # by the run that they began with


@dataclass
class RunState:
    """The state of a run after its events up to byte `offset`."""

    run: Run
    head: bytes = b""  # start of events.jsonl; differs if another run reuses the name
    offset: int = 0
    steps: int = 0
    device: str = ""
    stage: str = ""
    stage_done: int = 0
    stage_total: int = 0
    eta_s: float = -1.0
    active_s: float = 0.0  # seconds of work, without pauses
    last_time: float = 0.0
    step: int = 0  # the last step trained
    loss: float = -1.0  # of that step
    stages: list[str] = field(default_factory=list)  # started, in order, each once
    losses: Series = field(default_factory=Series)  # over steps
    memory: dict[str, Series] = field(default_factory=dict)  # over active seconds, see CURVES
    latest_memory: Memory | None = None
    images: dict[tuple[int, int], Image] = field(default_factory=dict)  # by step and index
    large: dict[tuple[int, int], Image] = field(default_factory=dict)  # likewise, in full size
    notes: list[Note] = field(default_factory=list)
    exports: list[Saved] = field(default_factory=list)
    end: Stopped | Failed | Done | None = None
    started: bool = False
    status: str = "new"

    @property
    def exported(self) -> Saved | None:
        """The newest LoRA file exported for the user."""
        return self.exports[-1] if self.exports else None

    def add(self, event: Event) -> None:
        """Apply one event."""
        if self.last_time and 0 < event.time - self.last_time < GAP_S:
            self.active_s += event.time - self.last_time
        self.last_time = event.time
        match event:
            case Started():
                self._begin(event)
            case Progress():
                self.stage, self.stage_done, self.stage_total = event.stage, event.n, event.total
                self.eta_s = event.eta_s if event.eta_s >= 0 else self.eta_s
                if event.stage not in self.stages:
                    self.stages.append(event.stage)
            case Loss():
                self.step, self.loss = event.step, event.loss
                self.losses.add(event.step, event.loss)
            case Memory():
                self._add_memory(event)
            case Image():
                shown = self.large if event.large else self.images
                shown[event.step, event.index] = event
            case Saved() if event.kind == "export":
                self.exports.append(event)
            case Note() if all(note.text != event.text for note in self.notes):
                self.notes.append(event)
            case Stopped() | Failed() | Done():
                self.end = event

    def _begin(self, event: Started) -> None:
        """Reset to the checkpoint from which a worker resumes; later steps are trained again."""
        self.started, self.steps, self.device, self.end = True, event.steps, event.device, None
        self.stage, self.eta_s, self.stages = "", -1.0, []
        if self.step > event.resumed_from:
            self.step = event.resumed_from
            self.losses.cut(event.resumed_from)

    def _add_memory(self, event: Memory) -> None:
        self.latest_memory = event
        for name in CURVES:
            value = getattr(event, name)
            if value >= 0:
                self.memory.setdefault(name, Series(5.0)).add(self.active_s, value)


def read(run: Run) -> RunState:
    """Return a copy of a run's current state."""
    with _lock:
        alive = run.worker() is not None  # before reading, so that the last event is not missed
        state, head = _states.get(str(run.folder)), _head(run)
        if state is None or (state.offset and state.head != head):
            state = _states[str(run.folder)] = RunState(run)
        state.head = head
        failed = None if alive else failure.read(run.folder)
        try:
            fresh, state.offset = run.events(state.offset)
        except UserError:
            if failed is None:
                raise
            fresh = []
        for event in fresh:
            state.add(event)
        if not alive or any(isinstance(event, Stopped | Failed | Done) for event in fresh):
            _asked.pop(str(run.folder), None)
        state.end = failed or state.end
        state.status = _status(state, alive)
        if state.status in RESUMABLE and run.name in run_queue.waiting():
            state.status = "waiting"
        return replace(
            state,
            stages=list(state.stages),
            losses=state.losses.copy(),
            memory={name: series.copy() for name, series in state.memory.items()},
            images=dict(state.images),
            large=dict(state.large),
            notes=list(state.notes),
            exports=list(state.exports),
        )


def running() -> Run | None:
    """Return the run in progress, if any."""
    return next((run for run in list_runs() if run.worker() is not None), None)


def size_bytes(run: Run) -> int:
    """Return a run's size on disk in bytes. It is measured again after a new event or a minute."""
    changed = 0
    with contextlib.suppress(OSError):
        changed = run.events_path.stat().st_mtime_ns
    key = (changed, time.time() // 60)
    cached = _sizes.get(str(run.folder))
    if cached is None or cached[0] != key:
        cached = _sizes[str(run.folder)] = (key, run.size_bytes())
    return cached[1]


def start(run: Run, card: str = "") -> None:
    """Start or resume a run, whose process may then wait for another one. It is kept, so that it is
    reaped when it ends. card: see `Run.start`."""
    try:
        process = run.start(card, stays=True)
    except OSError as error:  # the folder is read-only or full
        raise files.disk_error(run.folder, error) from error
    with _lock:
        for child in _children.values():
            child.poll()
        if process is not None:
            _children[str(run.folder)] = process


def killed_by(run: Run) -> UserError | None:
    """Return why the run's last worker ended without a word, or None if nothing tells."""
    with _lock:
        own, pid = _children.get(str(run.folder)), vanished.last_pid(run)
        child = next((child for child in _children.values() if child.pid == pid), own)
    with contextlib.suppress(UserError):  # a log that cannot be read is told elsewhere
        return vanished.explain(run, child.poll() if child else None)
    return None


def forget_deleted(listed: Sequence[Run]) -> None:
    """Forget runs whose folders are gone, of which months leave many. listed: those that are
    there."""
    there = {str(run.folder) for run in listed}
    for known in (_states, _sizes, _asked, _children):
        for folder in [each for each in list(known) if each not in there]:
            if not Path(folder).exists():  # a new one is not listed yet
                known.pop(folder, None)


def ask(run: Run, command: str) -> None:
    """Remember that the worker was asked to pause or stop: it takes the command before it ends."""
    read(run)  # an earlier end must not count as the answer
    with _lock:
        _asked[str(run.folder)] = command


def pending_command(run: Run) -> str:
    """Return the command that the worker has not carried out yet: pause, stop, preview or ""."""
    command = control.pending(run.control_path).get("command", "")
    return command or _asked.get(str(run.folder), "")


def _head(run: Run) -> bytes:
    try:
        with open(run.events_path, "rb") as file:
            return file.readline(200)
    except OSError:
        return b""


def _status(state: RunState, alive: bool) -> str:
    if alive:
        return "running"
    match state.end:
        case Done():
            return "done"
        case Failed():
            return "failed"
        case Stopped():
            return state.end.reason
    return "crashed" if state.started or state.run.was_started else "new"
