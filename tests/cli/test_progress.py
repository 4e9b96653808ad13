"""A watched run ends with one answer: an exit code, one JSON object, a line for people."""

import io
import json
from types import SimpleNamespace

import pytest
from rich.console import Console

from blockskip.cli import progress
from blockskip.core.errors import command
from blockskip.core.events import Done, Failed, Stopped
from blockskip.runs import failure
from blockskip.runs.run import Run

DONE = Done(
    adapter="checkpoints/step-00002.safetensors",
    exported="exports/a.safetensors",
    steps=2,
    seconds=61.4,
    stages={"train": 60.0},
    final_loss=0.5,
    peak_rss_gib=1.0,
    peak_vram_gib=-1.0,
)


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "momo")


@pytest.mark.parametrize(
    "last, code, line",
    [
        (DONE, 0, "Done in 61 s: {folder}/exports/a.safetensors"),
        (
            Stopped(reason="paused", step=7),
            130,
            f"Run “momo” is paused at step 7. Continue with: {command('resume')} momo",
        ),
        (Failed(title="The disk is full.", remedy="Free some."), 1, "The disk is full. Free some."),
        (
            Failed(title="D:/a[b] :cat: [/c]/[d]/ is lost.", remedy="Find it."),
            1,
            "D:/a[b] :cat: [/c]/[d]/ is lost. Find it.",
        ),
        (
            None,
            1,
            "Run “momo” ended without an error message. See its log: {folder}/worker.log.",
        ),
    ],
    ids=["done", "paused", "failed", "brackets", "gone"],
)
def test_an_ending_is_told_to_people_and_to_programs(run, last, code, line, capsys):
    out = io.StringIO()
    screen = SimpleNamespace(last=last, resumed=True)
    console = Console(file=out, width=40)
    assert progress._print_result(run, screen, True, console) == code
    assert out.getvalue().strip().replace("\\", "/") == line.format(folder=run.folder.as_posix())
    said = json.loads(capsys.readouterr().out)
    assert said["run"] == str(run.folder)
    if last is DONE:
        assert said["resumed"] is True and said["stages"] == DONE.stages
        assert said["exported"] == str(run.folder / DONE.exported)
    else:
        assert set(said) == {"run", "error", "remedy", "kind"}
        assert line.startswith(said["error"].format(folder=run.folder))


def test_with_json_nothing_else_is_on_stdout(run, capsys, monkeypatch):
    """follow() watches what a process writes; here it is written already, and nobody lives."""
    run.folder.mkdir()
    run.events_path.touch()
    monkeypatch.setattr(Run, "worker", lambda self: self.append(DONE))
    assert progress.watch_run(run, start=False, as_json=True) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["steps"] == 2 and not err


def test_a_reason_kept_beside_an_unwritable_log_is_told(run, capsys):
    run.events_path.mkdir(parents=True)
    failure.write(run.folder, Failed(title="The disk is full.", remedy="Free some."))
    assert progress.watch_run(run, start=False, as_json=True) == 1
    assert json.loads(capsys.readouterr().out)["error"] == "The disk is full."


@pytest.mark.parametrize(
    "code, kind, words",
    [(-9, "OutOfMemory", "because RAM ran out"), (-11, "Unexpected", "without an error message")],
)
def test_a_worker_that_the_system_killed_ran_out_of_ram(
    run, capsys, monkeypatch, code, kind, words
):
    run.folder.mkdir()
    run.events_path.touch()
    monkeypatch.setattr(Run, "start", lambda self: SimpleNamespace(wait=lambda _: code))
    assert progress.watch_run(run, start=True, as_json=True) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["kind"] == kind and words in said["error"]
