"""Nobody is told anything: every command and the studio, traced by the kernel (strace), with all the
processes that they start. Only loopback addresses and sockets of this computer may be connected to.

HF_HUB_OFFLINE is not set: what is quiet must be so by itself.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from corpus.cases import Case, demand, numbered
from corpus.house import SECRET
from helpers.fake_feed import make_photos
from security.watched_studio import LET_THROUGH

ROOT = Path(__file__).resolve().parents[2]
TRACE = (
    "strace",
    "-f",
    "--seccomp-bpf",
    "-qq",
    "-e",
    "trace=connect,sendto,sendmsg,sendmmsg",
    "-e",
    "signal=none",
)
MOST_S = 300
_ADDRESS = re.compile(r"sa_family=AF_(\w+)")
_PORT = re.compile(r"sin6?_port=htons\((\d+)\)")
_PLACE = re.compile(r'inet_(?:addr\("|pton\(AF_INET6, ")([^"]+)"')
_UNIX = re.compile(r'sun_path=@?"([^"]*)"')

# commands of the program, one after the other in one data folder; none asks for a download
COMMANDS = (
    "doctor --report {folder}/report.txt",
    "doctor --json",
    "models list",
    "models check demo",
    "models use flux-dev {folder}",
    "models use-comfyui {folder}",
    "plan --model flux-dev --budget 12",
    "train {folder}/photos --model flux-dev --class cat",
    "train {folder}/photos --model qwen-image-2.1 --class cat",
    "train --demo --steps 2 --preview-images 1 --out t",
    "resume t --steps 3",
    "preview t --out {folder}/picture.png",
    "export t",
    "likeness t",
    "describe {folder}/photos --class cat",
    "runs list",
    "runs rename t v",
    "runs delete v",
    "clean",
)
WITH_TOOLS = (  # those that use one
    "models list",
    "train {folder}/photos --model flux-dev --class cat",
    "train {folder}/photos --model demo --steps 1 --preview-images 1 --class cat --out u",
    "likeness u",
    "describe {folder}/photos --class cat",
)
STUDIO = """
import sys, threading, time, json, urllib.request
from pathlib import Path
from blockskip.core import files, paths
from blockskip.studio import app
data = paths.make_data_dir()
page, url = app.launch(app.free_port(19860), data)
open_ = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor()).open
text = open_(url).read().decode()
root = url.partition("/?")[0]
config = json.loads(open_(root + "/config").read())
for place in ("/theme.css", "/gradio_api/info", "/gradio_api/startup-events", "/manifest.json", "/favicon.ico"):
    try: open_(root + place).read()
    except OSError: pass
import re
for place in set(re.findall(r'(?:src|href)="(?:\\./)?(/?assets/[^"]+)"', text)):
    open_(root + "/" + place.lstrip("/")).read()
from blockskip.studio import page as pages, draft
from blockskip.data.demo_photos import demo_pet
from blockskip.data.photos import find_photos
draft.add(find_photos([demo_pet()[0]]), demo=True)
for view in ("", "*", "t"):
    pages.refresh(view, "", "1")
print("page", len(text), len(config["components"]))
"""
TOOLS = """
from helpers import tiny_captioner, tiny_detector, tiny_dino
from blockskip.core.repositories import tool_row
from blockskip.models.sources import hub
tiny_detector.install()
for name, write in (("captioner", tiny_captioner.save_tool), ("likeness", tiny_dino.write)):
    folder = hub.download_folder(tool_row(name))
    folder.mkdir(parents=True)
    write(folder)
    hub._write_manifest(folder, {"files": {}, "listed": [], "whole": True})
"""
# what the suite tries, in one process and its children, so that the libraries are imported once
SAMPLE = """
import sys
from blockskip.cli import app
for words in sys.argv[1:]:
    sys.argv = ["blockskip", *words.split("|")]
    try: app.main()
    except SystemExit: pass
"""


def available() -> str:
    """Return why nothing can be traced here, "" if it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run([*TRACE, "-o", os.devnull, "true"], capture_output=True, text=True)
    return "" if done.returncode == 0 else f"strace may not trace: {done.stderr[:200]}"


def cases(seed: int) -> list[Case]:
    """Return every command and the studio, without the tools and with them."""
    found: list[tuple[Callable, Callable]] = []
    for tools, commands in ((False, COMMANDS), (True, WITH_TOOLS)):
        found += [_command(words, tools) for words in commands]
        found.append((lambda folder, tools=tools: _furnished(tools), _studio))
    return numbered("silence", "commands that ask nobody", found)


_folders: dict[bool, Path] = {}


def _furnished(tools: bool) -> Path:
    """Return the folder of all commands, with photos, and with tiny tools installed if asked for."""
    if tools not in _folders:
        import tempfile

        folder = Path(tempfile.mkdtemp(prefix="security-silence-"))
        make_photos(folder / "photos", 3, 64)
        _folders[tools] = folder
        if tools:
            done = subprocess.run(
                [sys.executable, "-c", TOOLS], env=environment(folder), capture_output=True
            )
            assert done.returncode == 0, done.stderr.decode()[-500:]
    return _folders[tools]


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a user who has set nothing."""
    unset = ("HF_", "TRANSFORMERS_", "GRADIO_", "DISABLE_TELEMETRY", "DO_NOT_TRACK", "BLOCKSKIP_")
    kept = {name: text for name, text in os.environ.items() if not name.upper().startswith(unset)}
    kept = {name: text for name, text in kept.items() if not name.lower().endswith("_proxy")}
    own = {
        "HOME": str(folder),
        "HF_HOME": str(folder / "hub"),
        "BLOCKSKIP_DATA": str(folder / "data"),
    }
    paths = {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))), "PYTHONUTF8": "1"}
    return kept | own | paths | {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder / "cache")}


def _command(words: str, tools: bool) -> tuple[Callable, Callable]:
    def check(folder: Path) -> None:
        given = [word.format(folder=folder) for word in words.split()]
        traced([sys.executable, "-m", "blockskip", *given], folder)

    return lambda folder: _furnished(tools), check


def _studio(folder: Path) -> None:
    said = traced([sys.executable, "-c", STUDIO], folder)
    demand("page" in said, f"the studio did not open: {said[-300:]}")


def traced(words: list[str], folder: Path) -> str:
    """Run a command to its end and return what it says. Raises Wrong if anybody was asked."""
    log = folder / "trace.txt"
    done = subprocess.run(
        [*TRACE, "-o", str(log), *words],
        cwd=ROOT,
        env=environment(folder),
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=MOST_S,
    )
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    demand(SECRET not in said and "Traceback" not in said, said[-300:])
    asked = sorted(set(strangers(log.read_text(encoding="utf-8", errors="replace"))))
    demand(not asked, f"{' '.join(words[2:5])} asks {', '.join(asked[:5])}", LET_THROUGH)
    return said


def strangers(trace: str) -> Iterator[str]:
    """Yield the addresses in a trace that are not this computer's, and what asks for a name."""
    for line in trace.splitlines():
        family = _ADDRESS.search(line)
        if family is None or family[1] in ("NETLINK", "UNSPEC"):
            continue
        if family[1] == "UNIX":
            place = _UNIX.search(line)
            if (
                place
                and re.search(r"resolve|avahi|nscd|dnsmasq", place[1])
                and "ENOENT" not in line
            ):
                yield f"the resolver {place[1]}"
            continue
        place, port = _PLACE.search(line), _PORT.search(line)
        address = place[1] if place else line
        loopback = address.startswith("127.") or address in ("::1", "::ffff:127.0.0.1")
        if not loopback or (port and port[1] == "53"):
            yield f"{address} port {port[1] if port else '?'}"
