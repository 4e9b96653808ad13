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
    original_parts,
    to_fp8,
)
from safetensors.torch import load_file, save_file

from blockskip.cli import app
from blockskip.core import presets
from blockskip.core.errors import UserError
from blockskip.core.paths import ASSETS, data_dir
from blockskip.models import sources
from blockskip.models.families.base import get_family
from blockskip.models.sources import source as model_files
from blockskip.models.sources.layouts import configs_folder

DEMO = ASSETS / "demo-model"


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what is mapped")
def test_files_that_were_read_can_be_replaced(comfy):
    """Windows refuses to replace a file while a program has it mapped."""
    source = sources.select_model(presets.model_row("demo"), [comfy])
    pipe = get_family("flux").load(source, torch.bfloat16)
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    assert pipe.vae is not None and not [p for p in source.files.values() if p.name in maps]


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
    pipe = get_family("flux").open(source, torch.bfloat16)
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
    row = dataclasses.replace(
        presets.model_row("demo"), comfyui=presets.model_row("flux-dev").comfyui
    )
    krea, models = (
        dataclasses.replace(row, comfyui=presets.model_row("flux-krea").comfyui),
        comfy / "models",
    )
    best = models / "diffusion_models" / "flux1-dev.safetensors"
    fp8 = to_fp8(demo_parts["transformer"])
    save_file(fp8, models / "diffusion_models" / "flux1-dev-fp8.safetensors")
    shutil.copy(best, models / "diffusion_models" / "flux1-dev-kontext.safetensors")
    (models / "diffusion_models" / "a-broken-one.safetensors").write_bytes(b"no")
    odd = json.dumps({"x": {"dtype": None, "shape": [1], "data_offsets": [0, 4]}}).encode()
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
    assert "flux1-krea-dev.safetensors" in none.value.remedy
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
    for module in ("comfyui", "source"):
        monkeypatch.setattr(
            f"blockskip.models.sources.{module}.configs_folder",
            lambda row: bare if row.name == "demo" else configs_folder(row),
        )
    usual = []
    monkeypatch.setattr("blockskip.models.sources.vocabularies.candidates", lambda: usual)
    program = tmp_path / "resources" / "ComfyUI"  # as ComfyUI Desktop has it
    program.mkdir(parents=True)
    shutil.move(comfy / "comfy", program / "comfy")
    with pytest.raises(UserError, match="vocabularies are missing.*the one with main.py in it"):
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
    assert "use-comfyui" in problems["flux-dev"] and "use-comfyui" not in problems["sana-0.6b"]
    code, answer = said("use-comfyui", str(comfy))
    assert code == 0 and answer["models"][0]["where"].endswith("flux1-dev.safetensors")
    code, answer = said("check", "demo")
    assert code == 0 and answer["parts"]["transformer"]["precision"] == "bf16"
    assert set(answer) == {"model", "where", "parts", "unreadable", "fingerprint"}
    code, answer = said("use", "flux-dev", str(DEMO))
    assert code == 1 and "not hold FLUX.1-dev: this is Demo pets (drawn)" in answer["error"]
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
