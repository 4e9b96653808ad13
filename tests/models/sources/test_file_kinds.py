"""Files are known by what is in them: magic, headers and tensors, not names."""

import gzip
import io
import json
import struct
import zipfile

import pytest
import torch
from helpers.comfy import comfy_folder, original_parts
from helpers.ggufs import write_gguf
from safetensors.torch import save_file

from blockskip.core import presets
from blockskip.core.errors import BadFile, UserError
from blockskip.core.paths import ASSETS
from blockskip.models import sources
from blockskip.models.sources.file_contents import description
from blockskip.models.sources.file_kinds import cached_table
from blockskip.models.sources.known_formats import marks
from blockskip.models.sources.tensors import find_weight, tensor_table

DEMO = ASSETS / "demo-model"


def zipped():
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("archive/data.pkl", b"x")
    return data.getvalue()


KINDS = {
    "Git LFS": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\n",
        "pointer of Git LFS",
    ),
    "a web page": (b"\n<!DOCTYPE html><html><head><title>401", "it is a web page"),
    "an error": (b'{"error": "Invalid username or password."}', "a text, “{.error.: .Invalid user"),
    "a short error": (b"Entry not found", "it is a text, “Entry not found”"),
    "a checkpoint": (zipped(), "a zip archive, or a PyTorch file, which can hold programs"),
    "a pickle": (b"\x80\x02}q\x00." + bytes(30), "a PyTorch file, which can hold programs"),
    "gzip": (gzip.compress(b"x" * 99), "a compressed archive"),
    "nothing": (b"", "it is empty"),
    "zeros": (bytes(5000), "only zeros, its download was not finished"),
}


@pytest.mark.parametrize("suffix", [".safetensors", ".sft", ".gguf"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_model_is_said_to_be_what_it_is(tmp_path, kind, suffix):
    content, words = KINDS[kind]
    path = tmp_path / f"flux1-dev{suffix}"
    path.write_bytes(content)
    with pytest.raises(BadFile, match=f"flux1-dev{suffix} cannot be read: .*{words}") as refused:
        tensor_table([path])
    assert refused.value.remedy and "\n" not in str(refused.value)


def test_both_formats_are_read_under_each_others_and_any_name(tmp_path):
    weight = {"a.weight": torch.randn(4, 32)}
    for suffix in (".safetensors", ".gguf", ".sft", ".bin"):
        for write in (save_file, lambda tensors, path: write_gguf(path, tensors, "F32")):
            path = tmp_path / f"model{suffix}"
            write(weight, path)
            read = find_weight(tensor_table([path]), "a.weight").read(torch.float32)
            assert torch.equal(read, weight["a.weight"]), path.name
            path.unlink()


def test_a_download_that_goes_on_is_said(tmp_path):
    path = tmp_path / "ae.safetensors.part"
    save_file({"a": torch.zeros(4)}, path)
    assert tensor_table([path])["a"].shape == (4,), "a whole file is a whole file"
    path.write_bytes(path.read_bytes()[:-4])
    aria2 = tmp_path / "ae.safetensors"
    aria2.write_bytes(bytes(100))
    (tmp_path / "ae.safetensors.aria2").touch()
    headed = tmp_path / "headed.safetensors"  # its first piece came first, all else is zeros
    save_file({"a": torch.zeros(4)}, headed)
    (tmp_path / "headed.safetensors.aria2").touch()
    for unfinished in (path, aria2):
        with pytest.raises(BadFile, match="ae.safetensors.* is a download that was not finished"):
            tensor_table([unfinished])
    with pytest.raises(BadFile, match="headed.safetensors.* is a download that was not finished"):
        tensor_table([headed])
    (tmp_path / "headed.safetensors.aria2").unlink()
    assert tensor_table([headed]), "the download is finished"


def test_looking_through_many_files_keeps_nothing_of_them(tmp_path):
    """The tables of 300 checkpoints take 400 MB."""
    save_file({"first_stage_model.encoder.conv1.weight": torch.zeros(4)}, tmp_path / "a")
    before = cached_table.cache_info().currsize
    assert marks(tmp_path / "a") == {"first_stage_model.encoder.conv1"}
    assert cached_table.cache_info().currsize == before


@pytest.fixture(scope="module")
def parts():
    return original_parts(DEMO)


@pytest.fixture
def comfy(tmp_path, parts):
    return comfy_folder(tmp_path / "ComfyUI", DEMO, parts)


OTHERS = {
    "a LoRA": {"transformer.transformer_blocks.0.attn.to_q.lora_A.weight": torch.ones(2, 2)},
    "a LoRA of Kohya": {
        "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": torch.ones(2, 2)
    },
    "a VAE": {"decoder.conv_in.weight": torch.ones(2, 2, 3, 3)},
    "a text encoder": {"model.layers.0.self_attn.q_proj.weight": torch.ones(2, 2)},
    "a ControlNet": {"controlnet_x_embedder.weight": torch.ones(2, 2)},
    "Z-Image": {"cap_embedder.1.weight": torch.ones(2, 2), "noise_refiner.0.a": torch.ones(2)},
    "FLUX.2": {"double_stream_modulation_img.lin.weight": torch.ones(2, 2)},
    "Chroma": {"distilled_guidance_layer.in_proj.weight": torch.ones(2, 2)},
    "Qwen-Image": {"transformer_blocks.0.img_mod.1.weight": torch.ones(2, 2)},
    "Stable Diffusion 3": {"joint_blocks.0.x_block.attn.qkv.weight": torch.ones(2, 2)},
    "Stable Diffusion 1, 2 or XL": {"input_blocks.0.0.weight": torch.ones(2, 2)},
}


@pytest.mark.parametrize("what", OTHERS)
def test_another_file_in_the_transformers_place_is_named(comfy, what):
    tensors = {f"model.diffusion_model.{k}": v for k, v in OTHERS[what].items()}
    what = what.removesuffix(" of Kohya")
    assert description(tensors) == what
    path = comfy / "models/diffusion_models/flux1-dev.safetensors"
    save_file(tensors, path)
    with pytest.raises(UserError, match="transformer was not found") as refused:
        sources.select_model(presets.model_row("demo"), [path, comfy])
    assert f"flux1-dev.safetensors: it is {what}." in refused.value.title


def test_a_piece_of_a_model_names_the_missing_ones(comfy, parts):
    folder = comfy / "models/diffusion_models"
    (folder / "flux1-dev.safetensors").unlink()
    state = {k: v.contiguous() for k, v in parts["transformer"].items()}
    half = dict(list(state.items())[: len(state) // 2])
    piece = folder / "flux1-dev-00001-of-00002.safetensors"
    save_file(half, piece)
    for given in ([comfy], [piece, comfy]):
        with pytest.raises(UserError) as refused:
            sources.select_model(presets.model_row("demo"), given)
        said = refused.value.title
        assert "flux1-dev-00001-of-00002.safetensors" in said and "one of the 2 pieces" in said
        assert "flux1-dev-00002-of-00002.safetensors is missing" in said


def test_a_shard_that_is_missing_in_a_folder_is_named(tmp_path):
    folder = tmp_path / "transformer"
    folder.mkdir()
    index = {
        "weight_map": {"a": "m-00001-of-00002.safetensors", "b": "m-00002-of-00002.safetensors"}
    }
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    save_file({"a": torch.zeros(1)}, folder / "m-00001-of-00002.safetensors")
    (folder / "config.json").write_text("{}")
    source = sources.Source(presets.model_row("demo"), tmp_path)
    with pytest.raises(BadFile, match="transformer/m-00002-of-00002.safetensors is missing"):
        source.tensors("transformer")


def test_every_tensor_beside_the_parts_is_known_or_named(comfy, parts):
    """One file with everything; a group of unknown meaning beside the known ones."""
    path = comfy / "models/diffusion_models/flux1-dev.safetensors"
    state = {f"model.diffusion_model.{k}": v.contiguous() for k, v in parts["transformer"].items()}
    state |= {"vae.x": torch.ones(1), "conditioner.y": torch.ones(1), "scaled_fp8": torch.ones(0)}
    save_file(state, path)
    sources.select_model(presets.model_row("demo"), [comfy])
    save_file(state | {"scales.double_blocks.0": torch.ones(1)}, path)
    with pytest.raises(UserError, match="flux1-dev.safetensors .* “scales.double_blocks.0”"):
        sources.select_model(presets.model_row("demo"), [comfy])


@pytest.mark.parametrize("change", ["transposed", "longer", "gone", "integers"])
@pytest.mark.parametrize(
    "part, key",
    [
        ("text_encoder", "text_model.encoder.layers.0.mlp.fc1.weight"),
        ("vae", "decoder.conv_in.weight"),
    ],
)
def test_a_tensor_of_another_size_is_named_with_its_file(comfy, parts, part, key, change):
    (path,) = comfy.glob("models/*/clip_l.*" if part == "text_encoder" else "models/vae/ae.*")
    state = {k: v.contiguous() for k, v in parts[part].items()}
    if change == "gone":
        del state[key]
    else:
        state[key] = {
            "transposed": lambda t: t.transpose(0, 1).contiguous(),
            "longer": lambda t: torch.cat([t, t]),
            "integers": lambda t: t.to(torch.int8),
        }[change](state[key])
    save_file(state, path)
    name = key.removeprefix("text_model.").removesuffix("weight")
    with pytest.raises(UserError, match=f"{path.name}.*{name}"):
        sources.select_model(presets.model_row("demo"), [comfy])


def test_a_header_that_is_too_long_is_no_safetensors_file(tmp_path):
    path = tmp_path / "long.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 20) + b"{}" + bytes(90))
    with pytest.raises(BadFile, match="long.safetensors cannot be read"):
        tensor_table([path])
