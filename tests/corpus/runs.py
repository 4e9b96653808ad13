"""Broken run folders and broken files of the data folder, among five good runs."""

from __future__ import annotations

import json
import math
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tomli_w
from corpus.cases import Case, Wrong, demand, demand_named, refusal
from corpus.house import (
    BROKEN,
    GOOD,
    STEPS,
    check_broken_run,
    check_good_runs,
    copy_house,
    opened,
    page,
    template,
)
from corpus.mutations import (
    FILE_MUTATIONS,
    WRONG_VALUES,
    flipped,
    keys_of,
    with_value,
    without,
)

from blockskip.core import events
from blockskip.runs import checkpoints, control
from blockskip.runs.run import Run

STATES = ("new", "running", "paused", "stopped", "failed", "crashed", "done")
# strange things beside a run's own files, which must not matter
INTRUDERS = (
    "checkpoints/step-00004 (copy).safetensors",
    "checkpoints/step-.safetensors",
    "checkpoints/step-x.safetensors",
    "checkpoints/step-00099.safetensors.123.tmp",
    "checkpoints/._step-00012.safetensors",
    "checkpoints/step--0012.safetensors",
    "checkpoints/step-٣.safetensors",
    "adapters/step-00006 (1).safetensors",
    "adapters/step-old.safetensors",
    "previews/step-x/00.png",
    "previews/step-00006 (copy)/00.png",
    "pictures/1234567890123-zzzz/request.json",
    "pictures/1234567890123-ab12",
    "photos/Thumbs.db",
    "photos/.DS_Store",
    "exports/desktop.ini",
    "desktop.ini",
    "cache/window-00000.safetensors.77.tmp",
)
# of the data folder itself
HOUSE_FILES = (
    "draft/draft.json",
    "models.json",
    "comfyui.json",
    "fingerprints.json",
    "studio.json",
    "downloads/flux2-klein-4b.json",
    "models/flux2-klein-4b/fetched.json",
    "quantised/anything.safetensors",
)


def cases(seed: int) -> list[Case]:
    """Return all broken runs and data folders."""
    return [
        *_file_cases(),
        *_toml_cases(),
        *_event_cases(),
        *_json_cases(),
        *_intruders(),
        *_house_cases(),
        Case("runs-many-000", "30 broken runs among 5 good", _thirty(seed), _check_thirty),
    ]


def run_files() -> list[str]:
    """Return one of each kind of file of a run, relative to its folder."""
    kinds: dict[tuple, str] = {}
    folder = template() / "runs" / BROKEN
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.endswith(".lock"):
            relative = path.relative_to(folder)
            kinds[relative.parts[0], path.suffixes[-1:].__str__(), path.name == "base.png"] = (
                relative.as_posix()
            )
    return sorted(kinds.values())


def _case(id: str, kind: str, mutate: Callable[[Run], None], check: Callable[[Run], None]) -> Case:
    def build(folder: Path) -> Run:
        run = copy_house(folder)
        mutate(run)
        return run

    return Case(id, kind, build, check)


def _check_whole(run: Run) -> None:
    """The good runs are unharmed, and the broken one can be asked for everything."""
    check_good_runs(run.folder.parent.parent)
    if (run.folder / "run.toml").exists():  # without it, it is a folder and no run
        check_broken_run(run, _check_readings(run))


def _check_readings(run: Run) -> Exception | None:
    """Read everything of a run. Return the refusal of its settings, None if they are right."""
    with opened(run.folder.parent.parent):
        error = refusal(run.settings)
        if error is not None:
            demand_named(error, run.name, "run.toml")
        else:
            _check_settings(run)
        unreadable = refusal(run.state)
        if unreadable is not None:  # the log is a folder, or may not be read
            demand_named(unreadable, "events.jsonl")
            return error or unreadable
        demand(run.state() in STATES, f"state {run.state()!r}")
        for event in run.events()[0]:
            _check_event(event)
        _check_request(run)
        demand(isinstance(run.step(), int), "the step is no number")
        saved = checkpoints.saved_steps(run)
        demand(all(isinstance(step, int) for step in saved), f"saved steps {saved}")
        refusal(lambda: checkpoints.newest_checkpoint(run))
    return error


def _check_request(run: Run) -> None:
    """A pending request is one, or is refused by name and gone."""
    if refused := refusal(lambda: run.take_request(())):
        demand_named(refused, "control.json")
        demand(run.take_request(()) == {}, "a broken request stays")
    request = run.take_request(control.COMMANDS)
    good = all(isinstance(prompt, str) for prompt in request.get("prompts", ()))
    demand(good and str(request.get("command", "stop")), f"a request {request!r}"[:200])


def _check_settings(run: Run) -> None:
    """Settings that are taken have the types of the good runs', and finite numbers."""
    right = Run(run.folder.parent / GOOD[0]).settings().flat()
    for name, value in run.settings().flat().items():
        demand(type(value) is type(right[name]), f"{name} = {value!r}"[:200])
        demand(not isinstance(value, float) or math.isfinite(value), f"{name} = {value}")
    demand(isinstance(run.info().get("started"), str), "started is no text")


def _check_event(event: events.Event) -> None:
    for name, field in type(event).__dataclass_fields__.items():
        value, kind = getattr(event, name), str(field.type)
        if kind in ("int", "float"):
            good = isinstance(value, int | float) and not isinstance(value, bool)
            demand(
                good and math.isfinite(value), f"{type(event).__name__}.{name} = {value!r}"[:200]
            )
        elif kind == "str":
            demand(isinstance(value, str), f"{type(event).__name__}.{name} = {value!r}"[:200])


def _file_cases() -> list[Case]:
    """Every file of a run × every mutation."""

    def mutated(name: str, mutation: str) -> Callable[[Run], None]:
        return lambda run: FILE_MUTATIONS[mutation](run.folder / name)

    return [
        _case(
            f"run-file-{name}-{mutation}", "files of a run", mutated(name, mutation), _check_whole
        )
        for name in run_files()
        for mutation in FILE_MUTATIONS
    ]


def _toml_cases() -> list[Case]:
    """Every key of run.toml × every type, and without each."""
    info = tomllib.loads((template() / "runs" / BROKEN / "run.toml").read_text(encoding="utf-8"))

    def written(table: dict) -> Callable[[Run], None]:
        text = tomli_w.dumps(table)
        return lambda run: (run.folder / "run.toml").write_text(text, encoding="utf-8")

    tables = [(keys, with_value(info, keys, v)) for keys in keys_of(info) for v in WRONG_VALUES]
    tables += [(keys, without(info, keys)) for keys in keys_of(info)]
    tables += [((), info | {"unknown": 1}), ((), info | {"settings": info["settings"] | {"x": 1}})]
    return [
        _case(f"run-toml-{n:03d}", "keys of run.toml", written(table), _check_whole)
        for n, (_, table) in enumerate(tables)
    ]


def _event_cases() -> list[Case]:
    """Every field of every event × half of the types by turns, at the end of the log."""
    lines = (template() / "runs" / BROKEN / "events.jsonl").read_text(encoding="utf-8")
    newest = {row["event"]: row for row in map(json.loads, lines.splitlines())}
    found = []
    for row in newest.values():
        for n, keys in enumerate(keys_of(row)):
            values = [with_value(row, keys, value) for value in WRONG_VALUES[n % 2 :: 2]]
            found += [json.dumps(value) for value in (*values, without(row, keys))]

    def appended(line: str) -> Callable[[Run], None]:
        def mutate(run: Run) -> None:
            with open(run.events_path, "a", encoding="utf-8", newline="\n") as file:
                file.write(line + "\n")

        return mutate

    return [
        _case(f"run-event-{n:03d}", "fields of events", appended(line), _check_whole)
        for n, line in enumerate(found)
    ]


def _json_cases() -> list[Case]:
    """Every key of the other JSON files of a run × half of the types by turns."""
    folder, found = template() / "runs" / BROKEN, []
    for path in sorted(folder.rglob("*.json")):
        if path.name.endswith(".workflow.json"):
            continue
        data, name = json.loads(path.read_text(encoding="utf-8")), path.relative_to(folder)
        for n, keys in enumerate(keys_of(data)):
            values = [with_value(data, keys, value) for value in (*WRONG_VALUES[n % 2 :: 2], None)]
            found += [(name, json.dumps(value)) for value in (*values, without(data, keys))]

    def written(name: Path, text: str) -> Callable[[Run], None]:
        return lambda run: (run.folder / name).write_text(text, encoding="utf-8")

    return [
        _case(f"run-json-{n:03d}", "keys of a run's JSON files", written(*one), _check_whole)
        for n, one in enumerate(found)
    ]


def _intruders() -> list[Case]:
    def added(name: str) -> Callable[[Run], None]:
        def mutate(run: Run) -> None:
            path = run.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"whatever") if "." in path.name else path.mkdir()

        return mutate

    def check(run: Run) -> None:
        _check_whole(run)
        with opened(run.folder.parent.parent):
            steps = checkpoints.saved_steps(run)
        demand(steps == [6, STEPS], f"saved steps {steps} instead of [6, {STEPS}]")

    return [
        _case(f"run-intruder-{n:03d}", "strange files in a run", added(name), check)
        for n, name in enumerate(INTRUDERS)
    ]


def _house_cases() -> list[Case]:
    """Files of the data folder that are broken: the runs and the page are there all the same."""

    def mutated(name: str, mutation: str) -> Callable[[Run], None]:
        def mutate(run: Run) -> None:
            path = run.folder.parent.parent / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b'{"url": 5, "model": "x", "state": "running", "photos": [], "a": 1}')
            FILE_MUTATIONS[mutation](path)

        return mutate

    def check(run: Run) -> None:
        shutil.rmtree(run.folder)
        check_good_runs(run.folder.parent.parent)
        with opened(run.folder.parent.parent):
            demand("Demo pets" in str(page("")["models"]), "the setup shows no models")

    return [
        _case(f"run-house-{name}-{m}", "files of the data folder", mutated(name, m), check)
        for name in HOUSE_FILES
        for m in FILE_MUTATIONS
    ]


def _thirty(seed: int) -> Callable[[Path], Path]:
    """Return a builder of 30 broken runs beside the five good ones."""

    def build(folder: Path) -> Path:
        run, names = copy_house(folder), sorted(FILE_MUTATIONS)[:27]
        for n, mutation in enumerate([name for name in names if name != "missing"]):
            _broken_copy(run, n, lambda path, m=mutation: FILE_MUTATIONS[m](path), "run.toml")
        for n, name in enumerate(("events.jsonl", "studio.json", "control.json", "run.toml")):
            _broken_copy(run, 26 + n, flipped(seed + n, 40), name)
        shutil.rmtree(run.folder)
        return folder / "data"

    return build


def _broken_copy(run: Run, number: int, mutate: Callable[[Path], Any], name: str) -> None:
    copy = run.folder.with_name(f"{BROKEN}-{number:02d}")
    shutil.copytree(run.folder, copy)
    mutate(copy / name)


def _check_thirty(data: Path) -> None:
    broken = [Run(path) for path in sorted((data / "runs").glob(f"{BROKEN}-*"))]
    if len(broken) != 30:
        raise AssertionError(f"the corpus made {len(broken)} broken runs")
    check_good_runs(data)
    problems = []
    for run in broken:
        try:
            check_broken_run(run, _check_readings(run))
        except Wrong as wrong:
            problems.append(wrong)
    if problems:
        raise Wrong(problems[0].verdict, f"{len(problems)} of 30: {problems[0]}")
