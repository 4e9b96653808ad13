"""Faults of computers, each seeded alone, and what `doctor` must say of it."""

import contextlib
import importlib.metadata
import os
import platform
import re
import shutil
import socket
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from blockskip.cli import doctor, nvidia_cards, surroundings
from blockskip.cli.finding import OK, Line
from blockskip.memory import monitor

Seed = Callable[[pytest.MonkeyPatch, Path], list[Line]]


def proxy(answer: bytes) -> Seed:
    def seed(patch: pytest.MonkeyPatch, tmp: Path) -> list[Line]:
        with answering(answer) as port:
            address = f"http://anna:secret@127.0.0.1:{port}"
            patch.setattr(urllib.request, "getproxies", lambda: {"https": address})
            patch.setattr(urllib.request, "proxy_bypass", lambda host: False)
            return surroundings.proxy()

    return seed


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """Context manager with a server that gives one answer to all. Yields its port."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


def dead_proxy(patch: pytest.MonkeyPatch, tmp: Path) -> list[Line]:
    patch.setattr(urllib.request, "getproxies", lambda: {"https": "http://127.0.0.1:9"})
    patch.setattr(urllib.request, "proxy_bypass", lambda host: False)
    return surroundings.proxy()


def card(capability: float, works: bool, text: str) -> Seed:
    def seed(patch: pytest.MonkeyPatch, tmp: Path) -> list[Line]:
        device = "cpu" if works else ""
        patch.setattr(nvidia_cards, "describe", lambda: ["a card, driver 470.82"])
        patch.setattr(nvidia_cards, "capability", lambda: capability)
        patch.setattr(doctor, "_try_torch", lambda: (works, device, text, doctor.BUILD))
        return doctor._graphics_card()

    return seed


def driver_updated(
    patch: pytest.MonkeyPatch, tmp: Path, words: str = "Driver/library version mismatch"
) -> list[Line]:
    class NVMLError(Exception):
        value = 18

    def mismatch() -> None:
        raise NVMLError(words)

    nvml = ModuleType("pynvml")
    nvml.__dict__.update(NVMLError=NVMLError, nvmlInit=mismatch)
    nvml.__dict__.update(NVML_ERROR_LIBRARY_NOT_FOUND=12, NVML_ERROR_DRIVER_NOT_LOADED=9)
    patch.setitem(sys.modules, "pynvml", nvml)
    return doctor._graphics_card()


def card_without_driver(patch: pytest.MonkeyPatch, tmp: Path) -> list[Line]:
    driver_updated(patch, tmp, "Driver Not Loaded")
    patch.setattr(sys.modules["pynvml"].NVMLError, "value", 9)
    for name, text in (("vendor", "0x10de\n"), ("class", "0x030000\n")):
        (tmp / "0000:01:00.0").mkdir(exist_ok=True)
        (tmp / "0000:01:00.0" / name).write_text(text)
    patch.setattr(nvidia_cards, "PCI", tmp)
    return doctor._graphics_card()


def no_page_file(patch: pytest.MonkeyPatch, tmp: Path) -> list[Line]:
    patch.setattr(monitor, "usage", lambda: monitor.Usage(1, 8, 16, 2.0, 12.0))
    patch.setattr(monitor, "commit", lambda: monitor.Commit(16.0, 7.0, 0.0))
    return doctor._memory()


def installed(root: Path, name: str = "torch") -> Path:
    """Make a package of one module, as pip does, in an environment. Returns its module."""
    site = root / ".venv" / "site-packages"
    (site / f"{name}-1.0.dist-info").mkdir(parents=True)
    (site / f"{name}-1.0.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: 1.0\n")
    (site / f"{name}-1.0.dist-info" / "RECORD").write_text(f"{name}.py,,\n")
    (site / f"{name}.py").touch()
    return site / f"{name}.py"


def environment(patch: pytest.MonkeyPatch, root: Path, prefix: Path | None = None) -> list[Line]:
    patch.setattr(sys, "prefix", str(prefix or root / ".venv"))
    patch.setattr(sys, "path", [str(root / ".venv" / "site-packages")])
    importlib.invalidate_caches()
    return surroundings.environment(root, ["torch", "not-there"])


def damaged_package(patch: pytest.MonkeyPatch, tmp: Path) -> list[Line]:
    installed(tmp).unlink()
    return environment(patch, tmp)


def foreign_packages(patch: pytest.MonkeyPatch, tmp: Path) -> list[Line]:
    installed(tmp)
    return environment(patch, tmp, prefix=tmp / "elsewhere" / ".venv")


def half_installed(patch: pytest.MonkeyPatch, tmp: Path) -> list[Line]:
    patch.setattr(doctor, "pins", lambda extra="": {"gradio": "0.0.1", "no-such-package": "1.0"})
    return doctor._packages()


def foreign_python(patch: pytest.MonkeyPatch, tmp: Path) -> list[Line]:
    conda = tmp / "elsewhere" / "conda"
    installed(conda)
    patch.setattr(sys, "path", [str(conda / ".venv" / "site-packages")])
    patch.setattr(sys, "prefix", str(conda))
    return surroundings.environment(tmp, ["torch"])


def conda(patch: pytest.MonkeyPatch, tmp: Path) -> list[Line]:
    (tmp / "conda-meta").mkdir()
    patch.setattr(sys, "base_prefix", str(tmp))
    patch.setattr(surroundings, "os", SimpleNamespace(name="nt", path=os.path))
    return surroundings.environment(tmp, [])


def no_ssl(patch: pytest.MonkeyPatch, tmp: Path) -> list[Line]:
    patch.setitem(sys.modules, "ssl", None)
    return surroundings.environment(tmp, [])


def python(version: tuple[int, int], maxsize: int) -> Seed:
    def seed(patch: pytest.MonkeyPatch, tmp: Path) -> list[Line]:
        patch.setattr(doctor, "sys", SimpleNamespace(version_info=version, maxsize=maxsize))
        patch.setattr(platform, "python_version", lambda: "{}.{}.0".format(*version))
        patch.setattr(platform, "platform", lambda: "Windows-11")
        return doctor._system()

    return seed


def disk(gib: float, program_too: bool = False) -> Seed:
    def seed(patch: pytest.MonkeyPatch, tmp: Path) -> list[Line]:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=gib * doctor.GIB))
        return surroundings.launcher(tmp) if program_too else doctor._data()

    return seed


def read_only(program_too: bool) -> Seed:
    def seed(patch: pytest.MonkeyPatch, tmp: Path) -> list[Line]:
        patch.setattr(os, "access", lambda *_: False)
        return surroundings.launcher(tmp) if program_too else doctor._data()

    return seed


def stale_lock(patch: pytest.MonkeyPatch, tmp: Path) -> list[Line]:
    (tmp / ".venv-lock").mkdir()
    (tmp / ".venv-lock" / "pid").write_text(str(os.getpid()))
    return surroundings.launcher(tmp)


def half_made(patch: pytest.MonkeyPatch, tmp: Path) -> list[Line]:
    (tmp / ".venv-new").mkdir()
    return surroundings.launcher(tmp)


def no_chromium(patch: pytest.MonkeyPatch, tmp: Path) -> list[Line]:
    """The studio opens in any browser; only tests need that one."""
    patch.setenv("PATH", str(tmp))
    return doctor._folder()


LARGE = 2**62
# fault: what seeds it, the finding's name (None: nothing is wrong), a word of its text, of its remedy
FAULTS: dict[str, tuple[Seed, str | None, str, str]] = {
    "a proxy that blocks": (proxy(b"HTTP/1.1 403 Forbidden\r\n\r\n"), "proxy", "403", "allow"),
    "a proxy that wants a password": (
        *(proxy(b"HTTP/1.1 407 Authentication Required\r\n\r\n"), "proxy", "407"),
        "name and password",
    ),
    "a proxy that is none": (proxy(b"SSH-2.0\r\n"), "proxy", "no HTTP proxy", "HTTPS_PROXY"),
    "a dead proxy": (dead_proxy, "proxy", "does not answer", "HTTPS_PROXY"),
    "a proxy that lets all through": (proxy(b"HTTP/1.1 200 OK\r\n\r\n"), None, "", ""),
    "an old driver": (
        *(card(8.6, False, "the NVIDIA driver on your system is too old"), "torch", "too old"),
        "Update the card's driver",
    ),
    "torch that knows no card": (card(8.6, True, "computes on cpu"), "torch", "although", "driver"),
    "an RTX 50 (sm_120) with an old driver": (
        *(card(12.0, True, "computes on cpu"), "torch", "although there is a graphics card"),
        "Update the card's driver",
    ),
    "an RTX 50 (sm_120) with an older build of torch": (
        *(card(12.0, False, "no kernel image is available"), "torch", "no kernel image"),
        "do not know this card",
    ),
    "a GTX 10 with too new a torch": (
        *(card(6.1, False, "no kernel image is available"), "torch", "no kernel image"),
        "cu126",
    ),
    "a driver updated without a restart": (
        *(driver_updated, "graphics card", "version mismatch"),
        "Restart the computer",
    ),
    "a card without its driver": (
        *(card_without_driver, "graphics card", "Not Loaded"),
        "install NVIDIA's driver",
    ),
    "no page file on Windows": (no_page_file, "page file", "0.0 GiB", "page file"),
    "a package that lacks, one of another version": (
        half_installed,
        "packages",
        "none found",
        "Delete",
    ),
    "a package without its files": (damaged_package, "environment", "virus scanner", "Delete"),
    "packages by PYTHONPATH": (foreign_packages, "environment", "another Python", "launch.sh"),
    "another Python, as Conda's": (foreign_python, "environment", "own: ", "launch.sh"),
    "an environment of Conda's Python on Windows": (conda, "environment", "Conda", "python.org"),
    "a Python without ssl": (no_ssl, "environment", "ssl", "python.org"),
    "a Python too old": (python((3, 10), LARGE), "system", "", "64-bit Python 3.11 to 3.14"),
    "a Python too new": (python((3, 15), LARGE), "system", "", "64-bit Python 3.11 to 3.14"),
    "a Python of 32 bits": (python((3, 12), 2**31 - 1), "system", "32 bits", "64-bit"),
    "no space for models": (disk(1), "data folder", "1 GiB free", "Free some space"),
    "no space for an update": (disk(1, True), "launcher", "1.0 GiB", "Free some space"),
    "a data folder that may not be written": (
        read_only(False),
        "data folder",
        "may not",
        "BLOCKSKIP_DATA",
    ),
    "a program's folder that may not be written": (read_only(True), "launcher", "may not", "Move"),
    "a lock of a killed launcher": (stale_lock, "launcher", "killed", "Delete the folder"),
    "a half-made environment": (half_made, "launcher", "half made", "made anew"),
    "no Chromium": (no_chromium, None, "", ""),
}


def found(name: str, patch: pytest.MonkeyPatch, tmp: Path) -> Line | None:
    """Seed a fault and return what doctor says of it, as its report shows it. Checks it; None if
    nothing is wrong, as must be."""
    seed, finding, text, remedy = FAULTS[name]
    patch.setenv("BLOCKSKIP_DATA", str(tmp / "data"))
    lines = [line for line in seed(patch, tmp) if line.state != OK]
    if finding is None:
        assert not lines, lines
        return None
    (line,) = [line for line in lines if line.name == finding]
    assert text in line.text and remedy in line.remedy, line
    assert "secret" not in line.text
    return line._replace(
        text=_without_place(line.text, tmp), remedy=_without_place(line.remedy, tmp)
    )


def _without_place(text: str, tmp: Path) -> str:
    return re.sub(r"127\.0\.0\.1:\d+", "proxy:8080", text.replace(str(tmp), "FOLDER"))
