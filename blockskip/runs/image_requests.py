"""A queue of requested pictures of a run, one folder per request.

    pictures/<id>/request.json   prompt, seed, strength, step, time, state, title, remedy, n, total
    pictures/<id>/base.png       from the untrained model
    pictures/<id>/tuned.png      from the same noise, with the LoRA

A child process (runs/image_process.py) works through pending requests and ends. If it is killed,
the next one continues. During training, the run generates pictures itself
(`Run.send_command("preview", prompts)`), since a card has room for only one model. Does not import
torch.
"""

from __future__ import annotations

import io
import math
import os
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydantic import Field

from blockskip.core import events, files, idle_worker, processes
from blockskip.core.errors import BadFile, BadInput, NotFound, UserError, WrongState
from blockskip.core.shortage import of_exit_code
from blockskip.runs import checkpoints, control
from blockskip.runs.run import Run, list_runs

MAX_STRENGTH = 2.0
MAX_SEED = 2**32 - 1
PENDING_STATES = ("waiting", "working")
_workers: dict[Path, subprocess.Popen] = {}  # started by this process, by run folder
_ID = re.compile(r"[0-9]{13}-[0-9a-f]{4}")
# (prompts, seeds, step, strength) → pictures; strength 0 means the untrained model
GenerateFn = Callable[[list[str], list[int], int, float], list[Image.Image]]


@dataclass(frozen=True, kw_only=True)
class ImageRequest:
    """A request for two pictures. state: waiting | working | done | failed. title, remedy: reason
    of a failure. n: finished pictures of total, the untrained model's first. time: seconds since
    the epoch."""

    prompt: str
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)]
    strength: Annotated[float, Field(ge=0, le=MAX_STRENGTH)]
    step: events.Count
    time: events.Real
    state: Literal["waiting", "working", "done", "failed"] = "waiting"
    title: str = ""
    remedy: str = ""
    n: events.Count = 0
    total: events.Count = 2
    folder: Path = Path()

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def base_path(self) -> Path | None:
        """The untrained model's picture, None until it exists."""
        return self.folder / "base.png" if self.n > 0 else None

    @property
    def tuned_path(self) -> Path | None:
        """The picture with the LoRA, None until it exists."""
        return self.folder / "tuned.png" if self.n > 1 else None


def submit(
    run: Run, prompt: str, seed: int = 0, strength: float = 1.0, step: int | None = None
) -> str:
    """Submit a request for a pair of pictures and return its id.

    strength: factor of the LoRA, 0 to 2. step: a saved step, None for the last. Raises UserError
    for invalid values, while a run is training, or while pictures of another run are generated.
    """
    for other in [run, *list_runs()]:
        if other.worker() is not None:
            raise WrongState(
                f"Run “{other.name}” is training: there is room for one model at a time.",
                "Pause it, or wait until it is done.",
            )
        if other.folder != run.folder and other.image_worker() is not None:
            raise WrongState(
                f"Pictures of run “{other.name}” are being made.", "Wait for them, or cancel them."
            )
    _fail_killed(run)
    request = enqueue(run, prompt, seed, strength, checkpoints.checked_step(run, step))
    ensure_worker(run)
    return request.id


def enqueue(run: Run, prompt: str, seed: int, strength: float, step: int) -> ImageRequest:
    """Store a request without starting a worker. Raises UserError for invalid values."""
    prompt = control.checked_prompt(prompt)
    if not (math.isfinite(strength) and 0 <= strength <= MAX_STRENGTH):
        raise BadInput(
            f"A strength of {strength:g} cannot be used.", f"Choose 0 to {MAX_STRENGTH:g}."
        )
    if not 0 <= seed <= MAX_SEED:
        raise BadInput(f"The seed {seed} cannot be used.", f"Choose 0 to {MAX_SEED}.")
    now = time.time()
    last = max((int(folder.name[:13]) for folder in _folders(run)), default=0)
    # names keep the order even if the clock is coarse
    number = max(int(now * 1000), last + 1)
    folder = run.pictures_dir / f"{number:013d}-{secrets.token_hex(2)}"
    request = ImageRequest(
        prompt=prompt, seed=int(seed), strength=float(strength), step=step, time=now, folder=folder
    )
    _save(request)
    return request


def ensure_worker(run: Run) -> None:
    """Start a worker if requests are pending and none is running.

    A worker checks again after releasing the lock, so that no request is missed.
    """
    if processes.is_locked(lock(run)):
        return
    _fail_killed(run)
    if pending(run):
        idle_worker.free()
        child = processes.start_holder(
            "blockskip.runs.image_process", [str(run.folder)], run.folder / "painter.log"
        )
        if child is not None:
            _workers[run.folder] = child


def _fail_killed(run: Run) -> None:
    """Fail the requests at which the system killed a worker, which would happen to the next one
    too."""
    codes = {folder: worker.poll() for folder, worker in list(_workers.items())}  # reaps all
    code = codes.get(run.folder)
    if code is None:
        return
    del _workers[run.folder]
    if (short := of_exit_code(code, "the sampling of pictures")) is not None:
        waiting = pending(run)
        begun = [picture for picture in waiting if picture.state == "working"]
        mark_failed(run, begun or waiting, short)


def lock(run: Run) -> Path:
    """Return the lock file held by the worker that generates a run's pictures."""
    return run.pictures_dir / "lock"


def pending(run: Run) -> Sequence[ImageRequest]:
    """Return unfinished requests, oldest first."""
    return [picture for picture in reversed(all_requests(run)) if picture.state in PENDING_STATES]


def cancel(run: Run) -> int:
    """Stop the worker and delete pending requests. Returns their number. Finished ones remain."""
    processes.kill(run.image_worker())
    cancelled = pending(run)
    for picture in cancelled:
        shutil.rmtree(picture.folder, ignore_errors=True)
    return len(cancelled)


def delete(run: Run, id: str) -> None:
    """Delete a request and its pictures, if it still exists. Raises UserError for an invalid id or
    a file in use."""
    if not _ID.fullmatch(id):
        raise NotFound(f"There is no picture called “{id}”.", "Choose one of those shown.")
    try:
        shutil.rmtree(run.pictures_dir / id)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise BadFile(
            f"{error.filename or id} could not be deleted.",
            "Close programs that show it, then delete it again.",
        ) from error


def process(run: Run, requests: Sequence[ImageRequest], generate: GenerateFn) -> None:
    """Generate the pictures of requests, as many as possible together, each pair from one noise.

    Raises the errors of `generate`, after which finished pictures remain.
    """
    for request in requests:
        _update(request, state="working")
    by_noise = {(p.prompt, p.seed): p for p in requests}
    bases = {
        (p.prompt, p.seed): p.base_path.read_bytes()
        for p in all_requests(run)
        if (p.prompt, p.seed) in by_noise and p.base_path is not None and p.base_path.exists()
    }
    wanted = [p for key, p in by_noise.items() if key not in bases]
    if wanted:
        images = generate([p.prompt for p in wanted], [p.seed for p in wanted], wanted[0].step, 0.0)
        for p, image in zip(wanted, images, strict=True):
            bases[p.prompt, p.seed] = png_bytes(image, p.prompt, p.seed)
    for p in requests:
        _write_image(p, "base.png", bases[p.prompt, p.seed])
        _update(p, state="working", n=1)
    for step, strength in sorted({(p.step, p.strength) for p in requests}):
        batch = [p for p in requests if (p.step, p.strength) == (step, strength)]
        images = generate([p.prompt for p in batch], [p.seed for p in batch], step, strength)
        for p, image in zip(batch, images, strict=True):
            _write_image(p, "tuned.png", png_bytes(image, p.prompt, p.seed))
            _update(p, state="done", n=2)


def mark_failed(run: Run, requests: Sequence[ImageRequest], error: UserError) -> None:
    """Mark the unfinished ones of the requests as failed, with the error."""
    ids = {request.id for request in requests}
    for picture in pending(run):
        if picture.id in ids:
            _update(picture, state="failed", title=error.title, remedy=error.remedy)


def png_bytes(image: Image.Image, prompt: str, seed: int) -> bytes:
    """Encode a picture as PNG, with prompt and seed as metadata."""
    note, data = PngInfo(), io.BytesIO()
    note.add_itxt("prompt", prompt)
    note.add_text("seed", str(seed))
    image.save(data, "PNG", pnginfo=note)
    return data.getvalue()


def _write_image(picture: ImageRequest, name: str, data: bytes) -> None:
    if picture.folder.exists():  # it may have been deleted meanwhile
        files.write_bytes(picture.folder / name, data)


def _update(picture: ImageRequest, **changes: Any) -> None:
    if (picture.folder / "request.json").exists():
        _save(replace(_read(picture.folder) or picture, **changes))


def _save(picture: ImageRequest) -> None:
    data = {f.name: getattr(picture, f.name) for f in fields(ImageRequest) if f.name != "folder"}
    files.write_json(picture.folder / "request.json", data)


def _read(folder: Path) -> ImageRequest | None:
    try:
        return replace(files.read_json(folder / "request.json", ImageRequest), folder=folder)
    except (OSError, ValueError):
        return None


def _folders(run: Run) -> Sequence[Path]:
    """Return the requests' folders, newest first."""
    try:
        names = os.listdir(run.pictures_dir)
    except OSError:
        return []
    return [run.pictures_dir / name for name in sorted(names, reverse=True) if _ID.fullmatch(name)]


def all_requests(run: Run) -> Sequence[ImageRequest]:
    """Return all requests of a run, newest first."""
    return [picture for picture in map(_read, _folders(run)) if picture is not None]
