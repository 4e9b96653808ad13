"""Checks of `doctor` about what surrounds the program: its environments, the launcher, a proxy.

Imports only the standard library at the top, since it also runs where nothing is installed.
"""

import base64
import importlib.metadata
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from blockskip.cli.finding import GIB, OK, PROBLEM, WARNING, Line

HOSTS = ("huggingface.co", "download.pytorch.org")
LAUNCHERS = "launch.sh, or launch.bat on Windows"
AGAIN = "Delete the folder .venv and start again; your models and runs are kept."
OWN_PYTHON = (
    "Install Python 3.12 from python.org, set the environment variable BLOCKSKIP_PYTHON to it, delete "
    "the folder .venv and start again."
)
CODE = (".py", ".so", ".pyd", ".dll", ".dylib")
MOST_NAMED = 3


def environment(root: Path, pinned: Iterable[str]) -> list[Line]:
    """Check that this Python is the program's own, and its packages whole and its own."""
    prefix = Path(sys.prefix)
    if Path(sys.base_prefix, "conda-meta").is_dir() and os.name == "nt":
        text = (
            f"made from Conda's Python in {sys.base_prefix}, which works only where Conda is active"
        )
        return [Line("environment", WARNING, text, OWN_PYTHON)]
    try:
        import ssl  # noqa: F401
    except ImportError as error:
        text = f"this Python has no usable ssl, so that nothing can be fetched: {error}"
        return [Line("environment", PROBLEM, text, OWN_PYTHON)]
    foreign, gone = [], []
    for name in pinned:
        with suppress(importlib.metadata.PackageNotFoundError):
            package = importlib.metadata.distribution(name)
            if prefix.resolve() not in Path(str(package.locate_file(""))).resolve().parents:
                foreign.append(f"{name} from {package.locate_file('')}")
            gone += _missing_files(package)
    if gone:
        text = f"files are missing, perhaps a virus scanner took them: {_some(gone)}"
        return [Line("environment", PROBLEM, text, AGAIN)]
    if foreign:
        text = f"packages of another Python are used: {_some(foreign)}"
        return [Line("environment", PROBLEM, text, f"Start by {LAUNCHERS}, which sets PYTHONPATH.")]
    if prefix.parent != root:
        text = f"not the program's own: {prefix}"
        return [Line("environment", WARNING, text, f"Start by {LAUNCHERS}, which makes its own.")]
    return [Line("environment", OK, "whole")]


def _missing_files(package: importlib.metadata.Distribution) -> list[str]:
    """Return the files of code that were installed and are gone."""
    folder = str(package.locate_file(""))
    lines = (package.read_text("RECORD") or "").splitlines()
    names = [line.rsplit(",", 2)[0].strip('"') for line in lines]
    code = [os.path.join(folder, name) for name in names if name.endswith(CODE)]
    return [path for path in code if not os.path.exists(path)]


def _some(names: list[str]) -> str:
    more = [f"and {len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    return ", ".join([*names[:MOST_NAMED], *more])


def launcher(root: Path) -> list[Line]:
    """Check what the launcher needs for the next update, and what it left behind."""
    lock, lines = root / ".venv-lock", []
    works = lock.is_dir() and _is_launcher(lock / "pid")
    if lock.is_dir() and not works:
        text = f"{lock.name} is left of a launcher that was killed"
        lines.append(Line("launcher", WARNING, text, f"Delete the folder {lock}."))
    if (root / ".venv-new").is_dir() and not works:
        text = "an environment is half made, or is being made just now"
        lines.append(Line("launcher", WARNING, text, f"Start by {LAUNCHERS}: it is made anew."))
    if not os.access(root, os.W_OK):
        text = f"{root} may not be written to, so that no update can be installed"
        lines.append(Line("launcher", WARNING, text, "Move the folder to your own files."))
    elif (free := shutil.disk_usage(root).free / GIB) < 12:
        text = f"only {free:.1f} GiB are free for the next update, which takes 4, with a graphics card 12"
        lines.append(Line("launcher", WARNING, text, f"Free some space on the drive of {root}."))
    return lines


def _is_launcher(file: Path) -> bool:
    """Return whether the process whose id is in a file is a launcher, also if that is unknown."""
    try:
        pid = int(file.read_text(encoding="ascii"))
        os.kill(pid, 0)
        command = ["ps", "-o", "args=", "-p", str(pid)]
        return "launch.sh" in subprocess.run(command, capture_output=True, text=True).stdout
    except (ValueError, ProcessLookupError):
        return False
    except OSError:
        return True


def proxy(seconds: float = 5.0) -> list[Line]:
    """Ask the proxy that this computer is set to for the places that downloads come from.

    Nothing is asked where no proxy is set. seconds: limit for each.
    """
    chosen = urllib.request.getproxies()
    address = chosen.get("https") or chosen.get("all") or ""
    parts = urlsplit(address if "//" in address else f"http://{address}")
    if not address or parts.scheme.startswith("socks"):  # models/sources/hub_environment.py
        return []
    shown = f"{parts.scheme}://{parts.hostname}:{_port(parts)}"
    blocked = []
    for host in HOSTS:
        if urllib.request.proxy_bypass(host):
            continue
        try:
            answer = _connect(parts, host, seconds)
        except (OSError, ValueError) as error:
            text = f"{shown} is set as a proxy and does not answer: {error}"
            return [
                Line(
                    "proxy",
                    PROBLEM,
                    text,
                    "Correct or remove it in the system's settings, or HTTPS_PROXY.",
                )
            ]
        if not answer.startswith(("200", "2")):
            blocked.append(f"{host} ({answer})")
    if not blocked:
        return [Line("proxy", OK, f"{shown} lets downloads through")]
    text = f"{shown} lets nothing be fetched from {', '.join(blocked)}"
    remedy = f"Ask who runs it to allow {' and '.join(HOSTS)}, and what pip fetches from; with 407, put name and password into HTTPS_PROXY."
    return [Line("proxy", PROBLEM, text, remedy)]


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _connect(parts: SplitResult, host: str, seconds: float) -> str:
    """Return the status of a proxy's answer to CONNECT, such as "403 Forbidden". Raises OSError,
    ValueError."""
    request = f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n"
    if parts.username:
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        request += f"Proxy-Authorization: Basic {base64.b64encode(secret.encode()).decode()}\r\n"
    with socket.create_connection((parts.hostname or "", _port(parts)), seconds) as connection:
        connection.sendall(f"{request}\r\n".encode())
        with connection.makefile("rb") as answer:
            line = answer.readline(200).decode("latin-1").split(maxsplit=1)
    if len(line) < 2 or not line[0].startswith("HTTP/"):
        raise ValueError("it is no HTTP proxy")
    return line[1].strip()
