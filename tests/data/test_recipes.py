"""Each model's recipe, with its source, as the documentation says it."""

import math

import pytest

from blockskip.core.paths import ROOT
from blockskip.core.presets import model_row, model_rows, training_preset
from blockskip.memory.planning.planner import make_plan
from blockskip.studio.plans import default_steps
from blockskip.training.optimizer import learning_rate

PHOTOS = 10
REAL = [name for name, row in model_rows().items() if not row.demo]


def row_of_the_page(name: str) -> str:
    """The recipe of a model for a cat of ten photos, as a 12 GB card trains it."""
    row, steps = model_row(name), default_steps(name, PHOTOS)
    settings = make_plan(
        model=name, budget_gib=12, free_gib=math.inf, system="Linux", steps=steps
    ).settings
    dose = sum(learning_rate(settings, step) for step in range(steps))
    rate = f"{settings.lr:.0e}".replace("e-0", "e-")
    cells = (
        *(f"`{name}`", rate, f"{settings.rank}", f"{steps} × {settings.plan.draws_per_step}"),
        *(f"{dose:.3f}", settings.rate_schedule, f"{settings.shift:.2f}"),
        *(f"{row.text_tokens}", f"{settings.plan.side_px} px", training_preset(name)["recipe"]),
    )
    return f"| {' | '.join(cells)} |"


@pytest.mark.parametrize("name", REAL)
def test_the_documentation_has_the_recipe_and_its_source(name):
    page = (ROOT / "docs/models.md").read_text(encoding="utf-8")
    assert row_of_the_page(name) in page.splitlines(), row_of_the_page(name)
