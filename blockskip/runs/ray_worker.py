"""The actors of a batch on Ray (cli/ray_batch.py): one that trains on each card, one that keeps files.

A trainer works in the run's folder if it can see it, as on one machine or a shared drive. Otherwise
it works in a copy, and sends the files that change to the keeper, which runs where the batch was
started. A trainer whose machine is lost is started again elsewhere by Ray, and its run goes on from
the last checkpoint that the keeper has.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from blockskip.core import files, processes
from blockskip.core.errors import UserError
from blockskip.core.shortage import as_user_error
from blockskip.runs import failure, next_run, vanished
from blockskip.runs.run import Run

SENT_EVERY_S = 2.0
MARK = "batch.mark"  # in a run's folder while its batch goes on: says that two folders are one
# written by whoever works on a folder
_LEFT_OUT = ("cache", "worker.lock", "worker.json", "control.json", MARK)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A run to train. folder: as the machine names it on which the batch was started. mark: content
    of MARK there."""

    folder: str
    mark: str

    @property
    def name(self) -> str:
        return Path(self.folder).name


class Keeper:
    """Keeps the runs' folders, on the machine where the batch was started."""

    def __init__(self) -> None:
        self._held: dict[str, ExitStack] = {}

    def begin(self, folder: str) -> dict[str, bytes]:
        """Hold a run's lock for the trainer of a copy, which may be a second one after a first was
        lost. Return the run's files."""
        if folder not in self._held:
            stack = self._held[folder] = ExitStack()
            run = Run(Path(folder))
            if stack.enter_context(processes.held(run.lock_path)):
                next_run.mark_begun(run)
        return self.read(folder)

    def end(self, folder: str) -> None:
        """Let go of a run's lock."""
        self._held.pop(folder, ExitStack()).close()

    def read(self, folder: str) -> dict[str, bytes]:
        """Return a run's files by their paths in its folder."""
        root = Path(folder)
        return {name: (root / name).read_bytes() for name in _states(root)}

    def write(self, folder: str, changed: dict[str, bytes], gone: list[str]) -> None:
        """Write files of a run that changed, and delete those that are gone."""
        root = Path(folder).resolve()
        for name in filter(partial(_belongs, root), changed):
            files.write_bytes(root / name, changed[name])
        for name in filter(partial(_belongs, root), gone):
            files.remove(root / name)


class Trainer:
    """Trains one run after the other on a card, and keeps the model open between them."""

    def __init__(self, keeper: str) -> None:
        """keeper: name of the Keeper's actor."""
        from blockskip.runs.kept_model import KeptModel

        logging.basicConfig(level=logging.INFO)
        self._keeper, self._kept = keeper, KeptModel()
        self._run: Run | None = None
        self._stopped = False

    def train(self, job: Job) -> int:
        """Train a run to its end. Returns the exit code of a worker, or that it was stopped."""
        from blockskip.runs.worker_entry import PAUSED

        if self._stopped:
            return PAUSED
        with self._folder(job) as folder:
            self._run = Run(folder)
            try:
                return _work(self._run, self._kept)
            finally:
                self._run = None

    def stop(self) -> None:
        """Pause what is trained, and begin nothing more."""
        self._stopped = True
        if self._run is not None:
            with contextlib.suppress(UserError):
                self._run.send_command("pause")

    def _ask(self, what: str, *values: object) -> Any:
        """Call a method of the Keeper and return its answer."""
        import ray

        keeper = ray.get_actor(self._keeper)
        return ray.get(getattr(keeper, what).remote(*values))

    @contextmanager
    def _folder(self, job: Job) -> Iterator[Path]:
        """Context manager of the folder in which a run is trained."""
        with contextlib.suppress(OSError):
            if (Path(job.folder) / MARK).read_text("utf-8") == job.mark:
                yield Path(job.folder)
                return
        with tempfile.TemporaryDirectory(prefix="blockskip-", ignore_cleanup_errors=True) as place:
            folder = Path(place) / job.name
            for name, data in self._ask("begin", job.folder).items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(data)
            try:
                with self._sent(job, folder):
                    yield folder
            finally:
                self._ask("end", job.folder)

    @contextmanager
    def _sent(self, job: Job, folder: Path) -> Iterator[None]:
        """Context manager: send what changes in a copy of the run's folder, and the rest at the end."""
        over, known = threading.Event(), _states(folder)

        def send() -> None:
            nonlocal known
            now = _states(folder)
            changed = {}
            for name in [name for name, state in now.items() if known.get(name) != state]:
                with contextlib.suppress(FileNotFoundError):  # replaced by a newer one meanwhile
                    changed[name] = (folder / name).read_bytes()
            gone = [name for name in known if name not in now]
            if changed or gone:
                self._ask("write", job.folder, changed, gone)
            known = {name: state for name, state in now.items() if name in changed or name in known}

        def send_now_and_then() -> None:
            while not over.wait(SENT_EVERY_S):
                with contextlib.suppress(OSError):
                    send()

        thread = threading.Thread(target=send_now_and_then, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            send()


def _work(run: Run, kept: Any) -> int:
    """Work on a run in this process, as runs/worker_entry.py does in its own."""
    from blockskip.runs import worker_process

    killed_in = vanished.stage_without_ram(run)  # of the worker before
    try:
        with processes.held(run.lock_path) as ours:
            if not ours:
                return 1
            next_run.mark_begun(run)
            return worker_process.main(str(run.folder), killed_in, kept)
    except Exception as error:
        log.exception("failed")
        end = failure.failed(as_user_error(error, run.folder / "worker.log"))
        failure.record(run.folder, run.events_path, end)
        return 1


def _belongs(root: Path, name: str) -> bool:
    """Return whether a file is one that a run keeps, within its folder."""
    path = (root / name).resolve()
    return (
        path.is_relative_to(root)
        and path != root
        and path.relative_to(root).parts[0] not in _LEFT_OUT
    )


def _states(folder: Path) -> dict[str, tuple[int, int]]:
    """Return (size, time of change) of each file that is kept, by its path in the folder."""
    found = {}
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _LEFT_OUT]
        for path in (Path(root) / name for name in names):
            if path.name not in _LEFT_OUT and path.suffix not in (".tmp", ".part"):
                with contextlib.suppress(FileNotFoundError):
                    stat = path.stat()
                    relative = path.relative_to(folder).as_posix()
                    found[relative] = stat.st_size, stat.st_mtime_ns
    return found


def new_mark(folder: Path, words: str) -> Job:
    """Mark a run's folder for the batch that begins. words: the batch's own. Raises UserError."""
    files.write_text(folder / MARK, words)
    return Job(str(folder), words)


def remove_mark(job: Job) -> None:
    files.remove(Path(job.folder) / MARK)
