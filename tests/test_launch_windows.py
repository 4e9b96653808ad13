"""launch.bat under wine, where there is one, with a python.exe that only pretends."""

import os
import re
import shutil
import subprocess
from types import SimpleNamespace

import pytest
from helpers.launching import FOLDER, ROOT, repin

# The pretended python.exe for wine; under other names it plays the tools that launch.bat uses.
STUB_C = r"""
#include <direct.h>
#include <stdio.h>
#include <wchar.h>
#include <windows.h>

static int env(const wchar_t *name, int otherwise) {
    const wchar_t *value = _wgetenv(name);
    return value ? _wtoi(value) : otherwise;
}

static int compare(const wchar_t *one, const wchar_t *other) {
    FILE *a = _wfopen(one, L"rb"), *b = _wfopen(other, L"rb");
    if (!a || !b) return 2;
    for (int c = 0; c != EOF;) if ((c = getc(a)) != getc(b)) return 1;
    return 0;
}

int wmain(int argc, wchar_t **argv) {
    static wchar_t line[8192], self[1024], to[1024];
    for (int i = 1; i < argc; i++) wcscat(wcscat(line, argv[i]), L"|");
    GetModuleFileNameW(NULL, self, 1024);
    wchar_t *name = wcsrchr(self, L'\\') + 1, *last = argv[argc - 1];
    if (!_wcsicmp(name, L"fc.exe")) return compare(argv[2], argv[3]);
    if (wcsstr(line, L"version_info")) return env(L"STUB_SUITS", 0);
    if (wcsstr(line, L"tomllib")) return puts("torch==2.13.0") < 0;
    FILE *log = _wfopen(_wgetenv(L"STUB_LOG"), L"a, ccs=UTF-8");
    fwprintf(log, L"%ls %ls\n", name, line);
    fclose(log);
    if (!_wcsicmp(name, L"curl.exe")) return env(L"STUB_CURL", 0);
    if (!_wcsicmp(name, L"tar.exe")) {
        swprintf(to, 1024, L"%ls\\uv.exe", last);
        return !CopyFileW(self, to, FALSE);
    }
    if (wcsstr(line, L"venv|")) {
        _wmkdir(last);
        swprintf(to, 1024, L"%ls\\Scripts", last);
        _wmkdir(to);
        return !CopyFileW(self, wcscat(to, L"\\python.exe"), FALSE);
    }
    if (wcsstr(line, L"cli/doctor.py|fits|")) return env(L"STUB_FITS", 1);
    if (wcsstr(line, L"cli/doctor.py|card|")) return env(L"STUB_CARD", 0);
    if (wcsstr(line, L"disk_usage")) return env(L"STUB_ROOM", 0);
    if (wcsstr(line, L"|pip|install|")) return env(L"STUB_PIP", 0);
    if (wcsstr(line, L"import torch")) return env(L"STUB_IMPORT", 0);
    return wcsstr(line, L"blockskip|") || wcsstr(line, L"|pytest|") ? env(L"STUB_APP", 0) : 0;
}
"""
COMPILER = "x86_64-w64-mingw32-gcc"


@pytest.fixture(scope="session")
def windows(tmp_path_factory):
    """A fresh wine and the pretended programs for it."""
    if not (shutil.which("wine") and shutil.which(COMPILER)):
        pytest.skip(f"launch.bat NOT RUN: it needs wine and {COMPILER} here")
    place = tmp_path_factory.mktemp("windows")
    (place / "stub.c").write_text(STUB_C)
    subprocess.run(
        [COMPILER, "-O1", "-municode", "-o", place / "stub.exe", place / "stub.c"], check=True
    )
    settings = {**os.environ, "WINEPREFIX": str(place / "c"), "WINEDEBUG": "-all", "DISPLAY": ""}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": settings}
    subprocess.run(["wineboot", "-i"], **quiet, timeout=300)
    for name in ("curl", "tar"):
        shutil.copy(place / "stub.exe", place / f"c/drive_c/windows/system32/{name}.exe")
    subprocess.run(["wineserver", "-p"], **quiet)  # stays, so that starts are quick
    yield SimpleNamespace(stub=place / "stub.exe", settings=settings)
    subprocess.run(["wineserver", "-k"], **quiet)


@pytest.fixture
def disk(windows, tmp_path):
    """A copy of launch.bat in an awkward folder, a PATH with the pretended programs, and how to
    start it."""
    home, bin_, log = tmp_path / f"{FOLDER}!", tmp_path / "bin", tmp_path / "log"
    (home / "blockskip").mkdir(parents=True)
    bin_.mkdir()
    for name in ("launch.bat", "pyproject.toml"):
        shutil.copy(ROOT / name, home)
    for name in ("python", "fc"):  # wine's own fc finds all files alike
        shutil.copy(windows.stub, bin_ / f"{name}.exe")

    def start(*words, **settings):
        log.write_text("")
        own = {
            "STUB_LOG": f"Z:{log}",
            "WINEPATH": f"Z:{bin_}",
            "BLOCKSKIP_NO_PAUSE": "1",
            **settings,
        }
        with open(tmp_path / "said", "wb") as said:  # wine's services hold a pipe open for good
            done = subprocess.run(
                ["wine", "cmd", "/c", "launch.bat", *words],
                cwd=home,
                env={**windows.settings, **own},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                timeout=120,
            )
        done.calls = log.read_text(encoding="utf-8-sig").splitlines()
        done.said = (tmp_path / "said").read_text(encoding="utf-8", errors="replace")
        return done

    return SimpleNamespace(home=home, bin=bin_, stub=windows.stub, start=start)


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
    assert done.returncode == 5 and done.calls[-1] == "python.exe -m|pytest|-k|a b|"
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
        ({"STUB_PIP": "1"}, "Torch could not be installed"),
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
