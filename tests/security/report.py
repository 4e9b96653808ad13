"""The page of a whole run of the probes: what was tried, and what was let through.

`./launch.sh test tests/security --long` writes assets/evidence/security.md.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from corpus.cases import HELD, judge
from corpus.long_run import code_version
from corpus.report import machine, table

COMMAND = "./launch.sh test tests/security --long"
SEED = 33
INTRODUCTION = """# Nobody let in

{tried:,} probes were tried, {through} were let through.

A probe is a request, a file or a word of somebody whom [the threat model](../../docs/security.md) names. It is *let through* if a request passed the
studio's guards or told anything, a program of others ran or a pickle was opened, a word became a command or a tag, a file could be read, or an address
that is not this computer's was asked. A file or a word that is refused in a sentence is held.

Made by `{command}` on {date}: {machine}; {minutes:.0f} minutes on a busy machine, seed {seed}.
"""


def modules() -> list:
    """Return the generators of probes, those that need the open studio first."""
    from security import model_files, others, pictures, reports, requests, silence, words

    found = [requests, pictures, model_files, words, others, reports]
    return found if silence.available() else [*found, silence]


def state_file() -> Path:
    """Return the file with the results so far, of this code."""
    digest = hashlib.sha256(code_version().encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return Path(tempfile.gettempdir()) / f"blockskip-probes-{digest.hexdigest()[:16]}.jsonl"


def main() -> int:
    """Try what was not tried yet, write the page, and return the exit code: 0 if nothing was let
    through. A run that was stopped goes on."""
    state, rows = state_file(), []
    if state.exists():
        rows = [json.loads(line) for line in state.read_text(encoding="utf-8").splitlines()]
    done = {row["id"] for row in rows}
    with open(state, "a", encoding="utf-8") as file:
        for module in modules():
            left = [case for case in module.cases(SEED) if case.id not in done]
            for case in left:
                begun = time.monotonic()
                rows.append(asdict(judge(case)) | {"seconds": time.monotonic() - begun})
                file.write(json.dumps(rows[-1]) + "\n")
                file.flush()
                if rows[-1]["verdict"] != HELD:
                    print(f"{case.id}: {rows[-1]['verdict']}: {rows[-1]['detail']}", flush=True)
            print(f"{module.__name__}: {len(rows)} tried", flush=True)
    path = Path(__file__).resolve().parents[2] / "assets" / "evidence" / "security.md"
    path.write_text(page(rows), encoding="utf-8", newline="\n")
    state.unlink()
    print(f"{path}: {len(rows)} tried, {num_through(rows)} let through")
    return int(num_through(rows) > 0)


def num_through(rows: Sequence[dict]) -> int:
    """Return how many probes did not hold."""
    return sum(row["verdict"] != HELD for row in rows)


def page(rows: Sequence[dict]) -> str:
    """Return the page of all probes."""
    kinds = dict.fromkeys(row["kind"] for row in rows)
    head = INTRODUCTION.format(
        tried=len(rows),
        through=num_through(rows),
        command=COMMAND,
        date=f"{datetime.date.today():%Y-%m-%d}",
        machine=machine(),
        minutes=sum(row["seconds"] for row in rows) / 60,
        seed=SEED,
    )
    lines: list[tuple] = [("probes", "tried", "let through")]
    for kind in kinds:
        own = [row for row in rows if row["kind"] == kind]
        lines.append((kind, len(own), num_through(own)))
    return f"{head}\n{table([*lines, ('all', len(rows), num_through(rows))])}\n"
