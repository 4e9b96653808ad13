"""Power cuts at every operation of all works, and the page of what came out.

`./launch.sh test tests/corpus --power-cuts` runs it. It may be stopped and started again: what was
done is kept in a folder of the temporary folder as long as the code stays the same.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from corpus import disk, power_cuts, recorder
from corpus.cases import DIFFERENT, HELD, LEFT, LOST, SILENT, TRACEBACK, UNEXPECTED
from corpus.long_run import ROOT, _quiet, code_version
from corpus.power_cuts import Cut

PAGE = ROOT / "assets" / "evidence" / "power-cuts.md"
COMMAND = "./launch.sh test tests/corpus --power-cuts"
# states from which the work goes on; of all others it is only looked at what lies there
MOST = {"life": 160, "quantised": 60, "prepare": 40, "settings": 20, "download": 200}
TITLES = {
    "life": "new run, training, pause, resume, end, export, picture",
    "quantised": "new run on weights in 8 bits, training, end",
    "prepare": "photos and answers of the draft",
    "settings": "the studio's secret and the choice of models",
    "download": "download of a model",
}
WRONG = (LOST, DIFFERENT, SILENT, LEFT, TRACEBACK, UNEXPECTED)
INTRODUCTION = """# Power cuts

{findings}

A library that is loaded before all others records every operation on files ({recorder}). A model of
a disk ({disk}) gives what may lie there if power is cut after an operation: what was not synced by
`fsync` of its file or of its folder is missing, or zeros, or torn, or there in another order, in
{kinds} ways. At every cut it is checked that all is there that the user had been told of, that no half
file has the name of a whole one, and that the log has all steps that are not trained again. From
states that differ in what matters the work then goes on: it must end in the bytes of work that
nothing interrupted. *Cut points gone on from* are those with such a state that was tried. A recording
that misses an operation is refused: replayed, it must give the files of the real folder.

Made by `{command}` on {date}, in {minutes:.0f} minutes.

{table}
"""


def main() -> int:
    """Run what is not done yet, write the page and return 0 if nothing was lost or different."""
    if why := recorder.why_not():
        print(f"no power can be cut here: {why}")
        return 2
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    folder = Path(tempfile.gettempdir()) / f"blockskip-power-{code_version()}"
    folder.mkdir(exist_ok=True)
    power_cuts.kept = folder
    with _quiet(folder):
        rows = [run(work, folder) for work in power_cuts.WORKS]
    PAGE.write_text(page(rows), encoding="utf-8", newline="\n")
    print(f"\n{PAGE}")
    shutil.rmtree(folder)
    return int(any(row["wrong"] for row in rows))


def run(work: str, folder: Path) -> dict:
    """Cut a work everywhere. Returns its row of the page."""
    begun, file = time.monotonic(), folder / f"{work}.jsonl"
    found = power_cuts.recorded(work)
    by_key: dict[str, list[Cut]] = {}
    wrong: list[tuple[str, str, str]] = []
    for at, kind in itertools.product(found.disk.cuts(), disk.KINDS):
        cut = Cut(work, at, kind)
        by_key.setdefault(power_cuts.key(cut), []).append(cut)
        if problem := power_cuts.problem(cut):
            wrong.append((cut.id, *problem))
    keys = chosen(by_key, MOST[work])
    verdicts = _verdicts(work, {key: by_key[key][0] for key in keys}, file)
    wrong += [tuple(v) for v in verdicts.values() if v[1] != HELD]  # type: ignore[misc]
    return {
        "work": work,
        "cuts": len(found.disk.cuts()),
        "states": len(found.disk.cuts()) * len(disk.KINDS),
        "distinct": len(by_key),
        "tried": len(keys),
        "covered": len({cut.at for key in keys for cut in by_key[key]}),
        "wrong": wrong,
        "seconds": time.monotonic() - begun,
    }


def chosen(by_key: dict[str, list[Cut]], most: int) -> list[str]:
    """Return keys of states to go on from: half of them those that most cuts leave, the others
    spread over the whole work."""
    often = sorted(by_key, key=lambda key: -len(by_key[key]))[: most // 2]
    others = [key for key in by_key if key not in often]
    step = max(1, -(-len(others) // max(1, most - len(often))))
    return often + others[::step]


def _verdicts(work: str, cuts: dict[str, Cut], file: Path) -> dict[str, list[str]]:
    """Go on from each state that is not in the file yet. Returns (id, verdict, detail) by key."""
    done = dict(map(json.loads, file.read_text("utf-8").splitlines())) if file.exists() else {}
    with open(file, "a", encoding="utf-8") as kept:
        for number, (key, cut) in enumerate(cuts.items(), 1):
            if key not in done:
                verdict = dataclasses.astuple(power_cuts.verdict(cut))
                done[key] = [verdict[0], *verdict[2:]]
                kept.write(json.dumps([key, done[key]]) + "\n")
                kept.flush()
            sign = "" if done[key][1] == HELD else f": {done[key][1]}: {done[key][2]}"
            if sign or number % 10 == 0:
                print(f"{work} {number}/{len(cuts)} {cut.id}{sign}", flush=True)
    return {key: done[key] for key in cuts}


def page(rows: list[dict]) -> str:
    """Return the page."""
    heads = ("work", "cut points", "states looked at", "that differ", "gone on from")
    table = [(*heads, "cut points gone on from", *WRONG)]
    for row in [*rows, _total(rows)]:
        counts = Counter(verdict for _, verdict, _ in row["wrong"])
        numbers = (row[name] for name in ("cuts", "states", "distinct", "tried", "covered"))
        wrong = (counts[name] for name in WRONG)
        table.append((TITLES.get(row["work"], "all"), *numbers, *wrong))
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in table]
    total = _total(rows)
    counts = Counter(verdict for _, verdict, _ in total["wrong"])
    findings = [
        f"Power was cut at {total['cuts']:,} points, which left {total['states']:,} states of the "
        f"disk: {', '.join(f'{name} {counts[name]}' for name in WRONG)}.",
        f"The work went on from {total['tried']:,} of them, which stand for {total['covered']:,} of "
        "the cut points, and ended in equal bytes.",
    ]
    shown = [f"- {id}: {verdict}: {detail[:160]}" for id, verdict, detail in total["wrong"][:40]]
    return INTRODUCTION.format(
        findings="\n".join(f"{number}. {line}" for number, line in enumerate(findings, 1)),
        recorder="`tests/corpus/recorder.c`",
        disk="`tests/corpus/disk.py`",
        kinds=len(disk.KINDS),
        command=COMMAND,
        date=f"{datetime.date.today():%Y-%m-%d}",
        minutes=sum(row["seconds"] for row in rows) / 60,
        table="\n".join([lines[0], "|" + "---|" * len(table[0]), *lines[1:], "", *shown]).rstrip(),
    )


def _total(rows: list[dict]) -> dict:
    names = ("cuts", "states", "distinct", "tried", "covered", "wrong", "seconds")
    empty: dict = {"work": "", "wrong": []}
    for row in rows:
        empty |= {name: row[name] + empty.get(name, type(row[name])()) for name in names}
    return empty


if __name__ == "__main__":
    sys.exit(main())
