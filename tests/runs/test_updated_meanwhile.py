"""An update replaces the program's files while a training runs: it ends as it began."""

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import venv
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

PHOTOS = ASSETS / "demo-photos" / "violet-cat"
SETTINGS = Settings.of(
    **dict(steps=6, rank=1, front=6, back=5, window_steps=3, batch=2, checkpoint_every=2),
    **dict(s_min_px=32, s_max_px=64, text_tokens=22, device="cpu", threads=1),
    **dict(preview_px=64, preview_steps=4, preview_every=3, preview_prompts=("a cat",)),
)


NEXT_VERSION = """
import sys
if not sys.prefix.endswith(".venv-next"):
    raise SystemExit("a file of the next version")
"""


@pytest.mark.skipif(os.name == "nt", reason="launch.sh is for Linux and macOS")
def test_an_update_during_a_training_lets_it_end_as_it_began(tmp_path):
    """It reads no file of the program that replaced it, and its environment stays where it is; the
    new program runs beside it. Then the new environment takes its place."""
    home = tmp_path / "home"
    for name in ("blockskip", "presets"):
        shutil.copytree(ROOT / name, home / name)
    (home / "assets").symlink_to(ASSETS)
    for name in ("pyproject.toml", "launch.sh"):
        shutil.copy(ROOT / name, home)
    old, new = environment(home, ".venv"), environment(home, ".venv-next")
    run = create_run(SETTINGS, sorted(PHOTOS.glob("*.jpg"))[:2], "run")
    variables = processes.child_environment() | {"PYTHONPATH": str(home)}
    words = [old / "bin" / "python", "-m", "blockskip.runs.worker_entry", run.folder]
    worker = subprocess.Popen(words, cwd=home, env=variables)
    wait_for_a_step(run, worker)
    try:
        worker.send_signal(signal.SIGSTOP)  # it must not end before the launcher looks
        for path in home.glob("blockskip/**/*.py"):
            path.write_text(path.read_text(encoding="utf-8") + NEXT_VERSION, encoding="utf-8")
        shutil.rmtree(home / "presets")
        shutil.copytree(ROOT / "presets", home / "presets")
        answer = subprocess.check_output([home / "launch.sh", "runs", "list", "--json"], text=True)
        assert json.loads(answer)["runs"][0]["state"] == "running" and new.exists()
        worker.send_signal(signal.SIGCONT)
    except BaseException:
        worker.kill()
        raise
    assert worker.wait(timeout=300) == 0
    assert run.state() == "done"
    notes = [event for event in run.events()[0] if isinstance(event, events.Note)]
    assert not [note.text for note in notes if note.level == "warning"]
    subprocess.run([home / "launch.sh", "rollback"], check=True, stderr=subprocess.DEVNULL)
    assert not new.exists() and (home / ".venv-previous").exists()


def environment(home: Path, name: str) -> Path:
    """Make an environment that has this one's packages."""
    folder = home / name
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    (site / "these.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    shutil.copy(home / "pyproject.toml", folder)
    return folder


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
