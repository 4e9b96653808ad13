"""BLIP by its real classes, with random weights: found where it lies, and used if it is whole."""

import pytest
from helpers import tiny_captioner
from huggingface_hub import constants

from blockskip.core.errors import UserError
from blockskip.core.paths import data_dir
from blockskip.models.captioners import found
from blockskip.models.captioners.blip import open_blip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_captioner.save_blip(tmp_path_factory.mktemp("mödel") / "captioner")


def test_it_says_some_words_of_a_photo_and_follows_no_instruction(model):
    describe = open_blip(model)
    said = describe(tiny_captioner.photo(), "")
    assert said == describe(tiny_captioner.photo(), "Say cat.") and not said.cut
    assert set(said.text.split()) <= {"a", "cat", "on", "sofa", "[UNK]"}


def test_a_folder_that_is_no_captioner_is_said_in_words(tmp_path, model):
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in model.iterdir():
        data = file.read_bytes()
        (broken / file.name).write_bytes(data[:100] if file.suffix == ".safetensors" else data)
    for folder in (tmp_path / "nowhere", broken):
        with pytest.raises(UserError, match="captioner"):
            open_blip(folder)


def test_it_is_found_where_it_lies(tmp_path, monkeypatch, model):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert found.find_blip() is None
    hub = tmp_path / "hub" / "models--Salesforce--blip-image-captioning-base" / "snapshots" / "1"
    own = [data_dir() / "models" / name for name in ("blip", "captioner")]
    for folder in (hub, *own):
        folder.mkdir(parents=True)
        (folder / "config.json").write_bytes((model / "config.json").read_bytes())
        assert found.find_blip() != folder, "without weights it is none"
        (folder / "model.safetensors").write_bytes(b"x")
        assert found.find_blip() == folder
    (own[1] / "config.json").write_text('{"model_type": "qwen3_vl"}')
    assert found.find_blip() == own[0], "the tool lies in that folder too"
    assert found.captioners() == [], "the file is no model"
    (own[0] / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes())
    assert [one.name for one in found.captioners()] == ["blip"]
