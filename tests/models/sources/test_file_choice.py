"""A file that cannot be read never hides a good one beside it, and is named."""

import dataclasses
import json
import shutil
import sys

import pytest
import torch
from helpers.comfy import comfy_folder, original_parts, to_fp8
from helpers.ggufs import write_gguf
from helpers.unreadable_files import KINDS, int8, lost, nvfp4, packed
from safetensors.torch import save_file

from blockskip.cli import app
from blockskip.core import presets
from blockskip.core.errors import UserError
from blockskip.core.paths import ASSETS
from blockskip.models import sources
from blockskip.studio import model_catalog

DEMO = ASSETS / "demo-model"


@pytest.fixture(scope="module")
def parts():
    return {
        part: {key: tensor.contiguous() for key, tensor in state.items()}
        for part, state in original_parts(DEMO).items()
    }


@pytest.fixture
def comfy(tmp_path, parts):
    return comfy_folder(tmp_path / "ComfyUI", DEMO, parts)


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr("sys.argv", ["blockskip", "models", *words, "--json"])
    return app.main(), json.loads(capsys.readouterr().out)


PLACES = {
    "transformer": "diffusion_models/flux1-dev",
    "text_encoder": "text_encoders/clip_l",
    "text_encoder_2": "clip/t5xxl",
    "vae": "vae/ae",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", PLACES)
def test_an_unreadable_file_is_passed_over_for_a_good_one(comfy, parts, part, kind):
    """Which the present order would like less: rounded, or with a name that is not the usual."""
    row = dataclasses.replace(
        presets.model_row("demo"), comfyui=presets.model_row("flux-dev").comfyui
    )
    place = comfy / "models" / PLACES[part]
    (good,) = place.parent.glob(f"{place.name}*")
    good = good.rename(good.with_name(f"{place.name}-zz-good.safetensors"))
    bad = good.with_name(f"{place.name}-a-{kind.__name__}.safetensors")
    save_file(packed(parts[part], kind), bad)
    if kind is lost and part == "vae":
        return  # it has no matrices
    source = sources.comfyui.source_from_files(row, [comfy])
    assert source.files[part] == good
    (named,) = sources.comfyui.unreadable_files(row, [comfy])
    assert named.startswith(f"{bad.name} ")
    good.unlink()
    with pytest.raises(UserError, match="was not found in") as refused:
        sources.comfyui.source_from_files(row, [comfy])
    assert named in refused.value.title


@pytest.mark.parametrize("good", ["Q8_0.gguf", "fp8_scaled.safetensors"])
def test_the_good_one_may_be_a_gguf_or_fp8_and_all_ways_in_name_the_other(
    comfy, parts, good, monkeypatch, capsys
):
    folder = comfy / "models/diffusion_models"
    (folder / "flux1-dev.safetensors").unlink()
    for kind in (nvfp4, int8):
        bad = folder / f"flux1-dev-{kind.__name__}.safetensors"
        save_file(packed(parts["transformer"], kind), bad)
    path = folder / f"flux1-dev-{good}"
    if path.suffix == ".gguf":
        write_gguf(path, parts["transformer"], "Q8_0")
    else:
        save_file(to_fp8(parts["transformer"]), path)
    monkeypatch.setattr(sources.comfyui, "candidates", lambda: [comfy])
    ((there, note),) = sources.find_in_comfyui(presets.model_row("demo"))
    assert there == comfy and note.startswith(path.name)
    code, answer = run(monkeypatch, capsys, "use-comfyui", str(comfy))
    assert code == 0 and answer["models"][0]["where"] == str(path)
    code, checked = run(monkeypatch, capsys, "check", "demo")
    assert code == 0 and checked["parts"]["transformer"]["files"] == [str(path)]
    monkeypatch.setattr(
        sources, "select_comfyui_in_subprocess", lambda folder: answer["unreadable"]
    )
    model_catalog.use_comfyui(str(comfy))
    page = model_catalog.snapshot().messages["comfyui"]
    for said in (note, page, "\n".join(answer["unreadable"]), "\n".join(checked["unreadable"])):
        for kind in ("nvfp4", "int8"):
            assert f"flux1-dev-{kind}.safetensors is packed in a way" in said


def test_other_families_in_comfyuis_folder_are_said_not_to_be_taken(comfy, monkeypatch, capsys):
    folder = comfy / "models/diffusion_models"
    (folder / "flux1-dev.safetensors").unlink()
    shutil.rmtree(comfy / "models/vae")
    other = {"cap_embedder.1.weight": torch.ones(2, 2), "noise_refiner.0.a": torch.ones(2)}
    save_file(other, folder / "z_image_turbo_bf16.safetensors")
    code, answer = run(monkeypatch, capsys, "use-comfyui", str(comfy))
    assert code == 1 and answer["kind"] == "ModelMissing"
    assert answer["error"].endswith("There is Z-Image (z_image_turbo_bf16.safetensors).")


def test_a_file_that_lacks_a_tensor_is_passed_over_and_named(comfy, parts, monkeypatch, capsys):
    """Which only a comparison with the whole model tells."""
    folder = comfy / "models/diffusion_models"
    whole = parts["transformer"]
    save_file(to_fp8(whole), folder / "flux1-dev-fp8.safetensors")
    missing = "single_blocks.3.linear2.weight"
    cut = {key: tensor for key, tensor in whole.items() if key != missing}
    save_file(cut, folder / "flux1-dev.safetensors")
    code, answer = run(monkeypatch, capsys, "use-comfyui", str(comfy))
    assert code == 0
    assert answer["files"]["demo"]["transformer"].endswith("flux1-dev-fp8.safetensors")
    (said,) = answer["unreadable"]
    assert "flux1-dev.safetensors does not hold all" in said and missing in said
    with pytest.raises(UserError, match="flux1-dev.safetensors does not hold all"):
        sources.select_model(presets.model_row("demo"), [folder / "flux1-dev.safetensors", comfy])


def test_loras_of_others_are_known_by_name_and_must_fit(tmp_path):
    """A style LoRA of the same model has the same tensors."""
    loras = tmp_path / "ComfyUI/models/loras/some/where"
    loras.mkdir(parents=True)
    name = "transformer_blocks.0.attn.to_q"
    fits = {f"{name}.lora_down.weight": torch.ones(2, 3072), f"{name}.alpha": torch.tensor(1.0)}
    fits[f"{name}.lora_up.weight"] = torch.ones(3072, 2)
    save_file(fits, loras / "a-style.safetensors")
    row = presets.model_row("qwen-image-lightning")
    with pytest.raises(UserError, match="Qwen-Image-Lightning was not found"):
        sources.select_model(row, [tmp_path / "ComfyUI"])
    other = {key.replace("to_q", "to_nowhere"): tensor for key, tensor in fits.items()}
    save_file(other, loras / "Qwen-Image-Lightning-8steps-V2.0.safetensors")
    with pytest.raises(UserError, match="Lightning-8steps-V2.0.safetensors does not fit"):
        sources.select_model(row, [tmp_path / "ComfyUI"])
    save_file(fits, loras / "qwen-image-lightning-8steps-V1.1.safetensors")
    (chosen,) = sources.select_comfyui(tmp_path / "ComfyUI")
    assert chosen.row == row and sources.lora_path(row.name).name.endswith("V1.1.safetensors")
    named = sources.select_model(row, [loras / "a-style.safetensors"])
    assert sources.lora_path(row.name) == named.lora == loras / "a-style.safetensors"
    for version in ("V2.0-bf16", "V3.0"):
        save_file(fits, loras / f"Qwen-Image-Lightning-8steps-{version}.safetensors")
    named = sources.select_model(row, [tmp_path / "ComfyUI"])
    assert named.lora.name == row.files[0], "of several versions, the one of the row's numbers"
    if sys.platform != "win32":
        loras.rename(tmp_path / "elsewhere")
        loras.symlink_to(tmp_path / "elsewhere")  # which ComfyUI follows
        assert sources.select_model(row, [tmp_path / "ComfyUI"]).lora.name == row.files[0]


def test_a_model_that_was_downloaded_stays_when_comfyui_is_named(comfy, parts, tmp_path):
    """ComfyUI is also named for the LoRAs; a worse file there would stop runs that were begun."""
    (comfy / "models/diffusion_models/flux1-dev.safetensors").unlink()
    write_gguf(comfy / "models/diffusion_models/flux1-dev-Q4_0.gguf", parts["transformer"], "Q4_0")
    row, folder = presets.model_row("demo"), tmp_path / "downloaded"
    shutil.copytree(DEMO, folder)
    before = sources.select_model(row, [folder]).fingerprint()
    (used,) = sources.select_comfyui(comfy)
    assert used.folder == folder and sources.find_model(row).fingerprint() == before
    assert sources.comfyui_root() == comfy
    assert sources.select_model(row, [comfy]).files, "unless it is asked for by name"
    sources.select_model(row, [folder])
    shutil.rmtree(folder)
    (used,) = sources.select_comfyui(comfy)
    assert used.files["transformer"].name == "flux1-dev-Q4_0.gguf" and used == sources.find_model(
        row
    )
