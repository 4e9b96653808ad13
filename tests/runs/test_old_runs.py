"""Folders of earlier versions open, show and export, and a paused run goes on where it was.

data/ has a folder for each commit after which what is written differs: 0e42927 (0.1.0), 7a671aa
(the plan is a table, format 2), 81ce3b6 (checksums; recipes, `recomputed`), ce7baf9 (`compile`,
`arithmetic`) and 340d36e (sibling models, training adapters, who drew a frame). Each was made by
that version: a run of the demo model that was paused at step 4 of 8, the LoRA with which that
version ended it, a draft, and the chosen models. 0e42927 also has a run that is done. Their photos
are the first two of the first demo pet; caches are left out, since they are rebuilt.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from blockskip.core import events, files
from blockskip.core.errors import UserError
from blockskip.core.paths import ASSETS, data_dir
from blockskip.models.sources import registry
from blockskip.runs import checkpoints, results, worker_process
from blockskip.runs.run import Run
from blockskip.runs.run_file import FORMAT
from blockskip.studio import draft

DATA = Path(__file__).with_name("data")
FIRST = "0e42927"
VERSIONS = sorted(path.name for path in DATA.iterdir())
EACH = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture
def opened(tmp_path):
    def copy(name: str, version: str = FIRST) -> Run:
        folder = tmp_path / name
        shutil.copytree(DATA / version / name, folder)
        photos = sorted((ASSETS / "demo-photos" / "violet-cat").glob("*.jpg"))[:2]
        (folder / "photos").mkdir()
        for k, photo in enumerate(photos):
            shutil.copyfile(photo, folder / "photos" / f"{k:03d}-{photo.name}")
        return Run(folder)

    return copy


def test_a_run_without_a_format_has_its_plan_among_the_settings(opened):
    run = opened("done")
    assert "format" not in run.info() and run.state() == "done"
    settings = run.settings()
    assert (settings.plan.front, settings.plan.back, settings.plan.window_steps) == (6, 3, 4)
    assert (settings.steps, settings.rank, settings.plan.patches) == (8, 1, "full")
    recipe = (settings.shift, settings.rate_schedule, settings.caption_dropout)
    assert recipe == (1.0, "cosine", 0.0), "what it was made with"


def test_keys_that_were_replaced_keep_their_meaning(opened):
    """`checkpointing = true` and `offload = "mapped"` of 7a671aa."""
    plan = opened("paused", "7a671aa").settings().plan
    assert plan.recomputed >= 12 and plan.ram_weights_gib == 0


def test_a_done_run_shows_and_exports(opened):
    run = opened("done")
    assert checkpoints.saved_steps(run) == [8]
    assert [len(list(p.glob("*.png"))) for p in sorted(run.previews_dir.glob("step-*"))] == [1] * 3
    found, _ = run.events()
    assert isinstance(found[-1], events.Done) and found[-1].steps == 8
    assert_exports_equally(run)


def assert_exports_equally(run: Run) -> None:
    before = load_file(next(run.exports_dir.glob("*.safetensors")))
    after = load_file(results.export_run(run, "comfyui").path)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@EACH
def test_a_paused_run_shows_exports_and_goes_on_to_the_same_lora(opened, version):
    """To the same bytes on the same processor; another one adds in another order."""
    run = opened("paused", version)
    assert run.state() == "paused" and run.step() == 4 and checkpoints.saved_steps(run) == [4]
    found, _ = run.events()
    assert len(found) == len(run.events_path.read_text().splitlines()), "each line is understood"
    assert isinstance(found[-1], events.Stopped)
    if list(run.exports_dir.glob("*.safetensors")):
        assert_exports_equally(run)
    else:
        assert results.export_run(run, "comfyui").keys
    worker_process.work(run)
    assert run.state() == "done"
    expected = load_file(DATA / version / "paused-finished.safetensors")
    found = load_file(checkpoints.adapter_path(run, 8))
    assert expected.keys() == found.keys()
    flat = [
        torch.cat([lora[name].flatten() for name in sorted(lora)]) for lora in (expected, found)
    ]
    assert torch.cosine_similarity(*flat, dim=0) > 0.9999


@EACH
def test_a_draft_and_chosen_models_open(version):
    for name in ("models.json", "comfyui.json"):
        data_dir().mkdir(exist_ok=True)
        shutil.copy(DATA / version / name, data_dir())
    draft.photos_dir().mkdir(parents=True)
    shutil.copy(DATA / version / "draft.json", draft.photos_dir().parent)
    saved = json.loads((DATA / version / "draft.json").read_text())
    for photo in saved["photos"]:
        (draft.photos_dir() / photo["file"]).touch()
    now = draft.load()
    assert [photo.sha for photo in now.photos] == [photo["sha"] for photo in saved["photos"]]
    assert now.answers == {"name": "Momo"}
    assert now.photos[0].caption == saved["photos"][0]["caption"]
    assert registry.selections()["flux-dev"]["files"]["transformer"].endswith(
        "flux1-dev.safetensors"
    )
    assert registry.selections()["sana-0.6b"]["folder"] == "/models/sana"


def test_a_run_whose_model_changed_says_why_it_does_not_go_on(opened):
    run = opened("paused", VERSIONS[-1])
    run.write_info(run.info() | {"model_fingerprint": "0" * 16})
    with pytest.raises(UserError, match="model"):
        worker_process.work(run)


def test_a_run_of_a_later_version_says_so(opened):
    run = opened("done")
    run.write_info(run.info() | {"format": FORMAT + 1})
    with pytest.raises(UserError, match="later version"):
        run.settings()


def test_a_draft_of_a_later_version_is_told_and_left_as_it_is():
    path = draft.photos_dir().parent / "draft.json"
    files.write_json(path, {"format": draft.FORMAT + 1, "photos": {"in": "another form"}})
    before = path.read_bytes()
    assert "later version" in draft.load().rejected[0][1]
    for change in (
        lambda: draft.save_answers(name="Momo"),
        lambda: draft.add([ASSETS / "demo-photos" / "violet-cat"]),
        draft.clear,
    ):
        with pytest.raises(UserError, match="later version"):
            change()
    assert path.read_bytes() == before
