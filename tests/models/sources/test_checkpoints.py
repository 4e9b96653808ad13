"""Checkpoints of transformer and VAE: Stable Diffusion 3.5's VAE and the one that FLUX.1, Chroma and
Z-Image share have the same shapes, and are never taken for each other."""

import shutil
from pathlib import Path

import pytest
from helpers import comfy_chroma, comfy_flux, comfy_sd3, comfy_text_encoders, comfy_z_image
from helpers.comfy import CLIP, T5
from helpers.comfy_families import QWEN, part_state, qwen_vocabulary
from safetensors.torch import save_file

from blockskip.core.errors import UserError
from blockskip.models.sources.comfyui import source_from_files

CASES = {
    case.row: case
    for case in (comfy_flux.CASE, comfy_chroma.CASE, comfy_z_image.CASE, comfy_sd3.CASE)
}
SD3 = comfy_sd3.CASE.row
OTHERS = sorted(CASES.keys() - {SD3})


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Model → its row, with a tiny pipeline beside all vocabularies."""
    root = tmp_path_factory.mktemp("models")
    comfy_text_encoders.vocabularies(root)
    qwen_vocabulary(root / Path(QWEN).name)
    for name, case in CASES.items():
        case.save(root / name, root)
    return {name: case.tiny_row(root / name) for name, case in CASES.items()}


@pytest.fixture
def home(tmp_path, models):
    """A ComfyUI with the vocabularies."""
    root = Path(models[SD3].source).parent
    for folder in (CLIP, T5, QWEN):
        shutil.copytree(root / Path(folder).name, tmp_path / "ComfyUI" / folder)
    return tmp_path / "ComfyUI"


def write(home, row, place, *parts):
    """Write these parts of a model to one file, with a checkpoint's prefixes if it is one."""
    case, path = CASES[row.name.removeprefix("tiny-")], home / f"models/{place}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        (case.prefixes[part] if "checkpoints" in place else "") + key: tensor.contiguous()
        for part in parts
        for key, tensor in case.original[part](part_state(Path(row.source), part)).items()
    }
    save_file(state, path)
    return path


def write_encoders(home, row):
    for part in row.parts:
        if part.startswith("text_encoder"):
            write(home, row, f"text_encoders/{row.comfyui.usual(part)[0]}", part)


@pytest.mark.parametrize("name", ["sd3.5_medium", "my pets"])
def test_stable_diffusion_3s_vae_is_the_checkpoints(models, home, name):
    row = models[SD3]
    write_encoders(home, row)
    write(home, models["flux-dev"], "vae/ae", "vae")
    write(home, models["flux-dev"], "checkpoints/all in one", "transformer", "vae")
    checkpoint = write(home, row, f"checkpoints/{name}", "transformer", "vae")
    files = source_from_files(row, [home]).files
    assert files["vae"] == files["transformer"] == checkpoint


def test_stable_diffusion_3_has_no_vae_of_other_models(models, home):
    row = models[SD3]
    write_encoders(home, row)
    write(home, row, "diffusion_models/sd3.5_medium", "transformer")
    foreign = [write(home, models["flux-dev"], f"vae/{name}", "vae") for name in ("ae", "x_vae")]
    write(home, models["flux-dev"], "checkpoints/all in one", "transformer", "vae")
    with pytest.raises(UserError, match="VAE was not found"):
        source_from_files(row, [home])
    own = write(home, row, "vae/sd3_vae", "vae")
    assert source_from_files(row, [home]).files["vae"] == own
    named = source_from_files(row, [foreign[1], home])
    assert named.files["vae"] == foreign[1], "the user knows better"


@pytest.mark.parametrize("name", ["sd3.5_medium", "my pets"])
@pytest.mark.parametrize("other", OTHERS)
def test_no_other_model_has_stable_diffusion_3s_vae(models, home, other, name):
    row = models[other]
    write_encoders(home, row)
    write(home, row, f"diffusion_models/{row.comfyui.usual('transformer')[0]}", "transformer")
    checkpoint = write(home, models[SD3], f"checkpoints/{name}", "transformer", "vae")
    for paths in ([home], [checkpoint, home]):
        with pytest.raises(UserError, match="VAE was not found"):
            source_from_files(row, paths)
    own = write(home, row, "vae/ae", "vae")
    assert source_from_files(row, [home]).files["vae"] == own


def test_a_vae_is_shared_by_the_models_that_have_it(models, home):
    row = models["z-image"]
    write_encoders(home, row)
    write(home, row, f"diffusion_models/{row.comfyui.usual('transformer')[0]}", "transformer")
    both = write(home, models["chroma-hd"], "checkpoints/chroma", "transformer", "vae")
    assert source_from_files(row, [home]).files["vae"] == both
