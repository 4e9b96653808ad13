"""A run is a folder and a state machine; its files survive whatever happens to its process."""

import json
import subprocess
import sys

import psutil
import pytest

from blockskip.core import events, files, safetensors_files
from blockskip.core.errors import UserError
from blockskip.core.settings import Settings
from blockskip.runs import storage
from blockskip.runs.photo_copies import shutil
from blockskip.runs.run import create_run, find_run, list_runs, runs_dir


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "Mäuschen & co.jpg"
    path.write_bytes(b"not looked at here")
    path.with_suffix(".txt").write_text("a photo of sks cat asleep", encoding="utf-8")
    return path


def test_a_run_keeps_all_that_repeats_it(photo):
    settings = Settings(trigger="luna", preview_prompts=("a", "b"), lr=3e-4)
    run = create_run(settings, [photo], "my run")
    assert run.settings() == settings
    assert run.state() == "new"
    assert sorted(p.suffix for p in run.photos_dir.iterdir()) == [".jpg", ".txt"]
    assert find_run("my run") == run and list_runs() == [run]


def test_a_name_is_used_once(photo):
    create_run(Settings(), [photo], "one")
    with pytest.raises(UserError, match="already a run called “one”"):
        create_run(Settings(), [photo], "one")


@pytest.mark.parametrize("name", ["a/../../b*?", "con\x00", "..", " . "])
def test_bad_names_are_refused(photo, name):
    with pytest.raises((UserError, ValueError)):
        create_run(Settings(), [photo], name.replace("/", ""))


def test_half_a_line_is_not_an_event(photo):
    run = create_run(Settings(), [photo], "torn")
    run.append(events.Started(steps=3))
    run.append(events.Loss(step=1, loss=0.5, seconds=0.1))
    with open(run.events_path, "ab") as file:
        file.write(b'{"event": "loss", "st')
    found, offset = run.events()
    assert [type(e) for e in found] == [events.Started, events.Loss]
    run.append(events.Loss(step=2, loss=0.4, seconds=0.1))  # a new worker goes on after the tear
    more, _ = run.events(offset)
    assert [e.step for e in more] == [2]


@pytest.mark.parametrize(
    "event, state",
    [
        (events.Started(steps=1), "crashed"),
        (events.Stopped(reason="paused", step=1), "paused"),
        (events.Stopped(reason="stopped", step=1), "stopped"),
        (events.Failed(title="x"), "failed"),
    ],
)
def test_states_follow_the_last_word(photo, event, state):
    run = create_run(Settings(), [photo], "r")
    run.append(event)
    assert run.state() == state


def test_a_worker_of_an_earlier_version_is_recognised_by_its_start_time(photo):
    run = create_run(Settings(), [photo], "r")
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    created = psutil.Process(child.pid).create_time()
    files.write_json(run.folder / "worker.json", {"pid": child.pid, "create_time": created})
    try:
        assert run.state() == "running"
        with pytest.raises(UserError, match="is running"):
            run.start()
        with pytest.raises(UserError, match="Stop it before deleting"):
            storage.delete("r")
        run.send_command("stop")
        assert run.take_command() == "stop" and run.take_command() == ""
        files.write_json(
            run.folder / "worker.json", {"pid": child.pid, "create_time": created - 1000}
        )
        assert run.state() == "crashed", "the number was given to another process"
    finally:
        child.communicate(b"\n")
    with pytest.raises(UserError, match="is not running"):
        run.send_command("stop")


def test_rename_and_delete(photo):
    run = create_run(Settings(), [photo], "old")
    assert storage.rename("old", "new").name == "new"
    assert not run.folder.exists()
    assert storage.delete("new") > 0
    with pytest.raises(UserError, match="no run called “new”"):
        find_run("new")


def test_a_full_disk_leaves_nothing_half_made(photo, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(UserError, match="disk is full"):
        create_run(Settings(), [photo], "r")
    assert list_runs() == [] and not (runs_dir() / "r").exists()


def test_events_survive_json():
    for event in (
        events.Started(steps=3),
        events.Progress(stage="text", n=1, total=2),
        events.Note(text="ä “q”"),
        events.Done(
            adapter="a",
            exported="b",
            steps=1,
            seconds=2.0,
            stages={"text": 1.0},
            final_loss=0.1,
            peak_rss_gib=1.0,
            peak_vram_gib=-1.0,
        ),
    ):
        line = events.to_json(event)
        assert "\n" not in line and events.from_json(line) == event
    with pytest.raises(ValueError):
        events.from_json(json.dumps({"event": "unheard of"}))


def test_the_same_tensors_give_the_same_file(tmp_path):
    import torch

    tensors = {f"t{i}": torch.arange(i + 1) * 1.0 for i in range(9)}
    metadata = {f"key{i}": str(i) for i in range(9)}
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    safetensors_files.save_tensors(first, tensors, metadata)
    safetensors_files.save_tensors(
        second, dict(reversed(tensors.items())), dict(reversed(metadata.items()))
    )
    assert first.read_bytes() == second.read_bytes()
    assert safetensors_files.read_metadata(first) == {"format": "pt", **metadata}
    from safetensors.torch import load_file

    loaded = load_file(first)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())
    first.write_bytes(first.read_bytes()[:50])
    with pytest.raises(UserError, match="a.safetensors"):
        safetensors_files.read_metadata(first)
