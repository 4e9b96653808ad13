"""The process that generates requested pictures of a run (runs/image_requests.py) until none is
pending.

Started as `python -m blockskip.runs.image_process RUNFOLDER`. The model is opened once, and up to
SAMPLE_BATCH requests are sampled together.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import torch

from blockskip.core import processes
from blockskip.core.errors import Unexpected, UserError
from blockskip.core.safetensors_files import Damaged
from blockskip.runs import image_requests, storage
from blockskip.runs.image_session import ImageSession
from blockskip.runs.run import Run, list_runs
from blockskip.sampling.sample import SAMPLE_BATCH

log = logging.getLogger(__name__)


def work(run: Run) -> None:
    """Process pending requests. While any run is training, leave them pending."""
    session, remade = None, set[Path]()
    while requests := image_requests.pending(run)[:SAMPLE_BATCH]:
        if any(other.worker() is not None for other in [run, *list_runs()]):
            return
        try:
            session = session or ImageSession(run)
            image_requests.process(run, requests, session.generate)
        except Damaged as error:
            log.exception("failed")
            session = None
            if error.path in remade or not storage.remove_damaged_cache(run, error.path):
                image_requests.mark_failed(run, requests, error)
            remade.add(error.path)
        except UserError as error:
            log.exception("failed")
            image_requests.mark_failed(run, requests, error)
        except Exception as error:
            log.exception("failed")
            image_requests.mark_failed(run, requests, _as_user_error(run, error))


def _as_user_error(run: Run, error: Exception) -> UserError:
    return Unexpected(
        f"The picture could not be made ({type(error).__name__}).",
        f"Ask for it again. Details: {run.folder / 'painter.log'}",
    )


def main(folder: str) -> int:
    """Process requests unless another process already does. Returns 0, or 1 if the run cannot be
    read."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    run = Run(Path(folder))
    try:
        if threads := run.settings().threads:
            torch.set_num_threads(threads)
    except UserError as error:
        image_requests.mark_failed(run, image_requests.pending(run), error)
        return 1
    while True:
        with processes.locked(image_requests.lock(run)) as ours:
            if not ours:
                return 0
            work(run)
            left = {picture.id for picture in image_requests.pending(run)}
        # a request may have been submitted after the last check, while the lock was still held
        if {picture.id for picture in image_requests.pending(run)} <= left:
            return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
