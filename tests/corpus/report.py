"""assets/evidence/reliability.md: what the long run found, findings first."""

from __future__ import annotations

import datetime
import platform
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import psutil
from corpus.cases import HELD, VERDICTS

COMMAND = "./launch.sh test tests/corpus --long"
WRONG = VERDICTS[1:]
MOST_SHOWN = 40  # of what did not hold
INTRODUCTION = """# Other people's files, values and kills

{findings}

Power cuts, months of use, limits of memory, strangers' probes, updates and launchers have pages of their own: [power-cuts.md](power-cuts.md),
[endurance.md](endurance.md), [security.md](security.md), [updates.md](updates.md).

An input counts as *silently wrong* if the right value was not produced and the program did not
refuse it by name. A *traceback* is an error that is none of the program's own. *Unexpected* is its
sentence for errors that nobody thought of. A *lost run* is a good run that is no longer shown or
usable. The right results stand beside the inputs, in `tests/corpus/`.

Made by `{command}` on {date}: {machine}; {minutes:.0f} minutes of one core, seed 26.
"""


def num_wrong(rows: Sequence[dict]) -> int:
    """Return how many inputs did not hold, and how many places fuzzing found."""
    wrong = sum(row.get("verdict", HELD) != HELD for row in rows)
    return wrong + sum(len(row.get("problems", {})) for row in rows)


def summary(rows: Sequence[dict]) -> str:
    """Return the counts on one line."""
    counts = Counter(row["verdict"] for row in rows if "verdict" in row)
    fuzzed = sum(len(row.get("problems", {})) for row in rows)
    words = ", ".join(f"{name} {counts[name]}" for name in WRONG)
    return f"{sum(counts.values())} inputs: {words}; fuzzing: {fuzzed} places"


def write(rows: Sequence[dict], path: Path) -> Path:
    """Write the page of a whole run."""
    path.write_text(page(rows), encoding="utf-8", newline="\n")
    return path


def page(rows: Sequence[dict]) -> str:
    """Return the page."""
    tried = [row for row in rows if "verdict" in row]
    fuzzed = [row for row in rows if "executions" in row]
    head = INTRODUCTION.format(
        findings=_findings(tried, fuzzed),
        command=COMMAND,
        date=f"{datetime.date.today():%Y-%m-%d}",
        machine=machine(),
        minutes=sum(row["seconds"] for row in rows) / 60,
    )
    tables = ["## Inputs", _inputs(tried), "## Fuzzing", _fuzzing(fuzzed)]
    return "\n".join([head, *(f"{part}\n" for part in [*tables, *_problems(tried, fuzzed)])])


def _findings(tried: Sequence[dict], fuzzed: Sequence[dict]) -> str:
    counts = Counter(row["verdict"] for row in tried)
    kills = sum(row["id"].startswith("kill-") for row in tried)
    races = sum(row["id"].startswith("race-") for row in tried)
    executions, places = (
        sum(r["executions"] for r in fuzzed),
        sum(len(r["problems"]) for r in fuzzed),
    )
    seconds = sum(row["seconds"] for row in fuzzed)
    lines = [
        f"Of {len(tried):,} inputs, {counts[HELD]:,} gave the right result.",
        "; ".join(f"{name}: {counts[name]}" for name in WRONG) + ".",
        f"Among them are {kills} kills, each followed by a resume, and {races} races.",
        f"{len(fuzzed)} parsers were fuzzed for {seconds / 60:.0f} minutes with {executions:,} "
        f"inputs; {places} places in the code let another error out.",
    ]
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))


def machine() -> str:
    name = platform.processor() or platform.machine()
    gib = psutil.virtual_memory().total / 2**30
    return f"{platform.system()}, {name}, {psutil.cpu_count()} cores, {gib:.0f} GiB of RAM, Python {platform.python_version()}"


def _inputs(tried: Sequence[dict]) -> str:
    kinds = dict.fromkeys(row["kind"] for row in tried)
    rows = [("kind", "inputs", *WRONG)]
    for kind in kinds:
        counts = Counter(row["verdict"] for row in tried if row["kind"] == kind)
        rows.append((kind, sum(counts.values()), *(counts[name] for name in WRONG)))
    totals = Counter(row["verdict"] for row in tried)
    return table([*rows, ("all", len(tried), *(totals[name] for name in WRONG))])


def _fuzzing(fuzzed: Sequence[dict]) -> str:
    rows = [("parser", "executions", "edges reached", "seconds", "places that let an error out")]
    for row in fuzzed:
        name, places = row["target"].replace("_", " "), len(row["problems"])
        rows.append(
            (name, f"{row['executions']:,}", row["coverage"], f"{row['seconds']:.0f}", places)
        )
    return table(rows)


def _problems(tried: Sequence[dict], fuzzed: Sequence[dict]) -> list[str]:
    wrong = [(row["id"], row["verdict"], row["detail"]) for row in tried if row["verdict"] != HELD]
    wrong += [(r["id"], place, error) for r in fuzzed for place, error in r["problems"].items()]
    if not wrong:
        return []
    shown = [tuple(_plain(cell) for cell in row) for row in wrong[:MOST_SHOWN]]
    more = [f"And {len(wrong) - MOST_SHOWN} more."] if len(wrong) > MOST_SHOWN else []
    return ["## What did not hold", table([("input", "result", "detail"), *shown]), *more]


def _plain(text: str) -> str:
    """Return a text that a Markdown table can show."""
    signs = {"|": "/", "<": "‹", ">": "›", "[": "(", "]": ")", "`": "'"}
    return "".join(signs.get(sign, sign if sign.isprintable() else "?") for sign in text)[:200]


def table(rows: Sequence[tuple]) -> str:
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
