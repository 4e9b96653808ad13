"""A run is a folder and a state machine: create, start, pause, stop, resume, list.

A child process (runs/worker.py) does the work and survives the studio and the terminal. It is the
only writer of `events.jsonl`. Other processes read that file and send commands through
`control.json`. Does not import torch, so that the studio and `blockskip runs` open at once.

    new → running → done | failed | paused | stopped | crashed;  all but running can be resumed,
    done only after adding steps
"""

from __future__ import annotations

import datetime
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import tomli_w

from blockskip import __version__
from blockskip.core import files, processes
from blockskip.core.errors import BadFile, BadInput, NotFound, UserError, WrongState, command
from blockskip.core.events import Done, Event, Failed, Loss, Memory, Progress, Started, Stopped
from blockskip.core.paths import data_dir, make_data_dir
from blockskip.core.settings import Settings, settings_from_dict, settings_to_dict
from blockskip.runs import control, event_log
from blockskip.runs.start_gate import starting

# written only by a running worker; the last of them is closer to the end of the log than Started
_WORKING = (Started, Progress, Loss, Memory)
# of run.toml; in format 1 the execution plan's fields are flat settings (0e42927 and before)
FORMAT = 2
RESUMABLE = ("new", "paused", "stopped", "failed", "crashed")
WORKER = "blockskip.runs.worker_entry"


def runs_dir() -> Path:
    return data_dir() / "runs"


@dataclass(frozen=True)
class Run:
    """One run's folder, with fixed paths inside (DESIGN.md §3)."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def events_path(self) -> Path:
        return self.folder / "events.jsonl"

    @property
    def lock_path(self) -> Path:
        """The file that the run's worker locks as long as it lives."""
        return self.folder / "worker.lock"

    @property
    def was_started(self) -> bool:
        """Whether a worker has ever begun."""
        return self.lock_path.exists() or (self.folder / "worker.json").exists()

    @property
    def photos_dir(self) -> Path:
        return self.folder / "photos"

    @property
    def control_path(self) -> Path:
        return self.folder / "control.json"

    @property
    def cache_dir(self) -> Path:
        return self.folder / "cache"

    @property
    def checkpoints_dir(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def previews_dir(self) -> Path:
        return self.folder / "previews"

    @property
    def adapters_dir(self) -> Path:
        return self.folder / "adapters"

    @property
    def pictures_dir(self) -> Path:
        return self.folder / "pictures"

    @property
    def exports_dir(self) -> Path:
        return self.folder / "exports"

    def info(self) -> dict:
        """Read run.toml: format, settings, started, versions, photos. Raises UserError if it is
        unreadable or from a later version of this program."""
        try:
            info = tomllib.loads((self.folder / "run.toml").read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise BadFile(
                f"Run “{self.name}” cannot be read: {error}.", "Delete the run and train again."
            ) from error
        if info.get("format", 1) > FORMAT:
            raise BadFile(
                f"Run “{self.name}” was made by a later version of BlockSkip Studio.",
                "Update BlockSkip Studio.",
            )
        return info

    def settings(self) -> Settings:
        """Return the user's settings with later changes: out-of-memory fallbacks and added
        steps."""
        info = self.info()
        changed = info.get("eased", {}) | info.get("lengthened", {})
        return settings_from_dict(info["settings"]).changed(**changed)

    def apply_fallback(self, settings: Settings) -> None:
        """Record `settings` for the rest of the run.

        The original settings stay on record, since the fingerprint depends on them.
        """
        info, now = self.info(), settings.flat()
        original = settings_from_dict(info["settings"]).flat()
        changed = {k: v for k, v in now.items() if v != original[k] and k != "steps"}
        self.write_info(info | {"eased": changed})

    def fingerprint(self) -> str:
        """Return a hash of the settings, photos and model, as stored in the run's files.

        It is available once the first start has recorded photos and model.
        """
        info = self.info()
        identity = {key: info[key] for key in ("model_fingerprint", "photos")}
        return files.fingerprint(info["settings"], identity)

    def write_info(self, info: dict) -> None:
        files.write_text(self.folder / "run.toml", tomli_w.dumps(info))

    def events(self, offset: int = 0) -> tuple[list[Event], int]:
        """Return the events from byte `offset` to the last complete line, and the next offset."""
        return event_log.read(self.events_path, offset)

    def append(self, event: Event) -> None:
        """Append an event. Only the worker calls this."""
        event_log.append(self.events_path, event)

    def state(self) -> str:
        """Return new | running | paused | stopped | failed | crashed | done."""
        if self.worker() is not None:
            return "running"
        last = event_log.last_event(self.events_path, (*_WORKING, Stopped, Failed, Done))
        if last is None:
            return "crashed" if self.was_started else "new"
        if isinstance(last, Stopped):
            return last.reason
        return {Done: "done", Failed: "failed"}.get(type(last), "crashed")

    def worker(self) -> psutil.Process | None:
        """Return the run's live process, or None."""
        return processes.holder(self.lock_path, self.folder / "worker.json")

    def image_worker(self) -> psutil.Process | None:
        """Return the live process that generates this run's pictures (runs/image_process.py), or
        None."""
        return processes.holder(self.pictures_dir / "lock", self.folder / "painter.json")

    def step(self) -> int:
        """Return the step of the newest checkpoint, where training resumes, or 0 without one."""
        return max(map(step_of, self.checkpoints_dir.glob("step-*.safetensors")), default=0)

    def start(self) -> subprocess.Popen:
        """Start or resume the run in a detached process, and return once it holds the run's lock.

        Stops workers that generate pictures of any run, since a card has room for only one model.
        Raises UserError if the run is running or done.
        """
        with starting():
            info, state = self.info(), self.state()
            if state == "running":
                raise self._running()
            if state == "done" and info.get("lengthened", {}).get("steps", 0) <= self.step():
                raise WrongState(
                    f"Run “{self.name}” is done.",
                    f"Give it more steps: {command('resume')} {self.name} --steps N",
                )
            self.control_path.unlink(missing_ok=True)
            self.lock_path.touch()  # also a worker that dies at once has begun
            log = self.folder / "worker.log"
            process = processes.start_holder(WORKER, [str(self.folder)], log)
            if process is None:
                raise self._running()
            for run in [self, *list_runs()]:  # new ones see this worker and wait
                processes.kill(run.image_worker())
            return process

    def _running(self) -> WrongState:
        return WrongState(f"Run “{self.name}” is running.", "Watch it in the studio.")

    def set_total_steps(self, steps: int) -> None:
        """Change the total number of steps, with effect from the next start.

        The original settings stay on record. The learning rate continues as if the run had been
        that long from the start. Raises UserError if the run is running or has already trained for
        as many steps.
        """
        with starting():
            if self.worker() is not None:
                raise WrongState(f"Run “{self.name}” is running.", "Pause it first.")
            done = self.step()
            if steps <= done:
                raise BadInput(
                    f"Run “{self.name}” has already trained for {done} steps.",
                    f"Choose more than {done} steps in all.",
                )
            self.write_info(self.info() | {"lengthened": {"steps": steps}})

    def resume_until(self, steps: int) -> subprocess.Popen:
        """Resume from the newest checkpoint until `steps` steps in total. Raises UserError like
        `set_total_steps` and `start`."""
        with starting():
            self.set_total_steps(steps)
            return self.start()

    def send_command(self, word: str, prompts: Sequence[str] = ()) -> None:
        """Send pause | stop | preview to the worker. prompts: for a preview, instead of the run's
        own.

        Raises UserError if the run is not running, was already asked to end, or a prompt is
        invalid.
        """
        if self.worker() is None:
            raise WrongState(
                f"Run “{self.name}” is not running ({self.state()}).",
                "Resume it first." if self.state() in RESUMABLE else "",
            )
        control.send(self.control_path, word, prompts)

    def take_command(self, words: Sequence[str] = control.COMMANDS) -> str:
        """Remove and return the pending command if it is one of `words`, else ""."""
        return self.take_request(words).get("command", "")

    def take_request(self, words: Sequence[str] = control.COMMANDS) -> dict:
        """Remove and return the pending request (command, prompts) like `take_command`, else {}."""
        return control.take(self.control_path, words)

    def size_bytes(self) -> int:
        """Return the run's size on disk, ignoring files deleted meanwhile."""
        total = 0
        for folder, _, names in os.walk(self.folder):
            for name in names:
                with suppress(OSError):
                    total += os.stat(os.path.join(folder, name)).st_size
        return total


def step_of(path: Path) -> int:
    """Return the optimiser step in the name of a checkpoint, an adapter or a preview folder."""
    return int(path.stem.split("-")[1])


def create_run(settings: Settings, photos: list[Path], name: str = "") -> Run:
    """Create the folder of a new run, and copy its photos with their captions and boxes into it.

    name: a name in the data folder, a path, or "" for a name from trigger, class and date. Raises
    UserError if the name is taken or the disk is full.
    """
    started = datetime.datetime.now().astimezone()
    folder = run_folder(name or f"{settings.trigger}-{settings.class_name}-{started:%Y%m%d-%H%M%S}")
    if folder.exists():
        raise BadInput(
            f"There is already a run called “{folder.name}” ({folder}).",
            f"Choose another name with --out, or continue it: {command('resume')} {folder.name}",
        )
    make_data_dir()
    run = Run(folder)
    try:
        run.photos_dir.mkdir(parents=True)
        for index, photo in enumerate(photos):
            target = run.photos_dir / f"{index:03d}-{_safe(photo.stem)}{photo.suffix.lower()}"
            shutil.copyfile(photo, target)
            for suffix in (".txt", ".box.json"):
                if photo.with_suffix(suffix).exists():
                    shutil.copyfile(photo.with_suffix(suffix), target.with_suffix(suffix))
        run.write_info(
            {
                "format": FORMAT,
                "version": __version__,
                "started": started.isoformat(timespec="seconds"),
                "settings": settings_to_dict(settings),
            }
        )
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise files.disk_error(folder, error) from error
    except UserError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return run


def find_run(name: str) -> Run:
    """Return the run with a name or path. Raises UserError if there is none."""
    folder = run_folder(name)
    if not (folder / "run.toml").exists():
        known = ", ".join(run.name for run in list_runs()[:5])
        raise NotFound(
            f"There is no run called “{name}”.",
            f"The latest runs are: {known}." if known else "No run has been made yet.",
        )
    return Run(folder)


def list_runs() -> list[Run]:
    """Return all runs in the data folder, newest first."""
    if not runs_dir().exists():
        return []
    paths = runs_dir().glob("*/run.toml")
    return [Run(p.parent) for p in sorted(paths, key=lambda p: p.stat().st_ctime, reverse=True)]


def run_folder(name: str) -> Path:
    """Return the folder for a run's name or path, which need not exist. Raises UserError for an
    invalid name."""
    path = Path(name).expanduser()
    if path.is_absolute() or len(path.parts) > 1:
        return path.resolve()
    if not _safe(name) or _safe(name) != name:
        raise BadInput(
            f"“{name}” cannot be the name of a run.",
            "Use letters, digits, spaces, dots, dashes and underscores.",
        )
    return runs_dir() / name


def _safe(name: str) -> str:
    """Return a file name valid on every system: word characters of any script, blank, dot, dash."""
    return re.sub(r"[^\w .-]", "_", name).strip(" .")[:80]
