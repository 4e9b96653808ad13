"""The answers and Train: what is missing is said, what was asked for is made, one at a time."""

import pytest
from helpers import fake_feed

from blockskip.core import files
from blockskip.core.errors import UserError
from blockskip.runs import run_queue
from blockskip.runs.run import find_run, list_runs
from blockskip.studio import actions, draft, plans, run_preferences, run_state, strings


@pytest.mark.parametrize(
    "name, word",
    [
        ("Momo", "momo"),
        ("Größe 2", "grosse"),
        ("Zoë-Luna!", "zoeluna"),
        ("小白", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_the_name_becomes_a_word(name, word):
    assert actions.trigger_word(name) == word


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"name": ""}, strings.NO_NAME),
        ({"kind": " "}, strings.NO_KIND),
        ({"name": "Cat"}, strings.WORDING_SAME),
        ({"budget": 0.1}, "too small"),
        ({"model": "flux-dev", "budget": 24.0}, "not on this computer"),
        ({"model": "nothing"}, "nothing"),
    ],
)
def test_what_is_missing_is_said(pet, no_worker, asked, changes, said):
    draft.add(pet, demo=True)
    with pytest.raises(UserError) as error:
        asked(**changes)
    assert said in error.value.title and error.value.remedy and not list_runs()


def test_own_photos_are_not_trained_on_the_demo_model_unasked(pet, no_worker, asked):
    with pytest.raises(UserError, match="no photos"):
        asked()
    draft.add(pet)
    with pytest.raises(UserError, match="drawn pets"):
        asked()
    name = asked(anyway=True)
    assert [r.name for r in no_worker] == [name] and not draft.load().photos


def test_train_makes_the_run_that_was_asked_for(pet, no_worker, asked):
    draft.add(pet, demo=True)
    run = actions.find_run(asked(kind="Guinea  Pig", name="Sir Fluff", budget=16.0, seed=7.0))
    settings = run.settings()
    assert (settings.trigger, settings.class_name) == ("sirfluff", "guinea pig")
    assert (settings.steps, settings.seed, settings.budget_gib) == (40, 7, 16.0)
    assert (settings.plan.front, settings.plan.back) == (6, 1) and settings.preview_every == 10
    assert len(list(run.photos_dir.glob("*.png"))) == 5
    assert run_preferences.load(run) == {"pet": "Sir Fluff", "drawn": True}


def test_more_photos_get_more_steps_unless_they_are_chosen(pet, no_worker, asked):
    few, many = plans.default_steps("demo", 4), plans.default_steps("demo", 20)
    assert few < plans.default_steps("demo", 5) < many <= 2 * plans.default_steps("demo", 5)
    draft.add(pet, demo=True)
    assert actions.find_run(asked(steps=None)).settings().steps == plans.default_steps("demo", 5)


def test_photos_over_the_api_do_not_touch_the_draft(pet, no_worker, asked):
    draft.add(pet[:2])
    asked(uploads=[str(p) for p in pet], anyway=True)
    assert len(draft.load().photos) == 2
    assert len(list(no_worker[0].photos_dir.glob("*.png"))) == 5


def test_one_training_at_a_time(pet, no_worker, asked):
    busy = fake_feed.make_run(pet)
    fake_feed.seem_alive(busy)
    draft.add(pet, demo=True)
    waits = asked()
    assert not draft.load().photos and run_state.read(find_run(waits)).status == "waiting"
    for press in (lambda: actions.resume(busy.name), lambda: actions.extend(busy.name, 999)):
        with pytest.raises(UserError, match="is running"):
            press()
    assert not no_worker and run_queue.waiting() == [waits]


def test_learning_more_needs_more_steps_than_were_learnt(finished, no_worker):
    for steps in (0, 299, 300, None):
        with pytest.raises(UserError):
            actions.extend(finished.name, steps)
    assert not no_worker
    actions.extend(finished.name, 400)
    assert [r.name for r in no_worker] == [finished.name] and finished.settings().steps == 400


def test_paths_are_no_names(pet):
    run = fake_feed.make_run(pet)
    for name in (str(run.folder), "../" + run.name, "", ".", "*"):
        with pytest.raises(UserError):
            actions.find_run(name)


def test_the_plan_over_the_api_is_that_of_the_command():
    made = actions.plan("demo", 8, photos=5)
    assert made["model"] == "demo" and made["fits"] and made["stages"]["train"]["vram_gib"] > 0
    with pytest.raises(UserError, match="nothing"):
        actions.plan("nothing")
    with pytest.raises(UserError):
        actions.plan("demo", float("nan"))


@pytest.mark.parametrize(
    "kept",
    [
        {"model": "a row that is gone"},
        {"model": 3},
        {"kind": ["cat"], "name": 5},
        {"budget": float("inf")},
        {"budget": float("nan"), "steps": float("nan")},
        {"budget": "much", "steps": "many", "rank": [], "seed": {}},
        {"steps": -4, "rank": -1, "seed": -1},
        {"speed": "warp"},
        {"speed": ["fast"]},
        {"steps": 1e300},
    ],
)
def test_answers_that_cannot_be_used_spoil_no_page(pet, told, kept):
    """Kept by an older version, or by hand: the page opens, and says or leaves out what is wrong."""
    draft.add(pet)
    data = files.read_json(draft.photos_dir().parent / "draft.json")
    files.write_json(draft.photos_dir().parent / "draft.json", data | {"answers": kept})
    parts, _ = told("")
    assert parts["photos"]["value"].count("data-open") == 5
    assert "section" in parts["plan"]["value"]
