"""An open model: prompts are read once, and its settings say how it samples."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from blockskip.memory.planning.planner import choose_settings
from blockskip.memory.quantisation import int8_linears
from blockskip.sampling import loaded_model
from blockskip.sampling.loaded_model import LoadedModel
from blockskip.training import encode
from blockskip.training.lora import restore

PROMPTS = ["a photo of sks cat", "a dog", "a photo of sks cat"]


@pytest.fixture(scope="module")
def model():
    settings = choose_settings(model="demo", device="cpu")
    return LoadedModel(settings.changed(preview_px=32, preview_steps=2))


def test_a_prompt_is_encoded_once_to_the_digits_that_it_has_among_others(model, monkeypatch):
    expected, read, real = model.encode(PROMPTS), [], encode.encode_captions

    def counted(family, pipe, captions, *more):
        read.extend(captions)
        return real(family, pipe, captions, *more)

    monkeypatch.setattr(encode, "encode_captions", counted)
    for prompts in (PROMPTS[:1], PROMPTS):
        text = model.encode_prompts(prompts)
        assert torch.equal(text.embeds, expected.embeds[: len(prompts)])
        assert torch.equal(text.pooled_or_mask, expected.pooled_or_mask[: len(prompts)])
    model.cache_text(["it"], expected.rows([1]))
    assert torch.equal(model.encode_prompts(["it"]).embeds, expected.embeds[1:2])
    assert read == PROMPTS[:2]


def test_pictures_are_of_the_settings_that_it_has_now(model, monkeypatch):
    (before,) = model.sample_prompts(PROMPTS[:1], [3])
    text = model.encode([PROMPTS[0], ""])
    assert model.sample(text.rows([0]), text.rows([1]), [3]) == [before] and before.size == (32, 32)
    monkeypatch.setattr(model, "settings", model.settings.changed(preview_px=64))
    (after,) = model.sample_prompts(PROMPTS[:1], [3])
    assert after.size == (64, 64)


def test_a_runs_lora_is_on_its_middle_and_begins_as_nothing():
    run = choose_settings(model="demo", device="cpu", skip="3,2", rank=4)
    model = LoadedModel(replace(run, preview_px=32, preview_steps=1))
    (before,) = model.sample_prompts(PROMPTS[:1], [3])
    lora = model.add_lora(run)
    blocks = [name for name, _ in model.family.blocks(model.transformer)]
    middle = tuple(f"transformer.{name}." for name in blocks[3:-2])
    assert lora and all(name.startswith(middle) for name in lora)
    (unlearnt,) = model.sample_prompts(PROMPTS[:1], [3])
    restore(lora, {name: torch.ones_like(tensor) for name, tensor in lora.items()})
    (learnt,) = model.sample_prompts(PROMPTS[:1], [3])
    assert unlearnt == before and np.any(np.asarray(learnt) != np.asarray(before))


def test_products_in_8_bits_are_chosen_once_per_model(monkeypatch, tmp_path):
    """From another run's settings, the choice is the same: it is the model's."""
    monkeypatch.setattr(loaded_model, "STEPS", 1)
    settings = choose_settings(model="demo", device="cpu", precision="int8", arithmetic="int8")
    first = LoadedModel(settings)
    chosen = int8_linears(first.transformer)
    assert len(chosen) > 0.9 * 6 * 14 and not [n for n in chosen if "norm" in n]
    (record,) = tmp_path.rglob("int8_errors.json")
    measured = record.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(LoadedModel, "_sample_small", lambda _: pytest.fail("measured again"))
        assert int8_linears(LoadedModel(settings).transformer) == chosen
        assert not int8_linears(LoadedModel(settings.changed(arithmetic="weights")).transformer)
    record.unlink()
    other = LoadedModel(settings.changed(seed=5, s_min_px=16, text_tokens=9, preview_px=32))
    assert int8_linears(other.transformer) == chosen and record.read_bytes() == measured
