"""launch.bat under wine, where there is one, with a python.exe that only pretends."""

import re
import shutil

import pytest
from helpers.launching import repin, windows_place


@pytest.fixture
def disk(windows, tmp_path):
    return windows_place(windows, tmp_path)


def test_windows_first_start_second_start_words_and_exit_code(disk):
    done = disk.start()
    assert done.returncode == 0 and done.calls[-1] == "python.exe -m|blockskip|studio|"
    steps = [x for x in done.calls if "|install|" in x]
    assert "torch.txt" in steps[0] and "pins.txt" in steps[1]
    done = disk.start("train", "my cat (1).jpg", "--demo", STUB_APP="7")
    assert done.returncode == 7
    assert done.calls[-1] == "python.exe -m|blockskip|train|my cat (1).jpg|--demo|"
    assert not any("|install|" in x for x in done.calls)
    done = disk.start(STUB_APP="-1073741515")
    assert done.returncode != 0 and "ended with code -1073741515" in done.said
    done = disk.start("test", "-k", "a b", STUB_APP="5")
    assert (
        done.returncode == 5
        and done.calls[-1]
        == "python.exe -m|pytest|-n|2|--dist|loadscope|--no-loadscope-reorder|-k|a b|"
    )
    assert sum("|install|" in x for x in done.calls) == 2, "the extras dev and lab"


def test_windows_without_python_fetches_one_or_says_what_to_do(disk):
    (disk.bin / "python.exe").rename(disk.bin / "python3.exe")
    store = disk.start(STUB_SUITS="9009", STUB_CURL="6")
    assert store.returncode == 1 and "install Python 3.12 from python.org" in store.said
    (disk.bin / "python3.exe").unlink()
    done = disk.start()
    assert done.returncode == 0
    assert [x.split()[0] for x in done.calls[:3]] == ["curl.exe", "tar.exe", "uv.exe"]


def test_windows_failures_are_told_and_leave_the_working_environment(disk):
    for trouble, words in (
        ({"STUB_MISSING": "install"}, "Torch could not be installed"),
        ({"STUB_ROOM": "1"}, "The disk is nearly full: 4 GB"),
        ({"STUB_IMPORT": "1"}, "The new environment does not work"),
    ):
        done = disk.start(**trouble)
        assert done.returncode == 1 and words in done.said
        assert not list(disk.home.glob(".venv*/Scripts")), "nothing half-made stays"
    (disk.home / "pyproject.toml").unlink()
    assert "Unpack the whole ZIP" in disk.start().said


def test_windows_update_and_rollback(disk):
    disk.start()
    (disk.home / ".venv" / "mark").write_text("old")
    repin(disk)
    assert not any("|install|" in x for x in disk.start("plan", STUB_FITS="0").calls)
    (disk.home / ".venv" / "pyproject.toml").write_text("older")
    assert disk.start("plan", STUB_IMPORT="1").returncode == 1
    assert (disk.home / ".venv" / "mark").exists()
    assert disk.start("plan").returncode == 0
    assert (disk.home / ".venv-previous" / "mark").exists()
    assert disk.start("rollback").returncode == 0
    assert (disk.home / ".venv" / "mark").exists()
    assert not any("|install|" in x for x in disk.start("plan").calls), "and it stays"


def test_windows_cards_get_the_build_that_computes(disk):
    shutil.copy(disk.stub, disk.bin / "nvidia-smi.exe")
    done = disk.start(STUB_CARD="1")
    builds = re.findall(r"--torch-backend=(\w+)", "\n".join(done.calls))
    assert builds == ["auto", "cu126"] and "Going on without the graphics card" in done.said
    shutil.rmtree(disk.home / ".venv")
    builds = re.findall(r"--torch-backend=(\w+)", "\n".join(disk.start().calls))
    assert builds == ["auto"]
    builds = re.findall(
        r"--torch-backend=(\w+)", "\n".join(disk.start(BLOCKSKIP_TORCH="cpu").calls)
    )
    assert builds == ["cpu"] and (disk.home / ".venv/torch-build").read_text().strip() == "cpu"
