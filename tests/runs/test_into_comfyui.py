"""A LoRA goes into ComfyUI with a picture and a workflow that names it, and a running ComfyUI is
asked for nothing but its list."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import fake_feed
from helpers.comfyui_lists import listed, make, searched
from helpers.fake_comfyui import FakeComfyUI
from safetensors.numpy import save_file
from typer.testing import CliRunner

from blockskip.cli.app import app
from blockskip.core.errors import BadInput
from blockskip.memory import comfyui_server, monitor
from blockskip.models.sources import registry
from blockskip.runs import checkpoints, into_comfyui, results

NAME = "Momo z-image step 0300"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A finished training of Z-Image, with a file, a workflow and pictures; no ComfyUI runs."""
    monkeypatch.setattr(comfyui_server, "USUAL_PORTS", ())
    monkeypatch.setattr(monitor, "card_processes", dict)
    run = fake_feed.make_run(fake_feed.make_photos(tmp_path / "photos"))
    fake_feed.feed(run, 300)
    fake_feed.keep(run, 300)
    run.append(fake_feed.done(run))
    fake_feed.change_model(run, "z-image")
    return run


@pytest.fixture
def comfyui(tmp_path):
    root = make(tmp_path / "höme" / "ComfyUI", "models/loras", "user/default")
    registry.save_comfyui_folders([root])
    return root


def copied(run, pet="Momo"):
    return into_comfyui.copy_into_comfyui(run, run.export_path(), 300, pet)


def workflow(lora, title):
    """With the VAE in a file of the LoRA's name, which is another file."""
    return {
        "nodes": [
            {"type": "VAELoader", "widgets_values": [lora]},
            {"type": "LoraLoaderModelOnly", "title": title, "widgets_values": [lora, 1.0]},
            {"type": "Note", "widgets_values": [f"Put {lora} into models/loras."]},
            {"type": "PreviewAny"},
        ]
    }


def write_workflow(run, title=""):
    name = run.export_path().name
    path = run.export_path().with_suffix(".workflow.json")
    path.write_text(json.dumps(workflow(name, title)), encoding="utf-8")


def test_a_picture_and_a_workflow_that_names_the_file_come_along(run, comfyui):
    write_workflow(run)
    (comfyui / "models/loras" / f"{NAME}.safetensors").write_text("somebody else's")
    for _ in range(2):  # the second time nothing is added
        answer = copied(run)
        lora = comfyui / "models/loras" / f"{NAME}-2.safetensors"
        assert lora.read_bytes() == run.export_path().read_bytes()
        assert answer.lora.path == lora and lora.with_suffix(".png").exists()
        said = json.loads(answer.workflow.read_text(encoding="utf-8"))
        wanted = workflow(lora.name, "")
        wanted["nodes"][0]["widgets_values"] = [run.export_path().name]
        assert said == wanted
        assert {path.name for path in comfyui.glob("user/default/workflows/*")} == {
            f"{NAME}-2.json"
        }
    assert "Already in ComfyUI" in str(answer) and f"“{NAME}-2” is in ComfyUI’s sidebar" in str(
        answer
    )
    write_workflow(run, "another")
    for _ in range(2):  # what the user may have changed stays
        assert copied(run).workflow.name == f"{NAME}-2-2.json"


def test_the_workflow_names_a_file_in_a_subfolder_as_comfyui_does(run, comfyui):
    write_workflow(run)
    first = copied(run).lora.path
    first.rename(make(comfyui / "models/loras", "pets") / "pets" / "best.safetensors")
    answer = copied(run)
    loader = json.loads(answer.workflow.read_text(encoding="utf-8"))["nodes"][1]
    (name,) = listed(searched(comfyui, []))
    assert loader["widgets_values"] == [name, 1.0] and answer.workflow.name == "best.json"


def test_a_lora_without_its_workflow_is_still_there(run, comfyui):
    assert copied(run).workflow is None
    write_workflow(run)
    (comfyui / "user/default/workflows").write_text("a file where a folder should be")
    answer = copied(run)
    assert answer.lora.path.exists() and "workflows" in answer.problem
    assert answer.problem in str(answer) and answer.workflow is None


@pytest.mark.parametrize(
    "folder, expected, said",
    [
        ("loras", True, "lists it: press R"),
        ("elsewhere", False, "does not look there: start the one of"),
        (None, None, "from its next start, or once"),
    ],
)
def test_a_running_comfyui_is_asked_for_its_list_alone(
    run, comfyui, monkeypatch, folder, expected, said
):
    loras = folder and (lambda: listed([comfyui / "models" / folder]))
    with FakeComfyUI(loras=loras) as server:
        monkeypatch.setattr(comfyui_server, "USUAL_PORTS", (server.port,))
        answer = copied(run)
        assert answer.listed is expected and said in str(answer)
        assert server.paths == ["GET /system_stats", "GET /models/loras"]


@pytest.mark.parametrize("stats", [["<html>"], {"system": {"os": "nt"}, "devices": []}])
def test_what_is_not_comfyui_is_not_asked(run, comfyui, monkeypatch, stats):
    with FakeComfyUI(stats=stats, loras=lambda: [f"{NAME}.safetensors"]) as server:
        monkeypatch.setattr(comfyui_server, "USUAL_PORTS", (server.port,))
        assert copied(run).listed is None and server.paths == ["GET /system_stats"]


def test_one_of_several_or_one_in_another_system_lists_it(monkeypatch):
    with FakeComfyUI(loras=list) as one, FakeComfyUI(loras=lambda: ["a/b.sft"]) as other:
        monkeypatch.setattr(comfyui_server, "USUAL_PORTS", (one.port, other.port))
        assert comfyui_server.lists_lora("a\\b.sft", frozenset())
        assert comfyui_server.lists_lora("b.sft", frozenset()) is False
    assert comfyui_server.lists_lora("b.sft", frozenset()) is None


def test_what_comfyui_cannot_load_is_not_copied(run, comfyui):
    for before, model in (("z-image", "demo"), ("demo", "sana-0.6b")):
        fake_feed.change_model(run, model, before)
        with pytest.raises(BadInput, match="does not load LoRAs"):
            copied(run)
    assert not list((comfyui / "models/loras").iterdir())


def test_the_terminal_copies_as_the_page_does(run, comfyui, monkeypatch):
    exported = SimpleNamespace(path=run.export_path(), keys=3)
    monkeypatch.setattr(results, "export_run", lambda *_: exported)
    save_file({"x": np.zeros(1)}, checkpoints.adapter_path(run, 300))
    words = ["export", run.name, "--to-comfyui"]
    printed = CliRunner().invoke(app, [*words, "--json"])
    lora = str(comfyui / "models/loras" / f"{NAME}.safetensors")
    assert json.loads(printed.stdout)["comfyui"] == {"file": lora, "workflow": "", "listed": None}
    printed = CliRunner().invoke(app, words)
    assert f"Already in ComfyUI: {lora}." in " ".join(printed.output.split())
    assert CliRunner().invoke(app, [*words, "--format", "diffusers"]).exit_code == 2
    registry.save_comfyui_folders([])
    monkeypatch.setattr(results, "export_run", None)  # nothing is written then
    assert "No ComfyUI folder was chosen" in str(CliRunner().invoke(app, words).exception)
