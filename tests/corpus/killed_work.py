"""What processes of killed.py do: a training, an export, pictures, a draft, a download.

Each works as the program's own process does. Returns its exit code.
"""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

from blockskip.core import presets, repositories
from blockskip.models.sources import download_process
from blockskip.runs import image_process, image_requests, results, worker_process  # noqa: F401
from blockskip.runs import run as run_module
from blockskip.runs.run import Run
from blockskip.studio import draft

REPOSITORY = "some-lab/Tiny-FLUX"


def train(folder: str) -> int:
    """Execute or resume a run, in the module that `Run.start` starts."""
    name = getattr(run_module, "WORKER", "blockskip.runs.worker_process")
    return importlib.import_module(name).main(folder)


def export(folder: str, format: str) -> int:
    """Write a run's LoRA."""
    results.export_run(Run(Path(folder)), format)
    return 0


def pictures(folder: str, prompts: tuple[str, ...]) -> int:
    """Request pictures that are not requested yet, and make all that are pending."""
    run = Run(Path(folder))
    known = {request.prompt for request in image_requests.all_requests(run)}
    for prompt in prompts:
        if prompt not in known:
            image_requests.enqueue(run, prompt, 3, 1.0, run.step())
    return image_process.main(folder)


def prepare(photos: tuple[str, ...]) -> int:
    """Add photos to the draft and answer a question."""
    draft.add([Path(photo) for photo in photos])
    draft.save_answers(name="Momo", kind="cat")
    draft.write_photo_files()
    return 0


def download(endpoint: str) -> int:
    """Download the tiny model of the hub server."""
    from huggingface_hub import constants

    constants.ENDPOINT, constants.HF_HUB_OFFLINE = endpoint, False
    constants.HUGGINGFACE_CO_URL_TEMPLATE = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    row = download_row()
    repositories.repository = lambda name: row  # type: ignore[assignment]
    return download_process.main([row.name])


def download_row() -> presets.ModelRow:
    """Return the demo model as a model of the hub."""
    demo = presets.model_rows()["demo"]
    return dataclasses.replace(demo, name="tiny", title="Tiny FLUX", source=REPOSITORY)
