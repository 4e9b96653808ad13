"""Copies of the launchers in separate folders, with a Python that only pretends.

The pretended Python writes down how it was called; folders have the names that people really have.
Environment variables tell it what to do: STUB_OLD (it does not suit), STUB_MISSING (a word of the
packages that cannot be installed), STUB_IMPORT, STUB_CARD, STUB_FITS, STUB_APP (exit codes),
STUB_BUSY=0 (something runs from the environment), STUB_KILL (the call at which all are killed),
STUB_WAIT (a file that it waits for). With STUB_COUNT, a file, tools that change files count as calls
too.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from blockskip.cli import doctor

ROOT = Path(doctor.ROOT)
FOLDER = "Müller's cats & dogs (1)"
TOOLS = "awk cat cmp cp df dirname env grep mkdir mv printf ps readlink rm sh sleep uname".split()
COMPILER = "x86_64-w64-mingw32-gcc"

COUNTED = r"""counted() {
    echo "$1" >>"$STUB_COUNT"
    number=0
    while read -r _; do number=$((number + 1)); done <"$STUB_COUNT"
    [ "$number" != "${STUB_KILL:-0}" ]
}
"""
STUB = (
    rf"""#!/bin/sh
{COUNTED}"""
    + r"""
case "$*" in
*version_info*) [ -z "${STUB_OLD:-}" ] && echo "$0"; exit ;;
*tomllib*dev) echo "pytest==9"; exit ;;
*tomllib*lab) echo "matplotlib==3"; exit ;;
*tomllib*launch) echo "uv==0"; exit ;;
*tomllib*) printf 'torch==2.13.0\ngradio==6.31.0\n'; exit ;;
esac
case "$*" in *cli/in_use.py) exit "${STUB_BUSY:-1}" ;; esac
[ -z "${STUB_COUNT:-}" ] || counted python || kill -9 0
echo "$*" >>"$STUB_LOG"
while [ -n "${STUB_WAIT:-}" ] && [ ! -e "$STUB_WAIT" ]; do
    echo >"$STUB_WAIT-begun"
    sleep 0.02
done
for word in "$@"; do last=$word; done
case "$*" in
*"-m venv"*) mkdir -p "$last/bin"; cp "$0" "$last/bin/python" ;;
*"cli/doctor.py fits"*) exit "${STUB_FITS:-1}" ;;
*"cli/doctor.py card"*) exit "${STUB_CARD:-0}" ;;
*"pip install"*"${STUB_MISSING:-nothing}"*) exit 1 ;;
*"import torch"*) exit "${STUB_IMPORT:-0}" ;;
*"-m blockskip"*) shift 2; printf '<%s>' "$PYTHONPATH" "${PYTHONHOME:-}" "$PWD" "$@"
    exit "${STUB_APP:-0}" ;;
*"-m pytest"*) exit "${STUB_APP:-0}" ;;
esac
"""
)
# The pretended python.exe for wine; under other names it plays the tools that launch.bat uses.
STUB_C = r"""
#include <direct.h>
#include <stdio.h>
#include <wchar.h>
#include <windows.h>
#include <io.h>
#include <tlhelp32.h>

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

static int calls(void) {
    int lines = 0;
    FILE *log = _wfopen(_wgetenv(L"STUB_LOG"), L"rb");
    for (int c; (c = getc(log)) != EOF;) lines += c == '\n';
    fclose(log);
    return lines;
}

static int kill_caller(void) {
    HANDLE all = CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0);
    PROCESSENTRY32W one = {.dwSize = sizeof one};
    for (int more = Process32FirstW(all, &one); more; more = Process32NextW(all, &one))
        if (one.th32ProcessID == GetCurrentProcessId())
            TerminateProcess(OpenProcess(PROCESS_TERMINATE, FALSE, one.th32ParentProcessID), 9);
    return 9;
}

int wmain(int argc, wchar_t **argv) {
    static wchar_t line[8192], self[1024], to[1024];
    for (int i = 1; i < argc; i++) wcscat(wcscat(line, argv[i]), L"|");
    GetModuleFileNameW(NULL, self, 1024);
    wchar_t *name = wcsrchr(self, L'\\') + 1, *last = argv[argc - 1];
    if (!_wcsicmp(name, L"fc.exe")) return compare(argv[2], argv[3]);
    if (wcsstr(line, L"version_info")) return env(L"STUB_SUITS", 0);
    if (wcsstr(line, L"tomllib")) return puts("torch==2.13.0") < 0;
    if (wcsstr(line, L"in_use.py")) return env(L"STUB_BUSY", 1);
    FILE *log = _wfopen(_wgetenv(L"STUB_LOG"), L"a, ccs=UTF-8");
    fwprintf(log, L"%ls %ls\n", name, line);
    fclose(log);
    if (calls() == env(L"STUB_KILL", -1)) return kill_caller();
    for (const wchar_t *go = _wgetenv(L"STUB_WAIT"); go && _waccess(go, 0); Sleep(20))
        fclose(_wfopen(wcscat(wcscpy(to, go), L"-begun"), L"w"));
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
    if (wcsstr(line, L"doctor.py|fits|")) return env(L"STUB_FITS", 1);
    if (wcsstr(line, L"doctor.py|card|")) return env(L"STUB_CARD", 0);
    if (wcsstr(line, L"disk_usage")) return env(L"STUB_ROOM", 0);
    const wchar_t *missing = _wgetenv(L"STUB_MISSING");
    if (missing && wcsstr(line, L"|pip|install|")) return wcsstr(line, missing) != NULL;
    if (wcsstr(line, L"import torch")) return env(L"STUB_IMPORT", 0);
    if (wcsstr(line, L"blockskip|"))
        wprintf(L"<%ls><%ls>\n", _wgetenv(L"PYTHONPATH"), _wgetenv(L"PYTHONHOME") ? L"home" : L"");
    return wcsstr(line, L"blockskip|") || wcsstr(line, L"|pytest|") ? env(L"STUB_APP", 0) : 0;
}
"""


def repin(place):
    text = (place.home / "pyproject.toml").read_text().replace("==6.31.0", "==6.32.0")
    (place.home / "pyproject.toml").write_text(text)


def copy_program(home: Path, launcher: str) -> None:
    (home / "blockskip").mkdir(parents=True)
    for name in (launcher, "pyproject.toml"):
        shutil.copy(ROOT / name, home)


def program(path, text):
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def shell_place(tmp: Path, folder: str = FOLDER) -> SimpleNamespace:
    """Return a copy of launch.sh in an awkward folder, and a PATH with a pretended python3 and
    little else."""
    home, bin_ = tmp / folder, tmp / "bin"
    copy_program(home, "launch.sh")
    bin_.mkdir()
    for name in TOOLS:
        (bin_ / name).symlink_to(shutil.which(name))
    program(bin_ / "python3", STUB)
    return SimpleNamespace(home=home, bin=bin_, log=tmp / "log", tmp=tmp)


def launch(place, *words, cwd=None, **settings):
    """Start launch.sh in a session of its own; the calls of the pretended Python are then in
    `.calls`, oldest first, and all that was printed in `.said`."""
    place.log.write_text("")
    done = subprocess.run(
        [place.home / "launch.sh", *words],
        cwd=cwd or place.tmp,
        env={
            "PATH": str(place.bin),
            "STUB_LOG": str(place.log),
            "HOME": str(place.tmp),
            **settings,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,
    )
    done.calls = place.log.read_text().splitlines()
    done.said = done.stdout + done.stderr
    return done


@contextmanager
def wine(place: Path) -> Iterator[SimpleNamespace]:
    """Context manager with a fresh wine in a folder and the pretended programs for it."""
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
    try:
        yield SimpleNamespace(stub=place / "stub.exe", settings=settings)
    finally:
        subprocess.run(["wineserver", "-k"], **quiet)


def windows_place(windows, tmp: Path, folder: str = f"{FOLDER}!") -> SimpleNamespace:
    """Return a copy of launch.bat in an awkward folder, a PATH with the pretended programs, and how
    to start it: `.start(*words, **settings)` answers as `launch` does."""
    home, bin_, log = tmp / folder, tmp / "bin", tmp / "log"
    copy_program(home, "launch.bat")
    bin_.mkdir()
    for name in ("python", "fc"):  # wine's own fc finds all files alike
        shutil.copy(windows.stub, bin_ / f"{name}.exe")

    def start(*words, **settings):
        done = once(*words, **settings)
        if done.returncode and not done.calls and not done.said:  # wine itself failed
            done = once(*words, **settings)
        return done

    def once(*words, **settings):
        log.write_text("")
        own = {
            "STUB_LOG": f"Z:{log}",
            "WINEPATH": f"Z:{bin_}",
            "BLOCKSKIP_NO_PAUSE": "1",
            **settings,
        }
        path = tmp / f"said-{len(list(tmp.glob('said-*')))}"
        with open(path, "wb") as said:  # wine's services hold a pipe open for good
            done = subprocess.run(
                ["wine", "cmd", "/c", "launch.bat", *words],
                cwd=home,
                env={**windows.settings, **own},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                timeout=600,
            )
        done.calls = log.read_text(encoding="utf-8-sig").splitlines()
        done.said = path.read_text(encoding="utf-8", errors="replace")
        return done

    return SimpleNamespace(home=home, bin=bin_, stub=windows.stub, start=start, tmp=tmp)
