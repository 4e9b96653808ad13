"""Qwen3-VL by its real classes, with random weights: the tool, and a model's own text encoder in
every form in which users have it, describe a photo with the same words as the library's model."""

import dataclasses
import json
from functools import partial

import psutil
import pytest
import torch
from helpers import tiny_captioner
from helpers.comfy_cases import CASES
from helpers.comfy_families import comfyui, qwen_vocabulary
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import Qwen2Tokenizer

from blockskip.core import presets
from blockskip.core.errors import ModelMissing, NotFound, UserError
from blockskip.core.paths import data_dir
from blockskip.core.units import GIB
from blockskip.models import sources
from blockskip.models.captioners import found, qwen3_vl
from blockskip.models.sources import Source, hub

CASE = CASES["krea2"]
PHOTOS = [tiny_captioner.photo(seed) for seed in range(2)]
ASKED = "Say {what} the cat does <|image_pad|>."


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vocabularies")
    words = f"{CASE.texts} {tiny_captioner.MARKS} {tiny_captioner.WORDS}"
    qwen_vocabulary(folder / "qwen25_tokenizer", words)
    return folder


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory, vocabulary):
    """(folder of a tiny Krea 2 in diffusers' layout, the whole model of its text encoder)."""
    folder = tmp_path_factory.mktemp("krea2") / "tiny pipeline"
    with torch.no_grad():
        CASE.save(folder, vocabulary)
    words = Qwen2Tokenizer.from_pretrained(vocabulary / "qwen25_tokenizer")
    return folder, tiny_captioner.as_encoder(folder, words)


@pytest.fixture(autouse=True)
def only(pipeline, monkeypatch, tmp_path):
    """The tiny model is the only one that the program knows, in numbers of 4 bytes."""
    row = CASE.tiny_row(pipeline[0])
    monkeypatch.setattr(presets, "model_rows", lambda: {row.name: row})
    monkeypatch.setattr(presets, "model_row", lambda name: {row.name: row}[name])
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(qwen3_vl, "number_type", lambda: torch.float32)
    return row


def by_library(model, vocabulary):
    """What the library's own model says, with the same prompt."""
    words = Qwen2Tokenizer.from_pretrained(vocabulary / "qwen25_tokenizer")
    describe = partial(qwen3_vl._describe, model, words, qwen3_vl._image_processor(model))
    return [describe(photo, ASKED) for photo in PHOTOS]


def said(describe):
    return [describe(photo, ASKED) for photo in PHOTOS]


def test_a_models_encoder_in_diffusers_layout(pipeline, vocabulary, only):
    folder, model = pipeline
    assert said(qwen3_vl.open_encoder(Source(only, folder))) == by_library(model, vocabulary)
    (captioner,) = found.captioners()
    weights = sum(t.numel() for t in model.state_dict().values()) - model.lm_head.weight.numel()
    assert (captioner.name, captioner.weights) == (only.name, weights)
    assert found.find_captioner() == found.find_captioner(only.name) == captioner


@pytest.mark.parametrize("precision", ["bf16", "fp8_scaled"])
def test_a_models_encoder_from_comfyuis_file(pipeline, vocabulary, only, tmp_path, precision):
    wanted = comfyui(CASE, only, tmp_path / "ComfyUI", vocabulary, precision)
    sources.select_model(only, [tmp_path / "ComfyUI"])
    source = found.seeing_encoder(only.name)
    assert source is not None and source.files
    model = tiny_captioner.tiny_model(
        Qwen2Tokenizer.from_pretrained(vocabulary / "qwen25_tokenizer")
    )
    told = model.load_state_dict(wanted["text_encoder"], strict=False)
    assert told.missing_keys == ["lm_head.weight"] and not told.unexpected_keys
    assert said(qwen3_vl.open_encoder(source)) == by_library(model, vocabulary)


def test_a_gguf_has_no_eyes(vocabulary, only, tmp_path):
    comfyui(CASE, only, tmp_path / "ComfyUI", vocabulary, "Q8_0")
    sources.select_model(only, [tmp_path / "ComfyUI"])
    assert found.captioners() == [] and found.seeing_encoder(only.name) is None
    with pytest.raises(ModelMissing, match="GGUF"):
        found.find_captioner(only.name)
    with pytest.raises(ModelMissing, match="fetch captioner"):
        found.find_captioner()
    with pytest.raises(NotFound, match="There is no captioner called"):
        found.find_captioner("nobody")


def test_the_tool_is_used_after_a_models_own_encoder(only, monkeypatch):
    folder = tiny_captioner.save_tool(data_dir() / "models" / "captioner")
    monkeypatch.setattr(hub, "downloaded", lambda row: folder if row.name == "captioner" else None)
    describe = qwen3_vl.open_tool(folder)
    first, second = said(describe)
    assert first.text and first != second, "what it says depends on the photo"
    assert first == describe(PHOTOS[0], ASKED), "and on nothing else"
    assert [one.name for one in found.captioners()] == [only.name, "captioner"]


def test_a_big_encoder_is_not_the_first_choice_on_a_small_computer(only, monkeypatch):
    big, small = (
        found.Captioner(name=name, title=name, weights=weights)
        for name, weights in (("big", 4_437_815_808), ("small", 2_127_532_032))
    )
    for gib, choice in ((4, small), (8, small), (15.5, small), (23.5, big), (64, big)):
        ram = psutil.virtual_memory()._replace(total=int(gib * GIB))
        monkeypatch.setattr(psutil, "virtual_memory", lambda ram=ram: ram)
        assert found.best([big, small]) == choice, gib
    assert found.best([big]) == big


def _without_tower(state):
    return {key: t for key, t in state.items() if not key.endswith("visual.merger.norm.weight")}


def _without_head(state):
    return {key: t for key, t in state.items() if key != "lm_head.weight"}


@pytest.mark.parametrize("damage, lost", [(_without_tower, "visual"), (_without_head, "lm_head")])
def test_an_encoder_that_is_not_whole_is_refused(
    pipeline, vocabulary, only, tmp_path, damage, lost
):
    """The bigger Qwen3-VL has a head of its own, in the file."""
    folder = tmp_path / "untied"
    words = Qwen2Tokenizer.from_pretrained(vocabulary / "qwen25_tokenizer")
    model = tiny_captioner.tiny_model(words, tied=False)
    model.save_pretrained(folder / "text_encoder")
    words.save_pretrained(folder / "tokenizer")
    (folder / "model_index.json").write_bytes((pipeline[0] / "model_index.json").read_bytes())
    row = dataclasses.replace(only, source=str(folder))
    assert said(qwen3_vl.open_encoder(Source(row, folder))) == by_library(model, vocabulary)
    (file,) = (folder / "text_encoder").glob("*.safetensors")
    save_file(damage(load_file(file)), file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=rf"{lost}\S* is missing|“\S*{lost}\S*” is missing"):
        qwen3_vl.open_encoder(Source(row, folder))


def test_another_models_vocabulary_is_refused(pipeline, only, tmp_path):
    folder = tmp_path / "other words"
    for part in ("text_encoder", "tokenizer"):
        (folder / part).mkdir(parents=True)
        for file in (pipeline[0] / part).iterdir():
            (folder / part / file.name).write_bytes(file.read_bytes())
    (folder / "model_index.json").write_bytes((pipeline[0] / "model_index.json").read_bytes())
    config = folder / "text_encoder" / "config.json"
    told = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps(told | {"image_token_id": 7}), encoding="utf-8")
    describe = qwen3_vl.open_encoder(Source(dataclasses.replace(only, source=str(folder)), folder))
    with pytest.raises(UserError, match="vocabulary"):
        describe(PHOTOS[0], ASKED)


def test_a_photos_tokens_are_marked_as_a_photos(pipeline, vocabulary, monkeypatch):
    """Else the model takes them for text, and only its answers tell."""
    model, given = pipeline[1], {}
    generate = model.generate
    monkeypatch.setattr(model, "generate", lambda **said: given.update(said) or generate(**said))
    by_library(model, vocabulary)
    pads = given["input_ids"] == model.config.image_token_id
    assert torch.equal(given["mm_token_type_ids"], pads.int())
    _, high, wide = given["image_grid_thw"][0].tolist()
    assert pads.sum() == high * wide // 4 and 64 <= pads.sum() <= 256
    assert abs(wide / high - PHOTOS[0].width / PHOTOS[0].height) < 0.1


def test_bfloat16_where_the_processor_has_it(monkeypatch):
    monkeypatch.undo()
    for can, kind in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda can=can: can)
        assert qwen3_vl.number_type() == kind
