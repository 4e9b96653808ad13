"""The long run: everything in the corpus, one core, in about half an hour.

`./launch.sh test tests/corpus --long` runs it. It may be stopped and started again: what was done
is kept in a file of the temporary folder as long as the code stays the same. Only a whole run writes
assets/evidence/reliability.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SEED = 26
FUZZ_S = 24  # seconds for each parser; all together more than ten minutes
MOST_OF_A_MODULE = {"values": 3000, "runs": 2200}
# seconds of a case, until some have been measured
USUAL_S = {
    "runs": 0.18,
    "weights": 0.12,
    "captions": 0.3,
    "values": 0.15,
    "kills": 4.5,
    "damage": 4.5,
}
USUAL_S |= {"damage": 2.5, "tensors": 0.01, "photos": 0.02, "races": 0.7}


@dataclass(frozen=True)
class Task:
    """One case, or one target to fuzz. run: returns what is kept of it, as JSON has it."""

    id: str
    section: str
    seconds: float
    run: Callable[[], dict]


def tasks() -> list[Task]:
    """Return all tasks of a whole run, in order."""
    from corpus import (
        captions,
        damage,
        fuzz,
        fuzz_targets,
        kills,
        photos,
        races,
        runs,
        tensors,
        values,
        weights,
    )

    modules = (runs, tensors, weights, photos, captions, values, races, damage, kills)
    found = []
    for module in modules:
        section, all_cases = module.__name__.rpartition(".")[2], module.cases(SEED)
        most = MOST_OF_A_MODULE.get(section, len(all_cases))
        for case in _spread(all_cases, most):
            run = functools.partial(_judged, case)
            found.append(Task(case.id, section, USUAL_S.get(section, 0.1), run))
    for name in fuzz_targets.TARGETS:
        run = functools.partial(_fuzzed, fuzz.fuzz, name)
        found.append(Task(f"fuzz-{name}", "fuzz", FUZZ_S + 8, run))
    ids = [task.id for task in found]
    assert len(set(ids)) == len(ids), "two tasks have one id"
    return found


def _spread(all_cases: list, most: int) -> list:
    """Return at most about `most` cases, evenly spread over the list."""
    step = max(1, -(-len(all_cases) // most))
    return all_cases[::step]


def _judged(case: object) -> dict:
    from corpus.cases import judge

    return dataclasses.asdict(judge(case))  # type: ignore[arg-type]


def _fuzzed(fuzz: Callable, name: str) -> dict:
    return dataclasses.asdict(fuzz(name, FUZZ_S))


def code_version() -> str:
    """Return a hash of all code that a result depends on."""
    digest = hashlib.sha256()
    folders = (ROOT / "blockskip", ROOT / "presets", ROOT / "tests/corpus", ROOT / "tests/helpers")
    for folder in folders:
        for path in sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".toml")):
            digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def state_file() -> Path:
    """Return the file with the results so far."""
    return Path(tempfile.gettempdir()) / f"blockskip-corpus-{code_version()}.jsonl"


def main() -> int:
    """Run what is not done yet, write the page, and return the exit code: 0 if nothing is wrong."""
    from corpus import fuzz, report

    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    if not fuzz.available():
        print(
            "atheris is missing, so no page can be written: pip install it (pyproject.toml, fuzz)"
        )
        return 2
    with tempfile.TemporaryDirectory(prefix="corpus-data-") as name:
        os.environ["BLOCKSKIP_DATA"] = name
        before = _results()
        done = {row["id"]: row for row in before}
        all_tasks = tasks()
        left = [task for task in all_tasks if task.id not in done]
        with _quiet(Path(name)), open(state_file(), "a", encoding="utf-8") as file:
            try:
                for row in _run(left, len(all_tasks)):
                    done[row["id"]] = row
                    file.write(json.dumps(row) + "\n")
                    file.flush()
            except KeyboardInterrupt:
                print("\nstopped; the same command goes on from here")
                return 130
    rows = [done[task.id] for task in all_tasks]
    page = report.write(rows, ROOT / "assets" / "evidence" / "reliability.md")
    state_file().unlink()
    print(f"\n{page}: {report.summary(rows)}")
    return int(report.num_wrong(rows) > 0)


@contextlib.contextmanager
def _quiet(folder: Path) -> Iterator[None]:
    """Context manager that keeps what libraries and the studio say on stderr out of the way."""
    with (
        open(folder / "said.log", "a", encoding="utf-8") as file,
        contextlib.redirect_stderr(file),
        warnings.catch_warnings(action="ignore"),
    ):
        yield


def _results() -> list[dict]:
    if not state_file().exists():
        return []
    lines = state_file().read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _run(left: list[Task], total: int) -> Iterator[dict]:
    """Run tasks, with n/N and the time left on one line. Yields each result with id and seconds."""
    spent: dict[str, list[float]] = {}
    for number, task in enumerate(left):
        begun = time.monotonic()
        row = {"id": task.id, "section": task.section} | task.run()
        row["seconds"] = round(time.monotonic() - begun, 3)
        spent.setdefault(task.section, []).append(row["seconds"])
        _show(total - len(left) + number + 1, total, _seconds_left(left[number + 1 :], spent), row)
        yield row


def _seconds_left(left: list[Task], spent: dict[str, list[float]]) -> float:
    def expected(task: Task) -> float:
        known = spent.get(task.section, [])[-50:]
        return sum(known) / len(known) if len(known) > 4 else task.seconds

    means = {task.section: expected(task) for task in left}
    return sum(means[task.section] for task in left)


def _show(done: int, total: int, seconds: float, row: dict) -> None:
    problem = row.get("verdict", "held") != "held" or row.get("problems")
    if problem:
        said = row.get("detail") or "; ".join(row.get("problems", {}).values())
        print(f"\r{row['id']}: {row.get('verdict', 'fuzzing')}: {said}"[:240], flush=True)
    minutes, rest = divmod(int(seconds), 60)
    line = f"{done}/{total}  about {minutes}:{rest:02d} left  {row['id']}"
    if sys.stdout.isatty():
        print(f"\r{line[:100]:100}", end="", flush=True)
    elif done % 50 == 0 or done == total:
        print(line, flush=True)
