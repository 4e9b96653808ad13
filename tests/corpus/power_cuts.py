"""Power cut at any operation of real work: what lies on the disk then is usable, holds all that the
program had told to be done, and no half file under a whole one's name. Going on ends in the bytes of
work that nothing interrupted."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import pickle
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from corpus import disk, killed, kills, power_work, recorder
from corpus.cases import DIFFERENT, LEFT, LOST, SILENT, Case, Verdict, Wrong, demand, judge
from corpus.disk import Disk, State
from helpers import fake_feed

from blockskip.core import events, presets
from blockskip.models.sources import hub
from blockskip.runs import checkpoints, image_requests, storage
from blockskip.runs.run import Run, list_runs

WORKS = ("settings", "prepare", "download", "quantised", "life")
REPOSITORY = "some-lab/Tiny-FLUX"
RUN = f"data/runs/{power_work.NAME}"
LOG = f"{RUN}/events.jsonl"
# files that are made again, or mean nothing once the power was off
PASSING = (".tmp", ".part", ".lock", ".log", "/lock", ".tmp/", ".unchecked.safetensors")
PASSING += ("/cache/", "/control.json", "/worker.json", "/painter.json", "/failure.json", LOG)
PASSING += ("/downloads/", "/draft/features/", "/draft/found/", "fingerprints.json")
OWN = ("studio.secret", "request.json", "draft.json", "comfyui.json")  # differ from time to time
SAYING = (".tmp", ".log", ".lock", "/lock", "/worker.json", "/painter.json")
kept: Path | None = None  # a folder for recordings


@dataclass(frozen=True)
class Recording:
    """A work's operations. versions: (operation after which a file was whole, its path, content).
    right: path → content of what the work makes if nothing interrupts it."""

    work: str
    disk: Disk
    versions: list[tuple[int, str, bytes]]
    right: dict[str, bytes]
    caches: dict[str, bytes]


@dataclass(frozen=True)
class Cut:
    """Power cut after operation `at`. kind: one of disk.KINDS."""

    work: str
    at: int
    kind: str

    @property
    def id(self) -> str:
        return f"power-{self.work}-{self.at:04d}-{self.kind}"


@functools.cache
def recorded(work: str) -> Recording:
    """Do a work once in a process and record it. In the long run it is kept (power_run.py)."""
    if kept is not None and (kept / f"{work}.pickle").exists():
        return pickle.loads((kept / f"{work}.pickle").read_bytes())
    found = _recorded(work)
    if kept is not None:
        (kept / f"{work}.pickle").write_bytes(pickle.dumps(found))
    return found


def _recorded(work: str) -> Recording:
    with tempfile.TemporaryDirectory(prefix="power-") as name:
        base, journal = Path(name) / "base", Path(name) / "journal"
        base.mkdir()
        code = _run("power_work.record", (work, str(base), str(journal), _words(work)), base)
        assert code == 0, _said(base)
        operations = recorder.read(journal, base)
        found = Disk(operations)
        differs = _differs(found.whole(), disk.read_back(base))
        assert not differs, f"not all was recorded: {differs}"
        whole_files = list(versions(found))
        right = {p: v for p, v in found.whole().items() if v is not None and is_result(p)}
        if work in ("life", "quantised"):
            _check_uninterrupted(found, right)
    caches = {path: data for _, path, data in whole_files if "/cache/" in path}
    return Recording(work, found, whole_files, right, caches)


def _words(work: str) -> tuple[str, ...]:
    if work == "download":
        return (kills.hub_endpoint(),)
    if work == "prepare":
        photos = fake_feed.make_photos(_photos_folder(), 3)
        return (tuple(map(str, photos)),)  # type: ignore[return-value]
    return ()


@functools.cache
def _photos_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="power-photos-")) / "photos"


def _run(work: str, arguments: tuple, base: Path) -> int:
    own = {"KILLED_LOG": str(base.parent / "killed.log"), "HF_HOME": str(base.parent / "hf")}
    environment = kills.environment(base / "data") | own
    return killed.run(work, arguments, environment, killed.FREE)


def _said(base: Path) -> str:
    return (base.parent / "killed.log").read_text(encoding="utf-8", errors="replace")[-2000:]


def _differs(one: State, other: State) -> list[str]:
    return sorted(path for path in {*one, *other} if one.get(path, 0) != other.get(path, 0))


def versions(found: Disk) -> Iterator[tuple[int, str, bytes]]:
    for index, operation in enumerate(found.operations):
        if operation.kind in ("close", "rename", "link"):
            place = operation.to or operation.path
            for path, data in found.state(index, "kept").items():
                if data is not None and (path == place or path.startswith(f"{place}/")):
                    yield index, path, data


def _check_uninterrupted(found: Disk, right: dict[str, bytes]) -> None:
    """Train the recorded run without a pause: its results must be those of the recording."""
    at = next(i for i, o in enumerate(found.operations) if (o.kind, o.path) == ("mark", "created"))
    with tempfile.TemporaryDirectory(prefix="power-whole-") as name:
        base = Path(name) / "base"
        base.mkdir()
        disk.lay_out(found.state(at, "kept"), base)
        assert _run("power_work.finish", (str(base / RUN),), base) == 0, _said(base)
        got = disk.read_back(base)
    made = {path for path in right if path.startswith(RUN) and "/pictures/" not in path}
    differs = [p for p in made - {f"{RUN}/studio.json"} if got.get(p) != right[p]]
    assert not differs, f"pausing changes {differs}"


def is_result(path: str) -> bool:
    """Return whether a file is worth keeping."""
    return not any(path.endswith(part) or "/" in part and part in path for part in PASSING)


def problem(cut: Cut) -> tuple[str, str] | None:
    """Return (verdict, detail) if something that was told to be done is gone, or a file is half."""
    found = recorded(cut.work)
    state = found.disk.state(cut.at, cut.kind)
    try:
        _check_no_half(found, state)
        _check_promises(found, cut, state)
        if cut.work in ("life", "quantised"):
            _check_log(found, cut, state)
    except Wrong as wrong:
        return wrong.verdict, str(wrong)
    return None


def _check_no_half(found: Recording, state: State) -> None:
    whole: dict[str, list[bytes]] = _by_path(found.versions)
    for path, data in state.items():
        if data is not None and is_result(path):
            demand(data in whole.get(path, []), f"{path} is half, {len(data)} bytes", SILENT)


def _check_promises(found: Recording, cut: Cut, state: State) -> None:
    since, _ = _told(found, cut)
    if since < 0:
        return
    after = [(i, o) for i, o in enumerate(found.disk.operations) if since < i <= cut.at]
    gone = {o.path for _, o in after if o.kind in ("unlink", "rename")}
    later = _by_path([v for v in found.versions if since < v[0] <= cut.at])
    for path, data in found.disk.state(since, "kept").items():
        if data is not None and is_result(path) and path not in gone:
            right = state.get(path) in (data, *later.get(path, []))
            demand(right, f"{path} was there when the user was told", LOST)


def _told(found: Recording, cut: Cut) -> tuple[int, set[str]]:
    """Return the last operation at which the user was told something, -1 for none, and all that was
    told. A write that is torn was not over; otherwise power is cut just before the next change."""
    operations = found.disk.operations
    last = cut.at
    while cut.kind != "torn" and last + 1 < len(operations):
        if operations[last + 1].kind not in ("mark", "close"):
            break
        last += 1
    marks = [i for i in range(last + 1) if operations[i].kind == "mark"]
    texts = {operations[i].path for i in marks}
    return (marks[-1] if texts - {"begun"} else -1), texts


def _check_log(found: Recording, cut: Cut, state: State) -> None:
    """Losses and pictures of the steps that are not trained again must be in the log."""
    log, told = _events(state.get(LOG)), _told(found, cut)[1]
    if {"Done", "done"} & told:
        demand(any(isinstance(e, events.Done) for e in log), "Done is gone", LOST)
    if "paused" in told:
        demand(any(isinstance(e, events.Stopped) for e in log), "Stopped is gone", LOST)
    newest = _newest_step(state)
    steps = {event.step for event in log if isinstance(event, events.Loss)}
    demand(steps >= set(range(1, newest + 1)), f"losses before step {newest} are gone", LOST)


def _events(data: bytes | None) -> list[events.Event]:
    found = []
    for line in (data or b"").splitlines():
        with contextlib.suppress(ValueError):
            found.append(events.from_json(line))
    return found


def _by_path(versions: list[tuple[int, str, bytes]]) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for _, path, data in versions:
        found.setdefault(path, []).append(data)
    return found


def key(cut: Cut) -> str:
    """Return a hash of what matters in the state that a cut leaves: of the log its end, and which
    pictures it tells of; of a damaged cache its length and whether its header is whole."""
    found = recorded(cut.work)
    state = found.disk.state(cut.at, cut.kind)
    return cut.work + found.disk.digest(state, functools.partial(_what_counts, found.caches))


def _what_counts(caches: dict[str, bytes], path: str, data: bytes) -> bytes | None:
    if path == LOG:
        pictures = [(e.step, e.index) for e in _events(data) if isinstance(e, events.Image)]
        kinds = [type(e).__name__ for e in _events(data)]
        ends = [kind for kind in kinds if kind in ("Done", "Stopped", "Failed")]
        return json.dumps([pictures, ends, kinds[-1:], data[-1:] == b"\n", b"\0" in data]).encode()
    if "/cache/" in path and data != (whole := caches.get(path, b"")):
        return json.dumps([len(data) - len(whole), data[:4096] == whole[:4096]]).encode()
    return b"" if path.endswith(SAYING) else None  # read by nobody


def verdict(cut: Cut) -> Verdict:
    """Go on with the work after a cut and judge what comes out."""
    return judge(Case(cut.id, f"power: {cut.work}", lambda folder: (cut, folder), _check))


def _check(subject: tuple[Cut, Path]) -> None:
    cut, folder = subject
    found, base = recorded(cut.work), folder / "base"
    base.mkdir()
    disk.lay_out(found.disk.state(cut.at, cut.kind), base)
    data = base / "data"
    with kills.in_data(data):
        if cut.work in ("life", "quantised"):
            if not _train_on(found, cut, base):
                return
        else:
            _do_again(cut, base)
        storage.clean_all()
    if data.exists():
        kills.check_locks(data)
    _compare(found, disk.read_back(base))


def _train_on(found: Recording, cut: Cut, base: Path) -> bool:
    """Go on with training, export and pictures. Returns whether there is a run at all."""
    runs, told = list_runs(), _told(found, cut)[1]
    demand(len(runs) == 1 or "created" not in told, "the run is not listed", LOST)
    if not runs:
        storage.clean_all()
        left = [p for p in base.rglob("*") if p.is_file() and p.suffix != ".lock"]
        demand(not left, f"left behind: {left[:3]}", LEFT)
        return False
    run = runs[0]
    run.settings()
    _check_usable(found, run)
    if run.state() != "done":
        before = len(run.events()[0])
        code = _run("power_work.finish", (str(run.folder),), base)
        demand(code == 0, f"it does not go on: {_said(base)[-300:]}", LOST)
        begun = [e for e in run.events()[0][before:] if isinstance(e, events.Started)]
        demand(begun[0].resumed_from >= _kept_step(found, cut), "steps are trained again", LOST)
    _check_shown(run)
    if image_requests.pending(run):
        _run("killed_work.pictures", (str(run.folder), ()), base)
        demand(not image_requests.pending(run), "a picture is not made", LOST)
    return True


def _check_usable(found: Recording, run: Run) -> None:
    """Every step that is offered gives the LoRA that was trained."""
    for step in checkpoints.saved_steps(run):
        file = checkpoints.lora_file(run, step)
        name = f"{RUN}/{file.relative_to(run.folder).as_posix()}"
        whole = [data for _, path, data in found.versions if path == name]
        demand(file.read_bytes() in whole, f"another LoRA of step {step}", DIFFERENT)


def _kept_step(found: Recording, cut: Cut) -> int:
    """Return the step of the last checkpoint that the user was told of."""
    since = _told(found, cut)[0]
    return _newest_step(found.disk.state(since, "kept")) if since >= 0 else 0


def _newest_step(state: State) -> int:
    """Return the step of the newest checkpoint, 0 without one."""
    found = [re.fullmatch(rf"{RUN}/checkpoints/step-(\d+)\.safetensors", path) for path in state]
    return max((int(match[1]) for match in found if match), default=0)


def _check_shown(run: Run) -> None:
    """Each loss and each picture of the run is in its log."""
    log = run.events()[0]
    steps = {event.step for event in log if isinstance(event, events.Loss)}
    demand(steps >= set(range(1, run.settings().steps + 1)), "losses are missing", LOST)
    shown = {event.path for event in log if isinstance(event, events.Image)}
    made = {p.relative_to(run.folder).as_posix() for p in run.previews_dir.rglob("*.png")}
    demand(shown == made, f"pictures are not shown: {sorted(made ^ shown)}", LOST)


def _do_again(cut: Cut, base: Path) -> None:
    """Do a short work again, as the user does who sees that it is not done."""
    if cut.work == "download":
        words = _words("download")
        code = _run("power_work.fetch", words, base)
        demand(code == 0, f"the download does not go on: {_said(base)[-300:]}", LOST)
        row = dataclasses.replace(presets.model_rows()["demo"], name="tiny", source=REPOSITORY)
        demand(hub.downloaded(row) is not None, "the model is not whole", LOST)
    else:
        code = _run(f"power_work.{cut.work}", (str(base), *_words(cut.work)), base)
        demand(code in (0, None), f"it cannot be done again: {_said(base)[-300:]}", LOST)


def _compare(found: Recording, got: State) -> None:
    """Raise Wrong if results differ or files are left behind."""
    newest = max((p for p in found.right if "/checkpoints/" in p), default="")
    for path, data in found.right.items():
        optional = "/checkpoints/" in path and path != newest or path.startswith("loras/")
        optional = optional or path.endswith("/studio.json") or "/pictures/" in path
        if not optional or path in got:
            demand(path in got, f"{path} is missing", DIFFERENT)
            same = got[path] == data or path.endswith(OWN)
            demand(same, f"{path} has other bytes", DIFFERENT)
    known = {path for _, path, _ in found.versions}
    left = [p for p, v in got.items() if v is not None and p not in known and is_result(p)]
    demand(not left, f"left behind: {left[:4]}", LEFT)
