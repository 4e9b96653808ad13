"""A stage is named once; each table of words has exactly the stages that its screen shows."""

import ast

import pytest

from blockskip.cli import progress
from blockskip.core import stages
from blockskip.core.events import Started
from blockskip.core.paths import ROOT
from blockskip.core.stages import MILESTONES, PLANNED, STAGES
from blockskip.memory.planning import plan_table
from blockskip.memory.planning.wording import TEMPLATES
from blockskip.runs import worker_process
from blockskip.studio import strings


def named(where):
    """Of the planner's templates those that name a stage: text → “captions”."""
    kinds = [kind for kind in TEMPLATES if kind.startswith(where)]
    found = {kind.removeprefix(where): TEMPLATES[kind] for kind in kinds}
    return {stage: words for stage, words in found.items() if stage in STAGES}


TABLES = {
    "terminal": (progress.STAGES, STAGES),
    "what goes on": (strings.STAGES, STAGES),
    "line of a run": (strings.STAGE_LINE, MILESTONES),
    "plan's page": (strings.PLAN_STAGES, PLANNED),
    "plan's table": (plan_table._STAGE_TITLES, PLANNED),
    "too little of the card": (named("card_"), PLANNED),
    "too little of the disk": (named("disk_"), PLANNED),
    "ran out while": (worker_process._ACTIVITIES, PLANNED[:-1]),  # previews give way by themselves
}


@pytest.mark.parametrize("table", TABLES)
def test_words_are_there_for_exactly_the_stages_shown(table):
    words, shown = TABLES[table]
    assert tuple(words) == shown, "in the order of a run"
    assert all(words.values()) and len(set(words.values())) == len(shown)


def test_parts_of_a_run_keep_its_order():
    assert Started(steps=1).stages == STAGES
    for some in (PLANNED, MILESTONES):
        assert list(some) == sorted(some, key=STAGES.index)


def test_no_call_spells_a_stage_itself():
    """`report.stage("train")` would be a second place where its name stands."""
    spelt = []
    for path in (ROOT / "blockskip").rglob("*.py"):
        if "lab" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or ast.unparse(node.func).split(".")[-1] not in (
                "stage",
                "progress",
                "_progress",
                "eased",
                "Progress",
                "Peak",
            ):
                continue
            given = [*node.args, *(word.value for word in node.keywords)]
            spelt += [
                f"{path.name}:{node.lineno}"
                for each in given
                if isinstance(each, ast.Constant) and each.value in STAGES
            ]
    assert not spelt


def test_every_name_is_its_key():
    assert {getattr(stages, key.upper()) for key in STAGES} == set(STAGES)
