"""What users send to others: the doctor's report. Canaries lie wherever it could pick something up."""

from __future__ import annotations

import contextlib
import io
import json
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from corpus.cases import Case, demand, numbered, replaced
from security.watched_studio import LET_THROUGH

from blockskip.cli import doctor
from blockskip.core import paths
from blockskip.core.privacy import redact

USER, COMPUTER, TOKEN = "annegret", "annegrets-pc", "hf_aBcDeFgHiJkLmNoPqRsTuVwXyZ"
SECRETS = {
    "HF_TOKEN": TOKEN,
    "MY_API_KEY": "sk-1234567890abcdef",
    "DATABASE_PASSWORD": "correct-horse",
    "http_proxy": f"http://{USER}:battery-staple@proxy:8080",
    "USER": USER,
    "LOGNAME": USER,
    "USERNAME": USER,
}
CANARIES = (USER, COMPUTER, TOKEN, "sk-1234567890abcdef", "correct-horse", "battery-staple")
# texts in which the canaries may be: of errors, paths, logs and settings
TEXTS = (
    "/home/{user}/cats",
    "C:\\Users\\{user}\\cats",
    "C:\\\\Users\\\\{user}\\\\cats",
    "c:/users/{USER}/cats",
    "/media/{user}/disk/runs/luna",
    "D:\\{user}\\runs",
    "\\\\{computer}\\photos",
    "{user}@{computer}:~$",
    "file:///home/{user}/x.png",
    "[Errno 13] Permission denied: '/home/{user}/.cache/huggingface/token'",
    "OSError('/Users/{user}/Library')",
    "Authorization: Bearer {token}",
    "https://{user}:{password}@example.org/x?token={token}",
    "http://127.0.0.1:7860/?key=abcDEF123456",
    "HF_TOKEN={token}",
    "token=correct-horse&x=1",
    "sk-1234567890abcdef is not valid",
    "run “{user}-cat-20261130” failed",
    "{computer}.fritz.box",
    "{Computer}",
    "{user}",
    "{User}'s photos",
)


def cases(seed: int) -> list[Case]:
    """Return texts and whole reports."""
    return [
        *numbered("text", "private words in a report's texts", _texts()),
        *numbered("report", "whole reports", _reports()),
    ]


@contextlib.contextmanager
def _private(folder: Path) -> Iterator[None]:
    """Context manager in which everything is annegret's."""
    before = dict(os.environ)
    home = folder / "home" / USER
    home.mkdir(parents=True)
    os.environ.update(SECRETS | {"HOME": str(home), "USERPROFILE": str(home)})
    os.environ["BLOCKSKIP_DATA"] = str(folder / "media" / USER / "disk")
    tried = (True, "cpu", f"2.13.0 computes on cpu of {COMPUTER}", doctor.BUILD)
    changes: tuple[tuple[Any, str, Any], ...] = (
        (platform, "node", lambda: COMPUTER),
        (doctor, "_try_torch", lambda: tried),
    )
    try:
        with replaced(*changes):
            yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _texts() -> Iterator[tuple[Callable, Callable]]:
    words = {"user": USER, "USER": USER.upper(), "User": USER.title(), "token": TOKEN}
    words |= {"computer": COMPUTER, "Computer": COMPUTER.upper(), "password": "battery-staple"}
    for text in TEXTS:

        def check(folder: Path, text: str = text) -> None:
            with _private(folder):
                _tells_nothing(redact(text.format(**words)), folder)

        yield lambda folder: folder, check


def _tells_nothing(shown: str, folder: Path) -> None:
    for canary in (*CANARIES, "abcDEF123456", str(folder / "home")):
        demand(canary.lower() not in shown.lower(), f"{canary} in {shown[:200]}", LET_THROUGH)


def _reports() -> Iterator[tuple[Callable, Callable]]:
    """Of a healthy computer and of one where each look fails with words that are private."""
    looks = ("_system", "_folder", "_packages", "_graphics_card", "_memory", "_data", "_demo")
    for broken in ("", *looks):
        for as_json in (False, True):

            def check(folder: Path, broken: str = broken, as_json: bool = as_json) -> None:
                with _private(folder):
                    _tells_nothing(_report(folder, broken, as_json), folder)

            yield lambda folder: folder, check


def _report(folder: Path, broken: str, as_json: bool) -> str:
    """Return all that a report tells: on stdout and in its file."""

    def fails() -> list:
        raise OSError(13, f"{TOKEN} of {USER}@{COMPUTER}", str(folder / "home" / USER / "x"))

    fails.__name__ = broken or "fails"
    root = folder / "home" / USER / "BlockSkip"
    changes: list[tuple[Any, str, Any]] = [(doctor, broken, fails)] if broken else []
    if not broken:
        changes = [(doctor, "_folder", lambda: [doctor.Line("folder", doctor.OK, str(root))])]
        changes += [(paths, "data_dir", paths.data_dir)]
    out, path = io.StringIO(), folder / "report.txt"
    with replaced(*changes), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        doctor.run_doctor(
            path, as_json, more=lambda: [doctor.Line("x", "warning", f"{root}", f"at {root}")]
        )
    said = out.getvalue()
    if as_json:
        said = json.dumps(json.loads(said.splitlines()[0]), ensure_ascii=False)
    return said + path.read_text(encoding="utf-8")
