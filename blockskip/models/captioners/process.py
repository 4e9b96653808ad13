"""The process that describes photos (jobs.py), started as `python -m
blockskip.models.captioners.process FILE` with the job in FILE.

It works on the processor, at low priority. A starting training ends it. It does not import
torch until it holds its lock, nor at all for a server.
"""

from __future__ import annotations

import logging
import sys
import time
from functools import partial
from pathlib import Path

import psutil

from blockskip.core import files, processes
from blockskip.core.errors import OutOfMemory, Unexpected, UserError
from blockskip.core.power import keep_awake
from blockskip.core.shortage import shortage
from blockskip.core.units import GIB
from blockskip.data import photos
from blockskip.data.descriptions import described_caption, instruction_for
from blockskip.models.captioners import Describe, found
from blockskip.models.captioners.jobs import Job, Line, append, folder, lock, results
from blockskip.models.captioners.server import Server

log = logging.getLogger(__name__)
SHORT_PX = 1024  # of a photo at least, as it is handed to captioners


def work(job: Job) -> None:
    """Describe the photos of a job, a line each. Raises UserError."""
    describe = _open(job)
    instruction = instruction_for(job.instruction, job.class_name)
    for path in job.photos:
        began = time.monotonic()
        try:
            photos.read_photo(Path(path), "")
            image, _ = photos.open_small(Path(path), SHORT_PX)
        except photos.UnusablePhoto as error:
            append(Line(path, unusable=error.reason))
            continue
        answer = describe(image, instruction)
        log.info("%s: %r", Path(path).name, answer)
        caption = described_caption(answer.text, job.class_name, answer.cut)
        append(Line(path, caption, seconds=round(time.monotonic() - began, 2)))


def _open(job: Job) -> Describe:
    """Return a job's captioner, loaded. Raises UserError."""
    if job.server is not None:
        return Server(job.server).ready().describe
    chosen = found.find_captioner(job.captioner)
    if chosen.name == found.BLIP:
        _check_ram(chosen, 4)
        from blockskip.models.captioners.blip import open_blip

        blip = found.find_blip()
        assert blip is not None
        return open_blip(blip)
    from blockskip.models.captioners import qwen3_vl  # with torch
    from blockskip.models.sources.tools import find_tool

    _check_ram(chosen, qwen3_vl.number_type().itemsize)
    if chosen.name == found.TOOL:
        return qwen3_vl.open_tool(find_tool(found.TOOL))
    source = found.seeing_encoder(chosen.name)
    assert source is not None
    return qwen3_vl.open_encoder(source)


def _check_ram(chosen: found.Captioner, number_bytes: int) -> None:
    need, free = chosen.ram_gib(number_bytes), psutil.virtual_memory().available / GIB
    if need > free:
        raise OutOfMemory(
            f"To describe photos, {chosen.title} needs {need:.1f} GB of RAM; {free:.1f} GB are free.",
            "Close other programs, or choose a smaller captioner or a server.",
        )


def main(asked: str) -> int:
    """Run the process, unless another describes. Returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    with processes.holding(lock(), partial(_take, Path(asked))) as ours:
        if not ours:
            return 0
        processes.lower_priority(10)
        try:
            with keep_awake():
                work(files.read_json(folder() / "job.json", Job))
        except Exception as error:
            log.exception("failed")
            told = _as_user_error(error)
            append(Line(title=told.title, remedy=told.remedy, kind=told.kind))
            return 1
    return 0


def _as_user_error(error: Exception) -> UserError:
    if isinstance(error, UserError):
        return error
    return shortage(error, "describing photos") or Unexpected(
        f"The photos could not be described ({type(error).__name__}).",
        f"Details: {folder() / 'describe.log'}",
    )


def _take(asked: Path) -> None:
    """Make a job the present one."""
    files.remove(results())
    files.write_bytes(folder() / "job.json", asked.read_bytes())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
