"""The endpoints for programs, by their names and documented parameters, with gradio_client, a real
studio and a real training."""

import json
import time

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from helpers.studio_server import serve

from blockskip.core.paths import ASSETS
from blockskip.studio import strings

PHOTOS = sorted(next(p for p in (ASSETS / "demo-photos").glob("*") if p.is_dir()).iterdir())


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        with serve(tmp_path_factory.mktemp("api") / "Dätä") as server:
            yield Client(server.url, headers=server.headers, verbose=False, download_files=False)


def waits_for(client, run, *states):
    """The status once it is in one of these states, and has learnt something when it runs."""
    while True:
        now = client.predict(run, api_name="/status")
        if now["state"] in states and (now["state"] != "running" or now["step"] > 0):
            return now
        assert now["state"] in ("new", "waiting", "running"), now
        time.sleep(0.3)  # the training needs the processor more than we do


def test_the_names_and_parameters_are_the_documented_ones(client):
    said = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    given = {name: [p["parameter_name"] for p in api["parameters"]] for name, api in said.items()}
    assert given == {
        "/train": "uploads kind name model budget steps seed rank speed anyway".split(),
        "/status": ["run"],
        "/plan": ["model", "budget", "photos", "steps"],
        "/pause": ["run"],
        "/resume": ["run"],
        "/stop": ["run"],
        "/export": ["run", "format", "step"],
    }


def test_a_training_from_a_program(client):
    plan = client.predict(model="demo", budget=8, photos=5, steps=0, api_name="/plan")
    assert plan["fits"] and plan["peak_vram_gib"] <= 8
    asked = {
        "uploads": [handle_file(str(p)) for p in PHOTOS],
        "kind": "cat",
        "name": "Momo",
        "model": "demo",
        "budget": 8,
        "steps": 400,
        "seed": 0,
        "rank": 16,
        "speed": "fastest",
    }
    with pytest.raises(AppError, match="drawn pets"):
        client.predict(**asked, anyway=False, api_name="/train")
    run = client.predict(**asked, anyway=True, api_name="/train")
    assert client.predict(api_name="/status")["run"] == run, "the newest"
    other = client.predict(**asked, anyway=True, api_name="/train")
    assert client.predict(other, api_name="/status")["state"] == "waiting"
    assert waits_for(client, run, "running")["steps"] == 400
    assert client.predict(run, api_name="/pause") == run
    paused = waits_for(client, run, "paused")
    assert 0 < paused["step"] < 400 and paused["percent"] < 100
    assert client.predict(other, api_name="/status")["state"] == "waiting", (
        "its user wants the card"
    )
    assert client.predict(run, api_name="/resume") == run
    waits_for(client, run, "running")
    assert client.predict(run, api_name="/stop") == run
    stopped = waits_for(client, run, "stopped")
    path = client.predict(run, "diffusers", 0, api_name="/export")
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    assert len(header) > 10 and stopped["step"] >= paused["step"]
    waits_for(client, other, "running")  # it is its turn
    client.predict(other, api_name="/stop")
    waits_for(client, other, "stopped")


@pytest.mark.parametrize(
    "asked, name, said, kind",
    [
        (("../x",), "/status", strings.NO_RUN, "NotFound"),
        (("/etc",), "/pause", strings.NO_RUN, "NotFound"),
        (("",), "/stop", strings.NO_RUN, "NotFound"),
        (("x",), "/resume", strings.NO_RUN, "NotFound"),
        (("x", "zip"), "/export", strings.NO_RUN, "NotFound"),
        (("nothing", 8), "/plan", "There is no model", "NotFound"),
        (("demo", 0.1), "/plan", "too small", "OutOfMemory"),
        (
            (None, "", "Momo", "demo", 8, 9, 0, 4, "fast", True),
            "/train",
            strings.NO_KIND,
            "BadInput",
        ),
    ],
)
def test_what_cannot_be_is_said_in_words(client, asked, name, said, kind):
    with pytest.raises(AppError, match=said) as refused:
        client.predict(*asked, api_name=name)
    assert refused.value.title == kind
