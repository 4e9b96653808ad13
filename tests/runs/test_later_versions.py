"""What a later version adds to files is ignored by this one: going back to it loses no run.

A later version writes keys that this one does not know. Where ignoring them would mislead, it
raises the file's `format` (core/formats.py), and this version says so and leaves the file alone
(test_old_runs.py has those).
"""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import tomli_w

from blockskip.core import files, paths
from blockskip.core.errors import UserError
from blockskip.core.paths import data_dir
from blockskip.data import subject_boxes
from blockskip.data.subject_boxes import Box
from blockskip.models.sources import registry
from blockskip.runs.run import Run
from blockskip.studio import describe, draft, run_preferences

DATA = Path(__file__).with_name("data") / "340d36e"
KEY, VALUE = "of_a_later_version", {"a": [1, None, {"b": 2}]}
FREE = ("answers", "files", "tokenizers")  # tables whose keys are names
KEYED = ("models.json",)  # tables by name of a model


@pytest.fixture
def run(monkeypatch, tmp_path):
    """A data folder with a file of each kind."""
    monkeypatch.setattr(paths, "location_file", lambda: data_dir() / "place.json")
    monkeypatch.setattr(paths, "_saved_location", paths._saved_location.__wrapped__)
    run = Run(data_dir() / "runs" / "paused")
    shutil.copytree(DATA / "paused", run.folder)
    draft.photos_dir().mkdir(parents=True)
    for name in ("models.json", "comfyui.json"):
        shutil.copy(DATA / name, data_dir())
    shutil.copy(DATA / "draft.json", draft.photos_dir().parent)
    for photo in json.loads((DATA / "draft.json").read_text())["photos"]:
        (draft.photos_dir() / photo["file"]).touch()
    registry.save_comfyui_folders([tmp_path])
    run_preferences.save(run, pet="Momo", step=4)
    subject_boxes.write_box(draft.photos_dir() / "a.jpg", Box(0.1, 0.1, 0.9, 0.9), "user")
    describe._save(instruction="Say what it wears.")
    files.write_json(paths.location_file(), {"data_dir": str(tmp_path)})
    return run


def seen(run: Run) -> dict:
    """What the program makes of the files."""
    return {
        "settings": run.settings(),
        "state": (run.state(), run.step(), run.fingerprint()),
        "events": run.events()[0],
        "draft": draft.load(),
        "models": registry.selections(),
        "comfyui": registry.comfyui_folders(),
        "preferences": run_preferences.load(run),
        "box": subject_boxes.read_box(draft.photos_dir() / "a.jpg"),
        "choices": describe.load(),
        "place": paths._saved_location(),
    }


def with_more(value: object, top: bool = True) -> object:
    """A JSON value with another key in each of its tables. top: also in the outermost."""
    if isinstance(value, list):
        return [with_more(item) for item in value]
    if not isinstance(value, dict):
        return value
    inner = {key: item if key in FREE else with_more(item) for key, item in value.items()}
    return inner | ({KEY: VALUE} if top else {})


def test_what_a_later_version_adds_changes_nothing(run):
    before = seen(run)
    changed = set()
    for path in data_dir().rglob("*.json"):
        value = with_more(json.loads(path.read_text()), top=path.name not in KEYED)
        path.write_text(json.dumps(value))
        changed.add(path.name)
    assert changed >= {"draft.json", "models.json", "comfyui.json", "studio.json", "choices.json"}
    info = run.info()
    info["photos"] = [photo | {KEY: "x"} for photo in info["photos"]]
    run.write_info(info | {KEY: "x"})
    lines = [json.loads(line) for line in run.events_path.read_text().splitlines()]
    lines = [{"event": KEY, "time": 0.0}, *(line | {KEY: VALUE} for line in lines)]
    run.events_path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    after = seen(run)
    before.pop("state"), after.pop("state")
    assert after == before


def test_a_setting_of_a_later_version_is_named(run):
    info = run.info()
    info["settings"]["plan"][KEY] = 1
    (run.folder / "run.toml").write_text(tomli_w.dumps(info), encoding="utf-8")
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    for use in (run.settings, run.start, partial(run.resume_until, 20)):
        with pytest.raises(UserError, match=f"{KEY}.*another version; update"):
            use()
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before
