"""Wrong values for every option of the command line, found by looking at the commands themselves.

A value of the wrong type, not finite, negative or far too big is refused before any work, with exit
code 2 or a sentence that names it. Odd text may be taken. Nothing ever ends in a traceback.
"""

from __future__ import annotations

import importlib
import multiprocessing.process
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from corpus import values_studio
from corpus.cases import Case, demand, replaced, shortened
from corpus.house import GOOD, command, copy_house, opened
from typer.main import get_command

from blockskip.cli import doctor, progress
from blockskip.cli.app import app
from blockskip.models import sources
from blockskip.runs import results

BIG_INT, LONG = "9" * 30, "x" * 5000
WORK_S = 4  # seconds after which a command counts as having begun to work
NUMBERS = ("abc", "", "nan", "1e", "0x", "--", "１x", "1,5,")
WHOLE_NUMBERS = (*NUMBERS, "-1", BIG_INT, "1.5", "inf", "-99999999999")
FRACTIONS = (*NUMBERS, "-1", "inf", "-inf", "-0.5", "1e999")
CHOICES = ("nope", "", "NF4 ", "\udcff", LONG)
TEXTS = ("", "../x", "/", "~nobody/x", "a\nb", "\x1b[31m", "CON", "a:b", "\u202ex", "o'hara", LONG)
BYTES = ("\udcff\udcfe", "a\udc80b")  # what an argument is that is not UTF-8
PATHS = ("", "~nobody/x", "/dev/null/x", "nowhere/at/all", ".", "..", "/", "\udcff", LONG, "a\nb")
# what commands need beside the value that is wrong: by name, else by type
USUAL = {
    "run": GOOD[0],
    "prompt": "a photo of momo cat",
    "out": "made.png",
    "photos": "photos",
    "name": "new name",
    "action": "list",
    "models.action": "check",
    "models.words": "demo",
    "runs.run": GOOD[0],
}


class WorkBegan(BaseException):  # noqa: N818  (nothing that catches errors may catch it)
    """A command has taken its values and begun to work."""


def cases(seed: int) -> list[Case]:
    """Return wrong values for the command line, the page, its endpoints and its addresses."""
    return [*_command_cases(), *values_studio.cases(seed)]


def commands(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple, Any]]:
    """Yield (words, command) of every command that has no commands below it."""
    command = command or get_command(app)
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name in sorted(command.commands):
        yield from commands(command.commands[name], (*path, name))


def _command_cases() -> list[Case]:
    found, number = [], 0
    for words, each in commands():
        for parameter in each.params:
            for value, wrong in _values(parameter):
                if words[0] == "lab" and not wrong:
                    continue  # measurements write where they are told to
                kind = "options of lab" if words[0] == "lab" else "options and arguments"
                build, check = _value_case(words, each, parameter, value, wrong)
                found.append(Case(f"value-{'-'.join(words)}-{number:04d}", kind, build, check))
                number += 1
    return found


def kind_of(parameter: Any) -> type:
    """Return the type of an option or an argument: bool, int, float, Path, str, or Literal."""
    annotation = parameter.type_descriptor.annotation
    while args := [part for part in get_args(annotation) if part is not type(None)]:
        if get_origin(annotation) is Literal:
            return Literal  # type: ignore[return-value]
        annotation = args[0]
    return annotation


def _values(parameter: Any) -> list[tuple[str, bool]]:
    """Return (value, whether it is certainly wrong) for an option or an argument."""
    kind = kind_of(parameter)
    if kind in (int, float):
        values = WHOLE_NUMBERS if kind is int else FRACTIONS
        return [(value, True) for value in (*values, *BYTES)]
    if kind is Literal:
        return [(value, True) for value in CHOICES]
    if kind is Path:
        return [(value, False) for value in (*PATHS, *BYTES)]
    return [(value, False) for value in (*TEXTS, *BYTES)] if kind is str else []


def _words(words: tuple[str, ...], command: Any, parameter: Any, value: str) -> list[str]:
    """Return a command line whose other values are usual ones."""
    options, arguments = [], []
    for each in command.params:
        given = value if each is parameter else _usual(words, each)
        if each is parameter or each.required or each.param_type_name == "argument":
            if given is None:
                continue
            if each.param_type_name == "argument":
                arguments.append(given)
            else:
                options += (
                    [f"{each.opts[0]}={given}"] if given.startswith("-") else [each.opts[0], given]
                )
    separator = ["--"] if any(one.startswith("-") for one in arguments) else []
    return [*words, *options, *separator, *arguments]


def _usual(words: tuple[str, ...], parameter: Any) -> str | None:
    named = USUAL.get(f"{words[-1]}.{parameter.name}") or USUAL.get(parameter.name)
    if named or not parameter.required:
        return named
    return {int: "3", float: "1.0"}.get(kind_of(parameter), "a")


def _value_case(
    words: tuple[str, ...], command: Any, parameter: Any, value: str, wrong: bool
) -> tuple[Callable, Callable]:
    line = _words(words, command, parameter, value)

    def build(folder: Path) -> Path:
        copy_house(folder)
        (folder / "here" / "photos").mkdir(parents=True)
        photo = next((folder / "data" / "runs" / GOOD[0] / "photos").glob("*.png"))
        (folder / "here" / "photos" / "a.png").write_bytes(photo.read_bytes())
        return folder

    def check(folder: Path) -> None:
        before = snapshot(folder)
        code, said = _run(line, folder)
        shown = f"{' '.join(line[:3])} … {parameter.name} = {shortened(repr(value), 40)}"
        if wrong:
            demand(code in (1, 2), f"{shown}: taken (exit code {code}) {said[-100:]}")
            names = (parameter.opts[0].lstrip("-"), parameter.name, value.strip() or "''")
            named = any(name and _plain(name) in _plain(said) for name in (*names, value[:20]))
            demand(named, f"{shown}: refused without naming it: {said[-160:]}")
        if wrong or code == 2:
            written = sorted(snapshot(folder) ^ before)
            demand(not written, f"{shown}: written all the same: {written[:3]}")
        written = sorted(snapshot(folder) - before)
        explicit = parameter.name == "out" and "/" in value  # a path is written where it says
        outside = [name for name in written if not (explicit or _may_write(name[0]))]
        demand(code in (0, 1, 2, 3), f"{shown}: exit code {code}")
        demand(not outside, f"{shown}: written outside: {outside[:3]}")

    return build, check


def _plain(text: str) -> str:
    """Return a text without what a terminal's box, its line breaks and dashes put between."""
    return "".join(sign for sign in text.lower().replace("-", "_") if sign.isalnum() or sign == "_")


def _may_write(name: str) -> bool:
    return name.startswith(("data/", "here/", "gradio/"))


def snapshot(folder: Path) -> set[tuple[str, int]]:
    """Return (path, size) of everything in a folder but logs."""
    found = set()
    for current, _, names in os.walk(folder):
        for name in names:
            path = Path(current, name)
            if path.suffix != ".log":
                found.add((path.relative_to(folder).as_posix(), path.lstat().st_size))
    return found


def _run(line: list[str], folder: Path) -> tuple[int, str]:
    """Run a command in `folder`/here until it ends or begins to work: (exit code, what it said)."""
    before = os.getcwd()
    os.chdir(folder / "here")
    try:
        with opened(folder / "data"), _no_work():
            code, out, err = command(*line)
            return code, out + err
    except WorkBegan:
        return 3, "it began to work"
    finally:
        os.chdir(before)


@contextmanager
def _no_work() -> Iterator[None]:
    """Context manager in which work that takes long raises WorkBegan when it begins."""

    def began(*_: Any, **__: Any) -> Any:
        raise WorkBegan

    studio = importlib.import_module("blockskip.studio.app")
    changes = [
        (progress, "watch_run", lambda *_, **__: 3),
        (results, "generate_images", began),
        (sources, "fetch", began),
        (studio, "main", lambda *_, **__: 3),
        (doctor, "doctor", lambda: doctor.Report([])),
        (subprocess, "Popen", began),
        (multiprocessing.process.BaseProcess, "start", began),
    ]
    with replaced(*changes), _alarm():
        yield


@contextmanager
def _alarm() -> Iterator[None]:
    """Context manager that raises WorkBegan after WORK_S, where the system has such a timer."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def ring(*_: Any) -> None:
        raise WorkBegan

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, WORK_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
