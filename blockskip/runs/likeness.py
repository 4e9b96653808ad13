"""The likeness of a run's pictures to the pet, and the advice which step to keep.

`python -m blockskip.runs.likeness RUNFOLDER [ROUNDS]` writes likeness.json into the run's folder:
on the demo model by its judge (likeness_measure.py), on real models by features of a tool
(likeness_pet.py), where it was downloaded. Without it the advice names the pictures to look at.
ROUNDS: of more pictures to make first. Reading and advising do not import torch.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from blockskip.core import files, idle_worker, processes
from blockskip.core.errors import Unexpected, UserError
from blockskip.core.events import Count
from blockskip.core.presets import model_row
from blockskip.core.settings import Settings
from blockskip.core.shortage import shortage
from blockskip.models.sources.tools import has_tool
from blockskip.runs.checkpoints import saved_steps
from blockskip.runs.folders import by_step
from blockskip.runs.likeness_rules import report
from blockskip.runs.likeness_types import LikenessReport
from blockskip.runs.run import Run

log = logging.getLogger(__name__)
TOOL = "likeness"  # of presets/tools.toml


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What measuring does, or how it failed. doing: pictures (they are made) | comparing. title,
    remedy, kind: of the failure."""

    doing: Literal["starting", "pictures", "comparing"] = "starting"
    n: Count = 0
    total: Count = 0
    title: str = ""
    remedy: str = ""
    kind: str = ""


def read(run: Run) -> dict | None:
    """Return a run's likeness report (LikenessReport), or None if its newest step with pictures is
    not measured yet. For a real model that was not measured it has no figures, and measure = None."""
    settings, steps = run.settings(), saved_steps(run)
    if not steps:
        return None
    demo = model_row(settings.model).demo
    try:
        saved: LikenessReport = files.read_json(likeness_file(run), LikenessReport)
    except (OSError, ValueError):
        return None if demo else _unmeasured(settings, steps)
    shown = by_step(run.previews_dir, "")  # a run that was stopped has none of its last step
    newest = max((step for step in steps if step in shown), default=steps[-1])
    if saved.measure == ("judge" if demo else "features") and newest in saved.by_step:
        return asdict(saved)
    return None if demo else _unmeasured(settings, steps)


def can_measure(run: Run) -> bool:
    """Return whether what measures the run's pictures is on this computer."""
    return model_row(run.settings().model).demo or has_tool(TOOL)


def start(run: Run, rounds: int = 0) -> subprocess.Popen | None:
    """Start a process that measures a run, unless one does. rounds: of more pictures of every
    prompt and step that it makes first (likeness_pictures.py)."""
    files.remove(_progress_file(run))
    if not model_row(run.settings().model).demo:  # whose judge is small
        idle_worker.free()
    words = [str(run.folder), str(rounds)]
    return processes.start_holder("blockskip.runs.likeness", words, run.folder / "likeness.log")


def stop(run: Run) -> None:
    """End the process, if one runs. The pictures that it made are kept."""
    processes.kill(processes.holder(lock(run)))
    files.remove(_progress_file(run))


def is_running(run: Run) -> bool:
    """Return whether a process started by `start` is running."""
    return processes.is_locked(lock(run))


def progress(run: Run) -> Progress | None:
    """Return what the process does or how the last one failed, None if there is nothing to tell."""
    try:
        told: Progress = files.read_json(_progress_file(run), Progress)
    except (OSError, ValueError):
        told = Progress()
    if is_running(run):
        return Progress() if told.title else told
    return told if told.title else None


def likeness_file(run: Run) -> Path:
    """Return the path of a run's likeness report."""
    return run.folder / "likeness.json"


def lock(run: Run) -> Path:
    return run.folder / "likeness.lock"


def _progress_file(run: Run) -> Path:
    return run.folder / "likeness-progress.json"


def _unmeasured(settings: Settings, kept: Sequence[int]) -> dict:
    nothing = {"subject": None, "class_word": None, "places_obeyed": None}
    prompts = list(settings.preview_prompts)
    bare = settings.class_caption
    row = f"row {prompts.index(bare) + 1}, " if bare in prompts else "pictures of "
    return {
        "by_step": {step: dict(nothing) for step in kept},
        "best_step": None,
        "overlearnt_from": None,
        "advice": f"Look at {row}“{bare}”: keep the last step at which it is not yet your pet.",
        "measure": None,
        "anchors": None,
    }


def measure(run: Run, rounds: int = 0) -> dict:
    """Measure a run's pictures, write the report and return it. Raises UserError.

    It takes as long as the pictures: call it in a process of its own.
    """
    kept, demo = saved_steps(run), model_row(run.settings().model).demo

    def tell(doing: Literal["pictures", "comparing"], n: int, total: int) -> None:
        if run.folder.exists():  # it may have been deleted meanwhile
            progress = Progress(doing=doing, n=n, total=total)
            files.write_json(_progress_file(run), asdict(progress))

    if demo:
        from blockskip.runs.likeness_measure import measure_steps  # imports torch

        result = report(measure_steps(run, kept), kept)
    elif not has_tool(TOOL):
        return _unmeasured(run.settings(), kept)
    else:
        if rounds:
            from blockskip.runs.likeness_pictures import make_rounds

            make_rounds(run, rounds, lambda n, total: tell("pictures", n, total))
        from blockskip.runs import likeness_pet  # imports torch

        measured = likeness_pet.measure(run, lambda n, total: tell("comparing", n, total))
        looks, scale, anchors = measured
        result = report(looks, kept, scale, anchors)
    if run.folder.exists():
        files.write_json(likeness_file(run), result)
    return result


def main(folder: str, rounds: str = "0") -> int:
    """Measure a run's pictures and write the report, unless another process does. Returns 0, or 1
    after writing why it failed."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    run = Run(Path(folder))
    with processes.holding(lock(run)) as ours:
        if not ours:
            return 0
        if not model_row(run.settings().model).demo:
            processes.lower_priority()
        try:
            print(measure(run, int(rounds))["advice"])
        except Exception as error:
            log.exception("failed")
            broken = Unexpected(
                "The pictures could not be measured.",
                f"Details are in {run.folder / 'likeness.log'}.",
            )
            told = error if isinstance(error, UserError) else shortage(error) or broken
            if run.folder.exists():
                failed = Progress(title=told.title, remedy=told.remedy, kind=told.kind)
                files.write_json(_progress_file(run), asdict(failed))
            return 1
        files.remove(_progress_file(run))
        return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
