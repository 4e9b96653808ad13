"""The soak's own measures, and short versions of its parts.

The whole of it: `./launch.sh test tests/endurance --long`.
"""

import builtins
import errno
import os
import random
import sys

import psutil
import pytest
from endurance import full_disk, limits, meters, report
from helpers import fake_feed

from blockskip.models.sources import download_process
from blockskip.runs import image_requests
from blockskip.runs.run import list_runs
from blockskip.studio import draft, run_state, screen


def noisy(level, growth, spread, count=200):
    chance = random.Random(3)
    return [level + growth * k / count + chance.gauss(0, spread) for k in range(count)]


@pytest.mark.parametrize(
    "name, values, flat",
    [
        (meters.OWN, noisy(180, 0, 2), True),
        (meters.OWN, noisy(180, 60, 2), False),
        (meters.OWN, [60.0] * 30 + noisy(180, 0, 2), True),  # what is loaded once
        (meters.OWN, noisy(180, 0, 80), False),  # nothing can be said
        (meters.KEPT, [v + 90 * (k % 17 == 0) for k, v in enumerate(noisy(430, 0, 2))], True),
        (meters.KEPT, noisy(430, 60, 2), False),
        ("handles", noisy(12, 0, 1), True),
        ("handles", noisy(12, 20, 1), False),
        ("threads", [4.0] * 100 + [14.0] * 100, False),
        (meters.ANSWER, noisy(20, 0, 2), True),
        (meters.ANSWER, noisy(20, 20, 2), False),
    ],
)
def test_flat_is_what_does_not_grow_with_certainty(name, values, flat):
    found = meters.trend(name, values)
    assert found.is_flat is flat and found.low <= found.growth <= found.high


def test_the_page_tells_what_is_not_flat(tmp_path):
    def sample(k):
        held = dict.fromkeys(meters.BOUNDS, 5.0)
        return held | {"handles": 5.0 + k, "threads": 4.0}

    part = {"samples": [sample(k) for k in range(60)], "sizes": [], "seconds": 1.0}
    row = {"limit": {"kind": "data", "stage": "text", "mib": 1}, "said": "a | b"}
    rows = [row | {"ended": ended, "adapter": "equal"} for ended in ("told", "silent, exit code 1")]
    found = {"disk": part | {"said": {"x": {"done": 3}}}, "limits": {"rows": rows, "seconds": 1.0}}
    found["asleep"] = {"said": [["the worker", "ANOTHER LORA"]], "seconds": 1.0}
    wrong = report.write(found, tmp_path)
    assert len(wrong) == 3 and wrong[0].endswith("handles") and "ANOTHER" in wrong[1]
    page = (tmp_path / "endurance.md").read_text(encoding="utf-8")
    assert "**no**" in page and "silent" in page and "endurance-disk.svg" in page


@pytest.fixture
def trained(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    run = fake_feed.make_run(fake_feed.make_photos(tmp_path / "pet", 2), 12, "trained")
    fake_feed.feed(run, 12)
    fake_feed.keep(run, 12)
    run.append(fake_feed.done(run))
    return run


class FullDisk:
    """Stands in for `open`: files that are written take so many bytes, all together."""

    def __init__(self, room):
        self.room, self.real = room, builtins.open

    def __call__(self, file, mode="r", *args, **how):
        opened = self.real(file, mode, *args, **how)
        if set(mode) & set("wax+"):
            write = opened.write

            def limited(data):
                self.room -= len(data)
                if self.room < 0:
                    raise OSError(errno.ENOSPC, "No space left on device")
                return write(data)

            opened = _Written(opened, limited)
        return opened


class _Written:
    def __init__(self, file, write):
        self._file, self.write = file, write

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        self._file.__enter__()
        return self

    def __exit__(self, *error):
        return self._file.__exit__(*error)


@pytest.mark.parametrize("room", [0, 2000])
def test_a_full_disk_is_named_and_nothing_is_left(trained, monkeypatch, tmp_path, room):
    acts = full_disk.actions(tmp_path, trained)
    del acts["a LoRA is exported"]  # the LoRA here is none
    for name, act in acts.items():
        with monkeypatch.context() as patch:
            patch.setattr(builtins, "open", FullDisk(room))
            how = full_disk.outcome(act)
        assert how in ("done", "says that the disk is full"), (name, how)
        assert full_disk.outcome(act) == "done", name
    assert not meters.temporary_files(trained.folder.parent.parent)
    draft.clear()


def test_deleted_runs_are_forgotten(trained):
    screen.page_updates("*", "")
    key = str(trained.folder)
    assert key in run_state._states
    trained.folder.rename(trained.folder.with_name("away"))
    screen.page_updates("*", "")
    assert key not in run_state._states and key not in run_state._sizes
    assert str(list_runs()[0].folder) in run_state._states


def test_helpers_that_ended_are_reaped_whichever_run_is_looked_at(trained, monkeypatch):
    ended = psutil.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT) if hasattr(
        os, "waitid"
    ) else ended.wait()
    other = trained.folder.with_name("other")
    monkeypatch.setattr(image_requests, "_workers", {other: ended})
    image_requests.ensure_worker(trained)
    assert not psutil.pid_exists(ended.pid) or ended.returncode == 0


def test_a_download_that_stands_still_is_not_waited_for(monkeypatch):
    """Its end is written, but it does not come to exit."""

    class Still:
        def wait(self, timeout):
            raise psutil.TimeoutExpired(timeout)

    begun = []
    monkeypatch.setattr(download_process, "_process", lambda row: Still())
    monkeypatch.setattr(
        download_process, "progress", lambda row: download_process.Download(model="x", state="done")
    )
    monkeypatch.setattr(
        download_process.processes, "start_holder", lambda *_, **how: begun.append(1)
    )
    download_process.start(download_process.repositories.repository("demo"))
    assert begun


@pytest.mark.skipif(sys.platform != "linux", reason="limits as Linux has them")
def test_a_worker_without_memory_is_told_whichever_way_it_ends(tmp_path):
    """Before anything of the program can say so: libraries end the process."""
    run = limits.new_run(tmp_path / "data", "limited")
    code = limits._work(run, limits.Limit("data", "start", 40))
    assert code != 0
    ended, said = limits._end(run, code)
    assert ended.endswith("told") and "was planned with" in said and "resume" in said
