"""ComfyUI folders are found where people have them, and LoRAs are put there without harm."""

import json
import os
import sys

import pytest
from helpers.comfy import comfy_folder, original_parts

from blockskip.core import presets
from blockskip.core.errors import ModelMissing, UserError
from blockskip.core.paths import ASSETS, data_dir
from blockskip.models import sources
from blockskip.models.sources import comfyui, comfyui_locations

DEMO = ASSETS / "demo-model"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home with nothing in it."""
    home = tmp_path / "höme"
    home.mkdir()
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    for name in ("XDG_CONFIG_HOME", "XDG_DOCUMENTS_DIR", "XDG_DESKTOP_DIR", "XDG_DOWNLOAD_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(comfyui_locations.psutil, "disk_partitions", lambda all: [])
    return home


def make(folder, *below):
    for name in below or ("models/checkpoints",):
        (folder / name).mkdir(parents=True)
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="puts settings where Linux has them")
def test_folders_are_found_where_people_have_them_and_nowhere_else(home):
    there = [
        make(home / "elsewhere ü" / "Data of Comfy"),
        make(home / "matrix" / "Packages" / "ComfyUI"),
        make(home / "ComfyUI"),
        make(home / "Documents" / "comfyui", "models/loras"),
        make(
            home
            / "Downloads"
            / "ComfyUI_windows_portable_nvidia"
            / "ComfyUI_windows_portable"
            / "ComfyUI"
        ),
        make(home / "pinokio" / "api" / "comfy.git" / "app"),
        make(home / "AI" / "StabilityMatrix" / "Data" / "Packages" / "ComfyUI"),
    ]
    program = make(home / "Desktop" / "ComfyUI", "comfy")
    make(home / "comfy recipes", "soups")
    for number in range(1000):
        (home / "Downloads" / f"{number}.zip").touch()
    make(home / "Pictures" / "ComfyUI")  # not a usual place: whole trees are not walked
    (home / "AI" / "comfy link").symlink_to(home / "ComfyUI")
    (home / "comfy loop").symlink_to(home)
    for program_name, file, said in (
        ("ComfyUI", "config.json", {"basePath": str(there[0])}),
        ("StabilityMatrix", "library.json", {"LibraryPath": str(home / "matrix")}),
    ):
        settings = make(home / ".config", program_name) / program_name / file
        settings.write_text(json.dumps(said), encoding="utf-8")
    found = [folder for folder in comfyui.candidates() if home in folder.parents]
    assert set(found) == {*there, program} and found[-1] == program and found[0] == there[0]
    settings.write_text("[]", encoding="utf-8")
    assert there[1] not in comfyui.candidates()


def test_a_usable_set_is_found_and_remembered(home):
    row = presets.model_row("demo")
    folder = comfy_folder(home / "ComfyUI", DEMO, original_parts(DEMO))
    ((there, note),) = sources.find_in_comfyui(row)
    assert there == folder and note == "flux1-dev.safetensors, 16 bits a weight"
    assert sources.find_in_comfyui(presets.model_row("flux-dev")) == []
    assert sources.comfyui_root() is None and sources.loras_dir() is None
    sources.select_comfyui_in_subprocess(folder)
    assert sources.comfyui_root() == folder and not sources.find_model(row).is_folder
    ae = folder / "models" / "vae" / "ae.safetensors"
    ae.write_bytes(ae.read_bytes()[:-5])
    assert sources.find_in_comfyui(row) == []
    offer = sources.list_models()[0]
    assert offer.state == "broken" and "ae.safetensors cannot be read" in offer.problem
    with pytest.raises(ModelMissing, match="was not found in.*ae.safetensors cannot be read"):
        sources.select_comfyui_in_subprocess(folder)


@pytest.fixture
def known(home):
    """A ComfyUI without models that was chosen."""
    folder = make(home / "ComfyUI")
    with pytest.raises(UserError):
        sources.select_comfyui(folder)
    return folder


def test_a_lora_is_copied_and_nothing_is_overwritten(known, tmp_path):
    lora, loras = tmp_path / "out.safetensors", known / "models" / "loras"
    lora.write_bytes(b"new")
    assert sources.comfyui_root() == known, "LoRAs go there, whatever models it has"
    first = sources.copy_to_comfyui(lora, "Möhrchen: 1.0")
    assert first == loras / "Möhrchen_ 1.0.safetensors" and first.read_bytes() == b"new"
    assert sources.copy_to_comfyui(lora, "Möhrchen: 1.0.safetensors") == first, "the same content"
    lora.write_bytes(b"own")
    second = sources.copy_to_comfyui(lora, "Möhrchen: 1.0")
    assert second.name == "Möhrchen_ 1.0-2.safetensors" and first.read_bytes() == b"new"
    assert sorted(os.listdir(loras)) == sorted([first.name, second.name])


def test_loras_go_where_comfyui_looks_for_them(known, tmp_path):
    other, text = tmp_path / "LoRAs elsewhere", known / "extra_model_paths.yaml"
    text.write_text(
        f"a111:\n  base_path: {json.dumps(str(tmp_path))}\n  loras: |\n    gone\n    {other.name}\n",
        encoding="utf-8",
    )
    assert sources.loras_dir() == known / "models" / "loras"
    other.mkdir()
    assert sources.loras_dir() == other
    text.write_text("\t: no", encoding="utf-8")
    (known / "models" / "loras").write_bytes(b"a file where a folder should be")
    (tmp_path / "out.safetensors").write_bytes(b"x")
    with pytest.raises(UserError, match="could not be written"):
        sources.copy_to_comfyui(tmp_path / "out.safetensors", "momo")
    (data_dir() / "comfyui.json").write_text("[]", encoding="utf-8")
    with pytest.raises(UserError, match="No ComfyUI folder"):
        sources.copy_to_comfyui(tmp_path / "out.safetensors", "momo")
