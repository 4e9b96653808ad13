"""An update replaces the program's files while a training runs: it ends as it began."""

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

import blockskip
from blockskip.cli import in_use
from blockskip.core import events, processes, program
from blockskip.core.errors import WrongState
from blockskip.core.paths import ASSETS, ROOT
from blockskip.core.settings import Settings
from blockskip.runs.run import Run, create_run

SETTINGS = Settings.of(
    **dict(steps=6, rank=1, front=6, back=5, window_steps=3, batch=2, checkpoint_every=2),
    **dict(s_min_px=32, s_max_px=64, text_tokens=22, device="cpu", threads=1),
    **dict(preview_px=64, preview_steps=4, preview_every=3, preview_prompts=("a cat",)),
)


@pytest.mark.skipif(os.name == "nt", reason="links to the shipped models need rights there")
def test_a_training_reads_nothing_of_the_program_that_replaced_it(tmp_path):
    home = tmp_path / "home"
    for name in ("blockskip", "presets"):
        shutil.copytree(ROOT / name, home / name)
    (home / "assets").symlink_to(ASSETS)
    shutil.copy(ROOT / "pyproject.toml", home)
    photos = sorted((ASSETS / "demo-photos" / "violet-cat").glob("*.jpg"))[:2]
    run = create_run(SETTINGS, photos, str(tmp_path / "run"))
    environment = processes.child_environment() | {"PYTHONPATH": str(home)}
    command = [sys.executable, "-m", "blockskip.runs.worker_entry", str(run.folder)]
    worker = subprocess.Popen(command, cwd=home, env=environment)
    wait_for_a_step(run, worker)
    for path in home.glob("blockskip/**/*.py"):
        path.write_text("raise SystemExit('of the next version')", encoding="utf-8")
    shutil.rmtree(home / "presets")
    assert worker.wait(timeout=120) == 0
    assert run.state() == "done"
    notes = [event for event in run.events()[0] if isinstance(event, events.Note)]
    assert not [note.text for note in notes if note.level == "warning"]


def wait_for_a_step(run: Run, worker: subprocess.Popen) -> None:
    while not any(isinstance(event, events.Loss) for event in run.events()[0]):
        assert worker.poll() is None
        with suppress(subprocess.TimeoutExpired):
            worker.wait(timeout=0.02)


def test_a_studio_of_before_the_update_starts_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(program, "__version__", "0.0.1")
    with pytest.raises(WrongState, match=f"updated to {blockskip.__version__} while it was open"):
        processes.start("nothing", [], tmp_path / "log")
    assert not (tmp_path / "log").exists()


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
@pytest.mark.parametrize(
    "called", [".venv/bin/python", ".venv-next/bin/python", "{}/.venv/bin/python"]
)
def test_what_runs_from_an_environment_is_found(tmp_path, called):
    python = tmp_path / called.format(tmp_path)
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    assert not in_use.users(tmp_path)
    words = [called.format(tmp_path), "-c", "print(flush=True); input()"]
    worker = subprocess.Popen(words, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    worker.stdout.readline()
    assert in_use.users(tmp_path) == [worker.pid]
    assert not in_use.users(tmp_path / "elsewhere") and not in_use.users(Path(f"{tmp_path}x"))
    worker.communicate()
    assert not in_use.users(tmp_path)


def test_the_launchers_question_is_answered_by_its_exit_code(tmp_path):
    file = tmp_path / "blockskip" / "cli" / "in_use.py"
    file.parent.mkdir(parents=True)
    shutil.copy(in_use.__file__, file)
    assert subprocess.run([sys.executable, "-I", file]).returncode == 1
