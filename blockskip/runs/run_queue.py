"""The queue: runs that train one after the other, one on each card.

`queue.json` in the data folder lists them in order. A run stays in it until it has ended, so that
one that a power cut broke off goes on when the queue does. The queue goes on whenever `advance` is
called: by each worker at its end, by an open studio, by `batch` and `queue` in the terminal.

Does not import torch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from blockskip.core import files
from blockskip.core.errors import NotFound, UserError, WrongState
from blockskip.core.events import Count
from blockskip.core.paths import data_dir
from blockskip.memory import monitor
from blockskip.runs import failure
from blockskip.runs.folders import runs_dir
from blockskip.runs.run import Run, list_runs
from blockskip.runs.start_gate import starting

log = logging.getLogger(__name__)
MAX_STARTS = 3  # of a run whose worker vanishes each time
PROCESSOR = ""  # stands for a card where there is none
Starter = Callable[[Run, str], object]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A run in the queue. starts: how often it was started from here. card: the UUID of the card on
    which it was."""

    run: str
    starts: Count = 0
    card: str = PROCESSOR


@dataclass(frozen=True, kw_only=True)
class Queue:
    """The content of `queue.json`. held: no run is started."""

    version: Literal[1] = 1
    held: bool = False
    entries: tuple[Entry, ...] = ()

    @property
    def names(self) -> list[str]:
        return [entry.run for entry in self.entries]

    def place(self, name: str) -> int:
        """Return a run's index. Raises NotFound."""
        if name not in self.names:
            raise NotFound(
                f"Run “{name}” is not in the queue.", "The list of runs shows which are."
            )
        return self.names.index(name)


def read() -> Queue:
    """Return the queue. Raises UserError if the file is damaged or from a later version."""
    try:
        return files.read_json(_path(), Queue, "Delete it; the runs themselves are kept.")
    except FileNotFoundError:
        return Queue()
    except OSError as error:
        raise files.read_error(error, _path()) from error


def add(run: Run, first: bool = False) -> None:
    """Put a run that can be started at the end, or before all that wait, unless it is in the queue.
    Raises UserError."""
    with starting():
        queue = read()
        if run.folder.parent != runs_dir():
            raise WrongState(
                f"Run “{run.name}” is outside the data folder.",
                "Only runs in the data folder can be put in the queue; train it by itself.",
            )
        if run.worker() is not None:
            raise WrongState(f"Run “{run.name}” is running.", "Watch it in the studio.")
        if run.name not in queue.names:
            at = 0 if first else len(queue.entries)
            entries = (*queue.entries[:at], Entry(run=run.name), *queue.entries[at:])
            _write(replace(queue, entries=entries))


def remove(name: str) -> None:
    """Take a run out of the queue. One that trains goes on. Raises UserError."""
    with starting():
        queue = read()
        queue.place(name)
        _write(replace(queue, entries=tuple(e for e in queue.entries if e.run != name)))


def move(name: str, by: int) -> None:
    """Move a run by so many places, towards the front if negative. Raises UserError."""
    with starting():
        queue = read()
        entries, at = list(queue.entries), queue.place(name)
        moved = entries.pop(at)
        entries.insert(max(0, at + by), moved)
        _write(replace(queue, entries=tuple(entries)))


def hold(held: bool) -> None:
    """Start no further run, or go on. A run that trains goes on either way. Raises UserError."""
    with starting():
        _write(replace(read(), held=held))


def pause(run: Run) -> None:
    """Ask a run to pause. If others wait, they are held: its user wants the card. Raises
    UserError."""
    with starting():
        run.send_command("pause")
        queue = read()
        if set(queue.names) - {run.name}:
            _write(replace(queue, held=True))


def rename(name: str, new_name: str) -> None:
    """Follow a run to its new name. A queue that cannot be read is left alone."""
    with starting(), suppress(UserError):
        queue = read()
        if name in queue.names:
            entries = (replace(e, run=new_name) if e.run == name else e for e in queue.entries)
            _write(replace(queue, entries=tuple(entries)))


def enter(run: Run) -> None:
    """Put a run in the queue for a user who wants it now: one that was started before goes before
    all that wait, and a held queue goes on with it. Raises UserError."""
    with starting():
        add(run, first=run.was_started)
        if run.was_started:
            hold(False)


def begin(run: Run, start: Starter) -> None:
    """Put a run in the queue like `enter`, and let the queue go on. Raises UserError, OSError if
    that run cannot be started."""
    problems: list[Exception] = []

    def start_one(other: Run, card: str) -> None:
        try:
            start(other, card)
        except (UserError, OSError) as error:
            if other.folder == run.folder:
                problems.append(error)
            raise

    with starting():
        enter(run)
        advance(start_one)
    if problems:
        raise problems[0]


def advance(start: Starter | None = None, ended: Run | None = None) -> list[Run]:
    """Take runs that have ended out of the queue, and start the next ones on the free cards. Return
    those that were started.

    A run that cannot be started is recorded as failed, and the next one is tried. start: starts a
    run on a card, by default `Run.start`. ended: counts as ended although its worker lives. Raises
    UserError if the queue cannot be read or written.
    """
    if not _path().exists():
        return []
    with starting():
        queue, begun = read(), []
        over = ended.name if ended else ""
        entries = [e for e in queue.entries if e.run != over and not _has_ended(e)]
        free = {} if queue.held else _free_cards(over)
        for i, entry in enumerate(entries):
            run = Run(runs_dir() / entry.run)
            if not entry.starts and run.worker() is not None:  # its user was quicker
                entries[i] = replace(entry, starts=1, card=_card_of(run))
            card = _fitting(free, run) if run.worker() is None else None
            if card is None:
                continue
            tried = replace(entry, starts=entry.starts + 1, card=card)
            try:
                (start or _start_run)(run, card)
            except WrongState as error:  # it is done, or the program was updated meanwhile
                log.warning("%s is not started: %s", run.name, error)
                entries[i] = tried if _state(run) == "done" else entry
            except (UserError, OSError) as error:
                _record(run, error)
                entries[i] = tried
            else:
                entries[i] = tried
                del free[card]
                begun.append(run)
        if tuple(entries) != queue.entries:
            _write(replace(queue, entries=tuple(entries)))
        return begun


def advance_quietly(start: Starter | None = None) -> None:
    """Call `advance`; a problem is logged, since nobody waits for an answer."""
    try:
        for run in advance(start):
            log.info("%s is next in the queue", run.name)
    except (UserError, OSError) as error:
        log.warning("the queue does not go on: %s", error)


def waiting() -> list[str]:
    """Return the names of the runs that wait for a card, in order; none if the queue cannot be
    read."""
    try:
        entries = read().entries
    except UserError:
        return []
    runs = [Run(runs_dir() / entry.run) for entry in entries if not _has_ended(entry)]
    return [run.name for run in runs if run.worker() is None]


def _path() -> Path:
    return data_dir() / "queue.json"


def _write(queue: Queue) -> None:
    files.write_json(_path(), asdict(queue))


def _state(run: Run) -> str:
    """Return a run's state; "gone" without a folder, "failed" if it cannot be read."""
    if not run.folder.is_dir():
        return "gone"
    try:
        return run.state()
    except UserError:
        return "failed"


def _has_ended(entry: Entry) -> bool:
    state = _state(Run(runs_dir() / entry.run))
    if state in ("gone", "running"):
        return state == "gone"
    if state == "crashed":
        return entry.starts >= MAX_STARTS
    return entry.starts > 0 and state in ("done", "failed", "stopped", "paused")


def _free_cards(over: str) -> dict[str, float]:
    """Return the memory in GiB of the cards without a run, by UUID; the processor's is unlimited.
    over: the name of a run that does not count."""
    cards = monitor.card_sizes_gib() or {PROCESSOR: float("inf")}
    first = next(iter(cards))
    working = [run for run in list_runs() if run.name != over and run.worker() is not None]
    taken = [_card_of(run) or first for run in working]
    return {card: size for card, size in cards.items() if card not in taken}


def _card_of(run: Run) -> str:
    """Return the UUID of the card that a run's live worker was given, "" if it was given none."""
    try:
        return str(files.read_json(run.folder / "worker.json").get("card", PROCESSOR))
    except (OSError, ValueError):
        return PROCESSOR


def _fitting(free: dict[str, float], run: Run) -> str | None:
    """Return the first free card as large as the run's budget, None without one. If no card is, it
    waits for the largest."""
    try:
        budget = run.settings().budget_gib
    except UserError:
        budget = 0.0  # starting it says why it cannot be read
    sizes = monitor.card_sizes_gib() or {PROCESSOR: float("inf")}
    enough = min(budget, max(sizes.values()))
    return next((card for card, size in free.items() if size >= enough), None)


def _record(run: Run, error: UserError | OSError) -> None:
    """Record why a run cannot be started as its end."""
    log.warning("%s cannot be started: %s", run.name, error)
    told = error if isinstance(error, UserError) else files.disk_error(run.folder, error)
    failure.record(run.folder, run.events_path, failure.failed(told))


def _start_run(run: Run, card: str) -> None:
    run.start(card)
