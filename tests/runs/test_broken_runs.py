"""One run that cannot be read is named with its reason, and takes nothing else down."""

import json

import pytest
from helpers import fake_feed
from helpers.broken_runs import HARMLESS, LINES, UNREADABLE
from typer.testing import CliRunner

from blockskip.cli.app import app
from blockskip.core.errors import UserError
from blockskip.core.events import Failed, Loss, Started
from blockskip.core.settings import Settings
from blockskip.runs import checkpoints, event_log, failure, image_requests, storage
from blockskip.runs.problem import UNREADABLE as STATE
from blockskip.runs.run import Run, create_run, find_run, list_runs, runs_dir


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"not looked at here")
    return path


@pytest.fixture
def run(photo):
    return create_run(Settings(steps=9), [photo], "broken")


def listed() -> dict[str, dict]:
    done = CliRunner().invoke(app, ["runs", "list", "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    return {row["run"]: row for row in json.loads(done.stdout)["runs"]}


@pytest.mark.parametrize("case", UNREADABLE)
def test_an_unreadable_run_is_listed_with_its_reason_and_deleted(photo, run, case):
    damage, words = UNREADABLE[case]
    good = create_run(Settings(), [photo], "good")
    damage(run)
    rows = listed()
    assert (rows["good"]["state"], rows["good"]["problem"]) == ("new", "")
    assert rows["broken"]["state"] == STATE and words in rows["broken"]["problem"]
    assert storage.usage().runs_gib > 0 and storage.clean_all() >= 0
    assert storage.delete("broken") > 0 and list_runs() == [good]


@pytest.mark.parametrize("case", HARMLESS)
def test_what_can_be_done_without_is_ignored(run, case):
    HARMLESS[case](run)
    row = listed()["broken"]
    assert row["state"] in ("new", "crashed") and row["problem"] == ""
    assert image_requests.all_requests(run) == []


def test_a_folder_that_is_no_run_is_not_deleted_by_its_path(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(UserError, match="no run called"):
        storage.delete(str(tmp_path / "photos"))
    assert (tmp_path / "photos").is_dir()


def test_a_link_to_a_run_is_deleted_without_the_run(run, tmp_path):
    moved = tmp_path / "elsewhere"
    run.folder.rename(moved)
    run.folder.symlink_to(moved, target_is_directory=True)
    storage.delete("broken")
    assert list_runs() == [] and (moved / "run.toml").exists()


def test_one_bad_line_costs_no_other(run):
    good = Loss(step=3, loss=0.5, seconds=1.0, time=4.0)
    run.append(Started(steps=9, time=1.0))
    with open(run.events_path, "ab") as file:
        file.write(b"\n".join(LINES) + b"\n")
    run.append(good)
    assert run.events()[0] == [Started(steps=9, time=1.0), good]
    assert event_log.last_event(run.events_path, (Started,)) == Started(steps=9, time=1.0)


def test_whole_numbers_are_numbers(run):
    run.events_path.write_bytes(
        b'{"event": "loss", "step": 3, "loss": 1, "seconds": 2, "time": 4}\n'
    )
    assert run.events()[0] == [Loss(step=3, loss=1.0, seconds=2.0, time=4.0)]


def test_only_steps_are_checkpoints(run):
    fake_feed.keep(run, 4)
    for folder in (run.checkpoints_dir, run.adapters_dir):
        folder.mkdir(exist_ok=True)
        for name in ("step-00009 (copy)", "step-abc", "step-", "step-9", "step-²²²²²"):
            (folder / f"{name}.safetensors").write_bytes(b"x")
        (folder / "step-00008.safetensors").mkdir()
        (folder / "step-00007.safetensors").symlink_to("nowhere")
    (run.checkpoints_dir / "step-00004.safetensors").write_bytes(b"x")
    assert run.step() == 4 and checkpoints.saved_steps(run) == [4]
    assert [path.name for path in checkpoints.list_checkpoints(run)] == ["step-00004.safetensors"]


@pytest.mark.parametrize("content", [b'{"prompt": 5}', b'{"seed": -1}', b"[]", b"[" * 99_999])
def test_one_bad_picture_hides_no_other(run, content):
    good = image_requests.enqueue(run, "a cat", 1, 1.0, 4)
    bad = run.pictures_dir / "0000000000001-abcd"
    bad.mkdir()
    (bad / "request.json").write_bytes(content)
    assert image_requests.all_requests(run) == [good]


def test_a_picture_of_an_unreadable_run_fails_with_the_reason(run):
    from blockskip.runs import image_process

    image_requests.enqueue(run, "a cat", 1, 1.0, 4)
    UNREADABLE["no steps"][0](run)
    image_process.main(str(run.folder))
    (picture,) = image_requests.all_requests(run)
    assert picture.state == "failed" and "steps = 0 is not possible" in picture.title


def test_a_failure_is_known_though_the_log_cannot_be_written(run):
    run.append(Started(steps=9))
    failure.write(run.folder, Failed(title="The disk is full: events.jsonl.", kind="DiskFull"))
    assert run.state() == "failed"
    row = listed()["broken"]
    assert (row["state"], row["problem"]) == ("failed", "The disk is full: events.jsonl.")
    failure.reserve(run.folder)  # the next worker
    assert run.state() == "crashed" and (run.folder / "failure.json").stat().st_size == 4096


def test_a_run_is_made_whole_or_not_at_all(photo, monkeypatch):
    seen = []
    monkeypatch.setattr(Run, "write_info", lambda run, info: seen.append((list_runs(), run.folder)))
    create_run(Settings(), [photo], "whole")
    ((others, unfinished),) = seen
    assert others == [] and unfinished.name.endswith(".tmp") and not unfinished.exists()
    assert [path.name for path in runs_dir().iterdir()] == ["whole"]
    assert find_run("whole").photos_dir.is_dir()
