"""Cases of the corpus: an input, how it is built, and the right result; and the judge of one case.

A generator is a function `cases(seed) -> list[Case]` in one of the modules beside this one. The
same seed gives the same cases. Each case is judged in a folder of its own, in this process.
"""

from __future__ import annotations

import contextlib
import random
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blockskip.core.errors import Unexpected, UserError

# verdicts of a case, as the report counts them
HELD = "held"
TRACEBACK = "traceback"  # an error that is none of the program's own left it
UNEXPECTED = "unexpected"  # “Something unexpected”, or an error of the kind Unexpected
SILENT = "silently wrong"  # not the right value, and not refused by name
LOST = "run lost"  # a good run is gone, changed, or no longer shown
DIFFERENT = "adapter different"  # after a kill and a resume
LEFT = "file left behind"  # a temporary file or folder, or a lock that is held
VERDICTS = (HELD, TRACEBACK, UNEXPECTED, SILENT, LOST, DIFFERENT, LEFT)


@dataclass(frozen=True)
class Case:
    """One input. id: such as run-toml-017. kind: its row in the report.

    build: writes the input into an empty folder and returns what `check` takes. check: raises Wrong
    unless the program gives the right result; errors of the program may pass through it.
    """

    id: str
    kind: str
    build: Callable[[Path], Any]
    check: Callable[[Any], None]


@dataclass(frozen=True)
class Verdict:
    """How a case went. verdict: one of VERDICTS. detail: one line, "" if it held."""

    id: str
    kind: str
    verdict: str
    detail: str = ""


class Wrong(Exception):
    """A result is wrong. verdict: one of VERDICTS."""

    def __init__(self, verdict: str, detail: str) -> None:
        super().__init__(detail)
        self.verdict = verdict


def judge(case: Case) -> Verdict:
    """Build and check a case in a temporary folder. An error in `build` is the corpus's own and
    passes through."""
    with tempfile.TemporaryDirectory(prefix="corpus-", ignore_cleanup_errors=True) as name:
        subject = case.build(Path(name))
        try:
            case.check(subject)
        except Exception as error:  # whatever leaves the program is what is judged
            return Verdict(case.id, case.kind, *_judged(error))
        return Verdict(case.id, case.kind, HELD)


def _judged(error: Exception) -> tuple[str, str]:
    detail = shortened(f"{type(error).__name__}: {error}", 300)
    if isinstance(error, Wrong):
        return error.verdict, shortened(str(error), 300)
    if isinstance(error, Unexpected):
        return UNEXPECTED, detail
    if isinstance(error, UserError):  # refused where a value was due
        return SILENT, f"refused: {detail}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    return TRACEBACK, f"{detail} ({Path(last.filename).name}:{last.lineno} {last.name})"


def shortened(text: str, most: int = 120) -> str:
    """Return a text on one line of at most `most` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def demand(true: object, detail: str, verdict: str = SILENT) -> None:
    """Raise Wrong unless `true`."""
    if not true:
        raise Wrong(verdict, detail)


def refusal(call: Callable[[], Any]) -> UserError | None:
    """Return the UserError that `call` raises, None if it returns. Unexpected ones pass through."""
    try:
        call()
    except Unexpected:
        raise
    except UserError as error:
        return error
    return None


def demand_refusal(call: Callable[[], Any], *names: str) -> None:
    """Raise Wrong unless `call` raises a UserError that has one of `names` in its words."""
    error = refusal(call)
    demand(error is not None, f"taken instead of refused ({' or '.join(names)})")
    demand_named(error, *names)


def demand_named(error: UserError | None, *names: str) -> None:
    """Raise Wrong unless the error's words have one of `names`."""
    text = f"{error.title} {error.remedy}" if error else ""
    found = not names or any(name.lower() in text.lower() for name in names)
    demand(found, f"refused without a name of {names}: {shortened(text)}")


def value_or_refusal(call: Callable[[], Any], right: Callable[[Any], bool], *names: str) -> None:
    """Raise Wrong unless `call` returns what is `right`, or refuses naming one of `names`."""
    try:
        value = call()
    except Unexpected:
        raise
    except UserError as error:
        demand_named(error, *names)
    else:
        demand(right(value), f"another value: {shortened(repr(value))}")


def numbered(prefix: str, kind: str, pairs: Iterable[tuple[Callable, Callable]]) -> list[Case]:
    """Return cases with ids prefix-000, prefix-001 … of (build, check)."""
    return [Case(f"{prefix}-{n:03d}", kind, build, check) for n, (build, check) in enumerate(pairs)]


def sampled(cases: list[Case], count: int, seed: int) -> list[Case]:
    """Return `count` of the cases, some of every kind, in their order."""
    chance, kinds = random.Random(seed), sorted({case.kind for case in cases})
    share = max(1, count // max(1, len(kinds)))
    chosen: set[str] = set()
    for kind in kinds:
        ids = [case.id for case in cases if case.kind == kind]
        chosen |= set(chance.sample(ids, min(share, len(ids))))
    return [case for case in cases if case.id in chosen]


@contextlib.contextmanager
def replaced(*changes: tuple[Any, str, Any]) -> Iterator[None]:
    """Context manager that sets attributes (object, name, value) and puts them back."""
    before = [(thing, name, getattr(thing, name)) for thing, name, _ in changes]
    try:
        for thing, name, value in changes:
            setattr(thing, name, value)
        yield
    finally:
        for thing, name, value in before:
            setattr(thing, name, value)
