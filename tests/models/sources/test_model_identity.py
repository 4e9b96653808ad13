"""A folder is compared with what its row says the model is, for every row."""

import json
import shutil

import pytest
import torch
from helpers.comfy import to_fp8
from safetensors.torch import load_file, save_file

from blockskip.cli import app
from blockskip.core import presets
from blockskip.core.errors import BadFile
from blockskip.core.paths import ASSETS
from blockskip.models import sources
from blockskip.models.families.base import get_family
from blockskip.models.sources import Source
from blockskip.models.sources.layouts import configs_folder
from blockskip.models.sources.model_identity import check_folder

ROWS = presets.model_rows()
# they differ in weights alone
PAIRS = [("flux-dev", "flux-krea"), ("z-image", "z-image-turbo")]
SAME = {one: {other} for pair in PAIRS for one, other in (pair, pair[::-1])}


def folder_of(name, path):
    """The configs of a row as a folder of the user, without weights."""
    ignored = shutil.ignore_patterns("*.safetensors")
    return shutil.copytree(configs_folder(ROWS[name]), path, ignore=ignored)


@pytest.mark.parametrize("name", ROWS)
def test_every_rows_folder_is_that_rows_and_no_others(name, tmp_path):
    folder = folder_of(name, tmp_path / "mine")
    for row in ROWS.values():
        if row.name in {name} | SAME.get(name, set()):
            check_folder(row, folder)
            continue
        with pytest.raises(BadFile, match="does not hold") as refused:
            check_folder(row, folder)
        fits = {name} | SAME.get(name, set())
        assert any(f"this is {ROWS[n].title} (" in refused.value.title for n in fits)
        assert any(f"models use {n} FOLDER" in refused.value.remedy for n in fits)


@pytest.mark.parametrize(
    "name, file, change, words",
    [
        ("flux-dev", "model_index", {"_class_name": "FluxKontextPipeline"}, "pipeline is FluxKontext"),
        ("sana-0.6b", "transformer/config", {"num_layers": 29}, "num_layers = 29, not 28"),
        ("z-image", "text_encoder/config", {"model_type": "llama"}, "model_type = llama"),
        ("qwen-image", "vae/config", {"z_dim": 8}, "its vae has z_dim = 8, not 16"),
        ("flux-dev", "vae/config", {"scaling_factor": 0.18215}, "scaling_factor = 0.18215"),
        ("sd35-large", "transformer/config", {"quantization_config": {"quant_method": "bitsandbytes"}}, "weights packed with bitsandbytes"),
        ("chroma-hd", "model_index", {"vae": ["diffusers", "AutoencoderTiny"]}, "vae is AutoencoderTiny"),
        ("chroma-hd", "model_index", {"vae": None}, "vae is missing"),
        ("krea2", "model_index", {"is_distilled": True}, "pipeline has is_distilled = True, not False"),
        ("krea2", "text_encoder/config", {"text_config": {"hidden_size": 4096}}, "hidden_size = 4096, not 2560"),
    ],
)  # fmt: skip
def test_what_differs_is_named(name, file, change, words, tmp_path):
    path = folder_of(name, tmp_path / "mine") / f"{file}.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change))
    with pytest.raises(BadFile, match=words):
        check_folder(ROWS[name], tmp_path / "mine")


@pytest.mark.parametrize("text", ["", "[]", "[" * 5000, "\x00", '{"a": 1}'])
@pytest.mark.parametrize("file", ["model_index.json", "transformer/config.json"])
def test_a_damaged_config_is_one_sentence(file, text, tmp_path):
    folder = folder_of("sana-0.6b", tmp_path / "mine")
    (folder / file).write_text(text)
    if text == '{"a": 1}' and file != "model_index.json":
        return  # sizes that a config does not tell are those of its class, and the tensors'
    with pytest.raises(BadFile, match="mine"):
        check_folder(ROWS["sana-0.6b"], folder)


def test_the_command_refuses_another_size_and_names_the_row_that_fits(
    tmp_path, monkeypatch, capsys
):
    folder = folder_of("sana-1.6b", tmp_path / "SANA")
    monkeypatch.setattr(
        "sys.argv", ["blockskip", "models", "use", "sana-0.6b", str(folder), "--json"]
    )
    assert app.main() == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["kind"] == "BadFile" and "this is SANA 1.6B" in answer["error"]
    assert "models use sana-1.6b" in answer["remedy"]
    with pytest.raises(BadFile, match="this is SANA 1.6B"):  # the page's way in
        sources.select_comfyui(folder)


@pytest.fixture
def scaled(tmp_path):
    """The demo SANA in diffusers' layout with transformer and VAE in scaled float8."""
    folder = shutil.copytree(ASSETS / "demo-sana", tmp_path / "scaled")
    truth = {}
    for part in ("transformer", "vae"):
        (path,) = (folder / part).glob("*.safetensors")
        state = to_fp8(load_file(path), "scale_weight")
        if part == "vae":  # matrices are convolutions there
            key = "decoder.conv_in.weight"
            whole = load_file(path)[key]
            state[key] = (whole / whole.abs().max() * 448).to(torch.float8_e4m3fn)
            state[key.replace("weight", "weight_scale_inv")] = whole.abs().max() / 448
        save_file(state, path)
        truth[part] = {}
        for key, tensor in state.items():
            names = (key.replace(".weight", end) for end in (".scale_weight", ".weight_scale_inv"))
            scale = next((state[n] for n in names if n in state and n != key), torch.ones(()))
            if not key.endswith(("scale_weight", "scale_inv", "scaled_fp8")):
                truth[part][key] = tensor.float() * scale
    return folder, truth


def test_scaled_parts_of_a_folder_are_multiplied_or_refused(scaled):
    folder, truth = scaled
    row = ROWS["demo-sana"]
    source = Source(row, folder)
    sources.check_model(source)
    weights = source.weights("transformer")
    assert all(
        torch.equal(weights[k].read(torch.float32), t) for k, t in truth["transformer"].items()
    )
    pipe = get_family("sana").open(source, torch.float32)
    state = pipe.vae.state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in truth["vae"].items())
    (path,) = (folder / "transformer").glob("*.safetensors")
    save_file(
        load_file(path) | {"transformer_blocks.0.attn1.to_q.weight_scalar": torch.ones(())}, path
    )
    with pytest.raises(BadFile, match="“transformer_blocks.0.attn1.to_q.weight_scalar”"):
        sources.check_model(source)


def test_a_folder_that_the_libraries_cannot_load_is_one_sentence(tmp_path):
    folder = shutil.copytree(ASSETS / "demo-sana", tmp_path / "torn")
    (path,) = (folder / "vae").glob("*.safetensors")
    state = load_file(path)
    state["decoder.conv_in.weight"] = torch.cat([state["decoder.conv_in.weight"]] * 2)
    save_file(state, path)
    source = Source(ROWS["demo-sana"], folder)
    with pytest.raises(BadFile, match="torn cannot be loaded"):
        get_family("sana").open(source, torch.float32)
    with pytest.raises(BadFile, match="“decoder.conv_in.weight” has the shape"):
        sources.check_model(source)
