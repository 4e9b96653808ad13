"""The demo model's pretraining on a card, with the processor as the card: it ends where the
processor would have ended, and both go on from each other's checkpoint."""

import shutil
import signal

import pytest
import torch
from helpers.tiny_world import tiny_world

from blockskip.core import files
from blockskip.core.errors import UserError
from blockskip.core.paths import ASSETS
from blockskip.lab.demo_world.flow import Pretraining, train, train_flow
from blockskip.lab.demo_world.flux import DemoFlux
from blockskip.lab.demo_world.pretrain import KINDS
from blockskip.lab.gpu import commands, demo
from blockskip.lab.gpu import report as page
from blockskip.lab.gpu.commands import GpuJob


@pytest.fixture
def work(tmp_path, monkeypatch):
    return tiny_world(tmp_path / "wörk", monkeypatch)


def visit(folder, times=1):
    job = GpuJob(work=folder, device="cpu", total=1e6, times=times, tiny=True)
    return commands.measure("demo", job, lambda line: None)


def on_the_processor(folder):
    """The same steps, as the pretraining takes them."""
    state = Pretraining(folder, DemoFlux, 7)
    last, seconds = state.step + demo.TINY_STEPS, state.seconds
    train(state, lambda: seconds, 1e6, 0, stop=lambda: state.step == last)


def checkpoint(folder):
    return torch.load(folder / "flow.pt", weights_only=True)


def tensors(value):
    if isinstance(value, torch.Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [tensor for part in parts for tensor in tensors(part)]


def test_a_visit_ends_where_the_processor_would_and_each_goes_on_from_the_other(work, tmp_path):
    shutil.copytree(work, home := tmp_path / "home")
    for carried in range(2):
        report = visit(work)
        on_the_processor(home)
        ours, its = checkpoint(work), checkpoint(home)
        assert ours.keys() == its.keys() and ours["step"] == its["step"]
        assert len(tensors(ours)) == len(tensors(its)) > 200
        assert all(torch.equal(*pair) for pair in zip(tensors(ours), tensors(its), strict=True))
        if not carried:  # the next visit makes again what follows from the seed
            shutil.rmtree(work / "latents")
            (work / "captions.npz").unlink()
    assert report["unseen"]["after"]["step"] == report["unseen"]["before"]["step"] + 2
    assert not report["stopped"] and {"flow.pt", "vae.pt", "model"} <= report["mib"].keys()
    page.record(tmp_path / "gpu.md", "demo", report, "blockskip lab bench", True)
    text = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert "| full, after |" in text and "| `flow.pt` |" in text and str(tmp_path) not in text
    train_flow(0, 1, work, DemoFlux, 0.0, ours["step"] + 1, 7)
    assert checkpoint(work)["step"] == ours["step"] + 1 and checkpoint(work)["done"]


@pytest.mark.parametrize("kind", KINDS.values())
def test_a_demo_model_mixes_no_devices(kind):
    device = torch.device("meta")  # which refuses it, as a card does
    model, channels = kind(*kind.SHALLOW).to(device), kind.build_ae().config.latent_channels
    ids = {
        name: torch.tensor(rows, device=device) for name, rows in kind.token_ids(["a cat"]).items()
    }
    noisy, t = torch.zeros(1, channels, 8, 8, device=device), torch.zeros(1, device=device)
    assert model(noisy, t, **ids).device == device


def test_larger_batches_count_as_the_pictures_they_hold(work):
    before, core = checkpoint(work), Pretraining(work, DemoFlux, 7)
    visit(work, times=4)
    after = checkpoint(work)
    pictures = after["samples"] - before["samples"]
    assert pictures == demo.TINY_STEPS * 4 * 2
    spent = after["seconds"] - before["seconds"]
    assert spent == pytest.approx(pictures / demo.PICTURES_A_SECOND)
    larger = Pretraining(work, DemoFlux, 7, times=4)
    assert len(larger.feeder.batch("full")["t"]) == 8 and larger.rate == 2 * core.rate


def test_a_visit_can_be_ended_early(work, monkeypatch):
    step = Pretraining.train_step

    def ended(self, *args):
        step(self, *args)
        signal.raise_signal(signal.SIGINT)

    before, handler = checkpoint(work)["step"], signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(Pretraining, "train_step", ended)
    assert visit(work)["stopped"] and checkpoint(work)["step"] == before + 1
    assert signal.getsignal(signal.SIGINT) is handler


def test_an_empty_folder_starts_from_the_model_in_assets(work, tmp_path):
    demo._prepare(tmp_path / "empty", DemoFlux, 1, lambda line: None)
    facts = files.read_json(ASSETS / DemoFlux.FOLDER / "demo_model.json")
    assert checkpoint(tmp_path / "empty")["step"] == facts["step"]


def test_a_checkpoint_needs_its_vae_and_a_family_is_one_of_two(work):
    (work / "vae.pt").unlink()
    with pytest.raises(UserError, match=r"without its vae\.pt"):
        visit(work)
    with pytest.raises(UserError, match="no demo model of the family “qwen”"):
        commands.measure("demo", GpuJob(work=work, models=("qwen",)), print)
