"""A run whose files were damaged goes on from what is intact, to the same LoRA, and says so."""

import shutil

import pytest
import torch
from helpers.demo_run import DEMO
from safetensors.torch import load_file

from blockskip.core import safetensors_files
from blockskip.core.errors import BadFile, DiskFull, UserError
from blockskip.core.events import Done, Loss, Note, Started
from blockskip.core.safetensors_files import Damaged
from blockskip.data.photos import find_photos
from blockskip.memory.planning.planner import choose_settings
from blockskip.runs import checkpoints, control, event_log, failure, results, worker_process
from blockskip.runs.problem import state_and_problem
from blockskip.runs.run import Run, create_run


@pytest.fixture(scope="module")
def paused(tmp_path_factory):
    """A run of 10 steps, paused after step 7 of windows of 4: (run, the finished LoRA's tensors)."""
    folder = tmp_path_factory.mktemp("data with blank ü")
    settings = choose_settings(
        steps=10,
        batch=2,
        window_steps=4,
        checkpoint_every=2,
        preview_every=0,
        preview_steps=1,
        preview_prompts=(),
        seed=1,
    )
    run = create_run(settings, find_photos([sorted(DEMO.glob("*/"))[0]]), str(folder / "pet"))
    with pytest.MonkeyPatch.context() as patch:
        real = Run.append

        def append(run, event):
            real(run, event)
            if isinstance(event, Loss) and event.step == 7:
                control.send(run.control_path, "pause")

        patch.setattr(Run, "append", append)
        assert worker_process.main(str(run.folder)) == 130
    whole = Run(folder / "whole" / "pet")
    shutil.copytree(run.folder, whole.folder)
    assert worker_process.main(str(whole.folder)) == 0
    assert not (whole.folder / "failure.json").exists()
    return run, load_file(whole.exports_dir / "pet.safetensors")


@pytest.fixture
def copy(paused, tmp_path):
    shutil.copytree(paused[0].folder, tmp_path / "pet")
    return Run(tmp_path / "pet")


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def zero(path):
    path.write_bytes(bytes(path.stat().st_size))


def flip(path):
    """Flip one bit in the last row of every tensor; the header stays as it is."""
    data = bytearray(path.read_bytes())
    for entry in safetensors_files.read_header(path).table.values():
        if entry["stop"] > entry["start"]:
            data[entry["stop"] - 1] ^= 1
    path.write_bytes(data)


def notes(run):
    return [event.text for event in run.events()[0] if isinstance(event, Note)]


def test_damaged_files_cost_steps_not_the_run(paused, copy):
    zero(copy.checkpoints_dir / "step-00007.safetensors")
    cut(copy.cache_dir / "latents.safetensors")
    flip(copy.cache_dir / "window-0001.safetensors")
    copy.control_path.write_bytes(b"[]")
    assert worker_process.main(str(copy.folder)) == 0
    assert isinstance(copy.events()[0][-1], Done)
    found = load_file(copy.exports_dir / "pet.safetensors")
    assert found.keys() == paused[1].keys()
    assert all(torch.equal(found[name], paused[1][name]) for name in found)
    assert (
        notes(copy).count(
            "Damaged: step-00007.safetensors. Training continues from step 6, the newest intact "
            "checkpoint."
        )
        == 1
    )
    for name in ("latents.safetensors", "window-0001.safetensors"):
        assert notes(copy).count(f"{name} was damaged and is made again.") == 1
    assert notes(copy).count(f"{copy.control_path} is no command and was ignored.") == 1
    assert not copy.control_path.exists()
    starts = [event for event in copy.events()[0] if isinstance(event, Started)]
    assert starts[-1].resumed_from >= 6 and not list(copy.checkpoints_dir.glob("*.damaged"))
    assert [p.name for p in checkpoints.list_checkpoints(copy)] == [
        "step-00008.safetensors",
        "step-00010.safetensors",
    ]


@pytest.mark.parametrize("damage", [cut, zero, flip])
def test_a_damaged_checkpoint_is_kept_until_there_is_a_newer_one(copy, damage):
    damage(copy.checkpoints_dir / "step-00007.safetensors")
    assert checkpoints.newest_checkpoint(copy).name == "step-00006.safetensors"
    assert checkpoints.set_damaged_aside(copy) == ["step-00007.safetensors"]
    assert copy.step() == 6
    checkpoints.remove_old(copy, 2)
    assert sorted(path.name for path in copy.checkpoints_dir.iterdir()) == [
        "step-00006.safetensors"
    ]


def test_the_last_intact_lora_is_exported(copy):
    assert checkpoints.damage_note(copy) == ""
    flip(copy.checkpoints_dir / "step-00007.safetensors")
    shutil.copytree(copy.checkpoints_dir, copy.adapters_dir)
    (copy.adapters_dir / "step-00007.safetensors").unlink()
    assert checkpoints.lora_file(copy) == copy.adapters_dir / "step-00006.safetensors"
    assert checkpoints.damage_note(copy) == (
        "Damaged: checkpoints/step-00007.safetensors. Step 6 is used."
    )
    exported = results.export_run(copy)
    assert exported.path.name == "pet-step6.safetensors"
    with pytest.raises(BadFile, match="step-00007") as error:
        checkpoints.lora_file(copy, 7)
    assert "fetch" not in error.value.remedy.lower()
    flip(copy.adapters_dir / "step-00006.safetensors")
    flip(copy.checkpoints_dir / "step-00006.safetensors")
    with pytest.raises(BadFile, match="step-00007.safetensors, step-00006.safetensors"):
        checkpoints.lora_file(copy)


def test_a_drive_that_keeps_nothing_ends_the_run(copy, monkeypatch, tmp_path):
    path = copy.cache_dir / "window-0001.safetensors"

    def fails(worker):
        path.write_bytes(b"x")
        raise Damaged(path)

    monkeypatch.setattr(worker_process.Worker, "work", fails)
    with pytest.raises(Damaged, match="made again and is damaged again"):
        worker_process.work(copy)
    assert notes(copy) == ["window-0001.safetensors was damaged and is made again."]
    foreign = tmp_path / "model.safetensors"
    monkeypatch.setattr(worker_process.Worker, "work", lambda worker: flip_foreign(foreign))
    with pytest.raises(Damaged, match="model.safetensors"):
        worker_process.work(copy)
    assert foreign.exists(), "only caches are deleted"


def flip_foreign(path):
    path.write_bytes(b"x")
    raise Damaged(path)


@pytest.mark.parametrize("obstacle", ["folder", "full", "read-only folder"])
def test_the_reason_is_kept_when_the_log_cannot_be_written(copy, monkeypatch, obstacle, caplog):
    size = copy.events_path.stat().st_size
    if obstacle == "folder":
        copy.events_path.unlink()
        copy.events_path.mkdir()
        words = "events.jsonl could not be written"
    else:

        def full(path, event):
            raise DiskFull("The disk is full: events.jsonl could not be written.", "Free some.")

        monkeypatch.setattr(event_log, "append", full)
        words = "The disk is full: events.jsonl could not be written."
    if obstacle == "read-only folder":
        (copy.folder / "failure.json").mkdir()
        monkeypatch.setattr(failure, "reserve", lambda folder: None)
    assert worker_process.main(str(copy.folder)) == 1
    state, problem = state_and_problem(copy)
    assert state == "failed" and isinstance(problem, UserError) and words in problem.title
    assert problem.remedy
    if obstacle == "full":
        assert (problem.kind, copy.events_path.stat().st_size) == ("DiskFull", size)
    monkeypatch.undo()
    failure.remove(copy.folder)
    assert failure.read(copy.folder) is None


def test_the_space_for_the_reason_is_taken_before_the_disk_is_full(copy):
    failure.reserve(copy.folder)
    before = (copy.folder / "failure.json").stat()
    assert failure.read(copy.folder) is None and copy.state() == "paused"
    failure.write(copy.folder, failure.failed(DiskFull("The disk is full.", "Free some.")))
    after = (copy.folder / "failure.json").stat()
    assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size)
    assert failure.read(copy.folder).title == "The disk is full."
