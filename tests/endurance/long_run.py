"""The long run: months in half an hour, and twenty limits of memory.

`./launch.sh test tests/endurance --long` runs it and writes assets/evidence/endurance.md with its
plots. It may be stopped and started again: parts that are done are kept in a temporary folder until
the page is written.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STATE = Path(tempfile.gettempdir()) / "blockskip-endurance"
RUNS, TICKS, STEPS, PICTURES, CYCLES = 50, 10_000, 2_000, 1_000, 60


def parts() -> dict[str, tuple[int, Callable[[Path, Callable[[int], None]], dict]]]:
    """Return part → (how much there is to do, the function that does it in an empty folder)."""
    from endurance import asleep, full_disk, limits, studio, worker

    eighth = TICKS // studio.TABS
    return {
        "runs": (RUNS, lambda data, tell: studio.many_runs(data, RUNS, tell)),
        "ticks": (eighth, lambda data, tell: studio.many_ticks(data, eighth, 10, tell)),
        "worker": (STEPS, lambda data, tell: worker.long_run(data, STEPS, PICTURES, tell)),
        "asleep": (4, asleep.all_of_it),
        "disk": (CYCLES, lambda data, tell: full_disk.cycles(data, CYCLES, tell)),
        "limits": (
            len(limits.limits()),
            lambda _, tell: {"rows": [dataclasses.asdict(row) for row in limits.try_all(tell)]},
        ),
    }


def main(*names: str) -> int:
    """Do the parts that are not done yet, only those named if any are, and write the page once all
    are. Returns 0 if nothing is wrong."""
    from endurance import report

    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    STATE.mkdir(exist_ok=True)
    for name, (total, work) in parts().items():
        place = STATE / f"{name}.json"
        if place.exists() or names and name not in names:
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=f"endurance-{name}-") as folder:
            found = work(Path(folder) / "data", functools.partial(_show, name, total))
        place.write_text(json.dumps(found | {"seconds": time.monotonic() - began}), "utf-8")
        print(flush=True)
    done = {name: STATE / f"{name}.json" for name in parts()}
    if not all(place.exists() for place in done.values()):
        return 0
    found = {name: json.loads(place.read_text("utf-8")) for name, place in done.items()}
    wrong = report.write(found, ROOT / "assets" / "evidence")
    for place in done.values():
        place.unlink()
    print("\n".join(wrong) or "all flat, nothing lost")
    return int(bool(wrong))


def _show(name: str, total: int, done: int) -> None:
    end = "\r" if sys.stdout.isatty() else "\n"
    if end == "\r" or done % max(1, total // 20) == 0:
        print(f"{name}: {done}/{total}", end=end, flush=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
