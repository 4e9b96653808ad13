"""A box beside a photo goes where the photo goes, and a bad one spoils nothing."""

import dataclasses
import tomllib

import numpy as np
import pytest
import tomli_w
from PIL import Image

from blockskip.core.settings import Settings
from blockskip.data.demo_vocabulary import BACKGROUNDS
from blockskip.data.photos import find_photos, read_photos
from blockskip.data.subject_boxes import Box, box_path, propose_box, read_box, write_box
from blockskip.lab.demo_world.render import render
from blockskip.lab.demo_world.world import random_pet, random_scene
from blockskip.runs import identity
from blockskip.runs.run import create_run

BOX = Box(0.1, 0.25, 0.75, 1.0)


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "Mötz 1.2 am Fenster.jpg"
    Image.new("RGB", (60, 40)).save(path)
    return path


def test_a_box_comes_back_and_goes(photo):
    assert read_box(photo) is None
    write_box(photo, BOX)
    assert read_box(photo) == BOX
    assert box_path(photo).name == "Mötz 1.2 am Fenster.box.json"
    assert find_photos([photo.parent]) == [photo], "it is no photo"
    write_box(photo, None)
    write_box(photo, None)
    assert read_box(photo) is None and not box_path(photo).exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe\x00",
        b"[]",
        b"null",
        b"{" * 3000,
        b"[" * 100_000,
        b'{"left": 0, "top": 0, "right": 1}',
        b'{"left": 0.5, "top": 0, "right": 0.5, "bottom": 1}',
        b'{"left": 0.9, "top": 0, "right": 0.1, "bottom": 1}',
        b'{"left": 0, "top": 0, "right": 1.2, "bottom": 1}',
        b'{"left": -1, "top": 0, "right": 1, "bottom": 1}',
        b'{"left": NaN, "top": 0, "right": 1, "bottom": 1}',
        b'{"left": 0, "top": 0, "right": Infinity, "bottom": 1}',
        b'{"left": "0", "top": 0, "right": 1, "bottom": 1}',
        b'{"left": false, "top": 0, "right": true, "bottom": 1}',
        b'{"left": 0, "top": 0, "right": 1, "bottom": null}',
    ],
)
def test_a_bad_box_is_no_box(photo, data):
    box_path(photo).write_bytes(data)
    assert read_box(photo) is None
    assert read_photos([photo], "a cat")[0][0].box is None


def test_a_box_by_hand_is_read_and_copied_into_the_run(photo):
    box_path(photo).write_text(
        '{"bottom": 1, "left": 0.1, "right": 0.75, "top": 0.25, "note": "mine"}', encoding="utf-8"
    )
    assert read_photos([photo], "a cat")[0][0].box == BOX
    run = create_run(Settings(trigger="momo"), [photo])
    (copied,) = read_photos(find_photos([run.photos_dir]), "a cat")[0]
    assert copied.box == BOX


def test_a_run_is_known_by_its_boxes_too(photo):
    """Without a box as before boxes; with one, through run.toml and back."""
    plain = read_photos([photo], "a cat")[0][0]
    assert identity.photo_facts(plain) == {"file": photo.name, "sha": plain.sha, "caption": "a cat"}
    told = identity.photo_facts(dataclasses.replace(plain, box=Box(0, 0.1, 1 / 3, 1)))
    assert tomllib.loads(tomli_w.dumps(told)) == told
    assert told != identity.photo_facts(dataclasses.replace(plain, box=Box(0, 0.1, 0.3, 1)))


def test_the_proposal_finds_pets_of_all_colours_in_all_places():
    """The true box: where a picture differs from the same place with another pet's colours."""
    overlap, covered = [], []
    for seed in range(18):
        rng = np.random.default_rng([3, seed])
        scene = random_scene(rng, BACKGROUNDS[seed % 6], accessories=False)
        pet = random_pet(rng)
        other = dataclasses.replace(pet, coat="black" if pet.coat != "black" else "white")
        picture, recoloured = (render(p, scene, (160, 120), seed) for p in (pet, other))
        box = propose_box(Image.fromarray(picture))
        assert box is not None
        there = np.abs(picture.astype(int) - recoloured).sum(-1) > 30
        rows, columns = np.flatnonzero(there.any(1)), np.flatnonzero(there.any(0))
        true = (columns[0] / 160, rows[0] / 120, (columns[-1] + 1) / 160, (rows[-1] + 1) / 120)
        wide = min(box.right, true[2]) - max(box.left, true[0])
        high = min(box.bottom, true[3]) - max(box.top, true[1])
        both, all_of_it = max(0, wide) * max(0, high), (true[2] - true[0]) * (true[3] - true[1])
        overlap.append(both / (all_of_it + box.area - both))
        covered.append(both / all_of_it)
    assert np.mean(overlap) > 0.7 and np.mean(covered) > 0.85


def test_where_nothing_stands_out_nothing_is_proposed():
    noise = np.random.default_rng(0).integers(90, 160, (120, 160, 3))
    fade = np.linspace(60, 200, 160)[None, :, None] + np.zeros((120, 160, 3))
    for pixels in (np.full((120, 160, 3), 90), noise, fade, fade[:, :, ::-1] + noise / 20):
        assert propose_box(Image.fromarray(pixels.astype(np.uint8))) is None
    assert (
        propose_box(Image.new("RGB", (1, 1))) is None
        and propose_box(Image.new("RGB", (3000, 2))) is None
    )
