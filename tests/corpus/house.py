"""A data folder with five good runs and one to be broken, and what the program shows of them."""

from __future__ import annotations

import contextlib
import functools
import html
import io
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from corpus.cases import LOST, TRACEBACK, UNEXPECTED, Wrong, demand, replaced
from helpers import fake_feed
from helpers.scratch import scratch

from blockskip.cli import app as command_line
from blockskip.core import events, files, processes
from blockskip.core.errors import UserError
from blockskip.data import subject_boxes
from blockskip.runs import image_requests, likeness
from blockskip.runs.run import Run, list_runs

GOOD = ("luna", "momo", "Größe 2", "rex-cat", "zorro")
BROKEN = "pip-parrot"
SECRET = "wQ7-nobody-else-may-read-this"  # planted beside what the studio may show
STEPS = 12


class NothingStarted:
    """Stands in for a process that the program would start."""

    pid, stdout, returncode = os.getpid(), io.BytesIO(), 0

    def poll(self) -> int:
        return 0

    def wait(self, timeout: float | None = None) -> int:
        return 0


@functools.cache
def template() -> Path:
    """Return a data folder with the runs, made once a process; it is copied, never changed."""
    folder = scratch("house")
    with opened(folder / "data"):
        photos = fake_feed.make_photos(folder / "photos", 2, 48)
        for name in (*GOOD, BROKEN):
            run = fake_feed.make_run(photos, STEPS, name, name.title())
            fake_feed.feed(run, STEPS)
            fake_feed.keep(run, 6, STEPS)
            run.append(fake_feed.done(run))
        _furnish(Run(folder / "data" / "runs" / BROKEN))
    return folder / "data"


def _furnish(run: Run) -> None:
    """Give a run one of every file that a run can have."""
    info = run.info() | {"model_fingerprint": "9a19dad1e2463c5a", "torch": "2.13.0"}
    photos = sorted(run.photos_dir.glob("*.png"))
    info |= {"photos": [{"file": p.name, "sha": "0" * 32, "caption": "a cat"} for p in photos]}
    run.write_info(info | {"eased": {"batch": 1}, "lengthened": {"steps": STEPS}})
    files.write_text(photos[0].with_suffix(".txt"), "a photo of momo cat\n")
    subject_boxes.write_box(photos[0], subject_boxes.Box(0.1, 0.1, 0.9, 0.9))
    files.write_json(run.control_path, {"command": "preview", "prompts": ["a cat"]})
    for mark in ("worker.json", "painter.json", "likeness-process.json"):
        files.write_json(run.folder / mark, {"pid": 2**22 + 1, "create_time": 1.0})
    request = image_requests.enqueue(run, "a cat", 1, 1.0, STEPS)
    files.write_bytes(request.folder / "base.png", photos[0].read_bytes())
    request.folder.rename(
        request.folder.with_name("1700000000000-0a1b")
    )  # the same in each process
    row = {"subject": 0.5, "class_word": 0.1, "places_obeyed": [1, 2]}
    report = {"by_step": {str(STEPS): row}, "best_step": STEPS, "overlearnt_from": None}
    files.write_json(likeness.likeness_file(run), report | {"advice": "Keep the last."})
    files.write_text(run.folder / "worker.log", "a line\n")
    files.write_bytes(run.cache_dir / "latents.safetensors", b"\x02\0\0\0\0\0\0\0{}")
    for kind in (events.Peak, events.Stopped, events.Failed, events.Memory, events.Note):
        run.append(kind(**{name: _value(name) for name in _fields(kind)}))
    run.append(fake_feed.done(run))


def _fields(kind: type) -> list[str]:
    optional = {"time", "level", "kind", "remedy"}
    return [name for name in kind.__dataclass_fields__ if name not in optional]


def _value(name: str) -> Any:
    texts = {"stage": "train", "reason": "paused", "title": "It ended.", "text": "A note."}
    return texts.get(name, STEPS if name == "step" else 1.0)


def copy_house(folder: Path) -> Run:
    """Copy the data folder to `folder`/data and return the run to be broken."""
    source, data = template(), folder / "data"
    linked = functools.partial(shutil.copytree, copy_function=_link, dirs_exist_ok=True)
    for name in GOOD:
        linked(source / "runs" / name, data / "runs" / name)
    shutil.copytree(source / "runs" / BROKEN, data / "runs" / BROKEN)
    return Run(data / "runs" / BROKEN)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)


@contextlib.contextmanager
def opened(data: Path) -> Iterator[list]:
    """Context manager in which the program uses this data folder and starts no processes. Yields
    what would have been started."""
    started: list = []

    def start(module: str, words: Any, *args: Any, **options: Any) -> NothingStarted:
        started.append((module, *words))
        return NothingStarted()

    def run_for_output(module: str, words: Any, **options: Any) -> str:
        started.append((module, *words))
        return ""

    before = dict(os.environ)
    data.mkdir(parents=True, exist_ok=True)
    os.environ |= {"BLOCKSKIP_DATA": str(data), "GRADIO_TEMP_DIR": str(data.parent / "gradio")}
    changes = (processes, "start", start), (processes, "run_for_output", run_for_output)
    try:
        with replaced(*changes):
            yield started
    finally:
        os.environ.clear()
        os.environ |= before


def page(view: str) -> dict[str, dict]:
    """Return the page's parts for a view, as a new tab gets them."""
    from blockskip.studio import screen

    *updates, _ = screen.page_updates(view, "")
    return dict(zip(screen.PARTS, updates, strict=True))


def words_of(parts: dict[str, dict]) -> str:
    """Return all text of a page's parts."""
    return "\n".join(str(part.get("value")) for part in parts.values() if isinstance(part, dict))


def cards(listed: str) -> dict[str, str]:
    """Return run → its card in the list of all trainings."""
    found = re.findall(r"<li>.*?</li>", listed, re.S)
    named = ((re.search(r'data-run="([^"]*)"', card), card) for card in found)
    return {html.unescape(match[1]): card for match, card in named if match}


@functools.cache
def right_cards() -> dict[str, str]:
    """Return run → its card, when all runs are as they should be."""
    with tempfile.TemporaryDirectory() as name:
        run = copy_house(Path(name))
        shutil.rmtree(run.folder)
        with opened(run.folder.parent.parent):
            found = cards(words_of(page("*")))
    assert sorted(found) == sorted(GOOD), "the corpus cannot read the list of trainings"
    return found


def command(*words: str) -> tuple[int, str, str]:
    """Run a command of the command line in this process: (exit code, stdout, stderr). Any error
    that leaves it is Wrong."""
    out, err = io.StringIO(), io.StringIO()
    console = type(command_line.console)(file=err)
    with (
        replaced((sys, "argv", ["blockskip", *words]), (command_line, "console", console)),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            code = command_line.main()
        except SystemExit as end:
            code = int(end.code or 0)
    text = out.getvalue() + err.getvalue()
    demand("Traceback (most recent" not in text, text[-300:], TRACEBACK)
    demand("unexpected" not in text.lower(), text[-300:], UNEXPECTED)
    return code, out.getvalue(), err.getvalue()


def check_good_runs(data: Path) -> None:
    """Raise Wrong unless the five good runs are listed as ever, by the page and the terminal."""
    with opened(data):
        listed, setup = cards(words_of(page("*"))), page("")
        demand(setup["photos"]["value"], "the setup is not shown", LOST)
        for name, card in right_cards().items():
            demand(listed.get(name) == card, f"the card of {name} changed or is gone", LOST)
        demand("12" in str(page(GOOD[0])["status"]["value"]), "a good run's page is empty", LOST)
        names = {run.name for run in list_runs()}
        demand(names >= set(GOOD), "a good run is not listed", LOST)
        code, out, _ = command("runs", "list", "--json")
        rows = {row["run"]: row["state"] for row in json.loads(out)["runs"]} if code == 0 else {}
        demand(all(rows.get(name) == "done" for name in GOOD), f"runs list: {code}", LOST)


def check_broken_run(run: Run, error: UserError | None) -> None:
    """Raise Wrong unless the run is shown; with the reason if it cannot be read."""
    with opened(run.folder.parent.parent):
        listed, own = words_of(page("*")), words_of(page(run.name))
        demand(run.name in cards(listed), f"{run.name} is not in the list", LOST)
        if error is not None:
            said = (error.title[:30], html.escape(error.title)[:30], "run.toml")
            shown = any(words in listed + own for words in said)
            demand(shown, f"the page does not say what is wrong with {run.name}: {error.title}")


def wrong_of(error: Exception) -> Wrong:
    """Return an error that left the program as Wrong, for checks that go on afterwards."""
    return Wrong(TRACEBACK, f"{type(error).__name__}: {error}")
