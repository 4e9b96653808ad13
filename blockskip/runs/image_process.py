"""The process that generates requested pictures of a run (runs/image_requests.py) until none is
pending.

Started as `python -m blockskip.runs.image_process RUNFOLDER`. The model is opened once, and up to
SAMPLE_BATCH requests are sampled together.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from blockskip.core import processes
from blockskip.core.errors import Unexpected, UserError
from blockskip.core.safetensors_files import Damaged
from blockskip.core.shortage import shortage
from blockskip.runs import image_requests, storage
from blockskip.runs.run import Run, list_runs

if TYPE_CHECKING:
    from blockskip.runs.image_session import ImageSession

log = logging.getLogger(__name__)


def work(run: Run) -> None:
    """Process pending requests. While any run is training, leave them pending."""
    session, remade = None, set[Path]()
    while requests := image_requests.pending(run):
        if any(other.worker() is not None for other in [run, *list_runs()]):
            return
        try:
            session = session or _open_session(run)
            requests = requests[: session.batch]
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


def _open_session(run: Run) -> ImageSession:
    """Import torch, which takes seconds and may fail, and open the model."""
    import torch

    from blockskip.runs.image_session import ImageSession

    if threads := run.settings().threads:
        torch.set_num_threads(threads)
    return ImageSession(run)


def _as_user_error(run: Run, error: Exception) -> UserError:
    return shortage(error, "a picture") or Unexpected(
        f"The picture could not be made ({type(error).__name__}).",
        f"Ask for it again. Details: {run.folder / 'painter.log'}",
    )


def main(folder: str) -> int:
    """Process requests unless another process already does. Returns 0."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    run = Run(Path(folder))
    while True:
        with processes.holding(image_requests.lock(run)) as ours:
            if not ours:
                return 0
            work(run)
            left = {picture.id for picture in image_requests.pending(run)}
        # a request may have been submitted after the last check, while the lock was still held
        if {picture.id for picture in image_requests.pending(run)} <= left:
            return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
