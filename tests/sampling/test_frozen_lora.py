"""LoRAs of others: a training adapter, off in pictures and absent from the export; a few-step LoRA,
off in training."""

import shutil

import pytest
import torch
from helpers.family_cases import CASES
from helpers.plans import plan
from helpers.tiny import randomise
from safetensors.torch import load_file, save_file
from torch import nn

from blockskip.core import presets
from blockskip.core.errors import BadFile, ModelMissing
from blockskip.core.paths import ROOT
from blockskip.data.photos import find_photos
from blockskip.memory.planning.planner import choose_settings
from blockskip.memory.planning.requirements import stage_memory
from blockskip.models import sources
from blockskip.models.sources.lora_file import read_lora
from blockskip.runs import worker_process
from blockskip.runs.image_session import ImageSession
from blockskip.runs.run import create_run
from blockskip.sampling.frozen_lora import FrozenLora
from blockskip.sampling.loaded_model import LoadedModel
from blockskip.training.front_output import with_text
from blockskip.training.lora import add_lora
from blockskip.training.residuals import Span, compute_window, full_velocity
from blockskip.training.skipping import skip_blocks, text_for_middle, velocity

CPU = torch.device("cpu")


def linears(model):
    return {name: part for name, part in model.named_modules() if isinstance(part, nn.Linear)}


def random_adapter(model, rank=2):
    """A, B for every linear of every block and for those beside them."""
    source = torch.Generator().manual_seed(4)
    return {
        name: (
            torch.randn(rank, part.in_features, generator=source) * 0.2,
            torch.randn(part.out_features, rank, generator=source) * 0.2,
        )
        for name, part in linears(model).items()
    }


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def test_on_it_is_the_merged_model_and_skipping_stays_exact(case):
    family, draws, span = case.family, case.draws(), Span(1, 2)
    merged, model = case.model(), case.model()
    layers = random_adapter(model)
    with torch.no_grad():
        for name, (down, up) in layers.items():
            merged.get_submodule(name).weight += up @ down
    adapter = FrozenLora(model, layers, True)
    expected = full_velocity(merged, family, draws, 2, CPU)
    given = full_velocity(model, family, draws, 2, CPU)
    torch.testing.assert_close(given, expected, atol=2e-5, rtol=1e-4)
    with adapter.switched():
        off = full_velocity(model, family, draws, 2, CPU)
    assert torch.equal(off, full_velocity(case.model(), family, draws, 2, CPU))
    lora = add_lora(model, family, span, 3, "attention", seed=0)
    randomise(lora)
    whole = full_velocity(model, family, draws, 2, CPU)
    window = with_text(compute_window(model, family, span, draws, 2, CPU))
    with torch.no_grad(), skip_blocks(model, family, span) as inputs, inputs.bind(window):
        text = text_for_middle(family, span, draws.text)
        step = velocity(model, family, inputs, window, text, draws.side_px)
    torch.testing.assert_close(step, whole, atol=2e-5, rtol=1e-4)
    assert not any("frozen" in name for name in model.state_dict())


def written(path, layers, form):
    prefix, down, up = form
    tensors = {}
    for name, (a, b) in layers.items():
        name = name.replace(".", "_") if prefix == "lora_unet_" else name
        tensors |= {f"{prefix}{name}{down}.weight": a, f"{prefix}{name}{up}.weight": b}
        if "lora_down" in down:
            tensors[f"{prefix}{name}.alpha"] = torch.tensor(1.0)  # of rank 2
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)
    return path


@pytest.mark.parametrize(
    "form",
    [
        ("diffusion_model.", ".lora_A", ".lora_B"),
        ("transformer.", ".lora_A.default", ".lora_B.default"),
        ("", ".lora_down", ".lora_up"),
        ("lora_unet_", ".lora_down", ".lora_up"),
    ],
)
def test_files_of_others(tmp_path, form):
    model = CASES["z_image"].model()
    layers = random_adapter(model)
    path = written(tmp_path / "adapter ü.safetensors", layers, form)
    found, scale = read_lora(path, linears(model)), 0.5 if "down" in form[1] else 1.0
    assert found.keys() == layers.keys()
    for name, (down, up) in layers.items():
        assert torch.equal(found[name][0], down) and torch.equal(found[name][1], up * scale)
    tensors = load_file(path)
    one = next(key for key in tensors if "alpha" not in key)
    save_file({key: t for key, t in tensors.items() if key != one}, path)
    with pytest.raises(BadFile, match="half of"):
        read_lora(path, linears(model))
    save_file({"transformer.blocks.0.lora_A.weight": torch.ones(2, 2)}, path)
    with pytest.raises(BadFile, match="does not fit this model"):
        read_lora(path, linears(model))


@pytest.fixture
def demo_adapter(tmp_path, monkeypatch):
    """A training adapter of the demo model, in a download folder of its own."""
    settings = choose_settings(model="demo", device="cpu")
    model = LoadedModel(settings).transformer
    layers = {n: pair for n, pair in random_adapter(model).items() if "attn.to_q" in n}
    row = {"name": "demo-adapter", "title": "Adapter", "source": str(tmp_path / "adapter")}
    row |= {"file": "a.safetensors", "licence": "", "licence_url": "", "download_gib": 0.0}
    monkeypatch.setitem(presets.read_preset("models")["demo"], "adapter", row)
    (tmp_path / "adapter").mkdir()
    path = written(tmp_path / "adapter/a.safetensors", layers, ("", ".lora_A", ".lora_B"))
    shutil.copy(ROOT / "assets/demo-model/model_index.json", path.parent)  # found as a folder
    return path


def demo_run(name, **changes):
    fixed = {"model": "demo", "steps": 2, "preview_every": 0, "device": "cpu", "seed": 1}
    settings = choose_settings(**fixed, **changes)
    settings = settings.changed(preview_prompts=("a cat",), preview_px=32, draft_px=32)
    return create_run(settings, find_photos([ROOT / "assets/demo-photos/violet-cat"]), name)


def test_a_run_trains_with_it_draws_without_it_and_exports_none_of_it(demo_adapter, monkeypatch):
    run = demo_run("with")
    assert run.settings().training_adapter == "demo-adapter"
    worker_process.work(run)
    exported = load_file(next(run.exports_dir.glob("*.safetensors")))
    monkeypatch.delitem(presets.read_preset("models")["demo"], "adapter")
    plain = demo_run("without")
    worker_process.work(plain)
    own = load_file(next(plain.exports_dir.glob("*.safetensors")))
    assert exported.keys() == own.keys(), "the trained LoRA alone"
    assert any(not torch.equal(exported[key], own[key]) for key in own), "it was on"
    before = [(r.previews_dir / "step-00000/00.png").read_bytes() for r in (run, plain)]
    assert before[0] == before[1], "pictures of the untrained model are without it"


def test_another_adapter_is_another_run(demo_adapter):
    run = demo_run("changed")
    worker_process.work(run)
    tensors = load_file(demo_adapter)
    save_file({key: 2 * tensor for key, tensor in tensors.items()}, demo_adapter)
    with pytest.raises(BadFile, match="changed since it began"):
        worker_process.work(run)
    demo_adapter.unlink()
    with pytest.raises((BadFile, ModelMissing)):
        ImageSession(run)


def test_a_model_is_ready_with_its_adapter_only():
    row = presets.model_row("z-image-turbo")
    status = sources.status_dict(row)
    assert status["state"] == "missing" and status["download_gib"] == pytest.approx(19.26, abs=0.01)
    made = plan(12, "z-image-turbo")
    assert made.settings.training_adapter == "z-image-turbo-adapter"
    assert plan(12, "z-image").settings.training_adapter == ""
    without = stage_memory(row, made.settings.changed(training_adapter=""))
    assert made.stages["train"].vram_gib == pytest.approx(without["train"].vram_gib + 0.16)


def test_a_few_step_lora_is_on_in_pictures_alone(demo_adapter, monkeypatch):
    """The same file as a sibling: the run trains what it trains without it."""
    table = presets.read_preset("models")["demo"]
    monkeypatch.delitem(table, "adapter")
    plain = demo_run("plain")
    worker_process.work(plain)
    row = {"name": "demo-few", "title": "Few", "source": str(demo_adapter.parent), "steps": 3}
    row |= {"lora": demo_adapter.name, "guidance": 1.0, "shift": 5.0}
    monkeypatch.setitem(table, "sibling", row | {"licence": "", "licence_url": ""})
    assert sources.picture_model(presets.model_row("demo")) == "demo-few"
    run = demo_run("few", preview_model="demo-few")
    worker_process.work(run)
    exported, own = (load_file(next(r.exports_dir.glob("*.safetensors"))) for r in (run, plain))
    assert exported.keys() == own.keys()
    assert all(torch.equal(exported[key], own[key]) for key in own)
    session = ImageSession(run)
    assert session.sibling.scheduler.config.shift == 5.0
    passes = []
    handle = session.transformer.register_forward_hook(lambda *_: passes.append(1))
    picture = session.generate(["a cat"], [1], strength=0.0)[0]
    handle.remove()
    assert len(passes) == 3, "its steps, without the empty prompt"
    session._switched.clear()
    assert session.generate(["a cat"], [1], strength=0.0)[0] != picture, "it was on"
