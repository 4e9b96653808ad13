"""Temporary files of killed writers go, those of living ones stay, whatever their process id."""

import os
import subprocess
import sys
import threading

import pytest

from blockskip.core import files
from blockskip.core.files import remove_leftovers, temporary_folder, temporary_path, write_parts
from blockskip.runs import storage
from blockskip.runs.run import runs_dir

WRITER = """
import sys
from pathlib import Path
from blockskip.core.files import write_parts

def parts():
    yield b"x" * 10_000
    print("begun", flush=True)
    sys.stdin.read()

write_parts(Path(sys.argv[1]), parts())
"""
posix = pytest.mark.skipif(files.fcntl is None, reason="Windows cannot delete an open file")


def dead_pid() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_a_living_writer_is_left_alone_and_a_killed_one_cleaned_up_after(tmp_path):
    words = [sys.executable, "-c", WRITER, str(tmp_path / "window")]
    child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout.readline().strip() == b"begun"
    (left,) = tmp_path.iterdir()
    assert remove_leftovers(tmp_path) == 0 and left.exists()
    child.kill()
    child.communicate()
    assert left.exists() and not (tmp_path / "window").exists()
    size = left.stat().st_size
    assert remove_leftovers(tmp_path) == size and not left.exists()


@posix
@pytest.mark.parametrize("pid", [os.getpid(), os.getppid()], ids=["own", "parent"])
def test_a_reused_process_id_protects_nothing(tmp_path, pid):
    left = tmp_path / "below" / f"a.safetensors.{pid}.tmp"
    left.parent.mkdir()
    left.write_bytes(b"123")
    os.utime(left, (2e9, 2e9))  # the clock says nothing
    assert remove_leftovers(tmp_path) == 3 and not left.exists()


@posix
def test_a_writer_that_lost_its_file_before_it_was_locked_begins_again(tmp_path, monkeypatch):
    path, real, calls = tmp_path / "a", files.fcntl.flock, []

    def flock(file, how):
        if not calls:
            temporary_path(path).unlink()
        calls.append(how)
        real(file, how)

    monkeypatch.setattr(files.fcntl, "flock", flock)
    files.write_bytes(path, b"whole")
    assert path.read_bytes() == b"whole" and len(calls) == 2


@posix
def test_threads_that_write_one_file_write_it_one_after_the_other(tmp_path, monkeypatch):
    path, waits, real = tmp_path / "a", threading.Event(), files.fcntl.flock
    other = threading.Thread(target=files.write_bytes, args=(path, b"second"))

    def flock(file, how):
        if threading.current_thread() is other:
            waits.set()  # it has opened the same temporary file
        real(file, how)

    def parts():
        yield b"x" * 100_000
        other.start()
        assert waits.wait(60) and temporary_path(path).stat().st_size == 100_000
        yield b"y"

    monkeypatch.setattr(files.fcntl, "flock", flock)
    write_parts(path, parts())
    other.join()
    assert path.read_bytes() == b"second" and [p.name for p in tmp_path.iterdir()] == ["a"]


def test_what_this_process_writes_stays(tmp_path):
    def parts():
        yield b"one "
        assert remove_leftovers(tmp_path) == 0
        yield b"two"

    write_parts(tmp_path / "a", parts())
    assert (tmp_path / "a").read_bytes() == b"one two"
    with temporary_folder(tmp_path / "b") as folder:
        (folder / "photo").write_bytes(b"x")
        assert remove_leftovers(tmp_path) == 0 and (folder / "photo").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("name", ["notes.tmp", "a.12.tmp.txt", ".12.tmp", "a.x.tmp", "a.12.TMP"])
def test_other_files_are_not_ours(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    assert remove_leftovers(tmp_path) == 0 and (tmp_path / name).exists()


def test_clean_removes_the_leftovers_of_the_whole_data_folder(tmp_path):
    pid = dead_pid()
    data = runs_dir().parent
    half_made = runs_dir() / f"luna-cat.{pid}.tmp" / "photos"
    half_made.mkdir(parents=True)
    (half_made / "000-a.jpg").write_bytes(b"1234")
    for folder in (data / "draft", runs_dir() / "pet" / "cache", data / f"uploads-1.{pid}.tmp"):
        folder.mkdir(parents=True)
        (folder / f"x.{pid}.tmp").write_bytes(b"123")
        (folder / "kept.json").write_bytes(b"1")
    assert storage.clean_all() == 4 + 3 + 3 + 1 + 3 + 1  # the run's cache is cleared as well
    left = sorted(path.relative_to(data).as_posix() for path in data.rglob("*.*"))
    assert left == ["draft/kept.json", "start.lock"]
