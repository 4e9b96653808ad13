"""A press on Train that cannot work names every field that has a problem, and begins nothing."""

import json

import pytest

from blockskip.studio import actions, draft, field_problems, page, places, strings


def press(**changes):
    """Press Train on the page. Returns the run's name and {field: text}."""
    usual = {"kind": "cat", "name": "Momo", "model": "demo", "budget": 8.0}
    usual |= {"steps": 40, "seed": 0, "rank": 16, "speed": "fast", "anyway": True} | changes
    led, problems = page.press_train(None, *usual.values())
    return led, dict(json.loads(problems))


def test_all_of_them_at_once(no_worker):
    led, found = press(kind=" ", name="", budget=float("nan"), steps=-3, model="gone")
    assert led == places.NO_VIEW and list(found) == [
        "drop",
        "kind",
        "name",
        "budget",
        "steps",
    ]
    assert strings.NO_PHOTOS in found["drop"] and strings.NO_NAME in found["name"]
    assert not no_worker


def test_own_photos_a_missing_model_and_a_budget_that_is_too_small(pet, no_worker):
    draft.add(pet)
    assert list(press(anyway=False)[1]) == ["own"]
    _, found = press(model="flux-dev", budget=2.0)
    assert list(found) == ["models", "budget"] and "command" not in found["budget"]


def test_without_problems_it_trains(pet, no_worker):
    draft.add(pet)
    led, found = press()
    assert [run.name for run in no_worker] == [led] and not found


@pytest.mark.parametrize("name", ["Momo", "cat", "", "☃"])
def test_what_is_found_is_what_training_refuses(pet, no_worker, name):
    """For every field, `actions.train` agrees; for programs it is the same as ever."""
    draft.add(pet)
    answers = {"kind": "cat", "name": name, "model": "demo", "budget": 8.0}
    answers |= {"steps": 40, "seed": 0, "rank": 16, "speed": "fast"}
    found = field_problems.find(answers, True)
    try:
        actions.train(None, *answers.values(), True)
        refused = False
    except actions.UserError:
        refused = True
    assert bool(found) == refused


def test_every_field_is_on_the_page():
    ids = {getattr(one, "elem_id", None) for one in page.build().blocks.values()}
    assert {"drop", "kind", "name", "models", "budget", "steps", "seed", "rank", "own"} <= ids
