"""GGUF files are read as the `gguf` package itself reads them, and chosen, named and refused."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from gguf import GGUFWriter
from helpers.comfy import (
    comfy_folder,
    flux_format,
    original_parts,
    original_transformer,
    parts_of,
    to_fp8,
)
from helpers.ggufs import PACKED, foreign_type, llama_names, read_gguf, write_gguf
from helpers.int8_files import to_int8
from helpers.tiny import tiny_flux
from safetensors.torch import save_file

from blockskip.cli import app
from blockskip.core import presets
from blockskip.core.errors import UserError
from blockskip.core.paths import ASSETS
from blockskip.memory import open_model
from blockskip.models import sources
from blockskip.models.families.base import get_family
from blockskip.models.sources import source as model_files
from blockskip.models.sources import tensor_reader
from blockskip.models.sources.tensor_reader import Reader
from blockskip.models.sources.tensors import find_weight, tensor_table

DEMO = ASSETS / "demo-model"


def index_of(path, part, configuration):
    own = flux_format(part).find(tensor_table([path]), configuration)
    return flux_format(part).weights(own, configuration)


def read_both_ways(stored, dtype):
    """As assembling reads it, and as placement does; they must agree."""
    out = torch.empty(stored.shape, dtype=dtype)
    Reader().read(open_model.stored_tensor(stored), out)
    assert torch.equal(stored.read(dtype), out)
    return out


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", *PACKED])
def test_every_kind_is_unpacked_as_the_package_does_and_rows_are_cut_right(
    tmp_path, monkeypatch, kind
):
    path = tmp_path / "one.gguf"
    torch.manual_seed(0)
    write_gguf(path, {"bias": torch.randn(40), "a.weight": torch.randn(20, 512)}, kind)
    wanted, table = read_gguf(path), tensor_table([path])
    assert table["a.weight"].dtype == kind and table["a.weight"].shape == (20, 512)
    whole = find_weight(table, "a.weight").read(torch.float32)
    assert whole.isfinite().all() and whole.abs().max() > 0
    assert torch.equal(whole, wanted["a.weight"])
    monkeypatch.setattr(
        tensor_reader, "_CONVERTED_WEIGHTS", 3 * 512
    )  # several times, the last one shorter
    reader, out = Reader(), torch.empty(11, 512, dtype=torch.bfloat16)
    rows = find_weight(table, "a.weight", rows=(5, 16))
    reader.read(open_model.stored_tensor(rows), out)
    assert torch.equal(out, wanted["a.weight"][5:16].bfloat16())
    assert reader.bytes_read == table["a.weight"].nbytes * 11 // 20
    halves = find_weight(table, "bias", rows=(20, 40), halves_swapped=True).read(torch.float32)
    assert torch.equal(halves, wanted["bias"][[*range(30, 40), *range(20, 30)]])


@pytest.mark.parametrize("architecture", ["sd3", ""])
@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q4_K"])
def test_a_reshaped_tensor_has_its_own_shape_and_rows(tmp_path, monkeypatch, kind, architecture):
    """Its rows begin inside of blocks: 96 weights of a block's 256, or of three blocks' 32."""
    path = tmp_path / "sd3.gguf"
    tensors = {"a.weight": torch.randn(40, 4, 24), "b.weight": torch.randn(8, 512)}
    write_gguf(path, tensors, kind, None, architecture, reshapes=True)
    wanted, table = read_gguf(path), tensor_table([path])
    assert wanted["a.weight"].shape == (15, 256) and table["a.weight"].shape == (40, 4, 24)
    truth = wanted["a.weight"].reshape(40, 4, 24)
    for pieces in (4 << 20, 3 * 96, 1):
        monkeypatch.setattr(tensor_reader, "_CONVERTED_WEIGHTS", pieces)
        assert torch.equal(find_weight(table, "a.weight").read(torch.float32), truth)
        part = find_weight(table, "a.weight", rows=(5, 18)).read(torch.float32)
        assert torch.equal(part, truth[5:18])
    assert torch.equal(find_weight(table, "b.weight").read(torch.float32), wanted["b.weight"])


@pytest.mark.parametrize("shape", [[40, 4, 23], [-40, -4, 24], [0], [1] * 9, ["40", "96"]])
def test_a_reshaped_tensor_with_an_impossible_shape_is_a_broken_file(tmp_path, shape):
    path = tmp_path / "odd.gguf"
    writer = GGUFWriter(path, "sd3")
    writer.add_array("comfy.gguf.orig_shape.a", shape)
    writer.add_tensor("a", np.zeros((15, 256), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UserError, match="odd.gguf cannot be read"):
        tensor_table([path])


@pytest.mark.parametrize("kind", ["F32", "BF16"])
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_what_is_not_rounded_is_the_librarys_model(tmp_path, kind, prefix):
    model = tiny_flux(guidance=True)
    model = model.bfloat16() if kind == "BF16" else model
    path, original = tmp_path / "flux.GGUF", original_transformer(model.state_dict())
    write_gguf(path, {prefix + name: tensor for name, tensor in original.items()}, kind)
    index = index_of(path, "transformer", dict(model.config))
    assert index.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert index[name].shape == tensor.shape
        assert torch.equal(read_both_ways(index[name], tensor.dtype), tensor), name


def test_a_mixed_file_as_people_have_it_with_its_fused_layers_cut(tmp_path):
    model = tiny_flux(double=1, single=1, heads=16, guidance=True)  # 256 wide: K kinds fit
    kinds = {
        "img_attn.qkv.weight": "Q5_K",
        "linear1.weight": "Q4_K",
        "linear2.weight": "Q6_K",
        "modulation.1.weight": "Q8_0",  # the halves of which change places
        "img_in.weight": "F16",
        ".scale": "F32",
    }
    path, plain = tmp_path / "flux1-dev-Q4_K_S.gguf", tmp_path / "plain.safetensors"
    write_gguf(path, original_transformer(model.state_dict()), "Q4_K", kinds)
    save_file(read_gguf(path), plain)
    index = index_of(path, "transformer", dict(model.config))
    wanted = index_of(plain, "transformer", dict(model.config))
    assert {i.entry.dtype for i in index.values()} == {"F32", "F16", "Q8_0", "Q4_K", "Q5_K", "Q6_K"}
    for name in model.state_dict():
        assert torch.equal(read_both_ways(index[name], torch.float32), wanted[name].read()), name
        assert read_both_ways(index[name], torch.bfloat16).dtype == torch.bfloat16
    assert index["single_transformer_blocks.0.proj_mlp.weight"].rows == (3 * 256, 7 * 256)


@pytest.mark.parametrize("kind", ["F32", "Q8_0"])
def test_a_t5_encoder_is_transformers_own(tmp_path, kind):
    from transformers import T5Config, T5EncoderModel

    shape = json.loads((DEMO / "text_encoder_2/config.json").read_text(encoding="utf-8"))
    ours, theirs = T5EncoderModel(T5Config(**shape)).eval(), T5EncoderModel(T5Config(**shape))
    path = tmp_path / "t5-v1_1-xxl-encoder-Q8_0.gguf"
    packed = llama_names(theirs.state_dict(), shape["num_layers"])
    write_gguf(path, packed, kind, {"attn_rel_b.weight": "F16"}, "t5encoder")
    assert {"token_embd.weight", "enc.blk.0.attn_rel_b.weight"} <= packed.keys()
    index = index_of(path, "text_encoder_2", shape)
    read = {name: read_both_ways(index[name], torch.float32) for name in index}
    assert read.keys() == ours.state_dict().keys()
    ours.load_state_dict(read)
    back = read_gguf(path)
    named = llama_names({name: name for name in theirs.state_dict()}, shape["num_layers"])
    state = {full: back[short] for short, full in named.items()}
    state["encoder.embed_tokens.weight"] = state["shared.weight"]
    theirs.load_state_dict(state)
    tokens = torch.arange(2, 14).reshape(2, 6)
    with torch.no_grad():
        assert torch.equal(ours(tokens)[0], theirs.eval()(tokens)[0])


def test_broken_and_unknown_files_are_refused_in_one_sentence(tmp_path):
    path = tmp_path / "whole.gguf"
    write_gguf(path, {"a.weight": torch.randn(4, 512), "b.weight": torch.randn(8, 512)}, "Q8_0")
    data, table = path.read_bytes(), tensor_table([path])

    def refused(content, words):
        broken = tmp_path / "broken.gguf"
        broken.write_bytes(content)
        with pytest.raises(UserError, match=f"broken.gguf {words}") as caught:
            tensor_table([broken])
        assert caught.value.remedy and "\n" not in str(caught.value)

    head = table["a.weight"].start
    for length in (0, 3, 11, 23, 60, 150, head - 40, head, len(data) - 40):
        refused(data[:length], f"cannot be read: it is {'cut short' if length else 'empty'}")
    refused(b"{}" * 100, "cannot be read")
    for place in (8, 16, 24):  # numbers of tensors, of settings, the length of a name
        refused(data[:place] + b"\xff" * 8 + data[place + 8 :], "cannot be read")
    for version in (b"\x01\0\0\0", b"\0\0\0\x03"):  # the first; another byte order
        refused(data[:4] + version + data[8:], "is GGUF of an unknown version")
    reader = Reader()
    path.write_bytes(data[: table["b.weight"].stop - 100])  # cut while it was in use
    with pytest.raises(UserError, match="whole.gguf cannot be read: it is cut short"):
        stored = open_model.stored_tensor(find_weight(table, "b.weight"))
        reader.read(stored, torch.empty(8, 512))
    path.write_bytes(data)
    foreign_type(path, "b.weight", 33)  # a kind that ggml took back
    with pytest.raises(UserError, match="packed in a way that cannot be read here .ggml's type 33"):
        tensor_table([path])
    foreign_type(path, "b.weight", 15)  # Q8_K: known, but never meant for files
    path.write_bytes(path.read_bytes() + bytes(1000))
    with pytest.raises(UserError, match="cannot be read here .Q8_K") as caught:
        find_weight(tensor_table([path]), "b.weight")
    assert "Q8_0" in caught.value.remedy


@pytest.fixture(scope="module")
def demo_parts():
    return original_parts(DEMO)


@pytest.fixture
def comfy(tmp_path, demo_parts):
    return comfy_folder(tmp_path / "My ComfyUI ü", DEMO, demo_parts)


def test_the_least_rounded_file_is_taken_unless_one_is_named(comfy, demo_parts):
    names = presets.model_row("flux-dev").comfyui
    row = dataclasses.replace(presets.model_row("demo"), comfyui=names)
    folder = comfy / "models/unet"
    folder.mkdir()
    for name in ("BF16", "Q8_0", "Q5_1", "Q4_0"):
        write_gguf(folder / f"flux1-dev-{name}.gguf", demo_parts["transformer"], name)
    (folder / "flux1-dev-Q9.gguf").write_bytes(b"GGUF")
    save_file(to_fp8(demo_parts["transformer"]), folder / "flux1-dev-fp8.safetensors")
    for name, convrot in (("convrot", True), ("int8", False)):
        digits = to_int8(demo_parts["transformer"], convrot)
        save_file(digits, folder / f"flux1-dev-{name}.safetensors")
    t5 = llama_names(parts_of(DEMO)["text_encoder_2"], 24)
    write_gguf(comfy / "models/clip/t5-v1_1-xxl-encoder-Q8_0.gguf", t5, "Q8_0")
    named = sources.select_model(row, [folder / "flux1-dev-Q4_0.gguf", comfy])
    assert named.files["transformer"].name == "flux1-dev-Q4_0.gguf"
    files = ("-convrot.safetensors", "-Q8_0.gguf", "-fp8.safetensors", "-int8.safetensors")
    for best in ("flux1-dev.safetensors", "-BF16.gguf", *files, "-Q5_1.gguf"):
        source = sources.select_model(row, [comfy])
        assert source.files["transformer"].name.endswith(best)
        source.files["transformer"].unlink()
    assert source.files["text_encoder_2"].name == "t5xxl_fp16.safetensors"
    source.files["text_encoder_2"].unlink()
    (folder / "flux1-dev-Q4_0.gguf").rename(folder / "flux1-kontext-dev.gguf")
    with pytest.raises(UserError, match="not found in.*flux1-dev-Q9.gguf cannot be read"):
        sources.select_model(row, [comfy])
    source = sources.select_model(row, [folder / "flux1-kontext-dev.gguf", comfy])
    assert source.files["text_encoder_2"].name == "t5-v1_1-xxl-encoder-Q8_0.gguf"
    assert sources.find_model(row) == source


def test_a_model_of_ggufs_is_assembled_named_and_fingerprinted(
    comfy, demo_parts, monkeypatch, capsys
):
    def said(*words):
        monkeypatch.setattr("sys.argv", ["blockskip", "models", *words])
        code, out = app.main(), capsys.readouterr().out
        return code, json.loads(out) if "--json" in words else " ".join(out.split())

    unet, clip = comfy / "models/diffusion_models", comfy / "models/clip"
    write_gguf(unet / "flux1-dev-Q8_0.gguf", demo_parts["transformer"], "Q8_0")
    t5 = llama_names(parts_of(DEMO)["text_encoder_2"], 24)
    write_gguf(clip / "t5-v1_1-xxl-encoder-BF16.gguf", t5, "BF16", architecture="t5encoder")
    (unet / "flux1-dev.safetensors").unlink()
    (clip / "t5xxl_fp16.safetensors").unlink()
    code, text = said("use-comfyui", str(comfy))
    assert code == 0 and "flux1-dev-Q8_0.gguf is a GGUF of 8." in text and "rounded" in text
    code, answer = said("check", "demo", "--json")
    parts = answer["parts"]
    assert code == 0 and parts["transformer"]["precision"] == "f32+q8_0"
    assert 8.5 <= parts["transformer"]["bits"] < 9 and parts["transformer"]["note"]
    assert not parts["text_encoder_2"]["note"] and parts["vae"]["bits"] == 16
    source = sources.find_model(presets.model_row("demo"))
    pipe = get_family("flux").load(source, torch.bfloat16)
    wanted = read_gguf(source.files["transformer"])["double_blocks.0.img_attn.qkv.weight"]
    layer = pipe.transformer.transformer_blocks[0].attn.to_k.weight
    assert torch.equal(layer, wanted.chunk(3)[1].bfloat16())
    embedding = parts_of(DEMO)["text_encoder_2"]["shared.weight"].bfloat16()
    assert torch.equal(pipe.text_encoder_2.shared.weight, embedding)
    monkeypatch.setattr(model_files, "SMALL_FILE_BYTES", 1000)
    first, path = source.fingerprint(), source.files["transformer"]
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    assert source.fingerprint() != first
