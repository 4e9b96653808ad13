"""What must hold on a graphics card as it does on the processor; skipped where there is none.

BLOCKSKIP_GPU_TESTS=cpu runs them on the processor instead, where they must hold as well.
"""

import os

import pytest
import torch
from helpers.parked import KEEP_ALL, offloaded_model, saved_checkpoint
from helpers.tiny import randomise, tiny_draws, tiny_flux
from helpers.tiny_world import tiny_world
from helpers.training import SETTINGS, losses, trainer

from blockskip.core.settings import ALL_BLOCKS
from blockskip.lab.demo_world.flow import Pretraining
from blockskip.lab.demo_world.flux import DemoFlux
from blockskip.lab.gpu import demo, smoke, stages
from blockskip.memory import vram_cap as memory_cap
from blockskip.memory.placement import on_device, pin_on_device
from blockskip.memory.quantisation import dequantise, quantise
from blockskip.models.families.flux import Flux
from blockskip.training.lora import add_lora
from blockskip.training.residuals import Span, compute_window, full_velocity

FAMILY, SPAN, CPU = Flux(), Span(1, 2), torch.device("cpu")
ASKED = os.environ.get("BLOCKSKIP_GPU_TESTS", "cuda")
THERE = ASKED == "cpu" or torch.cuda.is_available()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not THERE, reason="no graphics card")]
CLOSE = {"rtol": 2e-4, "atol": 2e-5}  # float32 sums in another order


@pytest.fixture
def card():
    if ASKED == "cuda":
        memory_cap.set_torch_backends()
    return torch.device(ASKED)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved_checkpoint(tmp_path_factory.mktemp("model") / "transformer")


@pytest.mark.parametrize("keep_bytes", [0, 200_000, KEEP_ALL])
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_streamed_weights_arrive_whole(card, folder, keep_bytes, rows):
    """Through two pinned buffers in turn, again and again: bit for bit what resident weights give."""
    model, _ = offloaded_model(folder, keep_bytes)
    whole, draws = tiny_flux(), tiny_draws()
    expected = full_velocity(whole, FAMILY, draws, rows, card)
    for _ in range(4):
        assert torch.equal(full_velocity(model, FAMILY, draws, rows, card), expected)
    torch.testing.assert_close(expected, full_velocity(whole, FAMILY, draws, rows, CPU), **CLOSE)


@pytest.mark.parametrize("on_card", [True, False])
@pytest.mark.parametrize("rows", [1, 3, 5])
def test_a_window_is_the_processors(card, folder, rows, on_card):
    found = []
    for device in (CPU, card):
        model, _ = offloaded_model(folder)
        lora = add_lora(model, FAMILY, SPAN, 4, "attention+ff", seed=0)
        randomise(lora)
        for parameter in lora.values():
            parameter.data = parameter.data.to(device)
        draws = tiny_draws()
        found.append(compute_window(model, FAMILY, SPAN, draws, rows, device, on_card=on_card))
    assert found[0].keys() == found[1].keys()
    for name, tensor in found[0].items():
        assert found[1][name].device == CPU
        torch.testing.assert_close(found[1][name], tensor, **CLOSE)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"recomputed": 2},
        {"middle": "leaves"},
        {"middle": "streamed", "recomputed": ALL_BLOCKS},
        {"prior": 0.4},
        {"batch": 4, "accumulation": 1},
    ],
)
def test_steps_are_the_processors(card, tmp_path, change):
    settings, found = SETTINGS.changed(**change), []
    for device in (CPU, card):
        one = trainer(tmp_path / device.type, settings, device=device)
        found.append(losses(one))
    assert found[1] == pytest.approx(found[0], rel=1e-3)


def test_a_run_begun_on_the_processor_goes_on_on_the_card_and_back(card, tmp_path):
    whole = losses(trainer(tmp_path / "whole"))
    found = []
    for n, device in enumerate((CPU, card, CPU)):
        one = trainer(tmp_path / f"{n}", device=device)
        if n:
            one.load(tmp_path / f"{n - 1}.safetensors")
        found += losses(one, 2)
        one.save(tmp_path / f"{n}.safetensors")
    assert found == pytest.approx(whole[:6], rel=1e-3)


@pytest.mark.parametrize("precision", ["int8", "nf4"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_quantised_weights_mean_the_same(card, precision, dtype):
    torch.manual_seed(0)
    weight = torch.randn(300, 192).to(dtype)
    parts = quantise(weight, precision)
    here = dequantise(parts, weight.shape, precision, dtype)
    moved = {name: part.to(card) for name, part in parts.items()}
    there = dequantise(moved, weight.shape, precision, dtype).cpu()
    torch.testing.assert_close(there, here, rtol=1e-2 if dtype == torch.bfloat16 else 1e-6, atol=0)


def test_nothing_stays_behind(card, folder):
    """After a window only what was there before it is on the card."""
    if ASKED == "cpu":
        pytest.skip("counts a card's memory")
    model, _ = offloaded_model(folder)
    full_velocity(model, FAMILY, tiny_draws(), 2, card)  # libraries take their room
    before = torch.cuda.memory_allocated()
    full_velocity(model, FAMILY, tiny_draws(), 2, card)
    with on_device(card, model):
        pass
    assert torch.cuda.memory_allocated() == before


def test_the_first_steps_are_the_processors_to_float_error(card, tmp_path):
    """GPU.md line 1, without the whole way."""
    job = smoke.Job(work=str(tmp_path), device=ASKED)
    here, there = (smoke._first_steps(job, device) for device in (CPU, card))
    for name, grad in here["gradients"].items():
        assert smoke._relative_error(grad, there["gradients"][name]) < 1e-3, name
    assert there["losses"] == pytest.approx(here["losses"], rel=1e-3)


def test_pretraining_goes_on_on_the_card_and_back(card, tmp_path, monkeypatch):
    """To bf16's error, held-out losses are the same on either side of the journey."""
    there = demo.Job(work=str(tiny_world(tmp_path, monkeypatch)), device=ASKED, times=2, tiny=True)
    losses = [Pretraining(tmp_path, DemoFlux, 7).check()]
    unseen = demo.work(there)["unseen"]
    losses.append(Pretraining(tmp_path, DemoFlux, 7).check())
    for here, on_card in zip(losses, unseen.values(), strict=True):
        assert on_card["step"] == here["step"]
        for bucket in (key for key in here if key.startswith("unseen")):
            assert on_card[bucket] == pytest.approx(here[bucket], rel=2e-2), bucket


def test_a_run_stays_below_its_budget(card):
    """The whole process, by the driver's word."""
    job = stages.Job(name="gpu", model="demo", budget_gib=4.0, device=ASKED, steps=4)
    said = stages.work(job)
    assert "failed" not in said and said["within_cap"] in (True, None)
    for name, stage in said["stages"].items():
        assert stage.get("used_gib", 0) <= stage.get("planned_gib", 0), name


def test_a_model_can_be_held(card, folder):
    model, _ = offloaded_model(folder)
    assert pin_on_device(card, model)
    assert {p.device.type for p in model.parameters()} == {card.type}
