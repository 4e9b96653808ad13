"""What a plan settles is done by the worker, and what costs only time changes no number."""

import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from blockskip.core import events, files
from blockskip.core.paths import ASSETS, QUANTISED_CACHE, data_dir
from blockskip.data.photos import find_photos
from blockskip.memory.planning.planner import choose_settings, make_plan, planned_memory
from blockskip.runs import folders, storage, worker
from blockskip.runs.image_session import ImageSession
from blockskip.runs.run import Run, create_run
from blockskip.sampling import loaded_model
from blockskip.training.trainer import Trainer

SAID = {"steps": 3, "batch": 2, "window_steps": 2, "preview_every": 0, "preview_steps": 1}
TIGHT = {"ram_weights_gib": 0, "preview_batch": 1, "preview_tiled": True}


def worked(name, **more):
    settings = choose_settings(**SAID, seed=1, device="cpu").changed(**more)
    photos = find_photos([sorted((ASSETS / "demo-photos").glob("*/"))[0]])[:2]
    run = create_run(settings, photos, name)
    worker.Worker(run).work()
    assert not [e for e in run.events()[0] if isinstance(e, events.Note)], "previews were made"
    return load_file(next(run.exports_dir.glob("*.safetensors")))


WAYS = [{}, {"precision": "nf4"}, {"precision": "int8", "arithmetic": "int8"}]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.get("precision", "full"))
def test_where_the_middle_waits_changes_no_number(way, monkeypatch):
    monkeypatch.setattr(loaded_model, "STEPS", 1)
    stays = worked("stays", **way)
    assert any(tensor.abs().max() > 0 for name, tensor in stays.items() if "lora_B" in name)
    for middle in ("leaves", "streamed"):
        other = worked(middle, **way, middle=middle, **TIGHT)
        assert all(torch.equal(other[name], tensor) for name, tensor in stays.items())


def test_a_middle_that_leaves_is_gone_in_previews_and_here_in_steps(monkeypatch):
    seen, trainers = [], []
    init, step, sample = Trainer.__init__, Trainer.train_step, loaded_model.sample

    def begun(self, *args, **how):
        init(self, *args, **how)
        trainers.append(self)

    def held():
        return bool(trainers[0]._held)

    def stepped(self, *args):
        loss = step(self, *args)
        seen.append(("step", held()))
        return loss

    def sampled(*args, **how):
        seen.append(("preview", held(), args[-2:], how["cache"] is not None))
        return sample(*args, **how)

    monkeypatch.setattr(Trainer, "__init__", begun)
    monkeypatch.setattr(Trainer, "train_step", stepped)
    monkeypatch.setattr(loaded_model, "sample", sampled)
    worked("seen", middle="leaves", preview_steps=8, **TIGHT)  # fewer would need no cache
    before, after = seen[0], seen[-1]
    assert before == after == ("preview", False, (1, True), True)
    assert seen[1:-1] == [("step", True)] * SAID["steps"]


def test_pictures_are_small_while_training_and_large_at_the_end_and_on_demand(monkeypatch):
    """The pictures change nothing that is learnt, and what is there is not made again."""
    plain = worked("plain")
    small = worked("small", draft_px=32)
    assert all(torch.equal(small[name], tensor) for name, tensor in plain.items())
    run = Run(folders.run_folder("small"))
    made = {e.path: e.large for e in run.events()[0] if isinstance(e, events.Image)}
    sizes = {path: Image.open(run.folder / path).width for path in made}
    assert len(made) == 3 * 4 and sizes == {path: 64 if made[path] else 32 for path in made}
    assert {path.split("/")[1] for path, large in made.items() if large} == {"large-00003"}
    plain_run = Run(folders.run_folder("plain"))
    assert not list(plain_run.previews_dir.glob("large-*"))
    exact = [plain_run.previews_dir / "step-00003", run.previews_dir / "large-00003"]
    assert [p.read_bytes() for p in sorted(exact[0].iterdir())] == [
        p.read_bytes() for p in sorted(exact[1].iterdir())
    ]
    asked = ImageSession(run).generate(["a photo of a cat"], [1])
    assert [image.width for image in asked] == [64]
    shutil.rmtree(run.previews_dir / "large-00003")
    monkeypatch.setattr(Trainer, "train_step", None)
    worker.Worker(run).work()
    assert len([e for e in run.events()[0] if isinstance(e, events.Image)]) == 4 * 4


@pytest.mark.parametrize("budget", [4, 6, 8, 12, 16])
def test_a_plan_settles_every_setting(budget):
    plan = make_plan(model="flux-dev", budget_gib=budget, ram_gib=16, free_gib=64, system="Linux")
    s = plan.settings
    assert planned_memory(s) == plan.stages, "what is promised is what these settings need"
    # a window waits on the card whole, or in RAM whole
    assert s.plan.window_on_card in (0, s.window_draws)


def test_clean_frees_quantised_blocks_unless_a_run_is_at_work(monkeypatch):
    settings = choose_settings(**SAID)
    photos = find_photos([sorted((ASSETS / "demo-photos").glob("*/"))[0]])[:1]
    create_run(settings, photos, "one")
    block = data_dir() / QUANTISED_CACHE / "print-nf4" / "block.safetensors"
    files.write_bytes(block, b"x" * 1000)
    with monkeypatch.context() as at_work:
        at_work.setattr(Run, "worker", lambda self: 1)
        assert storage.clean_all() == 0 and block.exists()
    assert storage.clean_all() == 1000 and not block.exists()
