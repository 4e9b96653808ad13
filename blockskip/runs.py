"""A run is a folder and a state machine: create, start, pause, stop, resume, list.

No torch in here: the studio and `blockskip runs` must open at once. The work itself is done by a
child process (worker.py) that lives on when the studio or the terminal closes. It is the only
writer of `events.jsonl`; everybody else reads that file and asks for things through `control.json`.

    new → running → done | failed | paused | stopped | crashed;  all but running and done can be
    resumed
"""

from __future__ import annotations

import datetime
import os
import re
import shutil
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

import psutil
import tomli_w

from blockskip import __version__, events, files, processes
from blockskip.config import Settings, settings_from_dict, settings_to_dict
from blockskip.events import Event, UserError, command
from blockskip.place import data_dir, set_data_dir

__all__ = [
    "Run",
    "create",
    "data_dir",
    "find",
    "folder_of",
    "list_runs",
    "runs_dir",
    "set_data_dir",
]

COMMANDS = ("pause", "stop", "preview")
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
    def cache_dir(self) -> Path:
        return self.folder / "cache"

    @property
    def checkpoints_dir(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def previews_dir(self) -> Path:
        return self.folder / "previews"

    @property
    def exports_dir(self) -> Path:
        return self.folder / "exports"

    def info(self) -> dict:
        """All of run.toml: settings, started, versions, photos. Raises UserError when
        unreadable."""
        try:
            return tomllib.loads((self.folder / "run.toml").read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise UserError(
                f"Run “{self.name}” cannot be read: {error}.", "Delete the run and train again."
            ) from error

    def settings(self) -> Settings:
        """As the user chose them, with what was eased since memory ran out."""
        info = self.info()
        return settings_from_dict(info["settings"] | info.get("eased", {}))

    def ease(self, settings: Settings) -> None:
        """Go on with `settings` from now on. What the run was begun with stays on record: its
        files are known by it."""
        info, now = self.info(), settings_to_dict(settings)
        begun = settings_to_dict(settings_from_dict(info["settings"]))
        self.write_info(info | {"eased": {k: v for k, v in now.items() if v != begun[k]}})

    def write_info(self, info: dict) -> None:
        files.write_text(self.folder / "run.toml", tomli_w.dumps(info))

    def events(self, offset: int = 0) -> tuple[list[Event], int]:
        """Events from byte `offset` up to the last whole line, and the offset to go on from."""
        if not self.events_path.exists():
            return [], offset
        with open(self.events_path, "rb") as file:
            file.seek(offset)
            data = file.read()
        end = data.rfind(b"\n") + 1
        found = []
        for line in data[:end].decode("utf-8").splitlines():
            try:
                found.append(events.from_json(line))
            except ValueError:  # half a line of a killed worker, or a newer version's event
                continue
        return found, offset + end

    def append(self, event: Event) -> None:
        """Add an event. Only the worker calls this (and `start`, for a worker that never spoke).

        A killed worker may have left half a line: the new event then begins on a line of its own.
        """
        with open(self.events_path, "ab+") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                torn = file.read(1) != b"\n"
                if torn:
                    file.write(b"\n")
            file.write((events.to_json(event) + "\n").encode("utf-8"))

    def state(self) -> str:
        """new | running | paused | stopped | failed | crashed | done."""
        if self.worker() is not None:
            return "running"
        last = None
        for event in self.events()[0]:
            if isinstance(event, (events.Started, events.Stopped, events.Failed, events.Done)):
                last = event
        if last is None:
            return "new" if not (self.folder / "worker.json").exists() else "crashed"
        if isinstance(last, events.Stopped):
            return last.reason
        return {events.Done: "done", events.Failed: "failed"}.get(type(last), "crashed")

    def worker(self) -> psutil.Process | None:
        """The run's living process, recognised by its number and start time, or None."""
        return processes.living(self.folder / "worker.json")

    def start(self) -> subprocess.Popen:
        """Start (or go on with) the work in a process of its own that outlives this one.

        Raises UserError when the run is being worked on, or is done.
        """
        state = self.state()
        if state not in RESUMABLE:
            raise UserError(
                f"Run “{self.name}” is {state}.",
                "Watch it in the studio."
                if state == "running"
                else "It is finished; start a new run to train again.",
            )
        (self.folder / "control.json").unlink(missing_ok=True)
        log = self.folder / "worker.log"
        process = processes.start("blockskip.child", [str(self.folder)], log)
        files.write_json(self.folder / "worker.json", processes.identity(process.pid))
        return process

    def command(self, word: str) -> None:
        """Ask the worker for something: pause | stop | preview. Raises UserError if nothing
        runs."""
        if word not in COMMANDS:
            raise ValueError(f"command {word!r} is not one of {COMMANDS}")
        if self.worker() is None:
            raise UserError(
                f"Run “{self.name}” is not running ({self.state()}).",
                "Resume it first." if self.state() in RESUMABLE else "",
            )
        files.write_json(self.folder / "control.json", {"command": word})

    def take_command(self, words: tuple[str, ...] = COMMANDS) -> str:
        """The command waiting for the worker if it is one of `words`, else "".

        It is taken away, so that it is obeyed once.
        """
        path = self.folder / "control.json"
        if not path.exists():
            return ""
        try:
            word = files.read_json(path).get("command", "")
            if word not in words:
                return ""
            path.unlink()
            return word
        except (OSError, ValueError):  # being replaced this moment: next time
            return ""

    def size_bytes(self) -> int:
        """What the run takes on disk."""
        return sum(p.stat().st_size for p in self.folder.rglob("*") if p.is_file())


def create(settings: Settings, photos: list[Path], name: str = "") -> Run:
    """Make the folder of a new run and copy its photos (and their captions and boxes) into it.

    name: a plain name below the data folder, a path, or "" for one made from the trigger and date.
    Raises UserError when the name is taken or the disk is full.
    """
    started = datetime.datetime.now().astimezone()
    folder = folder_of(name or f"{settings.trigger}-{settings.class_name}-{started:%Y%m%d-%H%M%S}")
    if folder.exists():
        raise UserError(
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


def find(name: str) -> Run:
    """The run of that name or path. Raises UserError when there is none."""
    folder = folder_of(name)
    if not (folder / "run.toml").exists():
        known = ", ".join(run.name for run in list_runs()[:5])
        raise UserError(
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


def folder_of(name: str) -> Path:
    """Where the run of that name or path is, or would be. Raises UserError for no name at all."""
    path = Path(name).expanduser()
    if path.is_absolute() or len(path.parts) > 1:
        return path.resolve()
    if not _safe(name) or _safe(name) != name:
        raise UserError(
            f"“{name}” cannot be the name of a run.",
            "Use letters, digits, spaces, dots, dashes and underscores.",
        )
    return runs_dir() / name


def _safe(name: str) -> str:
    """A file name that every system takes: word characters of any script, blank, dot, dash."""
    return re.sub(r"[^\w .-]", "_", name).strip(" .")[:80]
