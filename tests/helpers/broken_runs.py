"""Ways in which files of a run's folder break: name → (function of the run, words of its reason).

UNREADABLE runs can only be deleted. HARMLESS ones are read as if the file were whole or not there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from blockskip.runs.run import Run

NESTED = b"[" * 200_000


def _writes(name: str, data: bytes) -> Callable[[Run], object]:
    return lambda run: (run.folder / name).write_bytes(data)


def _replaces(old: str, new: str) -> Callable[[Run], object]:
    def edit(run: Run) -> None:
        path = run.folder / "run.toml"
        text = path.read_text("utf-8")
        assert old in text
        path.write_text(text.replace(old, new), "utf-8")

    return edit


def _heads(line: str) -> Callable[[Run], object]:
    return _replaces("format =", f"{line}\nformat =")


def _becomes(name: str, make: Callable[[Path], object]) -> Callable[[Run], object]:
    def change(run: Run) -> None:
        (run.folder / name).unlink(missing_ok=True)
        make(run.folder / name)

    return change


def _dangles(path: Path) -> None:
    os.symlink(path.parent / "nowhere", path)


UNREADABLE: dict[str, tuple[Callable[[Run], object], str]] = {
    "empty": (_writes("run.toml", b""), "settings is missing"),
    "not UTF-8": (_writes("run.toml", b"\xff\xfe\x00"), "run.toml: it is not text in UTF-8"),
    "zeroed": (_writes("run.toml", bytes(400)), "run.toml"),
    "nested": (_writes("run.toml", b"a = " + NESTED), "run.toml"),
    "text for a number": (_replaces("steps = 9", 'steps = "9"'), "steps = '9' is not possible"),
    "no steps": (_replaces("steps = 9", "steps = 0"), "steps = 0 is not possible"),
    "no number": (_replaces("lr = 0.0001", "lr = nan"), "lr = nan is not possible"),
    "endless": (_replaces("budget_gib = 8.0", "budget_gib = inf"), "budget_gib = inf"),
    "another model": (_replaces('model = "demo"', 'model = "gone"'), "gone"),
    "settings are a number": (
        lambda run: run.write_info({"settings": 5, "started": "2026-11-29"}),
        "settings = 5 is not possible",
    ),
    "plan is a number": (
        lambda run: run.write_info(run.info() | {"settings": {"plan": 5}}),
        "plan is 5",
    ),
    "started": (lambda run: run.write_info(run.info() | {"started": 5}), "started = 5"),
    "started at no time": (lambda run: run.write_info(run.info() | {"started": "x"}), "started"),
    "format": (lambda run: run.write_info(run.info() | {"format": "x"}), "format"),
    "photos": (_heads("photos = 3"), "photos = 3"),
    "half an identity": (_heads('model_fingerprint = "a"'), "belong together"),
    "eased": (_heads("eased = {nonsense = 1}"), "Unknown setting: nonsense"),
    "lengthened": (_heads('lengthened = {steps = "x"}'), "lengthened.steps = 'x'"),
    "a folder": (_becomes("run.toml", Path.mkdir), "run.toml"),
    "a dangling link": (_becomes("run.toml", _dangles), "run.toml"),
    "missing": (_becomes("run.toml", lambda path: None), "run.toml"),
    "the log is a folder": (_becomes("events.jsonl", Path.mkdir), "events.jsonl"),
}

LINES = (
    NESTED,
    b'{"event": "loss", "step": "x", "loss": 0.5, "seconds": 1.0}',
    b'{"event": "loss", "step": 1, "loss": NaN, "seconds": 1.0}',
    b'{"event": "loss", "step": 1, "loss": 1e999, "seconds": 1.0}',
    b'{"event": "loss", "step": 1e400, "loss": 0.5, "seconds": 1.0}',
    b'{"event": "loss", "step": ' + b"9" * 400 + b', "loss": 0.5, "seconds": 1.0}',
    b'{"event": "memory", "rss_gib": Infinity, "ram_used_gib": 1, "ram_total_gib": 2}',
    b'{"event": "memory", "rss_gib": 1e308, "ram_used_gib": 1, "ram_total_gib": 2}',
    b'{"event": "stopped", "reason": "asleep", "step": 1}',
    b'{"event": "image", "step": 0, "prompt": 5, "path": "previews/a.png", "index": 0}',
    b'{"event": "image", "step": 0, "prompt": "a", "path": "../../a.png", "index": 0}',
    b'{"event": "saved", "kind": "export", "path": ["x"], "step": 1}',
    b'{"event": "note", "text": {"a": 1}}',
    b'{"event": ["started"]}',
    b'{"event": "started", "steps": null}',
    b"\xff\xfe",
    bytes(100),
)

HARMLESS: dict[str, Callable[[Run], object]] = {
    "log lines": _writes("events.jsonl", b"\n".join(LINES) + b"\n"),
    "a pet's number": _writes("studio.json", b'{"pet": 5}'),
    "nested choices": _writes("studio.json", NESTED),
    "list of choices": _writes("studio.json", b"[]"),
    "a command's list": _writes("control.json", b"[]"),
    "a command's folder": _becomes("control.json", Path.mkdir),
    "worker's number": _writes("worker.json", b'{"pid": 1e300, "create_time": "x"}'),
    "worker's big number": _writes("worker.json", b'{"pid": ' + b"9" * 30 + b', "create_time": 1}'),
    "worker's list": _writes("worker.json", NESTED),
    "painter's text": _writes("painter.json", b'{"pid": "x"}'),
    "likeness": _writes("likeness.json", b'{"by_step": {"x": 1}}'),
    "failure": _writes("failure.json", b'{"event": "failed", "title": 5}'),
    "pictures": _writes("pictures", b""),
}
