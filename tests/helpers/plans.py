"""Plans beside nothing else on the card, and what they say of themselves."""

from blockskip.core.presets import model_row
from blockskip.memory.planning import planner

FLUX = model_row("flux-dev")
BUDGETS = (4, 6, 8, 10, 12, 16, 24)


def plan(budget, model="flux-dev", system="Windows", free=float("inf"), **more):
    return planner.make_plan(model=model, budget_gib=budget, system=system, free_gib=free, **more)


def told(made):
    return made.to_dict()["reasons"]


def one_more(made):
    return made.to_dict()["one_more_gib"]
