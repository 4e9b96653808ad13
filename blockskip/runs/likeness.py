"""Advise which step of a run to keep, by likeness to the pet and signs of overfitting.

`python -m blockskip.runs.likeness RUNFOLDER` writes likeness.json into the run's folder. Figures
exist only for runs on the demo model, from its judge (likeness_measure.py). For other models the
advice names the pictures to look at. Reading and advising do not import torch.

On the judge's scale (assets/evidence/demo-model.md) a perfect copy of a pet has a likeness of .97,
and another pet of its species .11.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from blockskip.core import files, processes
from blockskip.core.errors import UserError
from blockskip.core.presets import model_row
from blockskip.core.settings import Settings
from blockskip.runs.checkpoints import saved_steps
from blockskip.runs.likeness_types import THRESHOLD, LikenessReport, StepLikeness, mean_of
from blockskip.runs.run import Run

MIN_VISIBLE_GAP = 0.02  # less than the difference between photos of the same pet


def read(run: Run) -> dict | None:
    """Return a run's likeness report, or None if its newest step is not measured yet.

    Keys: by_step {step: {subject, class_word, places_obeyed: [n, total]}}, best_step,
    overlearnt_from, advice.
    """
    settings, steps = run.settings(), saved_steps(run)
    if not steps:
        return None
    if not model_row(settings.model).demo:
        return _unmeasured(settings, steps)
    try:
        report = asdict(files.read_json(likeness_file(run), LikenessReport))
    except (OSError, ValueError):
        return None
    return report if steps[-1] in report["by_step"] else None


def start(run: Run) -> subprocess.Popen | None:
    """Start a process that measures a run, unless one does."""
    return processes.start_holder(
        "blockskip.runs.likeness", [str(run.folder)], run.folder / "likeness.log"
    )


def is_running(run: Run) -> bool:
    """Return whether a process started by `start` is running."""
    return processes.is_locked(lock(run))


def likeness_file(run: Run) -> Path:
    """Return the path of a run's likeness report."""
    return run.folder / "likeness.json"


def report(looks: Mapping[int, StepLikeness], kept: Sequence[int]) -> dict:
    """Compute the report that `read` returns.

    looks: measurements by step, 0 for the untrained model. kept: saved steps, which can be chosen.
    """
    steps = sorted(step for step in looks if step in kept)
    spoilt = [step for step in steps if looks[step].overfitted]
    since = next((s for s in steps if all(later in spoilt for later in steps if later >= s)), None)
    best = _best(looks, [step for step in steps if step not in spoilt] or steps[:1])
    return {
        "by_step": {step: look.to_dict() for step, look in sorted(looks.items())},
        "best_step": best,
        "overlearnt_from": since,
        "advice": _advice(looks, steps, best, since),
    }


def _best(looks: Mapping[int, StepLikeness], steps: Sequence[int]) -> int | None:
    """Return the earliest step that is not significantly worse than the best one.

    Later steps lose variety without an improvement that so few pictures can show.
    """
    if not steps:
        return None
    top = max(steps, key=lambda step: mean_of(looks[step].subject) or 0.0)
    return next(step for step in steps if not _significantly_less(looks[step], looks[top]))


def _significantly_less(step: StepLikeness, other: StepLikeness) -> bool:
    """Return whether `step` is visibly and significantly less like the pet than `other`.

    Significant means more than twice the standard error of the differences between pictures of the
    same prompt and noise.
    """
    both = step.subject.keys() & other.subject.keys()
    less = [other.subject[key] - step.subject[key] for key in both]
    if len(less) < 2:
        return False
    chance = 2 * statistics.stdev(less) / len(less) ** 0.5
    return statistics.mean(less) > max(MIN_VISIBLE_GAP, chance)


def _advice(
    looks: Mapping[int, StepLikeness], steps: Sequence[int], best: int | None, since: int | None
) -> str:
    if best is None:
        return "There are no pictures to compare."
    judged = f"as far as {looks[best].num_images} pictures a step can tell"
    if looks[best].overfitted:
        return (
            f"Even step {best} repeats the photos whatever is asked, {judged}: use it at less "
            "strength, or train fewer steps."
        )
    if (mean_of(looks[best].subject) or 0.0) < THRESHOLD:
        return (
            f"No step looks like your pet yet, {judged}: train more steps, or add clearer photos."
        )
    if since is not None:
        return (
            f"Keep step {best}: from step {since} on, other animals or places turn into those of "
            f"your photos, {judged}."
        )
    if best == steps[-1]:
        return f"Keep step {best}, the last one: it is the most like your pet, {judged}."
    return f"Keep step {best}: later ones are no more like your pet, {judged}."


def lock(run: Run) -> Path:
    return run.folder / "likeness.lock"


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
    }


def main(folder: str) -> int:
    """Measure a run's pictures and write the report, unless another process does. Raises
    UserError."""
    run = Run(Path(folder))
    with processes.holding(lock(run)) as ours:
        if ours:
            _measure(run)
    return 0


def _measure(run: Run) -> None:
    kept = saved_steps(run)
    if model_row(run.settings().model).demo:
        from blockskip.runs.likeness_measure import measure_steps  # imports torch

        result = report(measure_steps(run, kept), kept)
    else:
        result = _unmeasured(run.settings(), kept)
    if run.folder.exists():  # it may have been deleted meanwhile
        files.write_json(likeness_file(run), result)
    print(result["advice"])


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1]))
    except UserError as error:
        sys.exit(str(error))
