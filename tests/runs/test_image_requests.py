"""Own pictures: asked, made in pairs, and neither lost nor made twice, whatever happens meanwhile."""

import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest
from PIL import Image

from blockskip.core import files, processes
from blockskip.core.errors import UserError
from blockskip.core.settings import Settings, settings_to_dict
from blockskip.runs import image_requests, storage
from blockskip.runs.run import Run, runs_dir


@pytest.fixture
def run():
    found = Run(runs_dir() / "pet")
    found.write_info({"settings": settings_to_dict(Settings())})
    for step in (20, 40):
        files.write_bytes(found.adapters_dir / f"step-{step:05d}.safetensors", b"not looked at")
    return found


@pytest.fixture
def started(monkeypatch):
    """The processes that would have been started."""
    found = []
    monkeypatch.setattr(processes, "start_holder", lambda *args, **_: found.append(args))
    return found


class Painter:
    """Pictures whose colour tells what was asked."""

    def __init__(self, breaks_at: int = 99) -> None:
        self.calls, self.breaks_at = [], breaks_at

    def __call__(self, prompts, seeds, step, strength):
        if len(self.calls) == self.breaks_at:
            raise KeyboardInterrupt
        self.calls.append((tuple(prompts), step if strength else None, strength))
        return [Image.new("RGB", (4, 4), (seed, step, int(strength * 100))) for seed in seeds]


def colour(path) -> tuple[int, int, int]:
    return Image.open(path).getpixel((0, 0))


def test_what_is_asked_together_is_made_together(run, started):
    for seed, strength, step in ((1, 1.0, None), (2, 1.0, 40), (3, 0.5, 20), (1, 0.5, 20)):
        image_requests.submit(run, "a cat", seed, strength, step)
    painter = Painter()
    image_requests.process(run, image_requests.pending(run), painter)
    assert [(len(prompts), *rest) for prompts, *rest in painter.calls] == [
        (3, None, 0.0),  # one noise has one picture of the untrained model
        (2, 20, 0.5),
        (2, 40, 1.0),
    ]
    assert not image_requests.pending(run)
    newest = image_requests.all_requests(run)[0]
    assert (newest.seed, newest.strength, newest.state, newest.n) == (1, 0.5, "done", 2)
    assert colour(newest.tuned_path) == (1, 20, 50) and colour(newest.base_path)[2] == 0
    assert Image.open(newest.tuned_path).text["prompt"] == "a cat"


def test_the_untrained_models_picture_is_made_once(run, started):
    painter = Painter()
    for strength in (1.0, 0.3):
        image_requests.submit(run, "a cat", 1, strength)
        image_requests.process(run, image_requests.pending(run), painter)
    assert [strength for *_, strength in painter.calls] == [0.0, 1.0, 0.3]


def test_the_order_is_that_of_asking_however_coarse_the_clock(run, started, monkeypatch):
    monkeypatch.setattr(image_requests.time, "time", lambda: 1.8e9)
    for seed in range(9):
        image_requests.submit(run, "a cat", seed)
    assert [p.seed for p in image_requests.pending(run)] == [*range(9)]


@pytest.mark.parametrize("breaks_at", [0, 1, 2])
def test_cut_off_anywhere_it_goes_on(run, started, breaks_at):
    image_requests.submit(run, "a cat", 1)
    image_requests.submit(run, "a dog", 2, step=20)
    with pytest.raises(KeyboardInterrupt):
        image_requests.process(run, image_requests.pending(run), Painter(breaks_at))
    assert {p.state for p in image_requests.pending(run)} == {"working"}
    painter = Painter()
    image_requests.process(run, image_requests.pending(run), painter)
    assert len(painter.calls) == 3 - breaks_at, "what was made is not made again"
    assert {p.state for p in image_requests.all_requests(run)} == {"done"}


def test_a_request_deleted_while_it_is_made_stays_away(run, started):
    kept, gone = image_requests.submit(run, "a cat", 1), image_requests.submit(run, "a dog", 2)
    requests = image_requests.pending(run)
    painter = Painter()

    def deleting(*args):
        image_requests.delete(run, gone)
        return painter(*args)

    image_requests.process(run, requests, deleting)
    assert [p.id for p in image_requests.all_requests(run)] == [kept]
    assert not (run.pictures_dir / gone).exists()


def test_what_went_wrong_is_said_of_what_is_not_done(run, started):
    image_requests.submit(run, "a cat", 1)
    image_requests.process(run, image_requests.pending(run), Painter())
    image_requests.submit(run, "a dog", 2)
    image_requests.mark_failed(
        run, image_requests.all_requests(run), UserError("Too little.", "Close programs.")
    )
    failed, done = image_requests.all_requests(run)
    assert (failed.state, failed.title, failed.remedy) == (
        "failed",
        "Too little.",
        "Close programs.",
    )
    assert done.state == "done" and not image_requests.pending(run)


@pytest.mark.parametrize(
    "request_",
    [
        {"prompt": "a\ncat"},
        {"prompt": ""},
        {"strength": 2.5},
        {"strength": float("nan")},
        {"seed": -1},
        {"step": 30},
    ],
)
def test_what_cannot_be_made_is_refused_and_leaves_nothing(run, started, request_):
    with pytest.raises(UserError):
        image_requests.submit(run, **{"prompt": "a cat", **request_})
    assert not image_requests.all_requests(run) and not started


def test_a_card_has_room_for_one(run, started, monkeypatch):
    other = Run(runs_dir() / "other")
    other.write_info({"settings": settings_to_dict(Settings())})
    busy = {"worker": other}
    for role in ("worker", "image_worker"):
        monkeypatch.setattr(Run, role, lambda self, r=role: busy.get(r) == self or None)
    with pytest.raises(UserError, match="“other” is training"):
        image_requests.submit(run, "a cat")
    busy = {"image_worker": other}
    with pytest.raises(UserError, match="Pictures of run “other”"):
        image_requests.submit(run, "a cat")
    assert not started and not image_requests.all_requests(run)
    busy = {"image_worker": run}
    assert image_requests.submit(run, "a cat")


def test_nobody_is_started_beside_one_who_works(run, started):
    with processes.locked(image_requests.lock(run)) as ours:
        assert ours
        image_requests.submit(run, "a cat")
        with processes.locked(image_requests.lock(run)) as second:
            assert not second
    assert not started
    image_requests.ensure_worker(run)
    assert [args[0] for args in started] == ["blockskip.runs.image_process"]


@pytest.mark.parametrize("state", ["waiting", "working"])
def test_a_killed_worker_is_not_started_again_for_ever(run, monkeypatch, state):
    """The system kills it when RAM runs out: the next one would end like it."""
    children = iter([SimpleNamespace(poll=lambda: -9), SimpleNamespace(poll=lambda: -15)])
    monkeypatch.setattr(processes, "start_holder", lambda *_, **__: next(children))
    image_requests.submit(run, "a cat", 1)
    image_requests._update(image_requests.pending(run)[0], state=state)
    image_requests.ensure_worker(run)
    (picture,) = image_requests.all_requests(run)
    assert picture.state == "failed" and "because RAM ran out" in picture.title
    image_requests.submit(run, "a dog", 1)  # ended by SIGTERM, as for a training
    image_requests._fail_killed(run)
    assert [p.prompt for p in image_requests.pending(run)] == ["a dog"]


def test_cancelling_forgets_what_waits_and_keeps_what_is_done(run, started):
    image_requests.submit(run, "a cat", 1)
    image_requests.process(run, image_requests.pending(run), Painter())
    image_requests.submit(run, "a dog", 2)
    assert image_requests.cancel(run) == 1
    assert [p.prompt for p in image_requests.all_requests(run)] == ["a cat"]
    assert image_requests.cancel(run) == 0


def test_a_run_that_goes_takes_its_painter_along(run):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    created = psutil.Process(child.pid).create_time()
    files.write_json(run.folder / "painter.json", {"pid": child.pid, "create_time": created})
    assert run.image_worker() is not None
    storage.delete("pet")
    child.wait(timeout=60)
    assert not run.folder.exists()


@pytest.mark.parametrize("id", ["", "..", "../checkpoints", "lock", "1795290114753-866d/../.."])
def test_only_pictures_can_be_deleted(run, id):
    files.write_bytes(run.checkpoints_dir / "step-00001.safetensors", b"precious")
    with pytest.raises(UserError):
        image_requests.delete(run, id)
    assert list(run.checkpoints_dir.iterdir())


def test_a_broken_request_is_passed_over(run, started):
    id = image_requests.submit(run, "a cat", 1)
    (run.pictures_dir / id / "request.json").write_text("{", encoding="utf-8")
    assert image_requests.all_requests(run) == [] and image_requests.pending(run) == []
    image_requests.delete(run, id)
    image_requests.delete(run, id)
