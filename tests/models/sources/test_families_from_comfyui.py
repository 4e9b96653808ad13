"""Models of every family from ComfyUI's files: found, read exactly, trained and exported."""

import json

import numpy as np
import pytest
import torch
from helpers import (
    comfy_chroma,
    comfy_flux,
    comfy_qwen_image21,
    comfy_sd3,
    comfy_text_encoders,
    comfy_z_image,
)
from helpers.comfy_families import PRECISIONS, comfyui, qwen_vocabulary
from PIL import Image
from safetensors.torch import load_file, save_file

from blockskip.cli import app
from blockskip.core import presets
from blockskip.core.settings import Settings
from blockskip.data.photos import find_photos, read_photos
from blockskip.data.schedule import build_schedule
from blockskip.memory.open_model import open_model
from blockskip.models import sources
from blockskip.models.families.base import Sampling, get_family
from blockskip.models.lora.export import export_lora
from blockskip.models.sources import Source
from blockskip.sampling.sample import sample
from blockskip.training import encode
from blockskip.training.draws import TrainingData
from blockskip.training.trainer import Trainer

CPU = torch.device("cpu")

CASES = {
    case.row: case
    for case in (
        comfy_z_image.CASE,
        comfy_flux.CASE,
        comfy_chroma.CASE,
        comfy_sd3.MEDIUM,
        comfy_qwen_image21.CASE,
    )
}


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vocabularies")
    qwen_vocabulary(folder / "qwen25_tokenizer")
    comfy_text_encoders.vocabularies(folder)
    return folder


@pytest.fixture(scope="module", params=CASES)
def model(request, tmp_path_factory, vocabulary):
    """(case, tiny pipeline in diffusers' layout)."""
    case = CASES[request.param]
    folder = tmp_path_factory.mktemp(case.row) / "tiny pipeline"
    case.save(folder, vocabulary)
    for path in folder.glob("*/*.safetensors"):  # numbers that bfloat16 holds too
        save_file({k: t.bfloat16().to(t.dtype) for k, t in load_file(path).items()}, path)
    return case, folder


@pytest.fixture
def only(model, monkeypatch):
    """The row of the tiny model, the only one that the program knows."""
    case, folder = model
    row = case.tiny_row(folder)
    monkeypatch.setattr(presets, "model_rows", lambda: {row.name: row})
    return row


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_weight_is_the_files(
    model, only, vocabulary, precision, tmp_path, monkeypatch, capsys
):
    case, folder = model
    home = tmp_path / "ComfyUI"
    wanted = comfyui(case, only, home, vocabulary, precision)
    assert select(monkeypatch, capsys, home)["unreadable"] == []
    source = sources.find_model(only)
    names = Source(only, folder).weights("transformer")
    index = source.weights("transformer")
    assert index.keys() == names.keys()
    read = {name: weight.read(torch.float32) for name, weight in index.items()}
    original = case.original["transformer"](read)
    assert original.keys() == wanted.keys()
    for key, tensor in wanted.items():
        assert torch.equal(original[key], tensor), key


def select(monkeypatch, capsys, home):
    monkeypatch.setattr("sys.argv", ["blockskip", "models", "use-comfyui", str(home), "--json"])
    assert app.main() == 0, capsys.readouterr().out
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_lora_is_trained_on_the_files_and_exported(
    model, only, vocabulary, precision, tmp_path, monkeypatch, capsys
):
    """On bf16 files, whose numbers are the folder's, everything is equal to the bit."""
    case, folder = model
    comfyui(case, only, tmp_path / "ComfyUI", vocabulary, precision)
    select(monkeypatch, capsys, tmp_path / "ComfyUI")
    made = trained(case, only, sources.find_model(only), tmp_path / "files")
    assert all(torch.isfinite(tensor).all() for tensor in made.values())
    if precision == "bf16":
        wanted = trained(case, only, Source(only, folder), tmp_path / "folder")
        assert made.keys() == wanted.keys()
        assert [key for key in made if not torch.equal(made[key], wanted[key])] == []


def trained(case, row, source, folder):
    """Return encoded captions, a picture and the exported LoRA of two steps."""
    folder.mkdir()
    family, settings = get_family(row.family), Settings.of(
        s_min_px=case.side_px // 2, s_max_px=case.side_px, text_tokens=case.tokens, front=1, back=1,
        steps=2, window_steps=2, lr=0.01, rank=2, batch=2, accumulation=1, micro_batch=2, prior=0,
    )  # fmt: skip
    pipe = open_model(family, row, source, settings, CPU)
    text = encode.encode_captions(family, pipe, ["a photo of sks cat", ""], case.tokens)
    pixels = np.random.default_rng(0).integers(0, 255, (case.side_px, case.side_px, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "cat.png")
    photos, _ = read_photos(find_photos([folder]), "a photo of sks cat")
    draws = build_schedule(photos, settings, family.pixel_multiple)
    latents = encode.encode_draws(family, pipe, photos, draws, settings, CPU)
    data = TrainingData(draws, latents, text, [0], 1, 1)
    trainer = Trainer(pipe.transformer, family, settings, data, CPU, folder / "windows", "a run")
    assert len(list(trainer.run())) == 2
    sampling = Sampling(case.side_px, 2, 3.0)
    (picture,) = sample(family, pipe, text.rows([0]), text.rows([1]), sampling, [3], CPU)
    done = export_lora(
        {name: parameter.detach() for name, parameter in trainer.lora.items()},
        folder / "lora.safetensors",
        format="comfyui",
        settings=settings,
        row=row,
        started="2026-01-01T00:00:00+00:00",
        num_photos=1,
        step=2,
    )
    return load_file(done.path) | {
        "text": text.embeds,
        "latents": latents,
        "picture": torch.from_numpy(np.array(picture)),
    }
