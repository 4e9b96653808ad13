"""Likeness of a real model on the page and in the terminal: offered, downloaded by a click, measured
by the real class, told; and the photos that are held out for it."""

import json
import re
import time

import numpy as np
import pytest
from helpers import fake_feed, tiny_dino
from helpers.hub_server import Hub, serve
from huggingface_hub import constants
from PIL import Image

from blockskip.cli import app
from blockskip.core import processes
from blockskip.core.presets import model_rows
from blockskip.core.repositories import tool_row
from blockskip.models.sources import download_process
from blockskip.runs import likeness
from blockskip.runs.likeness import Progress
from blockskip.runs.likeness_rules import report
from blockskip.runs.likeness_types import Anchors, PetScale, StepLikeness
from blockskip.studio import actions, click_handlers, draft, held_out, likeness_view, tool_view
from blockskip.studio.likeness_view import Measuring

REAL = next(name for name, row in model_rows().items() if not row.demo)
TOOL = tool_row(likeness.TOOL)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that has the judge of likeness, in tiny. Nothing else is asked for."""
    folder = tiny_dino.write(tmp_path / "tool")
    for place in ("HF_TOKEN_PATH", "HF_HUB_CACHE"):
        monkeypatch.setattr(constants, place, str(tmp_path / "hf" / place))
        monkeypatch.setenv(place, str(tmp_path / "hf" / place))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    hub = Hub(TOOL.source, {path.name: path.read_bytes() for path in folder.iterdir()})
    with serve(hub) as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        yield hub
        download_process.stop(TOOL)


@pytest.fixture
def trained(pet):
    """A training of a real model that went well: its run."""
    run = fake_feed.make_run(pet, drawn=False)
    fake_feed.feed(run, 300)
    fake_feed.keep(run, 150, 300)
    run.append(fake_feed.done(run))
    fake_feed.change_model(run, REAL)
    return run


def until(true):
    deadline = time.monotonic() + 120
    while not (said := true()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return said


def test_from_the_offer_to_the_table_and_the_terminal(hub, trained, told, monkeypatch, capsys):
    def shown():
        tool_view.refresh()
        return told(trained.name)[0]["compare"]["value"]

    first = shown()
    assert "Look at row 4, “a photo of a cat”" in first and "figures" not in first
    assert 'data-do="fetch" data-model="likeness"' in first and TOOL.licence in first
    assert not hub.asked and not likeness.is_running(trained), "nothing without a click"
    monkeypatch.setattr("sys.argv", ["blockskip", "likeness", trained.name])
    assert app.main() == 1 and "models fetch likeness" in " ".join(capsys.readouterr().err.split())
    click_handlers.handle_click(trained.name, {"do": "fetch", "model": "likeness"})
    until(lambda: download_process.progress(TOOL).state == "done")
    assert hub.asked
    assert "Comparing" in shown(), "it begins by itself"
    until(lambda: not likeness.is_running(trained))
    assert likeness.progress(trained) is None, likeness.progress(trained)
    rows = likeness.read(trained)
    assert rows["measure"] == "features" and set(rows["by_step"]) >= {0, 150, 300}
    page = shown()
    assert page.count("<tr class=") == len(rows["by_step"]) and "<polygon" in page
    assert "pictures that copy them are rewarded" in page and "cat</th>" in page
    assert 'data-do="measure_more"' in page and rows["advice"] in page
    monkeypatch.setattr("sys.argv", ["blockskip", "likeness", trained.name, "--json"])
    assert app.main() == 0
    said = json.loads(capsys.readouterr().out)
    assert said["by_step"]["300"]["subject"] == rows["by_step"][300]["subject"]
    assert "DINOv2" in told(trained.name)[0]["card"]["value"]


def test_a_failure_is_told_and_can_be_tried_again(trained, told, begun, monkeypatch):
    monkeypatch.setattr(tool_view, "is_ready", lambda name: True)
    monkeypatch.setattr(likeness, "has_tool", lambda name: True)
    monkeypatch.setattr(processes, "lower_priority", lambda: None)
    monkeypatch.setattr(processes.os, "dup2", lambda *_: None)
    assert likeness.main(str(trained.folder)) == 1, "there is no tool after all"
    page = told(trained.name)[0]["compare"]["value"]
    assert "is not on this machine" in page and 'data-do="measure"' in page
    started = []
    monkeypatch.setattr(likeness, "start", lambda run, rounds=0: started.append((run, rounds)))
    for do in ("measure", "measure_more"):
        click_handlers.handle_click(trained.name, {"do": do})
    assert started == [(trained, 0), (trained, 1)]
    click_handlers.handle_click(trained.name, {"do": "measure_stop"})
    assert likeness.progress(trained) is None


def look(subject, nearest, not_found):
    keys = [("p", k) for k in range(3)]
    return StepLikeness(
        {key: subject + k / 100 for k, key in enumerate(keys)},
        {("c", 0): 0.4},
        {},
        dict.fromkeys(keys, nearest),
        not_found,
    )


def test_the_table_has_what_is_known(trained):
    looks = {0: look(0.4, 0.5, 1), 150: look(0.6, 0.7, 0), 300: look(0.61, 0.95, 2)}
    scale = PetScale(untrained=looks[0], visible_gap=0.02, copying=0.9)
    anchors = Anchors(photos=2, held_out=True, floor=0.4, ceiling=0.7, copying=0.9)
    rows = report(looks, [150, 300], scale, anchors)
    now = Measuring(kept=300, kind="<cat>", more=(2, 90.0))
    page = likeness_view.likeness(rows, now)
    heads = re.findall(r'<th scope="col">(.*?)</th>', page)
    assert heads == [
        "Your pet",
        "Below the top",
        "Any &lt;cat&gt;",
        "Nearest photo",
        "Copies",
        "No &lt;cat&gt;",
    ]
    cells = [re.findall(r"<td>(.*?)</td>", row) for row in page.split("<tr class=")[1:]]
    assert cells[1] == ["0.61", "0.01 ± 0.00", "0.40", "0.70", "0", "0"]
    assert cells[2] == ["0.62", "–", "0.40", "0.95", "3", "2"]
    assert "2 of your photos that training did not see" in page and "Above 0.90" in page
    assert (
        "2 more pictures of each prompt and step (about 2 min)" in page
        and 'data-step="150"' in page
    )
    told = dict(doing="pictures", n=3, total=24)
    busy = likeness_view.likeness(rows, Measuring(kept=300, kind="cat", progress=Progress(**told)))
    assert "3 of 24" in busy and 'data-do="measure_stop"' in busy


def test_held_out_photos_are_shown_and_can_be_changed(
    asked, told, no_worker, monkeypatch, tmp_path
):
    folder = tmp_path / "six"
    folder.mkdir()
    for k in range(6):
        rough = np.random.default_rng(k).integers(0, 256, (5, 5, 3)).astype(np.uint8)
        Image.fromarray(rough).resize((90, 90)).save(folder / f"momo {k}.png")
    draft.add([folder])
    draft.save_answers(model=REAL, kind="cat", name="Momo")
    monkeypatch.setattr(actions, "_require_model", lambda model: None)
    ready = {"likeness": False, "detector": False}
    monkeypatch.setattr(tool_view, "is_ready", ready.get)

    def page():
        return told("")[0]["photos"]["value"]

    def unseen():
        return held_out.find(draft.load(), actions.current_answers())

    assert 'data-model="likeness"' in page() and not unseen().files, "offered, and nothing held out"
    ready["likeness"] = True
    ((file,), by_rule) = unseen().files, unseen().by_rule
    name = next(photo.name for photo in draft.load().photos if photo.file == file)
    assert by_rule and f"Held out of training: {name}." in page() and "held out</span>" in page()
    other = next(photo.file for photo in draft.load().photos if photo.file != file)
    click_handlers.handle_click("", {"do": "hold_out", "file": other, "value": "1"})
    assert set(unseen().files) == {file, other} and "You have chosen them." in page()
    click_handlers.handle_click("", {"do": "hold_out", "file": file, "value": ""})
    assert unseen().files == (other,)
    run = actions.find_run(asked(model=REAL))
    assert run.info()["held_out"] == 1 and len(list(run.photos_dir.glob("*.png"))) == 5
    assert [path.name[4:] for path in run.held_out_dir.iterdir()] == [other]
    actions.copy_to_draft(run.name)
    assert len(draft.load().photos) == 6 and len(unseen().files) == 1 and not unseen().by_rule
    click_handlers.handle_click("", {"do": "hold_out", "file": ""})
    assert not unseen().files and "Held out" not in page()
    draft.save_answers(model="demo")
    assert not unseen().possible and '"unseen":null' in page().replace("&quot;", '"')
