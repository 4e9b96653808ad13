"""Training and previews from ComfyUI's files, offline, equal to the library's own layout."""

import shutil
import socket

import pytest
import torch
from helpers.comfy import (
    comfy_folder,
    from_fp8,
    original_transformer,
    original_vae,
    parts_of,
    to_fp8,
)
from helpers.ggufs import llama_names, read_gguf, write_gguf
from safetensors.torch import load_file, save_file

from blockskip.core import presets
from blockskip.core.paths import ASSETS
from blockskip.data.photos import find_photos
from blockskip.memory.planning.planner import choose_settings
from blockskip.models import sources
from blockskip.runs.run import create_run
from blockskip.runs.worker import Worker

DEMO = ASSETS / "demo-model"


def library_folder(home, parts):
    """The demo model with these weights, in diffusers' layout."""
    shutil.copytree(DEMO, home, ignore=shutil.ignore_patterns("*.safetensors"))
    for part, tensors in parts.items():
        name = next((DEMO / part).glob("*.safetensors")).name
        save_file(tensors, home / part / name)
    return home


def write_ggufs(folder, transformer, t5):
    """part → file: a transformer that is not rounded and a packed text encoder."""
    paths = {
        "transformer": folder / "flux1-dev-BF16.gguf",
        "text_encoder_2": folder / "t5-v1_1-xxl-encoder-Q8_0.gguf",
    }
    write_gguf(paths["transformer"], transformer, "BF16")
    write_gguf(paths["text_encoder_2"], llama_names(t5, 24), "Q8_0", architecture="t5encoder")
    return paths


def trained(folder, name, single_files):
    """(LoRA, previews' bytes) of two steps from the model in that folder."""
    assert bool(sources.select_model(presets.model_row("demo"), [folder]).files) == single_files
    settings = choose_settings(
        steps=2, batch=2, window_steps=1, preview_every=0, preview_steps=1, seed=1, device="cpu"
    )
    photos = find_photos([sorted((ASSETS / "demo-photos").glob("*/"))[0]])[:2]
    run = create_run(settings, photos, name)
    Worker(run).work()
    lora = load_file(next(run.exports_dir.glob("*.safetensors")))
    return lora, [path.read_bytes() for path in sorted(run.previews_dir.rglob("*.png"))]


@pytest.mark.parametrize("precision", ["bf16", "fp8", "gguf"])
def test_comfyuis_files_train_as_the_librarys(tmp_path, monkeypatch, precision):
    def no_network(*_):
        raise AssertionError("the network was asked")

    parts = {n: {k: t.bfloat16() for k, t in p.items()} for n, p in parts_of(DEMO).items()}
    original = {**parts, "vae": original_vae(parts["vae"])}
    original["transformer"] = original_transformer(parts["transformer"])
    if precision == "fp8":
        original["text_encoder_2"] = to_fp8(parts["text_encoder_2"])
        parts["text_encoder_2"] = from_fp8(original["text_encoder_2"])
        # rows' scales go with their rows, so fused layers can be packed before they are fused
        packed = to_fp8(parts["transformer"], "weight_scale")
        marks = [k for k in packed if k.endswith("comfy_quant")]
        parts["transformer"] = from_fp8(packed)
        original["transformer"] = to_fp8(original["transformer"], "weight_scale")
        assert marks and any(
            t.dtype == torch.float8_e4m3fn for t in original["transformer"].values()
        )
    if precision == "gguf":
        names = {name: name for name in parts["text_encoder_2"]}
        packed = write_ggufs(tmp_path, original["transformer"], parts["text_encoder_2"])
        rounded = read_gguf(packed["text_encoder_2"])
        parts["text_encoder_2"] = {
            name: rounded[short] for short, name in llama_names(names, 24).items()
        }
    original["text_encoder"] = {f"text_model.{k}": t for k, t in parts["text_encoder"].items()}
    comfy = comfy_folder(tmp_path / "ComfyUI", DEMO, original)
    if precision == "gguf":
        for name, path in packed.items():
            there = sources.select_model(presets.model_row("demo"), [comfy]).files[name]
            there.unlink()
            path.rename(there.with_name(path.name))
    library = library_folder(tmp_path / "library", parts)
    monkeypatch.setattr(socket.socket, "connect", no_network)
    ours, pictures = trained(comfy, "from comfy", True)
    theirs, wanted = trained(library, "from library", False)
    assert ours.keys() == theirs.keys() and pictures and len(pictures) == len(wanted)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert any(tensor.abs().max() > 0 for name, tensor in ours.items() if "lora_B" in name)
    assert pictures == wanted
