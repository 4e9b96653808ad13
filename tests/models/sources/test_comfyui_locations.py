"""ComfyUI folders are found where people have them."""

import json

import pytest
from helpers.comfy import comfy_folder, original_parts
from helpers.comfyui_lists import make

from blockskip.core import presets
from blockskip.core.errors import ModelMissing
from blockskip.core.paths import ASSETS
from blockskip.models import sources
from blockskip.models.sources import comfyui

DEMO = ASSETS / "demo-model"


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
    assert sources.comfyui_root() is None
    sources.select_comfyui_in_subprocess(folder)
    assert sources.comfyui_root() == folder and not sources.find_model(row).is_folder
    ae = folder / "models" / "vae" / "ae.safetensors"
    ae.write_bytes(ae.read_bytes()[:-5])
    assert sources.find_in_comfyui(row) == []
    offer = sources.list_models()[0]
    assert offer.state == "broken" and "ae.safetensors cannot be read" in offer.problem
    with pytest.raises(ModelMissing, match="was found in.*ae.safetensors cannot be read"):
        sources.select_comfyui(folder)
    for path in folder.rglob("flux1-dev*"):  # then no part is compared with the model, with torch
        path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ModelMissing, match="was found in.*flux1-dev.safetensors cannot be read"):
        sources.select_comfyui_in_subprocess(folder)
