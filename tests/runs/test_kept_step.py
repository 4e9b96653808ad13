"""The rule for the step to keep, counted on pictures that the demo world's judge has seen: the table
of docs/method.md §4.1."""

import statistics
from itertools import combinations

import pytest

from blockskip.core import files
from blockskip.core.paths import ASSETS, ROOT
from blockskip.runs.likeness_rules import report
from blockskip.runs.likeness_types import DemoScale, StepLikeness
from blockskip.runs.paired_differences import difference

PETS = files.read_json(ASSETS / "evidence" / "kept-step.json")["pets"].values()
GAP = DemoScale().visible_gap
RULES = {
    "the 95 % interval (t)": lambda found: max(GAP, found.half_width),
    "two standard errors (before)": lambda found: max(GAP, 2 * found.error),
    "one standard error": lambda found: max(GAP, found.error),
    "nothing: the highest mean": lambda found: 0.0,
}


def pictures(pet, of):
    """Likeness of some of the pictures by step."""
    return {int(step): {k: values[k] for k in of} for step, values in pet.items()}


def chosen(seen, width) -> int:
    """The earliest step that is no more than `width` below the best."""
    top = max(seen, key=lambda step: statistics.mean(seen[step].values()))
    behind = ((step, difference(seen[top], seen[step])) for step in seen)
    return next(step for step, found in behind if found.mean <= width(found))


def test_the_program_has_that_rule():
    for pet, of in zip([*PETS] * 4, combinations(range(9), 3), strict=False):
        seen = pictures(pet, of)
        looks = {step: StepLikeness(dict(values.items())) for step, values in seen.items()}
        assert report(looks, list(seen))["best_step"] == chosen(seen, RULES["one standard error"])


@pytest.mark.parametrize("name", RULES)
def test_the_table_of_the_method_is_what_the_pictures_give(name):
    losses: dict[int, list[float]] = {3: [], 6: []}
    steps = []
    for pet in PETS:
        for num, lost in losses.items():
            for of in combinations(range(9), num):
                step = chosen(pictures(pet, of), RULES[name])
                rest = {
                    int(s): statistics.mean(v for k, v in enumerate(values) if k not in of)
                    for s, values in pet.items()
                }
                lost.append(max(rest.values()) - rest[step])
                steps += [step] if num == 3 else []
    told = [f"{statistics.mean(lost):.3f}".lstrip("0") for lost in losses.values()]
    told.append(f"{statistics.mean(steps):.0f}")
    text = (ROOT / "docs" / "method.md").read_text(encoding="utf-8").replace("**", "")
    assert f"| {name} | {' | '.join(told)} |" in text, told
