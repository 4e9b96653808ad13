"""Every endpoint and every click with every kind of wrong value: an answer, or one sentence that
names what is wrong. Never a message about something unexpected."""

import json
import math

import gradio as gr
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from helpers.studio_server import serve

from blockskip.core.errors import BadInput
from blockskip.core.validation import shortened
from blockskip.runs.run import list_runs
from blockskip.studio import (
    actions,
    click_handlers,
    draft,
    page,
    photo_uploads,
    result_actions,
    strings,
)

WRONG = (
    None,
    -1,
    -1.5,
    0.5,
    10**400,
    1e308,
    math.nan,
    math.inf,
    True,
    "",
    "abc",
    "12",
    "nan",
    "\0",
)
WRONG += (
    "\udcff",
    "a\nb",
    "x" * 5000,
    [],
    ["a"],
    [1],
    [[]],
    {},
    {"a": 1},
    {"path": "x"},
    "../x",
    "NUL",
)
UNEXPECTED = strings.GENERAL_ERROR.partition("{")[0][:20]
USUAL = {"uploads": None, "kind": "cat", "name": "Momo", "model": "demo", "budget": 8.0}
USUAL |= {"steps": 40, "seed": 0, "rank": 16, "speed": "fast", "anyway": True}


def sentence(call, *args, **named):
    """The error of a call as a client sees it, None if it succeeds."""
    try:
        actions.user_errors(call, programs=True)(*args, **named)
    except gr.Error as error:
        assert error.title != "Unexpected" and UNEXPECTED not in error.message, error.message
        assert len(error.message) > 10 and "Traceback" not in error.message
        return error
    return None


@pytest.fixture
def endpoints(finished, begun, no_worker, monkeypatch):
    """Every function that takes values, with values that it accepts."""
    monkeypatch.setattr(result_actions.image_requests, "ensure_worker", lambda run: None)
    monkeypatch.setattr(result_actions.background_jobs, "wait", lambda key: None)
    run = {"run": finished.name}
    return {
        actions.train: USUAL,
        page.train: USUAL,
        actions.status: run,
        actions.plan: {"model": "demo", "budget": 8, "photos": 5, "steps": 0},
        actions.pause: run,
        actions.stop: run,
        actions.resume: run,
        actions.request_previews: run,
        actions.extend: {**run, "steps": 400},
        result_actions.export: {**run, "format": "comfyui", "step": 300},
        result_actions.choose_step: {**run, "step": 300},
        result_actions.choose_format: {**run, "format": "comfyui"},
        result_actions.copy_to_comfyui: run,
        result_actions.request_images: {**run, "prompt": "a cat", "seed": 1, "strength": 1.0},
        result_actions.rename: {**run, "name": "Luna"},
        page.train_again: run,
        photo_uploads.add: {"uploads": [], "first": True},
    }


def test_no_endpoint_is_surprised(endpoints):
    for call, usual in endpoints.items():
        for key in usual:
            for value in WRONG:
                error = sentence(call, **{**usual, key: value})
                if error and error.title == "BadInput" and "is not possible" in error.message:
                    shown = shortened(value)
                    assert any(part in error.message for part in (key, shown)), error.message


@pytest.mark.parametrize(
    "call, key, value",
    [
        (actions.plan, "photos", -1),
        (actions.plan, "photos", "5"),
        (actions.plan, "photos", [5]),
        (actions.plan, "photos", True),
        (actions.plan, "photos", None),
        (actions.plan, "budget", "8"),
        (actions.plan, "budget", math.nan),
        (actions.plan, "budget", 0),
        (actions.plan, "steps", 1e308),
        (actions.plan, "steps", 2.5),
        (actions.plan, "model", {}),
        (result_actions.export, "step", 1e308),
        (result_actions.export, "step", {}),
        (result_actions.export, "step", -1),
        (result_actions.export, "step", None),
        (result_actions.export, "format", []),
        (result_actions.export, "run", {}),
        (actions.pause, "run", []),
        (actions.train, "steps", -1),
        (actions.train, "seed", 2**63),
        (actions.train, "rank", 10**9),
        (actions.train, "speed", "warp"),
        (actions.train, "kind", ["cat"]),
        (actions.train, "anyway", "yes"),
        (actions.train, "uploads", "photo.jpg"),
        (actions.train, "uploads", [3]),
        (page.train, "uploads", [{}]),
        (page.train, "uploads", {"path": "x"}),
        (result_actions.request_images, "strength", math.nan),
        (result_actions.request_images, "seed", "1"),
    ],
)
def test_the_value_is_named(endpoints, call, key, value):
    error = sentence(call, **{**endpoints[call], key: value})
    assert error.title == "BadInput" and key in error.message, error.message
    shown = [value, *value] if isinstance(value, list) else [value]
    shown += ["is missing"]
    assert any(
        str(shortened(part))[:10].strip("'") in error.message.replace("&#x27;", "'")
        for part in shown
    )
    assert len(list_runs()) == 1


@pytest.mark.parametrize("do", sorted(set(click_handlers.CLICK_HANDLERS) - {"use_comfyui"}))
def test_no_click_is_surprised(do, pet, finished, event, monkeypatch):
    from blockskip.runs import image_requests
    from blockskip.studio import describe, model_catalog

    monkeypatch.setattr(describe.Server, "models", lambda server: [])
    monkeypatch.setattr(image_requests, "ensure_worker", lambda run: None)
    monkeypatch.setattr(model_catalog.download_process, "start", lambda row: None)
    monkeypatch.setattr(model_catalog.hub, "try_token", lambda row, token: None)
    draft.add(pet)
    usual = {"run": "x", "file": draft.load().photos[0].file, "model": "demo", "value": "v"}
    usual |= {
        "folder": "f",
        "id": "i",
        "files": ["f"],
        "caption": "c",
        "box": [0, 0, 1, 1],
        "budget": 8,
        "step": 300,
    }
    clicks = [{**usual, key: value} for key in usual for value in WRONG[1::5]]
    clicks += [dict.fromkeys(usual, value) for value in WRONG]
    clicks += [{key: usual[key] for key in usual if key != left_out} for left_out in usual]
    for said in clicks:
        error = sentence(page.on_click, finished.name, "", event(**said, do=do))
        assert error is None or error.title != "Unexpected", said
    error = sentence(page.on_click, finished.name, "", event(**usual, do=do, more={"x": [1]}))
    assert error is None or error.title != "Unexpected"


def test_no_click_is_more_than_an_object(event):
    before = draft.load()
    for data in (*WRONG, [("do", "clear")], "do"):
        event_data = event()
        event_data._data = data
        sentence(page.on_click, "", "", event_data)
    assert draft.load() == before


@pytest.mark.parametrize("key", page.FORM_FIELDS)
def test_no_answer_is_surprising(key):
    usual = {name: USUAL[name] for name in page.FORM_FIELDS}
    for value in WRONG:
        error = sentence(page.save_answers, None, *{**usual, key: value}.values(), "")
        if error is None:
            assert isinstance(draft.load().answers.get(key), str | int | float | None)
    for sent in ("{", "[]", "null", "5", '"x"', "[" * 100_000, {}, 5):
        sentence(page.save_answers, None, *usual.values(), sent)
        sentence(page.form_values, sent)
    json.dumps(draft.load().answers, allow_nan=False)


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with serve(tmp_path_factory.mktemp("wrong") / "data") as server:
        yield Client(server.url, headers=server.headers, verbose=False, download_files=False)


@pytest.mark.parametrize(
    "asked, name, said",
    [
        (("demo", 8, -1, 0), "/plan", "photos"),
        (("demo", 8, "many", 0), "/plan", "many"),
        (("demo", 8, [1], 0), "/plan", "[1]"),
        (("demo", {}, 5, 0), "/plan", "budget"),
        (({},), "/status", "run"),
        ((5,), "/pause", "run"),
        (([],), "/stop", "run"),
        ((None, "cat", "Momo", "demo", 8, "many", 0, 16, "fast", True), "/train", "many"),
        ((None, "cat", "Momo", "demo", 8, -1, 0, 16, "fast", True), "/train", "-1"),
        ((None, "cat", ["Momo"], "demo", 8, 5, 0, 16, "fast", True), "/train", "Momo"),
        ((None, "cat", "Momo", "demo", 8, 5, 0, 16, "warp", True), "/train", "warp"),
        (({"path": "x"}, "cat", "Momo", "demo", 8, 5, 0, 16, "fast", True), "/train", "path"),
        ((["/etc/passwd"], "cat", "Momo", "demo", 8, 5, 0, 16, "fast", True), "/train", "passwd"),
    ],
)
def test_programs_are_told_over_http(client, asked, name, said):
    with pytest.raises(AppError) as refused:
        client.predict(*asked, api_name=name)
    assert refused.value.title == BadInput.__name__ and said in str(refused.value)
