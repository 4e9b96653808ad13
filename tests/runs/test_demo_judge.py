"""The shipped judge, attacked with pets that it never saw: its weights are the ones everybody
uses."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from blockskip.core import files, safetensors_files
from blockskip.core.errors import UserError
from blockskip.core.paths import ASSETS
from blockskip.data.demo_vocabulary import BACKGROUNDS, SPECIES
from blockskip.lab.demo_world import judge_data, judge_report, judge_train
from blockskip.lab.demo_world.render import render
from blockskip.lab.demo_world.subjects import (
    DEMO_SUBJECTS,
    HELD_OUT_SUBJECTS,
    demo_photos,
    named_pets,
)
from blockskip.lab.demo_world.world import Pet, Scene, random_scene, striking_pet
from blockskip.runs.demo_judge import DEFAULT_PATH, HEADS, JudgeNet, load_judge, save_judge


@pytest.fixture(scope="module")
def judge():
    return load_judge()


def picture(pet, scene, seed=0, size=64):
    return Image.fromarray(render(pet, scene, size, seed))


def portraits(pet, seed, n=4, accessories=True):
    rng = np.random.default_rng(seed)
    places = [BACKGROUNDS[(seed + k) % len(BACKGROUNDS)] for k in range(n)]
    return [
        picture(pet, random_scene(rng, p, accessories=accessories), k) for k, p in enumerate(places)
    ]


def unseen_pets(n, seed=5):
    rng = np.random.default_rng(seed)
    return [judge_data.draw_judge_pet(rng, "check", striking_pet) for _ in range(n)]


def test_shipped_file_is_small_and_tells_how_good_it_is():
    facts = json.loads(safetensors_files.read_metadata(DEFAULT_PATH)["judge"])
    assert DEFAULT_PATH.stat().st_size <= 3 * 2**20
    evidence = files.read_json(ASSETS / "evidence" / "demo-judge.json")
    assert evidence["sharp"] == facts["sharp"]
    assert facts["sharp"]["top1"] > 0.8


def test_embeddings_have_unit_length_and_repeat_bit_for_bit(judge):
    images = portraits(unseen_pets(1)[0], 0)
    first = judge.embed(images)
    assert torch.allclose(first.norm(dim=1), torch.ones(len(images)), atol=1e-5)
    assert torch.equal(first, load_judge().embed(images))
    alone = torch.cat([judge.embed([image]) for image in images])
    assert torch.allclose(first, alone, atol=1e-4)  # a picture's company does not matter


def test_unseen_pets_are_recognised_in_other_places_and_clothes(judge):
    pets = unseen_pets(24)
    photos = torch.stack([judge.embed(portraits(p, 1, 4, False)).mean(0) for p in pets])
    seen = torch.stack([judge.embed(portraits(p, 3, 2)) for p in pets])  # (24, 2, E)
    like = seen.flatten(0, 1) @ photos.T
    owner = torch.arange(len(pets)).repeat_interleave(2)
    assert (like.argmax(1) == owner).float().mean() > 0.9
    assert like[torch.arange(len(owner)), owner].mean() > 0.85


def test_background_and_accessories_matter_less_than_the_pet(judge):
    mine, other = unseen_pets(2, seed=8)
    other = replace(other, species=mine.species)
    scenes = [
        Scene(place, kind, "blue")
        for place, kind in zip(
            BACKGROUNDS, ("none", "hat", "scarf", "collar", "none", "hat"), strict=True
        )
    ]
    a = judge.embed([picture(mine, s) for s in scenes])
    b = judge.embed([picture(other, s) for s in scenes])
    across = (a @ a.T)[~torch.eye(len(scenes), dtype=torch.bool)]
    assert across.min() > (a * b).sum(1).max()  # nothing but the scene shared < nothing but the pet


@pytest.mark.parametrize("kind", ["eyes", "pattern", "second", "coat", "species", "star", "socks"])
def test_look_alikes_are_ranked_below_the_pet_itself(judge, kind):
    rng, wins = np.random.default_rng(11), []
    for pet in unseen_pets(10, seed=12):
        twin = judge_data.look_alike(pet, kind, rng, False)
        if twin is None:
            continue
        photos = portraits(pet, 2, 3, False)
        wins += (
            judge.identity(portraits(pet, 5, 2), photos)
            > judge.identity(portraits(twin, 5, 2), photos)
        ).tolist()
    assert len(wins) >= 6 and np.mean(wins) > 0.8


def test_demo_subjects_are_never_taken_for_another_subject(judge):
    subjects = (*DEMO_SUBJECTS, *HELD_OUT_SUBJECTS)
    photos = [judge.embed([Image.fromarray(p) for p in demo_photos(s, 3, 64)]) for s in subjects]
    for k, subject in enumerate(subjects):
        seen = judge.embed(portraits(subject.pet, 4, 2))
        like = [float((seen @ photo.T).mean()) for photo in photos]
        assert int(np.argmax(like)) == k and like[k] > 0.8


def test_attributes_are_named_right_even_when_soft(judge):
    rng, hits = np.random.default_rng(4), []
    for pet in unseen_pets(40, seed=6):
        scene = random_scene(rng)
        (said,) = judge.attributes([judge_report.soft(picture(pet, scene))])
        right = judge_report.true_attributes(pet, scene)
        assert set(said) == set(HEADS) == set(right)
        hits.append([said[k] == right[k] for k in ("species", "coat", "background", "pattern")])
    *plain, pattern = np.mean(hits, 0)
    assert min(plain) > 0.95
    assert pattern > 0.75  # soft stripes and spots look alike; 0.86 on sharp pictures


def test_no_judged_pet_belongs_to_somebody_else():
    learnt = {pet.signature for pet in judge_train.training_pets(0, 100)}
    reserved = {s.pet.signature for s in (*DEMO_SUBJECTS, *HELD_OUT_SUBJECTS)}
    reserved |= {pet.signature for pet in named_pets().values()}
    assert not learnt & (reserved | {pet.signature for pet in unseen_pets(100)})


@pytest.mark.parametrize("species", SPECIES)
def test_layers_put_together_are_what_the_renderer_draws(species):
    pet, scene = Pet(species, "orange", "spotted", "teal", "blue", star=True), judge_data.POSE
    layers = judge_data.Layers.paint([pet], judge_data.sprite(pet)[None], each=1)
    place = np.asarray(layers.places[0].permute(1, 2, 0), np.float32) / 255
    cover = layers.coverage[SPECIES.index(species) * 2].numpy()[..., None]
    ours = layers.sprites[0] / 255 + (1 - cover) * place
    tone = float(np.random.default_rng([17, 0]).random())
    drawn = render(pet, replace(scene, background=BACKGROUNDS[0], tone=tone), 96, 0) / 255
    assert np.abs(ours - drawn).mean() < 0.02


def test_a_killed_training_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(judge_train, "FAMILIES_A_BATCH", 2)
    monkeypatch.setattr(judge_train, "VIEWS", 2)
    pets = judge_train.training_pets(1, 2)
    layers = judge_data.Layers.paint(pets, np.stack([judge_data.sprite(p) for p in pets]), each=1)
    first = judge_train.Training(tmp_path, 1)
    first.learn(layers, 1, 0.01)
    again = judge_train.Training(tmp_path, 1)
    assert again.step == first.step >= 1 and again.spent_s == first.spent_s
    again.learn(layers, 1, first.spent_s + 0.01)
    assert again.step > first.step


def test_other_sizes_and_shapes_are_judged_alike(judge):
    pet, scene = unseen_pets(1, seed=3)[0], Scene("beach")
    shapes = [picture(pet, scene, size=size) for size in (64, 128, (160, 120), (120, 180))]
    like = judge.embed(shapes) @ judge.embed(shapes).T
    assert like.min() > 0.9


def test_a_missing_or_foreign_file_is_named(tmp_path):
    with pytest.raises(UserError, match="missing"):
        load_judge(tmp_path / "no.safetensors")
    safetensors_files.save_tensors(tmp_path / "other.safetensors", {"a": torch.zeros(1)})
    with pytest.raises(UserError, match="not a judge"):
        load_judge(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="no picture"):
        load_judge().embed([])
    save_judge(JudgeNet(), {"x": 1}, tmp_path / "fresh.safetensors")
    assert load_judge(tmp_path / "fresh.safetensors").facts == {"x": 1}
