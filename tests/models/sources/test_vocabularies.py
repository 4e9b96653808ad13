"""Vocabularies of models in single files: which files of a folder suffice, and what is missing."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from helpers import comfy_text_encoders as encoders
from helpers import comfy_z_image
from helpers.comfy import CLIP, T5, comfy_folder, original_parts
from helpers.comfy_families import QWEN, part_state, qwen_vocabulary
from safetensors.torch import save_file
from transformers import CLIPTokenizer, Qwen2Tokenizer, T5Tokenizer

from blockskip.cli import app
from blockskip.core import presets
from blockskip.core.errors import UserError
from blockskip.models.sources import vocabularies
from blockskip.models.sources.layouts import configs_folder
from blockskip.models.sources.source import Source

KINDS = {CLIP: CLIPTokenizer, T5: T5Tokenizer, QWEN: Qwen2Tokenizer}
BARE = ["vocab.json", "merges.txt"]
TEXT = "A photo of sks cat, <|im_start|>on a bench"


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A folder with all vocabularies as ComfyUI has them."""
    root = tmp_path_factory.mktemp("given")
    encoders.vocabularies(root)
    qwen_vocabulary(root / Path(QWEN).name)
    return root


@pytest.fixture
def alone(monkeypatch):
    """No other place of this machine has vocabularies."""
    monkeypatch.setattr(vocabularies, "candidates", list)
    monkeypatch.setattr(vocabularies, "_hub_cache", lambda: Path("nowhere"))


@pytest.mark.parametrize(
    "model, part, folder, names",
    [
        ("sd35-medium", "tokenizer", CLIP, BARE),
        ("sd35-medium", "tokenizer", CLIP, ["tokenizer.json"]),
        ("chroma-hd", "tokenizer", T5, ["tokenizer.json"]),
        ("qwen-image-2.1", "processor", QWEN, ["tokenizer.json"]),
        ("qwen-image-2.1", "processor", QWEN, [*BARE, "tokenizer_config.json"]),
    ],
)
def test_these_files_suffice_and_fewer_are_passed_over(
    given, alone, tmp_path, model, part, folder, names
):
    row, home = presets.model_row(model), tmp_path / "ComfyUI"
    whole, configs = given / Path(folder).name, configs_folder(row)
    wanted = vocabularies.vocabularies(configs)[part]
    if not (whole / names[0]).exists():  # as models on the hub have it
        KINDS[folder].from_pretrained(whole).save_pretrained(tmp_path / "saved")
        whole = tmp_path / "saved"
    (home / folder).mkdir(parents=True)
    for name in names:
        assert not list(vocabularies._holders(part, wanted, [home]))
        shutil.copy(whole / name, home / folder)
    found = next(vocabularies._holders(part, wanted, [home]))
    source = Source(row, configs, {"vae": Path("any")}, {part: found})
    expected = KINDS[folder].from_pretrained(given / Path(folder).name)
    tokenizer = vocabularies.load_tokenizer(source, part)
    assert tokenizer(TEXT).input_ids == expected(TEXT).input_ids
    assert tokenizer.pad_token == expected.pad_token


def test_all_that_are_missing_are_named_with_a_place(given, alone, tmp_path):
    configs = configs_folder(presets.model_row("sd35-large"))
    with pytest.raises(UserError) as told:
        vocabularies.find_vocabularies(configs, [tmp_path])
    assert all(f"/tree/master/{folder}" in told.value.remedy for folder in (CLIP, T5))
    assert CLIP in told.value.title and T5 in told.value.title
    shutil.copytree(given / Path(T5).name, tmp_path / T5)
    with pytest.raises(UserError, match=f"vocabulary is missing .{CLIP}.") as told:
        vocabularies.find_vocabularies(configs, [tmp_path])
    assert T5 not in str(told.value)


def test_a_model_that_is_not_whole_is_named_beside_others(
    given, alone, tmp_path, monkeypatch, capsys
):
    """A ComfyUI that is too old to have Qwen's vocabulary, and one without a text encoder."""
    demo, case = presets.model_row("demo"), comfy_z_image.CASE
    home = comfy_folder(tmp_path / "ComfyUI", Path(encoders.DEMO), original_parts(encoders.DEMO))
    case.save(tmp_path / "tiny", given)
    row = dataclasses.replace(case.tiny_row(tmp_path / "tiny"), title="Tiny")
    monkeypatch.setattr(presets, "model_rows", lambda: {"demo": demo, row.name: row})
    shutil.rmtree(tmp_path / "tiny/tokenizer")
    said = []
    for part in ("transformer", "vae", "text_encoder"):
        state = case.original[part](part_state(tmp_path / "tiny", part))
        place = home / f"models/diffusion_models/z_image_{part}.safetensors"
        save_file({key: tensor.contiguous() for key, tensor in state.items()}, place)
        monkeypatch.setattr("sys.argv", ["b", "models", "use-comfyui", str(home), "--json"])
        assert app.main() == 0
        answer = json.loads(capsys.readouterr().out)
        assert [model["model"] for model in answer["models"]] == ["demo"]
        said += answer["incomplete"]
    assert said[0].startswith("Tiny's Qwen3 text encoder was not found")
    assert f"vocabulary is missing ({QWEN})" in said[-1] and len(said) == 3
