"""Models from ComfyUI's folder and single files: found, read right, and never downloaded."""

import dataclasses
import json
import shutil
import struct
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from helpers.comfy import (
    comfy_folder,
    from_fp8,
    original_parts,
    original_transformer,
    original_vae,
    to_fp8,
)
from helpers.tiny import tiny_flux
from safetensors.torch import load_file, save_file

from blockskip.cli import app
from blockskip.core import presets
from blockskip.core.errors import UserError
from blockskip.core.paths import ASSETS, data_dir
from blockskip.models import sources
from blockskip.models.sources import flux_checkpoint
from blockskip.models.sources import source as model_files
from blockskip.models.sources.entry import TensorEntry
from blockskip.models.sources.layouts import configs_folder
from blockskip.models.sources.tensors import find_weight, tensor_table

DEMO = ASSETS / "demo-model"


def read_back(path, part, configuration):
    own = flux_checkpoint.part_tensors(part, tensor_table([path]), configuration)
    return flux_checkpoint.weight_index(part, own, configuration)


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("guidance", [False, True])
def test_the_original_layout_is_the_librarys_model(tmp_path, prefix, guidance):
    model = tiny_flux(guidance=guidance).bfloat16()
    original = original_transformer(model.state_dict())
    save_file({prefix + k: v for k, v in original.items()}, tmp_path / "flux.safetensors")
    index = read_back(tmp_path / "flux.safetensors", "transformer", dict(model.config))
    assert index.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert index[name].shape == tensor.shape and index[name].dtype == torch.bfloat16
        assert torch.equal(index[name].read(), tensor), name
    assert all(index[n].is_plain for n in index if ".to_q." in n or ".proj_mlp." in n)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what is mapped")
def test_files_that_were_read_can_be_replaced(comfy):
    """Windows refuses to replace a file while a program has it mapped."""
    source = sources.select_model(presets.model_row("demo"), [comfy])
    pipe = flux_checkpoint.assemble(source, torch.bfloat16)
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    assert pipe.vae is not None and not [p for p in source.files.values() if p.name in maps]


def test_names_are_those_of_the_librarys_own_conversion():
    """Which knows FLUX's true width only: on tensors without memory."""
    from accelerate import init_empty_weights
    from diffusers import FluxTransformer2DModel
    from diffusers.loaders.single_file_utils import convert_flux_transformer_checkpoint_to_diffusers

    with init_empty_weights():
        model = FluxTransformer2DModel(num_layers=1, num_single_layers=1, guidance_embeds=True)
    original = original_transformer(model.state_dict())
    stored = {k: TensorEntry(DEMO, k, "BF16", tuple(v.shape), 0, 0) for k, v in original.items()}
    index = flux_checkpoint.weight_index("transformer", stored, dict(model.config))
    theirs = convert_flux_transformer_checkpoint_to_diffusers(original)
    assert {k: w.shape for k, w in index.items()} == {k: tuple(v.shape) for k, v in theirs.items()}


def test_the_vae_with_attention(tmp_path):
    torch.manual_seed(0)
    blocks = dict(
        block_out_channels=(8, 16), norm_num_groups=4, latent_channels=4, layers_per_block=1
    )
    kinds = {
        f"{w}_block_types": (f"{w.title()}{s}Block2D",) * 2
        for w, s in (("down", "Encoder"), ("up", "Decoder"))
    }
    vae = AutoencoderKL(**blocks, **kinds, use_quant_conv=False, use_post_quant_conv=False)
    save_file(original_vae(vae.state_dict()), tmp_path / "ae.safetensors")
    index = read_back(tmp_path / "ae.safetensors", "vae", dict(vae.config))
    assert index.keys() == vae.state_dict().keys()
    assert all(torch.equal(index[k].read(), v) for k, v in vae.state_dict().items())


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("style", ["scale_weight", "weight_scale"])
def test_fp8_is_multiplied_by_its_scale_also_in_parts_of_a_fused_layer(tmp_path, style, prefix):
    model = tiny_flux(double=1, single=1)
    packed = to_fp8(original_transformer(model.state_dict()), style)
    save_file({prefix + k: v for k, v in packed.items()}, tmp_path / "fp8.safetensors")
    save_file(from_fp8(packed), tmp_path / "wanted.safetensors")
    index = read_back(tmp_path / "fp8.safetensors", "transformer", dict(model.config))
    wanted = read_back(tmp_path / "wanted.safetensors", "transformer", dict(model.config))
    assert index.keys() == wanted.keys() == model.state_dict().keys()
    for name in index:
        assert torch.equal(index[name].read(torch.float32), wanted[name].read()), name
        assert index[name].read().dtype == index[name].dtype
    error = index["proj_out.weight"].read(torch.float32) - model.proj_out.weight
    assert error.abs().max() < 0.05 * model.proj_out.weight.abs().max()


def test_packed_formats_and_broken_files_are_refused_by_name(tmp_path):
    block = {"a.weight": torch.zeros(4, 4).to(torch.float8_e4m3fn), "a.weight_scale": torch.ones(8)}
    whole = {"a.weight": torch.zeros(4, 4, dtype=torch.uint8)}
    for tensors in (block, whole):
        save_file(tensors, tmp_path / "packed.safetensors")
        with pytest.raises(UserError, match="packed.safetensors is packed"):
            find_weight(tensor_table([tmp_path / "packed.safetensors"]), "a.weight")
    plain = torch.randn(4, 4).to(torch.float8_e4m3fn)  # an fp8 file without scales
    save_file({"a.weight": plain}, tmp_path / "plain.safetensors")
    cast = find_weight(tensor_table([tmp_path / "plain.safetensors"]), "a.weight")
    assert not cast.is_plain and torch.equal(cast.read(), plain.bfloat16())
    data = (tmp_path / "packed.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[:-3])
    with pytest.raises(UserError, match="cut.safetensors cannot be read"):
        tensor_table([tmp_path / "cut.safetensors"])


def line(**changed):
    """A safetensors table of one tensor of 4 bytes."""
    return json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | changed})


@pytest.mark.parametrize(
    "table",
    [
        "[]",
        '{"a": 1}',
        '{"a": {"shape": [1], "data_offsets": [0, 4]}}',
        line(dtype=7),
        line(shape=[2]),
        line(shape="1"),
        line(shape=[1.0]),
        line(data_offsets=[4, 0]),
        line(data_offsets=[-4, 4]),
        line(data_offsets=[0, 4, 4]),
        "[" * 100_000,
        "\x00",
    ],
)
def test_no_table_at_a_files_head_is_trusted(tmp_path, table):
    path = tmp_path / "odd.safetensors"
    path.write_bytes(struct.pack("<Q", len(table)) + table.encode() + b"abcd")
    with pytest.raises(UserError, match="odd.safetensors cannot be read"):
        tensor_table([path])


@pytest.mark.parametrize("name", ["flux.ckpt", "FLUX.BIN", "flux.pt", "flux.pth"])
def test_files_that_can_hold_programs_are_never_opened(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match="never opened. Take the .safetensors file"):
        sources.select_model(presets.model_row("flux-dev"), [tmp_path / name])


@pytest.fixture(scope="module")
def demo_parts():
    parts = original_parts(DEMO)
    parts["text_encoder"]["text_projection.weight"] = torch.zeros(4, 4)
    return parts


@pytest.fixture
def comfy(tmp_path, demo_parts):
    return comfy_folder(tmp_path / "My ComfyUI ü", DEMO, demo_parts)


def test_a_folder_in_the_librarys_layout_is_an_index_too_sharded_or_not(tmp_path):
    source = sources.Source(presets.model_row("demo"), tmp_path / "sharded")
    shutil.copytree(DEMO, source.folder)
    whole = source.folder / "transformer/diffusion_pytorch_model.safetensors"
    state = load_file(whole)
    halves = {"one.safetensors": list(state)[::2], "two.safetensors": list(state)[1::2]}
    for name, keys in halves.items():
        save_file({key: state[key] for key in keys}, whole.with_name(name))
    table = {"weight_map": {key: name for name, keys in halves.items() for key in keys}}
    whole.with_name(f"{whole.name}.index.json").write_text(json.dumps(table), encoding="utf-8")
    whole.unlink()
    index = source.weights("transformer")
    assert index.keys() == state.keys() and all(w.is_plain for w in index.values())
    assert all(torch.equal(index[name].read(), tensor) for name, tensor in state.items())
    t5 = source.weights("text_encoder_2")
    assert t5["shared.weight"] == t5["encoder.embed_tokens.weight"]
    whole.with_name("two.safetensors").unlink()
    for broken in (whole.with_name(f"{whole.name}.index.json"), None):
        with pytest.raises(UserError, match="does not hold the whole of Demo pets"):
            source.weights("transformer")
        for text in ("[]", '{"weight_map": []}', '{"weight_map": {"a": 1}}', "no"):
            if broken:
                broken.write_text(text, encoding="utf-8")
                assert source.paths("transformer") == []


def test_parts_can_be_left_for_placement_to_fill(comfy):
    source = sources.select_model(presets.model_row("demo"), [comfy])
    pipe = flux_checkpoint.assemble(
        source, torch.bfloat16, without_weights=("transformer", "text_encoder_2")
    )
    for part in ("transformer", "text_encoder_2"):
        module, index = getattr(pipe, part), source.weights(part)
        assert all(p.is_meta and p.dtype == torch.bfloat16 for p in module.parameters())
        assert {n: tuple(p.shape) for n, p in module.state_dict().items()} == {
            n: w.shape for n, w in index.items()
        }
    assert not any(p.is_meta for p in (*pipe.vae.parameters(), *pipe.text_encoder.parameters()))


def test_a_comfyui_folder_is_found_and_remembered(comfy):
    demo = presets.model_row("demo")
    assert sources.find_model(demo).is_folder
    (source,) = sources.select_comfyui(comfy / "models")  # its models folder is as good
    again = sources.find_model(demo)
    assert again == source and not again.is_folder
    assert {p.name for p in again.files.values()} == {
        "flux1-dev.safetensors",
        "ae.safetensors",
        "clip_l.safetensors",
        "t5xxl_fp16.safetensors",
    }
    (comfy / "models/vae/ae.safetensors").rename(comfy / "ae.safetensors")
    with pytest.raises(UserError, match="ae.safetensors is missing"):
        sources.find_model(demo)


def test_the_best_file_is_chosen_and_namesakes_are_left(comfy, demo_parts):
    row = dataclasses.replace(presets.model_row("demo"), file="flux1-dev")
    krea, models = dataclasses.replace(row, file="flux1-krea"), comfy / "models"
    best = models / "diffusion_models" / "flux1-dev.safetensors"
    fp8 = to_fp8(demo_parts["transformer"])
    save_file(fp8, models / "diffusion_models" / "flux1-dev-fp8.safetensors")
    shutil.copy(best, models / "diffusion_models" / "flux1-dev-kontext.safetensors")
    (models / "diffusion_models" / "a-broken-one.safetensors").write_bytes(b"no")
    odd = line(dtype=None).encode()
    odd = struct.pack("<Q", len(odd)) + odd + b"abcd"
    (models / "vae" / "an-odd-one.safetensors").write_bytes(odd)
    assert sources.select_model(row, [comfy]).files["transformer"] == best
    best.unlink()
    chosen = sources.select_model(row, [comfy]).files["transformer"]
    assert chosen.name == "flux1-dev-fp8.safetensors"
    chosen.unlink()
    with pytest.raises(UserError, match="transformer was not found.*a-broken-one.*cut short"):
        sources.select_model(row, [comfy])
    with pytest.raises(UserError, match="transformer was not found") as none:
        sources.select_model(krea, [comfy])
    assert "flux1-krea.safetensors" in none.value.remedy
    asked = models / "diffusion_models" / "flux1-dev-kontext.safetensors"
    shutil.copy(asked, asked.with_name("a-copy.safetensors"))
    assert sources.select_model(row, [asked, comfy]).files["transformer"] == asked
    with pytest.raises(UserError, match="a-copy.safetensors holds no part"):
        sources.select_model(
            row,
            [asked, models / "vae/ae.safetensors", asked.with_name("a-copy.safetensors"), comfy],
        )


def test_extra_model_paths_and_one_file_with_everything(comfy, demo_parts, tmp_path):
    everything = {}
    for part, prefix in (
        ("transformer", "model.diffusion_model."),
        ("vae", "vae."),
        ("text_encoder", "text_encoders.clip_l.transformer."),
        ("text_encoder_2", "text_encoders.t5xxl.transformer."),
    ):
        everything |= {prefix + k: v.contiguous() for k, v in demo_parts[part].items()}
    shutil.rmtree(comfy / "models")
    elsewhere = tmp_path / "other drive" / "ckpt"
    elsewhere.mkdir(parents=True)
    save_file(everything, elsewhere / "flux1-dev-fp8.safetensors")
    (comfy / "models").mkdir()
    text = f"mine:\n  base_path: {json.dumps(str(tmp_path))}\n  checkpoints: |\n    no/such\n    other drive/ckpt\n"
    (comfy / "extra_model_paths.yaml").write_text(text, encoding="utf-8")
    source = sources.select_model(presets.model_row("demo"), [comfy])
    assert set(source.files.values()) == {elsewhere / "flux1-dev-fp8.safetensors"}


def test_vocabularies_are_comfyuis_own_and_missed_by_name(comfy, tmp_path, monkeypatch):
    row, bare = presets.model_row("demo"), tmp_path / "configurations"
    assert (
        sources.select_model(row, [comfy]).tokenizers["tokenizer"] == comfy / "comfy/sd1_tokenizer"
    )
    shutil.copytree(DEMO, bare, ignore=shutil.ignore_patterns("tokenizer*", "*.safetensors"))
    monkeypatch.setattr("blockskip.models.sources.comfyui.configs_folder", lambda row: bare)
    usual = []
    monkeypatch.setattr("blockskip.models.sources.comfyui.candidates", lambda: usual)
    program = tmp_path / "resources" / "ComfyUI"  # as ComfyUI Desktop has it
    program.mkdir(parents=True)
    shutil.move(comfy / "comfy", program / "comfy")
    with pytest.raises(UserError, match="vocabulary is missing.*the one with main.py in it"):
        sources.select_model(row, [comfy])
    for there in (program, program.parent):
        (source,) = sources.select_comfyui(comfy, there)
        assert source.tokenizers["tokenizer"] == program / "comfy/sd1_tokenizer"
    usual.append(program)  # a program that lies where one usually does need not be named
    assert (
        sources.select_model(row, [comfy]).tokenizers["tokenizer"]
        == program / "comfy/sd1_tokenizer"
    )


def test_the_shipped_configurations_are_flux_devs():
    """Every small file that loading from single files would otherwise ask the hub for."""
    from accelerate import init_empty_weights
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
    from transformers import CLIPTextConfig, T5Config

    row = presets.model_row("flux-dev")
    source = sources.Source(row, configs_folder(row))
    with init_empty_weights():
        transformer = FluxTransformer2DModel.from_config(source.config("transformer"))
        vae = AutoencoderKL.from_config(source.config("vae"))
    assert sum(p.numel() for p in transformer.parameters()) == 11_901_408_320
    assert sum(p.numel() for p in vae.parameters()) == 83_819_683
    assert transformer.inner_dim == row.width
    assert (
        len(transformer.transformer_blocks),
        len(transformer.single_transformer_blocks),
    ) == row.blocks
    clip, t5 = (
        CLIPTextConfig(**source.config("text_encoder")),
        T5Config(**source.config("text_encoder_2")),
    )
    assert (clip.hidden_size, t5.d_model) == (768, transformer.config.joint_attention_dim)
    assert (
        FlowMatchEulerDiscreteScheduler.from_pretrained(source.folder / "scheduler").config.shift
        == 3.0
    )


def test_fingerprints_are_of_weights_and_of_every_byte(comfy, monkeypatch):
    monkeypatch.setattr(model_files, "SMALL_FILE_BYTES", 1000)
    row = presets.model_row("demo")
    source, shipped = sources.select_model(row, [comfy]), sources.Source(row, DEMO)
    first, seen = source.fingerprint(), []
    assert (
        source.fingerprint(lambda n, total: seen.append((n, total)))
        == first
        != shipped.fingerprint()
    )
    assert not seen, "a digest is remembered until the file changes"
    path = source.files["text_encoder_2"]
    renamed = path.rename(path.with_name("t5xxl_renamed.safetensors"))
    assert sources.select_model(row, [comfy]).fingerprint() == first, "names do not matter"
    data = bytearray(renamed.read_bytes())
    data[len(data) // 2] ^= 1
    renamed.write_bytes(data)
    assert (
        sources.select_model(row, [comfy]).fingerprint(lambda n, total: seen.append((n, total)))
        != first
    )
    assert seen and seen[-1][0] <= seen[-1][1]


def test_the_command_says_what_is_here(comfy, monkeypatch, capsys):
    def said(*words):
        monkeypatch.setattr("sys.argv", ["blockskip", "models", *words, "--json"])
        return app.main(), json.loads(capsys.readouterr().out)

    code, answer = said()
    assert code == 0 and [m["ready"] for m in answer["models"][:2]] == [True, False]
    problems = {model["model"]: model["problem"] for model in answer["models"]}
    assert "use-comfyui" in problems["flux-dev"] and "use-comfyui" not in problems["z-image"]
    code, answer = said("use-comfyui", str(comfy))
    assert code == 0 and answer["models"][0]["where"].endswith("flux1-dev.safetensors")
    code, answer = said("check", "demo")
    assert code == 0 and answer["parts"]["transformer"]["precision"] == "bf16"
    assert set(answer) == {"model", "where", "parts", "fingerprint"}
    code, answer = said("use", "flux-dev", str(DEMO))
    assert code == 1 and "does not hold the whole of FLUX.1-dev" in answer["error"]
    assert answer["kind"] == "BadFile"
    code, answer = said("use-comfyui", str(comfy / "no such folder"))
    assert code == 1 and "is not there" in answer["error"] and answer["kind"] == "NotFound"
    monkeypatch.setattr("sys.argv", ["blockskip", "models", "fetch"])
    assert app.main() == 2
    for text in ("[]", '{"flux-dev": {}}', '{"demo": {"folder": "", "files": []}}', "no"):
        (data_dir() / "models.json").write_text(text, encoding="utf-8")
        code, answer = said()
        assert code == 0 and "models.json cannot be read" in answer["models"][1]["problem"]
        assert said("check", "demo")[0] == 1
