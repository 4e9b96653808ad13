"""Pictures of a run on the distilled sibling of its model, and without it."""

import json
import shutil
from collections import Counter

import pytest
import torch
from diffusers import FluxTransformer2DModel
from helpers.plans import plan

from blockskip.core import presets
from blockskip.core.errors import BadInput, ModelMissing
from blockskip.core.events import Note
from blockskip.core.paths import ROOT
from blockskip.data.photos import find_photos
from blockskip.memory.planning.duration import pictures_work, sampling_passes
from blockskip.memory.planning.planner import choose_settings
from blockskip.models import sources
from blockskip.runs import worker_process
from blockskip.runs.image_session import ImageSession
from blockskip.runs.run import Run, create_run

DEMO = ROOT / "assets/demo-model"
SIBLINGS = {"flux2-klein-4b": (56, 4), "flux2-klein-9b": (56, 4), "z-image": (56, 8)}
SIBLINGS |= {"qwen-image": (56, 8), "krea2": (56, 8), "flux3-klein": (56, 16)}


@pytest.fixture
def sibling(tmp_path, monkeypatch):
    """The folder of a sibling of the demo model: of its weights only the transformer's are there."""
    folder = tmp_path / "distilled ü"
    shutil.copytree(DEMO, folder)
    for path in folder.glob("*/*.safetensors"):
        if path.parent.name != "transformer":
            path.unlink()
    row = {"name": "demo-fast", "title": "Fast demo", "source": str(folder), "steps": 3}
    row |= {"guidance": 1.0, "shift": 1.0, "licence": "Apache-2.0", "licence_url": ""}
    monkeypatch.setitem(presets.read_preset("models")["demo"], "sibling", row)
    return folder


def make_run(**changes) -> Run:
    model = sources.picture_model(presets.model_row("demo"))
    settings = choose_settings(
        model="demo", steps=2, preview_every=0, preview_model=model, device="cpu", **changes
    ).changed(preview_prompts=("a cat",), draft_px=32, preview_px=32)
    return create_run(settings, find_photos([ROOT / "assets/demo-photos/violet-cat"]), "on it")


def test_pictures_are_made_on_the_sibling_and_training_is_not(sibling, monkeypatch):
    passes: Counter[int] = Counter()
    forward = FluxTransformer2DModel.forward

    def counted(self, *args, **kwargs):
        passes[id(self)] += not torch.is_grad_enabled()
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(FluxTransformer2DModel, "forward", counted)
    run = make_run()
    assert run.settings().preview_model == "demo-fast"
    assert run.settings().plan.preview_speed == "exact", "no step cache on so few steps"
    worker_process.work(run)
    assert run.state() == "done"
    assert 6 in passes.values(), "two times, three steps each, without the empty prompt"
    before, after = (run.previews_dir / f"step-0000{n}/00.png" for n in (0, 2))
    assert before.read_bytes() != after.read_bytes(), "with the LoRA"
    session = ImageSession(run)
    one, other = (session.generate(["a cat"], [1], strength=s)[0] for s in (0.0, 1.0))
    assert one != other


def test_without_it_pictures_are_made_on_the_trained_model(sibling):
    run = make_run()
    shutil.rmtree(sibling)
    worker_process.work(run)
    assert run.state() == "done" and (run.previews_dir / "step-00002/00.png").exists()
    notes = [event.text for event in run.events()[0] if isinstance(event, Note)]
    assert any("made on Demo pets (drawn) instead" in text for text in notes)


def test_only_its_transformer_is_asked_for(sibling):
    row = presets.model_row("demo-fast")
    assert set(sources.check_model(sources.find_model(row))) == {"transformer"}
    (sibling / "transformer/diffusion_pytorch_model.safetensors").unlink()
    assert sources.picture_model(presets.model_row("demo")) == ""
    index = json.loads((sibling / "model_index.json").read_text(encoding="utf-8"))
    assert index["_class_name"] == "FluxPipeline"


def test_words_for_what_is_not_there():
    with pytest.raises(BadInput, match="has no distilled model"):
        sources.picture_model(presets.model_row("sd35-medium"), "sibling")
    with pytest.raises(ModelMissing, match="Z-Image-Turbo is not on this machine"):
        sources.picture_model(presets.model_row("z-image"), "sibling")
    with pytest.raises(BadInput, match="not trained here"):
        plan(12, "flux2-klein-4b-distilled")


@pytest.mark.parametrize("model", presets.sibling_rows().values(), ids=lambda row: row.sibling_of)
def test_passes_and_seconds_of_pictures(model):
    """Before: the base with its guidance. After: the sibling. Memory is planned for both."""
    row = presets.model_row(model.sibling_of)
    before, after = (plan(12, row.name, preview_model=name) for name in ("", model.name))
    passes = tuple(sampling_passes(row, each.settings) for each in (before, after))
    assert passes == SIBLINGS[row.name]
    works = [pictures_work(row, each.settings, lambda side_px: 1.0) for each in (before, after)]
    assert works[1].tflop / works[0].tflop == pytest.approx(passes[1] / passes[0])
    assert after.settings.plan.preview_speed == "exact"
    assert after.stages["preview"].disk_gib >= before.stages["preview"].disk_gib
    assert "passes of the model a picture instead of 56" in " ".join(after.to_dict()["reasons"])
    assert after.peak_vram_gib <= after.usable_gib
    page = (ROOT / "docs/models.md").read_text(encoding="utf-8")
    size = f"{model.licence} | {model.download_gib:.0f} GB"
    line = f"| `{row.name}` | `{model.name}` | {passes[0]} → {passes[1]} | {size} |"
    assert line in page, line
