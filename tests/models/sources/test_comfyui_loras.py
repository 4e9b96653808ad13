"""LoRAs are put where that ComfyUI lists them, under a name that nothing else has there."""

import json
import os
import sys
from pathlib import Path

import pytest
from helpers.comfyui_lists import listed, make, searched

from blockskip.core.errors import UserError
from blockskip.core.paths import data_dir
from blockskip.models import sources
from blockskip.models.sources import comfyui, registry
from blockskip.models.sources.comfyui_paths import lora_folders

LORA = "Luna z-image step 0600"


def write(path, text, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def section(name, **keys):
    """A section of such a file; every value is quoted as JSON is, which YAML takes."""
    lines = [f"  {key}: {json.dumps(value, ensure_ascii=False)}" for key, value in keys.items()]
    return "\n".join([f"{name}:", *lines, ""])


# Each builds a ComfyUI in a home. It returns the folders that the user chose, the base folder, the
# files of model folders that this ComfyUI is started with, and the folder where a LoRA belongs.


def portable(home):
    root = make(home / "ComfyUI_windows_portable" / "ComfyUI", "models/loras", "comfy")
    return [root.parent], root, [], root / "models/loras"


def no_loras_folder(home):
    root = make(home / "ComfyUI")
    return [root / "models"], root, [], root / "models/loras"


def other_programs_folders(home):
    """a111's way, with lines, the first of which does not exist, and a relative base path."""
    root = make(home / "ComfyUI", "models/loras", "comfy")
    make(home, "wëb ui/models/LyCORIS")
    text = "a111:\n  base_path: ../wëb ui/\n  vae: VAE\n  loras: |\n    models/Lora\n    models/LyCORIS\n"
    file = write(root / "extra_model_paths.yaml", "\ufeff" + text)
    return [root], root, [file], home / "wëb ui/models/LyCORIS"


def own_default(home):
    """Its own folder is marked, so that others are not taken."""
    root = make(home / "ComfyUI", "models/loras", "other/loras")
    text = section("a", base_path=str(home), loras="ComfyUI/other/loras")
    text += section("b", base_path=str(root), is_default=True, loras="models/loras/")
    return [root], root, [write(root / "extra_model_paths.yaml", text)], root / "models/loras"


def two_defaults(home):
    """The last marked one is ComfyUI's first; an empty section and one without LoRAs."""
    root = make(home / "ComfyUI", "models/loras", "first/loras", "second/loras", "plain")
    text = "nothing:\n" + section("plain", base_path="plain", loras=".")
    for name in ("first", "second"):
        text += section(name, base_path=name, is_default=True, loras="loras", vae="vae")
    text += section("none", base_path=str(home), is_default=True, checkpoints="c")
    return [root], root, [write(root / "extra_model_paths.yaml", text)], root / "second/loras"


def default_missing(home):
    root = make(home / "ComfyUI", "models/loras")
    text = section("nas", base_path="/mnt/not there", is_default=True, loras="loras")
    return [root], root, [write(root / "extra_model_paths.yaml", text)], root / "models/loras"


def variables(home):
    root = make(home / "ComfyUI", "models/loras")
    shared = make(home / "Modelle für alle", "Lora")
    text = section("shared", base_path="~/${SHARED}", loras="Lora")
    return [root], root, [write(root / "extra_model_paths.yaml", text)], shared / "Lora"


def stability_matrix(home):
    """Absolute paths without a base path, of which LyCORIS does not exist."""
    root = make(home / "Data/Packages/ComfyUI", "models/loras", "comfy")
    lora, lycoris = make(home / "Data/Models", "Lora") / "Lora", home / "Data/Models/LyCORIS"
    text = section(
        "stability_matrix", loras=f"{lycoris}\n{lora}", vae=str(home / "Data/Models/VAE")
    )
    return [root], root, [write(root / "extra_model_paths.yaml", text)], lora


def windows_paths(home):
    """Backslashes are folders on Windows alone."""
    root = make(home / "ComfyUI", "models/loras")
    shared = make(home / "D", "AI\\Lora" if os.name == "nt" else "x") / "AI" / "Lora"
    text = f"x:\n  base_path: {home}\\D\\\n  loras: AI\\Lora\n"
    wanted = shared if os.name == "nt" else root / "models/loras"
    return [root], root, [write(root / "extra_model_paths.yaml", text)], wanted


def desktop(home):
    """Its own file is read, and the one that an earlier ComfyUI left in its base folder is not."""
    base = make(home / "Documents/ComfyUI", "models/loras")
    make(home, "old/models/loras", "unused")
    settings = home / ".config/ComfyUI"
    write(
        settings / "config.json", json.dumps({"basePath": str(base), "installState": "installed"})
    )
    text = section("comfyui_migration", base_path=str(home / "old"), loras="models/loras/")
    text += section("comfyui_desktop", base_path=str(base), is_default="true", custom_nodes="c/")
    write(base / "extra_model_paths.yaml", section("a", base_path=str(home), loras="unused"))
    file = write(settings / "extra_models_config.yaml", text)
    program = make(home / "Programs/ComfyUI/resources/ComfyUI", "comfy", "models/loras")
    return [program, base], base, [file], home / "old/models/loras"


def _desktop_2(home, record, file):
    settings = home / ".local/share/comfyui-desktop-2"
    cloud = {"id": "cloud", "installPath": "", "sourceId": "cloud", "name": "Comfy Cloud"}
    write(settings / "installations.json", json.dumps([cloud, {"id": "inst-1", **record}]))
    shared = make(home / f"of {file}", "loras")
    text = section("comfy.desktop_0", base_path=str(shared), is_default=True, loras="loras/")
    return write(settings / file, text), shared / "loras"


def desktop_2(home):
    root = make(home / "ComfyUI-Installs/My ComfyUI/ComfyUI", "models/loras", "comfy")
    record = {"installPath": str(root.parent)}
    file, shared = _desktop_2(home, record, "shared_model_paths.yaml")
    return [root.parent], root, [file], shared


def desktop_2_alone(home):
    root = make(home / "ComfyUI-Installs/My ComfyUI/ComfyUI", "models/loras", "comfy")
    record = {"installPath": str(root.parent), "useSharedModels": False}
    _desktop_2(home, record, "shared_model_paths.yaml")
    file, shared = _desktop_2(home, record, "instance-model-paths/inst-1.yaml")
    return [root], root, [file], shared


def desktop_2_took_over(home):
    base = make(home / "Documents/ComfyUI", "models/loras")
    record = {"installPath": str(home / "ComfyUI-Installs/x"), "adoptedBaseDir": str(base)}
    file, shared = _desktop_2(home, record, "shared_model_paths.yaml")
    return [base], base, [file], shared


def models_apart(home):
    """The program adds some kinds of models, but no LoRAs, from the folder named first."""
    models = make(home / "models of all", "models/loras")
    root = make(home / "ComfyUI", "models/loras", "comfy")
    text = section("all", base_path=str(models / "models"), vae="vae")
    file = write(root / "extra_model_paths.yaml", text)
    return [models, root], root, [file], root / "models/loras"


def base_directory(home):
    """It is started with --base-directory, which no file tells."""
    models = make(home / "models of all", "models/loras")
    program = make(home / "ComfyUI", "models/loras", "comfy")
    return [models, program], models, [], models / "models/loras"


LAYOUTS = [
    portable,
    no_loras_folder,
    other_programs_folders,
    own_default,
    two_defaults,
    default_missing,
    variables,
    stability_matrix,
    windows_paths,
    desktop,
    desktop_2,
    desktop_2_alone,
    desktop_2_took_over,
    models_apart,
    base_directory,
]


@pytest.fixture
def lora(tmp_path):
    path = tmp_path / "out.safetensors"
    path.write_bytes(b"new")
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
def test_comfyui_lists_what_was_copied(home, monkeypatch, lora, layout):
    monkeypatch.setenv("SHARED", "Modelle für alle")
    chosen, base, files, wanted = layout(home)
    registry.save_comfyui_folders(chosen)
    folders = searched(base, files)
    copy = sources.copy_to_comfyui(lora, LORA)
    assert copy.path.parent == wanted and copy.name == f"{LORA}.safetensors"
    assert [str(folder) for folder in lora_folders(base)] == folders
    assert Path(listed(folders)[copy.name]).read_bytes() == b"new"
    assert sources.copy_to_comfyui(lora, LORA).path == copy.path
    # a name that any of these folders has is not taken again, where it would hide or be hidden
    for folder in filter(os.path.isdir, folders):
        lora.write_bytes(folder.encode())
        another = sources.copy_to_comfyui(lora, LORA)
        assert another.new and listed(folders)[another.name] == str(another.path)
        lora.write_bytes(b"other " + folder.encode())
        write(Path(folder, "luna Z-IMAGE step 0900.SAFETENSORS"), folder)
        third = sources.copy_to_comfyui(lora, "Luna z-image step 0900")
        assert third.name == "Luna z-image step 0900-2.safetensors"
        third.path.unlink()
        Path(folder, "luna Z-IMAGE step 0900.SAFETENSORS").unlink()
    assert copy.path.read_bytes() == b"new"


def test_what_the_user_sorted_into_subfolders_is_not_copied_again(home, lora):
    chosen, _, _, loras = portable(home)
    registry.save_comfyui_folders(chosen)
    copy = sources.copy_to_comfyui(lora, LORA)
    moved = make(loras, "pets/cats") / "pets" / "cats" / "Luna, the best.safetensors"
    copy.path.rename(moved)
    if sys.platform != "win32":
        (loras / "pets" / "all").symlink_to(loras)  # a circle
        (loras / "gone.safetensors").symlink_to(loras / "nothing")
    again = sources.copy_to_comfyui(lora, LORA)
    assert again.path == moved and not again.new
    assert again.name == os.path.join("pets", "cats", moved.name)


def test_a_copy_that_another_file_hides_is_made_again(home, lora):
    chosen, base, files, folder = other_programs_folders(home)
    registry.save_comfyui_folders(chosen)
    hidden = sources.copy_to_comfyui(lora, LORA)
    write(base / "models/loras" / hidden.name, "which ComfyUI loads by that name")
    copy = sources.copy_to_comfyui(lora, LORA)
    assert copy.new and copy.path == folder / f"{LORA}-2.safetensors"
    assert listed(searched(base, files))[copy.name] == str(copy.path)


@pytest.mark.parametrize(
    "content",
    [
        "\t: no",
        "- a list",
        "a: 1\nb: [x]",
        "x:\n  loras: [a, b]",
        "",
        "x: \xff\xfe",
        "x:\n  loras: 3",
        'x:\n  base_path: "a\\0b"\n  loras: loras',
    ],
)
def test_a_broken_file_leaves_the_usual_folder(home, lora, content):
    root = make(home / "ComfyUI", "models/loras")
    registry.save_comfyui_folders([root])
    write(root / "extra_model_paths.yaml", content, "latin-1")
    write(home / ".config/ComfyUI/config.json", '{"basePath": 3}')
    write(home / ".local/share/comfyui-desktop-2/installations.json", "{}")
    assert sources.copy_to_comfyui(lora, LORA).path.parent == root / "models/loras"


def test_model_files_are_found_through_desktops_own_file(home):
    _, base, _, _ = desktop(home)
    file = write(home / "old/models/unet/x.safetensors", "")
    path = home / ".config/ComfyUI/extra_models_config.yaml"
    write(path, section("m", base_path=str(home / "old/models"), unet="unet"))
    assert list(comfyui.weight_files(base)) == [file]
    write(path, "\t: no")
    with pytest.raises(UserError, match="extra_models_config.yaml cannot be read"):
        list(comfyui.weight_files(base))


def test_where_nothing_can_be_written_the_folder_is_named(home, lora, monkeypatch):
    root = make(home / "ComfyUI")
    with pytest.raises(UserError, match="No ComfyUI folder was chosen.*use-comfyui"):
        sources.copy_to_comfyui(lora, LORA)
    with pytest.raises(UserError):  # it has no models, and is remembered
        sources.select_comfyui(root)
    write(root / "models/loras", "a file where a folder should be")
    with pytest.raises(UserError, match="loras.*could not be written.*Check that the folder"):
        sources.copy_to_comfyui(lora, LORA)
    (root / "models/loras").unlink()
    make(root, "models/loras").joinpath("models/loras").chmod(0o500)
    if not os.access(root / "models/loras", os.W_OK):  # neither root nor Windows heeds it
        with pytest.raises(UserError, match="could not be written: Permission denied"):
            sources.copy_to_comfyui(lora, LORA)
    (root / "models/loras").chmod(0o700)
    assert os.listdir(root / "models/loras") == []
    (data_dir() / "comfyui.json").write_text("[]", encoding="utf-8")
    with pytest.raises(UserError, match="No ComfyUI folder"):
        sources.copy_to_comfyui(lora, LORA)
