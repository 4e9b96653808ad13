"""Real processes that train a run together."""

import psutil
import pytest
from helpers.waiting import until
from safetensors.torch import load_file

from blockskip.cli.new_run import shared
from blockskip.core.errors import BadInput, UserError
from blockskip.core.events import Failed, Loss, Started
from blockskip.core.paths import ASSETS
from blockskip.data.photos import find_photos
from blockskip.memory.planning.planner import choose_settings
from blockskip.runs import ranks, worker_process
from blockskip.runs.run import create_run

DEMO = sorted((ASSETS / "demo-photos").glob("*/"))[0]


def new_run(name, number, **changes):
    usual = {"steps": 12, "batch": 4, "preview_every": 0, "preview_steps": 1, "window_steps": 4}
    settings = choose_settings(**{**usual, "checkpoint_every": 4, "seed": 3, **changes})
    return create_run(shared(settings, number), find_photos([DEMO]), name)


def trained(name, number):
    run = new_run(name, number)
    if number == 1:
        worker_process.work(run)
    else:
        assert run.start().wait() == 0
    return load_file(run.export_path())


def learnt(run):
    return sum(isinstance(event, Loss) for event in run.events()[0])


def others(run):
    """The other processes of a run."""
    words = [ranks.MODULE, str(run.folder)]
    found = psutil.process_iter(["cmdline"])
    return [p for p in found if all(word in (p.info["cmdline"] or ()) for word in words)]


@pytest.mark.parametrize("number", [2, pytest.param(4, marks=pytest.mark.long)])
def test_several_processes_learn_what_one_learns(number):
    one, several = trained("one", 1), trained("several", number)
    assert one.keys() == several.keys()
    largest = max(tensor.abs().max() for tensor in one.values())
    apart = max((one[name] - several[name]).abs().max() for name in one)
    print(f"{number} processes: {apart:.1e} apart at the most, of {largest:.2f}")
    assert apart <= 0.01 * largest  # Adam makes much of the last digits of small gradients


@pytest.mark.long
@pytest.mark.parametrize("killed", ["another", "the worker"])
def test_a_process_that_is_killed_ends_the_others(killed):
    """And the run goes on from its checkpoint, to the same bytes."""
    whole, cut = new_run("whole", 2, steps=24), new_run("cut", 2, steps=24)
    assert whole.start().wait() == 0
    begun = cut.start()
    until(lambda: learnt(cut) >= 6)
    (other,) = others(cut)
    (other if killed == "another" else cut.worker()).kill()
    begun.wait(60)
    until(lambda: not others(cut))
    if killed == "another":
        end = cut.events()[0][-1]
        assert isinstance(end, Failed) and "has ended" in end.title and "Resume" in end.remedy
    else:
        assert cut.state() == "crashed"
    assert cut.start().wait() == 0
    resumed = [event.resumed_from for event in cut.events()[0] if isinstance(event, Started)]
    assert resumed[0] == 0 and resumed[1] > 0
    assert cut.export_path().read_bytes()[-4096:] == whole.export_path().read_bytes()[-4096:]
    ours, theirs = load_file(cut.export_path()), load_file(whole.export_path())
    assert all(ours[name].equal(theirs[name]) for name in theirs)


def test_draws_that_cannot_be_shared_are_refused():
    with pytest.raises(BadInput, match="cannot be shared by 3 processes"):
        new_run("odd", 3)


def test_what_cannot_begin_is_named(tmp_path, monkeypatch):
    """A process that ends before it is ready; the worker is told which, and where to read on."""
    run = new_run("broken", 2)
    run.cache_dir.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(ranks, "MODULE", "blockskip.no_such_module")

    class Data:
        def save(self, path):
            path.write_bytes(b"")

    with (
        pytest.raises(UserError, match="Process 1 of this training could not begin"),
        ranks.joined(run, run.settings(), Data(), []),
    ):
        raise AssertionError("not reached")
    assert not list(run.cache_dir.glob("rank*")) and (run.folder / "rank-1.log").exists()
