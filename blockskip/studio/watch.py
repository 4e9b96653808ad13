"""A run as the page shows it, folded from its events as they arrive.

Many tabs ask once a second; each run's events are parsed once in this process and kept in one
table. Nothing here is the truth: the run folder is, and the table is rebuilt from it after a
restart.
"""

from __future__ import annotations

import subprocess
import threading
from dataclasses import dataclass, field, replace

from blockskip import files
from blockskip.events import (
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
from blockskip.runs import Run, list_runs

GAP_S = 15.0  # a longer silence is a pause; charts do not show it
_lock = threading.Lock()
_stories: dict[str, Story] = {}
_children: list[subprocess.Popen] = []


@dataclass
class Story:
    """What a run's events say up to byte `offset`."""

    run: Run
    head: bytes = b""  # how events.jsonl begins; another run of that name begins otherwise
    offset: int = 0
    steps: int = 0
    device: str = ""
    stage: str = ""
    n: int = 0
    total: int = 0
    eta_s: float = -1.0
    active_s: float = 0.0  # time worked, pauses not counted
    last_time: float = 0.0
    losses: dict[int, float] = field(default_factory=dict)
    memory: list[tuple[float, float, float]] = field(default_factory=list)  # active s, RAM, VRAM
    images: dict[tuple[int, int], Image] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    saved: list[Saved] = field(default_factory=list)
    end: Stopped | Failed | Done | None = None
    started: bool = False
    state: str = "new"

    @property
    def step(self) -> int:
        """The last step learnt."""
        return max(self.losses, default=0)

    @property
    def exported(self) -> Saved | None:
        """The newest LoRA file made for the user."""
        return next((s for s in reversed(self.saved) if s.kind == "export"), None)

    def add(self, event: Event) -> None:
        """Fold one event in."""
        if self.last_time and 0 < event.time - self.last_time < GAP_S:
            self.active_s += event.time - self.last_time
        self.last_time = event.time
        match event:
            case Started():
                self._begin(event)
            case Progress():
                self.stage, self.n, self.total = event.stage, event.n, event.total
                self.eta_s = event.eta_s if event.eta_s >= 0 else self.eta_s
            case Loss():
                self.losses[event.step] = event.loss
            case Memory():
                self.memory.append((self.active_s, event.rss_gib, event.vram_gib))
            case Image():
                self.images[event.step, event.index] = event
            case Saved():
                self.saved.append(event)
            case Note() if all(note.text != event.text for note in self.notes):
                self.notes.append(event)
            case Stopped() | Failed() | Done():
                self.end = event

    def _begin(self, event: Started) -> None:
        """A worker began: what was learnt after the checkpoint it goes on from is learnt again."""
        self.started, self.steps, self.device, self.end = True, event.steps, event.device, None
        self.stage, self.eta_s = "", -1.0
        self.losses = {s: loss for s, loss in self.losses.items() if s <= event.resumed_from}


def watch(run: Run) -> Story:
    """The story of a run up to now, as a copy of the caller's own."""
    with _lock:
        alive = run.worker() is not None  # asked before reading, so that no last word is missed
        story, head = _stories.get(str(run.folder)), _head(run)
        if story is None or (story.offset and story.head != head):
            story = _stories[str(run.folder)] = Story(run)
        story.head = head
        fresh, story.offset = run.events(story.offset)
        for event in fresh:
            story.add(event)
        story.state = _state(story, alive)
        return replace(
            story,
            losses=dict(story.losses),
            memory=list(story.memory),
            images=dict(story.images),
            notes=list(story.notes),
            saved=list(story.saved),
        )


def running() -> Run | None:
    """The run that is being worked on now, if any."""
    return next((run for run in list_runs() if run.worker() is not None), None)


def start(run: Run) -> None:
    """Start or go on with a run, and remember its process so that it is reaped when it ends."""
    process = run.start()
    with _lock:
        _children[:] = [child for child in _children if child.poll() is None] + [process]


def pending(run: Run) -> str:
    """The command the worker has not taken yet: pause, stop, preview, or ""."""
    try:
        return str(files.read_json(run.folder / "control.json").get("command", ""))
    except (OSError, ValueError):
        return ""


def _head(run: Run) -> bytes:
    try:
        with open(run.events_path, "rb") as file:
            return file.readline(200)
    except OSError:
        return b""


def _state(story: Story, alive: bool) -> str:
    if alive:
        return "running"
    match story.end:
        case Done():
            return "done"
        case Failed():
            return "failed"
        case Stopped():
            return story.end.reason
    was_worked_on = story.started or (story.run.folder / "worker.json").exists()
    return "crashed" if was_worked_on else "new"
