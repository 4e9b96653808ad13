"""A run is a folder and a state machine: create, start, pause, stop, resume, list.

No torch in here: the studio and `blockskip runs` must open at once. The work itself is done by a
child process (runs/worker.py) that lives on when the studio or the terminal closes. It is the only
writer of `events.jsonl`; everybody else reads that file and asks for things through `control.json`.

    new → running → done | failed | paused | stopped | crashed;  all but running can be resumed,
    done when it was given more steps
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
from blockskip.core.paths import data_dir
from blockskip.core.settings import Settings, settings_from_dict, settings_to_dict
from blockskip.runs import control, event_log

# a worker says Started first, and these only while it works: no need to look back as far as that
_WORKING = (Started, Progress, Loss, Memory)
# of a run folder: 1 has the fields of the execution plan among the settings (0e42927 and before)
FORMAT = 2
RESUMABLE = ("new", "paused", "stopped", "failed", "crashed")


def runs_dir() -> Path:
    return data_dir() / "runs"


@dataclass(frozen=True)
class Run:
    """One run folder. All paths inside are fixed (DESIGN.md §3)."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def events_path(self) -> Path:
        return self.folder / "events.jsonl"

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
        """All of run.toml: format, settings, started, versions, photos. Raises UserError when it is
        unreadable, or of a later version of this program."""
        try:
            found = tomllib.loads((self.folder / "run.toml").read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise BadFile(
                f"Run “{self.name}” cannot be read: {error}.", "Delete the run and train again."
            ) from error
        if found.get("format", 1) > FORMAT:
            raise BadFile(
                f"Run “{self.name}” was made by a later version of BlockSkip Studio.",
                "Update BlockSkip Studio.",
            )
        return found

    def settings(self) -> Settings:
        """As the user chose them, with what was eased since memory ran out, and the steps it was
        given later."""
        info = self.info()
        changed = info.get("eased", {}) | info.get("lengthened", {})
        return settings_from_dict(info["settings"]).changed(**changed)

    def apply_fallback(self, settings: Settings) -> None:
        """Go on with `settings` from now on. What the run was begun with stays on record: its
        files are known by it."""
        info, now = self.info(), settings.flat()
        begun = settings_from_dict(info["settings"]).flat()
        eased = {k: v for k, v in now.items() if v != begun[k] and k != "steps"}
        self.write_info(info | {"eased": eased})

    def fingerprint(self) -> str:
        """Of what decides what is learnt: settings, photos, model; in the header of the run's files.
        Known once its first start has looked at photos and model."""
        info = self.info()
        identity = {key: info[key] for key in ("model_fingerprint", "photos")}
        return files.fingerprint(info["settings"], identity)

    def write_info(self, info: dict) -> None:
        files.write_text(self.folder / "run.toml", tomli_w.dumps(info))

    def events(self, offset: int = 0) -> tuple[list[Event], int]:
        """Events from byte `offset` up to the last whole line, and the offset to go on from."""
        return event_log.read(self.events_path, offset)

    def append(self, event: Event) -> None:
        """Add an event. Only the worker calls this."""
        event_log.append(self.events_path, event)

    def state(self) -> str:
        """new | running | paused | stopped | failed | crashed | done."""
        if self.worker() is not None:
            return "running"
        last = event_log.last_event(self.events_path, (*_WORKING, Stopped, Failed, Done))
        if last is None:
            return "new" if not (self.folder / "worker.json").exists() else "crashed"
        if isinstance(last, Stopped):
            return last.reason
        return {Done: "done", Failed: "failed"}.get(type(last), "crashed")

    def worker(self) -> psutil.Process | None:
        """The run's living process, or None."""
        return processes.find_running(self.folder / "worker.json")

    def image_worker(self) -> psutil.Process | None:
        """The living process that makes pictures of this run (runs/image_process.py), or None."""
        return processes.find_running(self.folder / "painter.json")

    def step(self) -> int:
        """The step of the newest checkpoint: where the work goes on; 0 without one."""
        return max(map(step_of, self.checkpoints_dir.glob("step-*.safetensors")), default=0)

    def start(self) -> subprocess.Popen:
        """Start (or go on with) the work in a process of its own that outlives this one.

        Pictures being made of any run give way: a card has room for one model. Raises UserError
        when the run is being worked on, or is done.
        """
        state = self.state()
        if state == "running":
            raise WrongState(f"Run “{self.name}” is running.", "Watch it in the studio.")
        if state == "done" and self.info().get("lengthened", {}).get("steps", 0) <= self.step():
            raise WrongState(
                f"Run “{self.name}” is done.",
                f"Give it more steps: {command('resume')} {self.name} --steps N",
            )
        for run in [self, *list_runs()]:
            processes.kill(run.image_worker())
        self.control_path.unlink(missing_ok=True)
        mark = self.folder / "worker.json"
        return processes.start(
            "blockskip.runs.worker_process",
            [str(self.folder)],
            self.folder / "worker.log",
            mark=mark,
        )

    def set_total_steps(self, steps: int) -> None:
        """From the next start on, train until `steps` steps in all. What the run was begun with
        stays on record.

        The learning rate goes on as if the run had been that long from its beginning. Raises
        UserError when it is being worked on, or has learnt as many steps already.
        """
        if self.worker() is not None:
            raise WrongState(f"Run “{self.name}” is running.", "Pause it first.")
        learnt = self.step()
        if steps <= learnt:
            raise BadInput(
                f"Run “{self.name}” has learnt {learnt} steps already.",
                f"Choose more than {learnt} steps in all.",
            )
        self.write_info(self.info() | {"lengthened": {"steps": steps}})

    def resume_until(self, steps: int) -> subprocess.Popen:
        """Go on to `steps` steps in all from the newest checkpoint. Raises UserError as
        `set_total_steps` and `start` do."""
        self.set_total_steps(steps)
        return self.start()

    def send_command(self, word: str, prompts: Sequence[str] = ()) -> None:
        """Ask the worker for something: pause | stop | preview. prompts: for a preview of these
        instead of the run's own. Raises UserError if nothing runs, it was told to end, or a prompt
        cannot be used."""
        if self.worker() is None:
            raise WrongState(
                f"Run “{self.name}” is not running ({self.state()}).",
                "Resume it first." if self.state() in RESUMABLE else "",
            )
        control.send(self.control_path, word, prompts)

    def take_command(self, words: Sequence[str] = control.COMMANDS) -> str:
        """The command waiting for the worker if it is one of `words`, else "". It is taken away, so
        that it is obeyed once."""
        return self.take_request(words).get("command", "")

    def take_request(self, words: Sequence[str] = control.COMMANDS) -> dict:
        """As `take_command`, with all that was said: command, prompts; {} for none."""
        return control.take(self.control_path, words)

    def size_bytes(self) -> int:
        """What the run takes on disk; a file that goes meanwhile counts nothing."""
        total = 0
        for folder, _, names in os.walk(self.folder):
            for name in names:
                with suppress(OSError):
                    total += os.stat(os.path.join(folder, name)).st_size
        return total


def step_of(path: Path) -> int:
    """The optimiser step in the name of a checkpoint, an adapter or a folder of previews."""
    return int(path.stem.split("-")[1])


def create_run(settings: Settings, photos: list[Path], name: str = "") -> Run:
    """Make the folder of a new run and copy its photos (and their captions and boxes) into it.

    name: a plain name below the data folder, a path, or "" for one made from the trigger and date.
    Raises UserError when the name is taken or the disk is full.
    """
    started = datetime.datetime.now().astimezone()
    folder = run_folder(name or f"{settings.trigger}-{settings.class_name}-{started:%Y%m%d-%H%M%S}")
    if folder.exists():
        raise BadInput(
            f"There is already a run called “{folder.name}” ({folder}).",
            f"Choose another name with --out, or go on with it: {command('resume')} {folder.name}",
        )
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
    """The run of that name or path. Raises UserError when there is none."""
    folder = run_folder(name)
    if not (folder / "run.toml").exists():
        known = ", ".join(run.name for run in list_runs()[:5])
        raise NotFound(
            f"There is no run called “{name}”.",
            f"The latest runs are: {known}." if known else "No run has been made yet.",
        )
    return Run(folder)


def list_runs() -> list[Run]:
    """All runs below the data folder, newest first."""
    if not runs_dir().exists():
        return []
    found = [p.parent for p in runs_dir().glob("*/run.toml")]
    return [
        Run(p) for p in sorted(found, key=lambda p: (p / "run.toml").stat().st_ctime, reverse=True)
    ]


def run_folder(name: str) -> Path:
    """Where the run of that name or path is, or would be. Raises UserError for no name at all."""
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
    """A file name that every system takes: word characters of any script, blank, dot, dash."""
    return re.sub(r"[^\w .-]", "_", name).strip(" .")[:80]
