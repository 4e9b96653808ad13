"""The files that a training's page offers for download. Their names tell the step.

Gradio serves files of its own folder only, so that they are linked or copied there.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from blockskip.core import files
from blockskip.runs.into_comfyui import renamed_workflow
from blockskip.runs.run import Run

log = logging.getLogger(__name__)
_lock = threading.Lock()


def lora(run: Run, path: Path, step: int) -> str | None:
    """Return a path that Gradio may serve with the LoRA of a step, None while there is no file."""
    return _served(run, path, file_name(path, step), link)


def workflow(run: Run, path: Path, step: int) -> str | None:
    """Return a path that Gradio may serve with the workflow of that LoRA, None if there is none.

    It loads the LoRA by the name under which that is downloaded.
    """
    source, name = path.with_name(f"{path.stem}.workflow.json"), file_name(path, step)

    def write(source: Path, target: Path) -> None:
        files.write_json(target, renamed_workflow(files.read_json(source), path.name, name))
        shutil.copystat(source, target)

    return _served(run, source, f"{Path(name).stem}.workflow.json", write)


def file_name(path: Path, step: int) -> str:
    """Return the name of a LoRA's download. The file that training itself writes has no step in its
    name, since further training replaces it."""
    end = f"-step{step}"
    return path.name if path.stem.endswith(end) else f"{path.stem}{end}{path.suffix}"


def _served(run: Run, source: Path, name: str, put: Callable[[Path, Path], None]) -> str | None:
    target = Path(os.environ["GRADIO_TEMP_DIR"]) / "downloads" / run.name / name
    try:
        with _lock:
            if not target.exists() or target.stat().st_mtime_ns != source.stat().st_mtime_ns:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.unlink(missing_ok=True)
                put(source, target)
        return str(target)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("%s cannot be offered for download: %s", source, error)
        return None


def link(source: Path, target: Path) -> None:
    """Make a file that is not there a link to another, or a copy. Raises OSError."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)
