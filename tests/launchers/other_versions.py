"""Folders of other versions: of earlier ones with this program, and of this one with earlier ones.

Earlier programs are taken from the repository's history; without it they are not tried.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from helpers.launching import ROOT
from safetensors.torch import load_file

from blockskip.core.paths import ASSETS

DATA = ROOT / "tests" / "runs" / "data"
PHOTOS = ASSETS / "demo-photos" / "violet-cat"
EARLIER = ("0e42927", "7a671aa", "81ce3b6", "ce7baf9", "340d36e")  # the last is the last milestone
MADE = ("photos", "previews", "adapters")
HEAD = ("folder of", "opened by", "listed", "exported", "resumed", "lost")
TRAIN = (
    "train --demo --out today --steps 8 --skip 6,5 --rank 1 --targets attention --preview-every 4"
)


Row = tuple[str, ...]


def rows(tmp: Path) -> dict[str, Callable[[], Row]]:
    """Return what makes each row of the table."""
    earlier = {f"of {version}": partial(_of_earlier, version, tmp) for version in EARLIER}
    return earlier | {f"with {x}": partial(_with_earlier, x, tmp) for x in reversed(EARLIER)}


def _of_earlier(version: str, tmp: Path) -> Row:
    """A folder of an earlier version, opened by this one."""
    data = tmp / f"of-{version}"
    shutil.copytree(DATA / version / "paused", data / "runs" / "paused")
    photos = data / "runs" / "paused" / "photos"
    photos.mkdir()
    for k, photo in enumerate(sorted(PHOTOS.glob("*.jpg"))[:2]):
        shutil.copyfile(photo, photos / f"{k:03d}-{photo.name}")
    expected = DATA / version / "paused-finished.safetensors"
    return version, "today's", *_opened(ROOT, data, "paused", expected)


def _with_earlier(version: str, tmp: Path) -> Row:
    """A folder of this version, opened by an earlier one."""
    today, data = tmp / "today", tmp / f"with-{version}"
    if not today.exists():
        _run(ROOT, today, TRAIN.split())
    shutil.copytree(today, data)
    with _program(version, tmp / version) as program:
        if program is None:
            return "today's", version, *["not tried: no history here"] * 4
        return "today's", version, *_opened(program, data, "today", None)


def _opened(program: Path, data: Path, name: str, expected: Path | None) -> tuple[str, ...]:
    """Return what a program does with a run: lists, exports and resumes it, and changes of it.
    expected: the LoRA that it must end with."""
    folder = data / "runs" / name
    before = _contents(folder)
    listed = _run(program, data, ["runs", "list"])
    state = next((x["state"] for x in listed.get("runs", []) if x["run"] == name), "")
    exported = _run(program, data, ["export", name])
    steps = ["--steps", "10"] if expected is None else []
    resumed = _run(program, data, ["resume", name, *steps])
    words = "to its end" if "error" not in resumed else _error(resumed)
    if expected is not None and "error" not in resumed:
        words = _same(expected, max((folder / "adapters").glob("*.safetensors")))
    made = MADE if "error" not in resumed else (*MADE, "checkpoints")
    kept = {path: content for path, content in before.items() if path.startswith(made)}
    changed = [path for path, content in kept.items() if _contents(folder).get(path) != content]
    if "error" in resumed and "error" in _run(ROOT, data, ["resume", name, *steps]):
        changed.append("today's program no longer resumes it")
    return (
        state or f"LOST: {_error(listed)}",
        "yes" if "error" not in exported else _error(exported),
        words,
        f"LOST: {', '.join(changed)}" if changed else "nothing",
    )


def _same(expected: Path, found: Path) -> str:
    one, other = load_file(expected), load_file(found)
    if one.keys() != other.keys():
        return "LOST: other tensors"
    if all(torch.equal(one[key], other[key]) for key in one):
        return "to the same bytes"
    flat = [torch.cat([lora[key].flatten() for key in sorted(lora)]) for lora in (one, other)]
    cosine = torch.cosine_similarity(*flat, dim=0).item()
    return (
        f"to a LoRA as close as cosine {cosine:.6f}" if cosine > 0.9999 else f"LOST: {cosine:.4f}"
    )


def _contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): _content(path) for path in files}


def _content(path: Path) -> bytes:
    """Return what is in a file, without the header of a LoRA: it may be written anew with
    checksums."""
    if path.parent.name != "adapters":
        return path.read_bytes()
    lora = load_file(path)
    return b"".join(lora[key].numpy().tobytes() for key in sorted(lora))


def _run(program: Path, data: Path, words: list[str]) -> dict:
    """Return what a command printed as JSON."""
    environment = {"PYTHONPATH": str(program), "PYTHONSAFEPATH": "1", "PYTHONUTF8": "1"}
    environment |= {"BLOCKSKIP_DATA": str(data), "HOME": str(data), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "blockskip", *words, "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    try:
        return json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return {"error": f"LOST: {done.stderr[-200:]}"}


def _error(answer: dict) -> str:
    return f"{answer.get('error', '')} {answer.get('remedy', '')}".strip()


@contextmanager
def _program(commit: str, folder: Path) -> Iterator[Path | None]:
    """Context manager with the program as it was at a commit; None without that history."""
    git = ["git", "-C", str(ROOT), "worktree"]
    added = subprocess.run([*git, "add", "--detach", folder, commit], capture_output=True)
    try:
        yield folder if added.returncode == 0 else None
    finally:
        subprocess.run([*git, "remove", "--force", folder], capture_output=True)
