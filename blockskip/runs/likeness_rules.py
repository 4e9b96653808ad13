"""Advise which step of a run to keep, by likeness to the pet and signs of overfitting.

Steps are compared by pictures of the same prompts and noise. The step to keep is the earliest that
is within one standard error of the best one, as in cross-validation (Breiman et al., 1984): the 95 %
interval of three pictures is so wide that almost every step lies in it, and the earliest of those is
no good choice (docs/method.md §4). On the judge's scale (assets/evidence/demo-model.md) a perfect copy of a pet has a likeness
of .97, and another pet of its species .11. Does not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from blockskip.runs.likeness_types import (
    Anchors,
    DemoScale,
    LikenessReport,
    Scale,
    StepLikeness,
    StepReport,
    mean_of,
)
from blockskip.runs.paired_differences import difference

Looks = Mapping[int, StepLikeness]


def report(
    looks: Looks, kept: Sequence[int], scale: Scale | None = None, anchors: Anchors | None = None
) -> dict:
    """Return a LikenessReport as a dict.

    looks: measurements by step, 0 for the untrained model. kept: saved steps, which can be chosen.
    scale: what the figures mean, the demo world's judge's by default. anchors: a real pet's.
    """
    scale = scale or DemoScale()
    steps = sorted(step for step in looks if step in kept)
    spoilt = [step for step in steps if scale.overfitted(looks[step])]
    since = next((s for s in steps if all(later in spoilt for later in steps if later >= s)), None)
    best = _best(looks, [step for step in steps if step not in spoilt] or steps[:1], scale)
    return asdict(
        LikenessReport(
            by_step={step: _step_report(looks, step, steps, scale) for step in sorted(looks)},
            best_step=best,
            overlearnt_from=since,
            advice=_advice(looks, steps, best, since, scale),
            measure="features" if anchors else "judge",
            anchors=anchors,
        )
    )


def _step_report(looks: Looks, step: int, steps: Sequence[int], scale: Scale) -> StepReport:
    look, top = looks[step], _top(looks, steps)
    less = None
    if top is not None and top != step:
        less = difference(looks[top].subject, look.subject)
    return StepReport(
        subject=mean_of(look.subject),
        class_word=mean_of(look.class_word),
        places_obeyed=(sum(look.places.values()), len(look.places)),
        nearest=mean_of(look.nearest),
        copies=scale.copies(look),
        not_found=look.not_found,
        less=(round(less.mean, 4), round(less.half_width, 4)) if less else None,
        pictures=look.num_images,
    )


def _top(looks: Looks, steps: Sequence[int]) -> int | None:
    """Return the step with the highest likeness."""
    return max(steps, key=lambda step: mean_of(looks[step].subject) or 0.0, default=None)


def _best(looks: Looks, steps: Sequence[int], scale: Scale) -> int | None:
    """Return the earliest step that is not clearly worse than the best one.

    Later steps lose variety without an improvement that so few pictures can show.
    """
    top = _top(looks, steps)
    if top is None:
        return None
    return next(step for step in steps if not _less(looks[step], looks[top], scale))


def _less(step: StepLikeness, other: StepLikeness, scale: Scale) -> bool:
    """Return whether `step` is less like the pet than `other`, visibly and by more than one
    standard error."""
    less = difference(other.subject, step.subject)
    return less is not None and less.mean > max(scale.visible_gap, less.error)


def _advice(
    looks: Looks, steps: Sequence[int], best: int | None, since: int | None, scale: Scale
) -> str:
    if best is None:
        return "There are no pictures to compare."
    judged = f"(judged from {looks[best].num_images} pictures a step)"
    if scale.overfitted(looks[best]):
        return (
            f"Even step {best} repeats the photos whatever is asked: use it at less strength, or "
            f"train fewer steps {judged}."
        )
    if not scale.reached(looks[best]):
        return f"No step looks like your pet yet: train more steps, or add clearer photos {judged}."
    if since is not None:
        return (
            f"Keep step {best}: from step {since} on, other animals or places turn into those of "
            f"your photos {judged}."
        )
    if best == steps[-1]:
        return f"Keep step {best}, the last one: it is the most like your pet {judged}."
    return f"Keep step {best}: later ones are no more like your pet {judged}."
