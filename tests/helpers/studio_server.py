"""Run a studio in its own process, as a user starts it, and log every address it connects to. Free
disk space and RAM are frozen at their initial values, so that other programs do not matter."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from helpers.speeds import speed_here

from blockskip.core import files
from blockskip.memory.planning import measured_speed

ROOT = Path(__file__).resolve().parents[2]
START = """
import os, shutil, sys
asked, seen = shutil.disk_usage, shutil.disk_usage(sys.argv[2])
shutil.disk_usage = lambda path: asked(path) and seen
log = open(sys.argv[3], "a", encoding="utf-8", buffering=1)
def audit(event, args):
    if event == "socket.connect" and isinstance(args[1], tuple):
        log.write(str(args[1][0]) + "\\n")
    elif event == "socket.getaddrinfo":
        log.write(str(args[0]) + "\\n")
sys.addaudithook(audit)
from blockskip.memory import monitor
free_ram = monitor.free_ram_gib()
monitor.free_ram_gib = lambda: free_ram
from blockskip.runs import run as runs
runs.WORKER = os.environ.get("STUB_WORKER", runs.WORKER)
from blockskip.runs import likeness
if "NO_LIKENESS" in os.environ:  # a process of several seconds after every training
    likeness.can_measure = lambda run: False
from tests.helpers import pseudo_language
pseudo_language.add()
from blockskip.studio.app import main
sys.exit(main(port=int(sys.argv[1]), browser=False, data_dir=sys.argv[2]))
"""


@dataclass
class Server:
    """A running studio."""

    port: int
    data: Path
    process: subprocess.Popen
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        """The address that is opened, with the key of this launch."""
        return json.loads((self.data / "studio.json").read_text(encoding="utf-8"))["url"]

    @property
    def headers(self) -> dict[str, str]:
        """What a program sends."""
        return {"x-blockskip-key": self.address.partition("?key=")[2]}

    @property
    def contacted_hosts(self) -> set[str]:
        return set(self.log.read_text(encoding="utf-8").split())

    def get(self, path: str, data: bytes | None = None, **headers: str) -> tuple[int, str]:
        """Return the status and text of a request with the key. Header names have _ for -."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask(path, data, self.headers | given)

    def ask(self, path: str, data: bytes | None, headers: dict[str, str]) -> tuple[int, str]:
        """Return the status and text of a request with these headers only."""
        request = urllib.request.Request(self.url + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read().decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode("utf-8", "replace")

    def config(self) -> dict:
        return json.loads(self.get("/config")[1])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def serve(
    data: Path, port: int = 0, variables: dict[str, str | None] | None = None
) -> Iterator[Server]:
    """Context manager that starts a studio, waits until it answers, and ends it. The
    computer's speed counts as measured.

    variables: of its environment; None removes one.
    """
    data.mkdir(parents=True, exist_ok=True)
    files.write_json(data / "speed.json", measured_speed.to_json(speed_here()))
    port, log = port or free_port(), data / "asked.txt"
    log.touch()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("HF_HUB_OFFLINE", None)  # the studio must set it itself
    environment |= {name: text for name, text in (variables or {}).items() if text is not None}
    environment = {k: v for k, v in environment.items() if (variables or {}).get(k, "") is not None}
    process = subprocess.Popen(
        [sys.executable, "-c", START, str(port), str(data), str(log)],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
    )
    server = Server(port, data, process, log)
    try:
        until = time.monotonic() + 90
        while True:
            assert process.poll() is None, process.stderr.read().decode("utf-8", "replace")
            assert time.monotonic() < until, "the studio did not answer within 90 s"
            with contextlib.suppress(OSError):
                if server.ask("/blockskip/hello", None, {})[0] == 200 and server.headers:
                    break
            time.sleep(0.2)
        yield server
    finally:
        process.terminate()
        process.wait(20)
        process.stderr.close()
