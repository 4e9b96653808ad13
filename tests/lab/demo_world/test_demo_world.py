"""The demo world: repeatable, honest captions, and identities that never leak."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline

from blockskip.data.demo_vocabulary import BACKGROUNDS, PLACES, SPECIES
from blockskip.lab.demo_world.captions import caption, fresh_captions, vocabulary
from blockskip.lab.demo_world.data import picture_facts
from blockskip.lab.demo_world.pretrain import KINDS
from blockskip.lab.demo_world.render import render
from blockskip.lab.demo_world.sana import LENGTH, build_tokenizer
from blockskip.lab.demo_world.subjects import (
    DEMO_SUBJECTS,
    HELD_OUT_SUBJECTS,
    NAMES,
    RESERVED,
    TRIGGERS,
    demo_photos,
    draw_pet,
    named_pets,
    pool,
)
from blockskip.lab.demo_world.tokenizers import MAX_SEQUENCE_LENGTH, build_clip, build_t5
from blockskip.lab.demo_world.world import Pet, Scene, random_pet, random_scene, striking_pet
from blockskip.models.families.base import get_family


def test_same_seed_draws_the_same_picture():
    first, again = picture_facts(11, 7), picture_facts(11, 7)
    assert first == again
    pet, scene, _, detail = first
    assert np.array_equal(render(pet, scene, 64, detail), render(pet, scene, 64, detail))


@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("species", SPECIES)
def test_every_place_and_species_draws(species, background):
    picture = render(Pet(species, "orange"), Scene(background, "hat"), (96, 64))
    assert picture.shape == (64, 96, 3) and picture.dtype == np.uint8
    assert picture.std() > 15


def test_what_differs_in_the_attributes_differs_in_the_picture():
    scene, pet = Scene("meadow"), DEMO_SUBJECTS[0].pet
    plain = render(pet, scene, 64).astype(int)
    for change in ({"coat": "teal"}, {"eye": "blue"}, {"star": False}, {"pattern": "solid"}):
        other = render(Pet(**{**pet.__dict__, **change}), scene, 64).astype(int)
        assert np.abs(other - plain).max() > 40, change


def test_large_and_small_renderings_show_the_same_pet():
    pet, scene = DEMO_SUBJECTS[1].pet, Scene("room")
    small, large = render(pet, scene, 64).astype(float), render(pet, scene, 256).astype(float)
    means = large.reshape(64, 4, 64, 4, 3).mean((1, 3))
    assert np.abs(means - small).mean() < 6


def test_captions_say_only_what_is_true():
    rng = np.random.default_rng(3)
    for _ in range(300):
        pet, scene = random_pet(rng), random_scene(rng)
        text = caption(pet, scene, rng)
        words = text.replace(",", "").split()
        assert text == text.lower() and pet.species in words
        assert not [s for s in SPECIES if s != pet.species and s in words]
        for place, phrases in PLACES.items():
            if place != scene.background:
                assert not any(text.endswith(p) for p in phrases)
        if scene.accessory == "none":
            assert not {"hat", "scarf", "collar"} & set(words)


def test_fresh_captions_are_unseen_and_complete():
    seen = {text for text, _, _ in fresh_captions(20, 0)}
    for text, pet, scene in fresh_captions(20, 0, seen):
        assert text not in seen and pet.coat in text and pet.species in text
        assert any(place in text for place in PLACES[scene.background])


def test_subjects_names_judge_and_training_pets_are_disjoint():
    rng = np.random.default_rng(0)
    names = {pet.signature for pet in named_pets().values()}
    assert len(names) == len(NAMES) == len(set(NAMES)) and not names & RESERVED
    assert len(RESERVED) == len(DEMO_SUBJECTS) + len(HELD_OUT_SUBJECTS) >= 10
    judge = {draw_pet(rng, "judge", striking_pet).signature for _ in range(50)}
    assert not judge & names and not judge & RESERVED
    assert all(pool(picture_facts(k, 7)[0]) == "train" for k in range(300))


def test_photos_are_those_of_a_phone():
    photos = demo_photos(DEMO_SUBJECTS[0], 5, size=128)
    assert len({photo.shape for photo in photos}) == 5
    again = demo_photos(DEMO_SUBJECTS[0], 5, size=128)
    assert all(np.array_equal(a, b) for a, b in zip(photos, again, strict=True))


def awake(kind):
    """A shallow model in which everything has a say."""
    torch.manual_seed(0)
    model = kind(*kind.SHALLOW).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_what_is_pretrained_is_what_a_run_opens(kind):
    """The velocity that pretraining asks of a model is the one that training a LoRA asks of its
    pipeline: the same latents, captions, positions and times."""
    model, captions = awake(kind), ["a photo of sks cat, on the beach", "a dog", ""]
    ae, pixels, t = kind.build_ae().eval(), torch.rand(3, 3, 64, 64) * 2 - 1, torch.rand(3)
    ids = {name: torch.tensor(rows) for name, rows in kind.token_ids(captions).items()}
    asked = get_family(kind.FAMILY)
    pipe = asked.prepare(model.pipeline(ae))
    text = asked.encode_text(pipe, captions, kind.MAX_SEQUENCE_LENGTH)
    latents = asked.encode_images(pipe, pixels)
    given = asked.inputs(pipe.transformer.config, latents, text, t, 64)
    theirs = asked.velocity(pipe.transformer(**given))
    ours = model(kind.code(ae, pixels), t, **ids)
    packed = ours if ours.shape == theirs.shape else FluxPipeline._pack_latents(ours, *ours.shape)
    assert ours.std() > 0.1
    torch.testing.assert_close(packed, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_grown_model_is_the_same_function(kind):
    model, captions = awake(kind), ["a photo of sks cat", ""]
    ids = {name: torch.tensor(rows) for name, rows in kind.token_ids(captions).items()}
    latents = kind.code(kind.build_ae(), torch.rand(2, 3, 64, 64))
    t = torch.tensor([0.2, 0.8])
    deep = kind.grown(model)
    torch.testing.assert_close(deep(latents, t, **ids), model(latents, t, **ids))
    assert len(deep.transformer.transformer_blocks) == kind.DEEP[0]


def test_each_word_name_and_trigger_is_one_token(tmp_path):
    t5, clip = build_t5(), build_clip()
    t5.save_pretrained(tmp_path / "t5")
    again = type(t5).from_pretrained(tmp_path / "t5")
    for word in (*vocabulary(), *TRIGGERS):
        assert len(again.tokenize(word)) == 1, word
        assert "-" in word or len(clip.tokenize(word)) == 1, word
    text = "A photo of SKS cat, on the beach."
    assert again(text).input_ids == t5("a photo of sks cat on the beach").input_ids
    assert again.unk_token_id not in again("a quixotic zebra, 7 times").input_ids
    assert not set(TRIGGERS) & set(vocabulary())


def test_captions_fit_the_text_length():
    t5, rng = build_t5(), np.random.default_rng(1)
    texts = [caption(random_pet(rng), random_scene(rng), rng, close=0.9) for _ in range(400)]
    assert max(len(t5(text).input_ids) for text in texts) <= MAX_SEQUENCE_LENGTH
    padding = build_tokenizer().pad_token_id
    assert all(row[-1] == padding for row in KINDS["sana"].token_ids(texts)["gemma_ids"])


def test_sana_reads_a_word_a_token_and_its_instruction_as_one():
    table = build_tokenizer()
    for word in (*vocabulary(), *TRIGGERS):
        assert len(table.tokenize(word)) == 1, word
    said = KINDS["sana"].token_ids(["A photo of SKS cat, on the beach.", ""])["gemma_ids"]
    assert [len(row) for row in said] == [LENGTH] * 2
    assert table.convert_ids_to_tokens(said[0])[:4] == ["<bos>", "▁askedfor", "▁a", "▁photo"]
    assert sum(token != table.pad_token_id for token in said[1]) == 1
    assert table.unk_token_id not in table("a quixotic zebra, 7 times").input_ids
