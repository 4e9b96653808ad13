"""Reasons are data: said as they were before, complete, and sayable in another language."""

import itertools
import string

import pytest

from blockskip.core import stages
from blockskip.core.errors import UserError
from blockskip.core.presets import quality_table
from blockskip.memory.planning import planner
from blockskip.memory.planning.reason import Reason
from blockskip.memory.planning.wording import ENGLISH, TEMPLATES, Wording
from tests.helpers.sentences import sentences

PLANS = [
    ("demo", 8, {}),
    ("flux-dev", 2.5, {}),
    ("flux-dev", 4, {"ram_gib": 8, "free_gib": 3.6, "freeable_gib": 0.1, "commit_gib": 3.0}),
    ("flux-dev", 8, {"free_gib": 4.0, "freeable_gib": 4.0}),
    ("flux-dev", 8, {"preview_speed": "fast", "disk_gib": 12}),
    ("flux-dev", 24, {"reuse": 2, "skip": "0"}),
    ("sd35-large", 12, {"patches": "random"}),
    ("qwen-image", 16, {"patches": "full"}),
]
REFUSED = [
    ("demo", 0.5, {}),
    ("flux-dev", 1, {}),
    ("flux-dev", 1, {"free_gib": 0.6}),
    ("flux-dev", 12, {"ram_gib": 4}),
    ("flux-dev", 12, {"disk_gib": 0.2}),
]


def make(model, budget, more):
    known = {"system": "Linux", "free_gib": 100.0} | more
    return planner.make_plan(model=model, budget_gib=budget, **known)


def refused(case):
    with pytest.raises(UserError) as error:
        make(*case)
    return error.value


def inside(reason):
    """It and all clauses within."""
    yield reason
    for value in reason.values.values():
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, Reason):
                yield from inside(each)


def told():
    """All that these plans and refusals tell."""
    for case in PLANS:
        plan = make(*case)
        yield from (*plan.reasons, plan.one_more_gib)
        yield from filter(None, (plan.commit_short, plan.when_freed))
    for case in REFUSED:
        error = refused(case)
        yield from (error.problem, error.least)


@pytest.mark.parametrize("reason, english, page", sentences(), ids=lambda v: getattr(v, "kind", ""))
def test_english_is_what_it_was(reason, english, page):
    assert ENGLISH.render(reason) == english


def test_every_template_is_among_these_sentences():
    """But for names of stages, limits, bits and results, which all have a template."""
    seen = {each.kind for reason, *_ in sentences() for each in inside(reason)} | {"and"}
    named = {f"{where}_{stage}" for where in ("card", "disk") for stage in stages.PLANNED}
    named |= {f"bits_{name}" for name in quality_table()["loss"] if not name.startswith("text")}
    named |= {f"limit_{name}" for name in ("card", "ram", "disk")}
    named |= {f"result_{each['name']}" for each in quality_table()["results"]}
    assert seen | named == set(TEMPLATES) and named <= set(TEMPLATES)


def test_plans_tell_whole_sentences():
    for reason in told():
        said = ENGLISH.render(reason)
        assert said[0].isalnum() and said.endswith(".")
        for wrong in ("  ", "{", "}", "None", "Reason", " .", " ,", ".."):
            assert wrong not in said, said


def test_reasons_hold_no_prose():
    """A word in them is a name: of a model, a patch schedule, a speed."""
    for reason in told():
        for each in inside(reason):
            texts = {name for name, value in each.values.items() if isinstance(value, str)}
            assert texts <= {"model", "schedule", "speed"}, each


def test_a_translation_is_another_table_of_the_same_names():
    """Of a table without any words, only figures and names are left: no English stands elsewhere."""

    def wordless(template):
        if callable(template):
            return ""
        return "".join(
            f"{{{n}:{spec}}}" for _, n, spec, _ in string.Formatter().parse(template) if n
        )

    table = {kind: wordless(template) for kind, template in TEMPLATES.items()}
    silent = Wording(table, lambda size, spec: f"{size:{spec}}")
    for reason in told():
        said = silent.render(reason)
        for each in inside(reason):
            for name in each.values.values():
                said = said.replace(name, "") if isinstance(name, str) else said
        assert set(said) <= set("0123456789.%"), said


def test_values_are_the_plans():
    for case, name in itertools.product(PLANS[1:], ("skips", "skips_none", "usable", "window")):
        plan = make(*case)
        s = plan.settings.plan
        truth = {
            "front": s.front,
            "back": s.back,
            "side_px": s.s_max_px if s.patches == "full" else s.s_min_px,
            "usable_gib": plan.usable_gib,
            "reserve_gib": plan.reserve_gib,
        }
        for reason in plan.reasons:
            if reason.kind == name:
                assert all(reason.values[key] == truth[key] for key in truth.keys() & reason.values)


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_a_refusal_carries_the_least_that_works(case):
    model, budget, more = case
    error = refused(case)
    least = error.least.values["least_gib"]
    assert (error.title, error.remedy) == (
        ENGLISH.render(error.problem),
        ENGLISH.render(error.least),
    )
    if error.least.kind == "ram_least":
        make(model, budget, more | {"ram_gib": least})
    elif error.least.kind == "disk_least":
        make(model, budget, more | {"disk_gib": least})
    elif "free_gib" not in more:
        make(model, least, more | ({"skip": "0.5", "batch": 1} if model == "demo" else {}))
