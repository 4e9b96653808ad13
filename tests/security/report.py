"""The page of a whole run of the probes: what was tried, and what was let through.

`./launch.sh test tests/security --long` writes assets/evidence/security.md.
"""

from __future__ import annotations

import datetime
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from corpus.cases import HELD, Verdict, judge
from corpus.report import machine, table

COMMAND = "./launch.sh test tests/security --long"
SEED = 33
INTRODUCTION = """# Nobody let in

{tried:,} probes were tried, {through} were let through.

A probe is a request, a file or a word of somebody whom [the threat model](../../docs/security.md) names. It is *let through* if a request passed the
studio's guards or told anything, a program of others ran or a pickle was opened, a word became a command or a tag, a file could be read, or an address
that is not this computer's was asked. A file or a word that is refused in a sentence is held.

Made by `{command}` on {date}: {machine}; {minutes:.0f} minutes of one core, seed {seed}.
"""


def modules() -> list:
    """Return the generators of probes, those that need the open studio first."""
    from security import model_files, others, pictures, reports, requests, silence, words

    found = [requests, pictures, model_files, words, others, reports]
    return found if silence.available() else [*found, silence]


def main() -> int:
    """Try everything, write the page, and return the exit code: 0 if nothing was let through."""
    begun, verdicts = time.monotonic(), []
    for module in modules():
        cases = module.cases(SEED)
        for number, case in enumerate(cases, 1):
            verdicts.append((case.kind, judge(case)))
            if verdicts[-1][1].verdict != HELD:
                print(f"{case.id}: {verdicts[-1][1].verdict}: {verdicts[-1][1].detail}", flush=True)
            if number % 200 == 0 or number == len(cases):
                print(f"{module.__name__} {number}/{len(cases)}", flush=True)
    path = Path(__file__).resolve().parents[2] / "assets" / "evidence" / "security.md"
    path.write_text(page(verdicts, time.monotonic() - begun), encoding="utf-8", newline="\n")
    through = sum(verdict.verdict != HELD for _, verdict in verdicts)
    print(f"{path}: {len(verdicts)} tried, {through} let through")
    return int(through > 0)


def page(verdicts: Sequence[tuple[str, Verdict]], seconds: float) -> str:
    """Return the page. verdicts: (kind, verdict) of each probe."""
    tried = Counter(kind for kind, _ in verdicts)
    through = Counter(kind for kind, verdict in verdicts if verdict.verdict != HELD)
    head = INTRODUCTION.format(
        tried=len(verdicts),
        through=through.total(),
        command=COMMAND,
        date=f"{datetime.date.today():%Y-%m-%d}",
        machine=machine(),
        minutes=seconds / 60,
        seed=SEED,
    )
    rows = [("probes", "tried", "let through"), *((k, tried[k], through[k]) for k in tried)]
    return f"{head}\n{table([*rows, ('all', len(verdicts), through.total())])}\n"
