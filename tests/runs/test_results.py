"""A run afterwards: every step with pictures, at any strength; own pictures; more steps."""

import shutil
import subprocess
import sys

import psutil
import pytest
from helpers.demo_run import DEMO, run_to_step
from safetensors.torch import load_file

from blockskip.core import events, processes, safetensors_files
from blockskip.core.errors import UserError
from blockskip.core.paths import ROOT
from blockskip.data.photos import find_photos
from blockskip.memory.planning.planner import choose_settings
from blockskip.runs import checkpoints, image_requests, results, worker_process
from blockskip.runs.run import Run, create_run

OWN = "a photo of sks cat on the beach"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run whose worker was asked for own pictures while it trained."""
    folder = tmp_path_factory.mktemp("runs ü")
    settings = choose_settings(
        steps=6, batch=2, window_steps=3, checkpoint_every=2, preview_every=3, preview_steps=1
    )
    run = create_run(settings, find_photos([sorted(DEMO.glob("*/"))[0]]), str(folder / "pet"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLOCKSKIP_DATA", str(folder))
        process = run_to_step(run, 1)
        run.send_command("preview", prompts=[OWN, "a dog"])
        assert process.wait() == 0
    return run


@pytest.fixture
def run(made, tmp_path):
    return Run(shutil.copytree(made.folder, tmp_path / "pet"))


def wait_for_pictures(run: Run) -> None:
    while (process := run.image_worker()) is not None:
        process.wait()


def test_own_pictures_while_it_trains(made):
    pictures = image_requests.all_requests(made)
    assert {p.prompt for p in pictures} == {OWN, "a dog"}
    assert {p.state for p in pictures} == {"done"} and len({p.step for p in pictures}) == 1
    assert pictures[0].step in checkpoints.saved_steps(made), "what was seen can be exported"
    assert not made.control_path.exists()


def test_own_pictures_change_nothing_of_what_is_learnt(made, tmp_path):
    plain = Run(tmp_path / "plain")
    shutil.copytree(made.photos_dir, plain.photos_dir)
    plain.write_info(made.info())
    worker_process.work(plain)
    for kind in ("adapters", "checkpoints"):
        name = f"{kind}/step-00006.safetensors"
        assert (plain.folder / name).read_bytes() == (made.folder / name).read_bytes()
    assert not image_requests.all_requests(plain)


def test_a_kept_step_is_what_was_learnt_then(run):
    assert {3, 6} <= set(checkpoints.saved_steps(run))
    last, third = results.export_run(run), results.export_run(run, step=3)
    assert (last.path.stem, third.path.stem) == ("pet", "pet-step3")
    assert safetensors_files.read_metadata(third.path)["ss_steps"] == "3"
    one, other = load_file(last.path), load_file(third.path)
    assert one.keys() == other.keys() and any((one[k] != other[k]).any() for k in one)
    with pytest.raises(UserError, match="Step 5 .*is not kept"):
        results.export_run(run, step=5)
    # the newest checkpoint counts for runs that kept nothing else
    shutil.rmtree(run.adapters_dir)
    assert checkpoints.saved_steps(run) == [6]
    again = results.export_run(run, out=run.folder / "again.safetensors")
    assert load_file(again.path).keys() == one.keys()


def test_another_runs_adapter_is_refused_by_name(run):
    path = run.adapters_dir / "step-00003.safetensors"
    safetensors_files.save_tensors(path, load_file(path), {"fingerprint": "another run's"})
    with pytest.raises(UserError, match="step-00003.safetensors"):
        results.export_run(run, step=3)


def test_strength_goes_from_the_untrained_model_to_the_tuned_one(run):
    def picture(**how):
        return results.generate_images(run, [OWN], [3], **how)[0].tobytes()

    base, tuned = picture(with_lora=False), picture()
    assert picture(strength=0.0) == base != tuned == picture(strength=1.0)
    assert picture(strength=0.5) not in (base, tuned) and picture(step=3) not in (base, tuned)


def test_own_pictures_afterwards_survive_a_kill(run):
    image_requests.submit(run, OWN, 3)
    processes.kill(run.image_worker())  # SIGKILL would mean that RAM ran out
    wait_for_pictures(run)
    assert image_requests.all_requests(run)[0].state in image_requests.PENDING_STATES
    image_requests.submit(run, OWN, 4, strength=0.5, step=3)
    wait_for_pictures(run)
    fresh = image_requests.all_requests(run)[:2]
    assert [(p.state, p.seed, p.step, p.strength) for p in fresh] == [
        ("done", 4, 3, 0.5),
        ("done", 3, 6, 1.0),
    ]
    direct = results.generate_images(run, [OWN], [3])[0]
    assert image_requests.png_bytes(direct, OWN, 3) == fresh[1].tuned_path.read_bytes()
    base = results.generate_images(run, [OWN], [4], strength=0.0)[0]
    assert image_requests.png_bytes(base, OWN, 4) == fresh[0].base_path.read_bytes()


def test_training_takes_the_place_of_pictures_and_goes_on_longer(run):
    with pytest.raises(UserError, match="is done"):
        run.start()
    with pytest.raises(UserError, match="already trained for 6 steps"):
        run.resume_until(6)
    image_requests.submit(run, OWN, 3)
    painter = run.image_worker()
    training = run.resume_until(9)
    assert not psutil.pid_exists(painter.pid) or painter.status() == psutil.STATUS_ZOMBIE
    assert training.wait() == 0
    said = run.events()[0]
    started = [e for e in said if isinstance(e, events.Started)]
    assert [(e.steps, e.resumed_from) for e in started] == [(6, 0), (9, 6)]
    assert isinstance(said[-1], events.Done) and said[-1].steps == 9
    assert run.state() == "done" and {3, 6, 9} <= set(checkpoints.saved_steps(run))
    assert run.info()["settings"]["steps"] == 6 and run.settings().steps == 9
    assert image_requests.all_requests(run)[0].state in image_requests.PENDING_STATES, (
        "it waits for the next time"
    )
    with pytest.raises(UserError, match="is done"):
        run.start()


def test_nothing_of_this_loads_torch():
    code = (
        "import sys\nfrom blockskip.core import processes\n"
        "from blockskip.runs import checkpoints, control, event_log, image_requests, results\n"
        "assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
