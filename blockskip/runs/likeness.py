"""Which step of a run to keep: how like the pet its pictures are, and whether more than the pet was
learnt. `python -m blockskip.runs.likeness RUNFOLDER` writes likeness.json into the run's folder.

Figures exist for runs on the demo model alone, by its judge (likeness_measure.py); for other models
the advice says what to look at. Reading and advising need no torch.

On the judge's scale (assets/evidence/demo-model.md) a perfect copy of a pet has a likeness of .97, and
another pet of its species .11.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from blockskip.core import files, processes
from blockskip.core.errors import UserError
from blockskip.core.presets import model_row
from blockskip.core.settings import Settings
from blockskip.runs.checkpoints import saved_steps
from blockskip.runs.likeness_types import THRESHOLD, StepLikeness, mean_of
from blockskip.runs.run import Run

MIN_VISIBLE_GAP = 0.02  # photos of one pet differ by more among each other


def read(run: Run) -> dict | None:
    """What is known of a run's steps: by_step {step: {subject, class_word, places_obeyed: [n, of]}},
    best_step, overlearnt_from, advice. None as long as its newest step was not looked at."""
    settings, kept = run.settings(), saved_steps(run)
    if not kept:
        return None
    if not model_row(settings.model).demo:
        return _unmeasured(settings, kept)
    try:
        said = files.read_json(likeness_file(run))
        said["by_step"] = {int(step): row for step, row in said["by_step"].items()}
    except (OSError, ValueError, KeyError):
        return None
    return said if kept[-1] in said["by_step"] else None


def start(run: Run) -> subprocess.Popen:
    """Look at a run in a process of its own."""
    return processes.start(
        "blockskip.runs.likeness",
        [str(run.folder)],
        run.folder / "likeness.log",
        mark=_pid_file(run),
    )


def is_running(run: Run) -> bool:
    """Whether that process still looks."""
    return processes.find_running(_pid_file(run)) is not None


def likeness_file(run: Run) -> Path:
    """The file with a run's figures."""
    return run.folder / "likeness.json"


def report(looks: Mapping[int, StepLikeness], kept: Sequence[int]) -> dict:
    """As `read` gives it. looks: by step, 0 the untrained model; kept: steps that can be chosen."""
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
    """The earliest step that is not surely worse than the best one: what is learnt after that costs
    freedom and gains nothing that so few pictures can show."""
    if not steps:
        return None
    top = max(steps, key=lambda step: mean_of(looks[step].subject) or 0.0)
    return next(step for step in steps if not _significantly_less(looks[step], looks[top]))


def _significantly_less(one: StepLikeness, other: StepLikeness) -> bool:
    """Whether `one` is less like the pet by more than can be seen, and by more than chance: twice
    the standard error of the differences between pictures of the same prompt and noise."""
    both = one.subject.keys() & other.subject.keys()
    less = [other.subject[key] - one.subject[key] for key in both]
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


def _pid_file(run: Run) -> Path:
    return run.folder / "likeness-process.json"


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
    """Look at a run's pictures and write down what is seen. Raises UserError."""
    run = Run(Path(folder))
    kept = saved_steps(run)
    if model_row(run.settings().model).demo:
        from blockskip.runs.likeness_measure import measure_steps  # imports torch

        said = report(measure_steps(run, kept), kept)
    else:
        said = _unmeasured(run.settings(), kept)
    if run.folder.exists():  # deleted meanwhile
        files.write_json(likeness_file(run), said)
    print(said["advice"])
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1]))
    except UserError as error:
        sys.exit(str(error))
