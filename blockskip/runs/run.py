"""A run is a folder and a state machine: create, start, pause, stop, resume, list.

A child process (runs/worker.py) does the work and survives the studio and the terminal. It is the
only writer of `events.jsonl`. Other processes read that file and send commands through
`control.json`. Does not import torch, so that the studio and `blockskip runs` open at once.

    new → running → done | failed | paused | stopped | crashed;  all but running can be resumed,
    done only after adding steps
"""

from __future__ import annotations

import datetime
import secrets
import subprocess
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
import tomli_w

from blockskip import __version__
from blockskip.core import files, names, processes
from blockskip.core.errors import BadInput, NotFound, WrongState
from blockskip.core.events import Done, Event, Failed, Loss, Memory, Progress, Started, Stopped
from blockskip.core.paths import make_data_dir
from blockskip.core.settings import Settings, settings_to_dict
from blockskip.data.subject_boxes import Box
from blockskip.runs import control, event_log, failure, folders, run_file, run_start
from blockskip.runs.folders import exists, run_folder, runs_dir
from blockskip.runs.photo_copies import copy_photos
from blockskip.runs.run_file import FORMAT
from blockskip.runs.start_gate import starting

# written only by a running worker; the last of them is closer to the end of the log than Started
_WORKING = (Started, Progress, Loss, Memory)
RESUMABLE = ("new", "paused", "stopped", "failed", "crashed")
WORKER = "blockskip.runs.worker_entry"


@dataclass(frozen=True)
class Run:
    """One run's folder, with fixed paths inside (DESIGN.md §3)."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder's name as it can be shown, by which the run is found."""
        return names.shown_name(self.folder.name)

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
    def held_out_dir(self) -> Path:
        """The folder of photos that training never sees (data/held_out.py); it need not exist."""
        return self.folder / "held_out"

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
    def likeness_dir(self) -> Path:
        return self.folder / "likeness"

    @property
    def exports_dir(self) -> Path:
        return self.folder / "exports"

    def export_path(self, suffix: str = "") -> Path:
        """Return the path of the LoRA file that is named after the run."""
        return self.exports_dir / f"{names.safe_name(self.name, 'lora')}{suffix}.safetensors"

    def info(self) -> dict:
        """Read run.toml (runs/run_file.py). Raises UserError if it is unreadable or from a later
        version of this program."""
        return run_file.read(self.folder)

    def settings(self, original: bool = False) -> Settings:
        """Return the user's settings with later changes: out-of-memory fallbacks and added
        steps. original: without those. Raises UserError like `info`."""
        return run_file.read_settings(self.folder, original)

    def apply_fallback(self, settings: Settings) -> None:
        """Record `settings` for the rest of the run.

        The original settings stay on record, since the fingerprint depends on them.
        """
        info, now = self.info(), settings.flat()
        original = self.settings(original=True).flat()
        changed = {k: v for k, v in now.items() if v != original[k] and k != "steps"}
        self.write_info(info | {"eased": changed})

    def forget_fallbacks(self) -> None:
        """Return to the original settings, from the next start. Raises UserError if the run is
        running."""
        with starting():
            if self.worker() is not None:
                raise run_start.is_running(self)
            self.write_info({key: v for key, v in self.info().items() if key != "eased"})

    def fingerprint(self) -> str:
        """Return a hash of the settings, photos and model, as stored in the run's files.

        It is available once the first start has recorded photos and model.
        """
        info = self.info()
        if "photos" not in info:
            raise WrongState(f"Run “{self.name}” was never started.", "Start it first.")
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
        """Return new | running | paused | stopped | failed | crashed | done. Raises UserError if
        the log cannot be read."""
        if self.worker() is not None:
            return "running"
        if failure.read(self.folder) is not None:
            return "failed"
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
        """Return the step of the newest checkpoint, or 0 without one. Training resumes there,
        unless the file is damaged."""
        return max(folders.by_step(self.checkpoints_dir), default=0)

    def start(self, card: str = "", stays: bool = False) -> subprocess.Popen | None:
        """Start or resume the run in a detached process, and return once that holds the run's lock.
        Returns None if it is one that waited with the model open.

        card: the UUID of the card to use, "" for this process's. stays: the process may wait for
        another run at its end. Raises UserError if the run is running or done.
        """
        begin = partial(run_start.begin_elsewhere, self, WORKER, card, stays)
        return run_start.start(self, list_runs(), begin)

    def set_total_steps(self, steps: int) -> None:
        """Change the total number of steps, with effect from the next start.

        The original settings stay on record. The learning rate continues as if the run had been
        that long from the start. Raises UserError if the run is running or has already trained for
        as many steps.
        """
        with starting():
            if self.worker() is not None:
                raise WrongState(f"Run “{self.name}” is running.", "Pause it first.")
            self.settings()
            done = self.step()
            if steps <= done:
                raise BadInput(
                    f"Run “{self.name}” has already trained for {done} steps.",
                    f"Choose more than {done} steps in all.",
                )
            self.write_info(self.info() | {"lengthened": {"steps": steps}})

    def resume_until(self, steps: int) -> subprocess.Popen | None:
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
        return files.folder_size(self.folder)


def create_run(
    settings: Settings,
    photos: list[Path],
    name: str = "",
    frames: Mapping[Path, Box] | None = None,
    held_out: Collection[Path] = (),
) -> Run:
    """Create the folder of a new run, and copy its photos with their boxes into it. Their captions
    are completed by the trigger (data/captions.py) and written beside the copies.

    name: a name in the data folder, a path, or "" for a name from trigger, class and date. frames:
    boxes that were found, for photos without a box file. held_out: those of the photos that
    training shall not see. Raises UserError if all photos are held out, the name is taken or the
    disk is full.
    """
    if held_out and set(photos) <= set(held_out):
        raise BadInput("No photo is left to train on.", "Hold out fewer photos.")
    started = datetime.datetime.now().astimezone()
    folder = run_folder(name or str(runs_dir() / folders.automatic_name(settings, started)))
    if name:
        folders.check_new(name)
    make_data_dir()
    try:
        with files.temporary_folder(folder.with_name(f"run-{secrets.token_hex(4)}")) as unfinished:
            new = Run(unfinished)
            new.photos_dir.mkdir(parents=True)
            copies = {
                path: new.held_out_dir if path in held_out else new.photos_dir for path in photos
            }
            copy_photos(copies, settings, frames or {})
            _write_new_info(new, settings, started, len(held_out))
            return Run(folders.claim(unfinished, folder, automatic=not name))
    except OSError as error:
        raise files.disk_error(folder, error) from error


def _write_new_info(
    run: Run, settings: Settings, started: datetime.datetime, num_held_out: int
) -> None:
    info = {
        "format": FORMAT,
        "version": __version__,
        "started": started.isoformat(timespec="seconds"),
        "settings": settings_to_dict(settings),
    }
    run.write_info(info | ({"held_out": num_held_out} if num_held_out else {}))


def find_run(name: str) -> Run:
    """Return the listed run of a name, or the run in a path. Raises UserError if there is none."""
    runs = list_runs()
    composed = unicodedata.normalize("NFC", name)  # macOS may list another composition than typed
    for run in runs:
        if name == run.name or composed == unicodedata.normalize("NFC", run.name):
            return run
    folder = run_folder(name)
    if not (exists(folder / "run.toml") or Run(folder) in runs):
        known = ", ".join(run.name for run in runs[:5])
        raise NotFound(
            f"There is no run called “{names.shown_name(name)}”.",
            f"The latest runs are: {known}." if known else "No run has been made yet.",
        )
    return Run(folder)


def list_runs() -> list[Run]:
    """Return all runs in the data folder, newest first, also unreadable ones."""
    return [Run(folder) for folder in folders.run_folders(runs_dir())]
