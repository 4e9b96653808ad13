"""`batch` makes a run of each pet and trains one after the other; `queue` shows and changes them."""

import json
import shutil

import pytest
from helpers import fake_feed, quick_worker

from blockskip.core.paths import data_dir
from blockskip.runs import run as run_module
from blockskip.runs import run_queue
from blockskip.runs.run import list_runs

PETS = ("luna", "momo", "rex", "kit", "bo")


@pytest.fixture
def call(monkeypatch, terminal):
    """Commands, whose runs learn nothing (quick_worker.py)."""
    monkeypatch.setattr(run_module, "WORKER", quick_worker.NAME)
    monkeypatch.setattr("blockskip.cli.batch._POLL_S", 0.05)
    return terminal


@pytest.fixture
def pets(tmp_path):
    folder = tmp_path / "pets"
    for pet in PETS:
        fake_feed.make_photos(folder / pet, 1, 16)
    return folder


@pytest.fixture
def ends():
    """Lets every run of the batch end at once."""
    folder = data_dir()
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(len(PETS)):
        (folder / f"end-{n}").touch()


def listed(folder, text):
    path = folder / "pets.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_each_pet_becomes_a_lora_and_a_broken_one_stops_no_other(call, pets, ends):
    lines = 'class = "cat"\nsteps = 4\n' + "".join(
        f'[pets.{pet}]\nphotos = "{pet}"\n{"seed = 13" if pet == "rex" else ""}\n' for pet in PETS
    )
    code, out, _ = call("batch", listed(pets, lines), "--frames", "none", "--json")
    rows = json.loads(out)["pets"]
    assert code == 1 and [row["pet"] for row in rows] == list(PETS)
    assert [row["state"] for row in rows] == ["done", "done", "failed", "done", "done"]
    assert "Broken on purpose" in rows[2]["problem"] and rows[0]["lora"].endswith("x.safetensors")
    assert (data_dir() / "order").read_text(encoding="utf-8").split() == list(PETS)
    assert run_queue.read().names == []


def test_a_folder_of_folders_and_one_without_photos(call, pets, ends):
    for pet in PETS[2:]:
        shutil.rmtree(pets / pet)
    (pets / "empty").mkdir()
    code, out, _ = call("batch", pets, "--class", "dog", "--steps", "4", "--json")
    rows = {row["pet"]: row for row in json.loads(out)["pets"]}
    assert code == 1 and rows["empty"]["state"] == "failed" and rows["empty"]["problem"]
    assert {run.settings().trigger for run in list_runs()} == {"luna", "momo"}
    assert {run.settings().class_name for run in list_runs()} == {"dog"}


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "lists no pets"),
        ("pets = 3", "pets"),
        ("[pets.luna]", "photos"),
        ('[pets.luna]\nphotos = "luna"\nsteps = -1', "steps"),
        ('[pets.luna]\nphotos = "luna"\nspeed = 1', "speed"),
        ("[pets.luna]\nphotos = 3", "photos"),
        ("[pets", "cannot be read"),
        ("\x00", "cannot be read"),
    ],
)
def test_a_list_that_is_not_possible_is_told_before_anything_is_made(call, pets, text, said):
    code, _, told = call("batch", listed(pets, text))
    assert code == 2 and said in told and not list_runs()


def test_the_queue_is_shown_and_changed(call, pets, ends):
    run_queue.hold(True)
    for pet in ("luna", "momo"):
        run_queue.add(fake_feed.make_run([next((pets / pet).iterdir())], name=pet))
    assert json.loads(call("queue", "--json")[1]) == {
        "held": True,
        "queue": [{"run": "luna", "state": "waiting"}, {"run": "momo", "state": "waiting"}],
        "open_models": [],
    }
    code, out, _ = call("queue", "move", "momo", "1")
    assert code == 0 and out.index("momo") < out.index("luna") and "queue go" in out
    call("queue", "remove", "luna")
    code, out, _ = call("queue", "add", "nobody")
    assert code == 1 and run_queue.read().names == ["momo"]
    assert call("queue", "move", "luna", "1")[0] == 1


def test_train_waits_in_line_and_ctrl_c_takes_it_out(call, pets, monkeypatch):
    run_queue.hold(True)

    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr("blockskip.cli.turns.time.sleep", interrupt)
    code, _, said = call("train", pets / "luna", "--class", "cat", "--steps", "4", "--out", "r")
    assert code == 130 and "held" in said and run_queue.read().names == []
    assert [run.name for run in list_runs()] == ["r"]
