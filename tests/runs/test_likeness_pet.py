"""Likeness on real models: DINOv2's real class on tiny random weights, pictures that are known."""

import dataclasses
import itertools

import numpy as np
import pytest
from helpers import tiny_detector, tiny_dino
from PIL import Image

from blockskip.core import files
from blockskip.core.presets import model_rows
from blockskip.core.settings import Settings
from blockskip.data.subject_boxes import Box
from blockskip.runs import image_requests, image_session, likeness, likeness_pet, likeness_pictures
from blockskip.runs.likeness_features import SIDE_PX, square_crop
from blockskip.runs.likeness_rules import report
from blockskip.runs.run import create_run

REAL = next(name for name, row in model_rows().items() if not row.demo)
PROMPTS = ("a photo of sks cat", "sks cat on the beach", "sks cat in the snow", "a photo of a cat")


PET = np.random.default_rng(999).integers(0, 256, (5, 5, 3)).astype(np.float32)
OTHER = np.clip(0.2 * (255 - PET), 0, 255)  # darker, and of other colours


def picture(seed: int, animal: np.ndarray = PET, share: float = 0.6) -> Image.Image:
    """A picture of an animal among random areas, alike for what sees colours."""
    around = np.random.default_rng(seed).integers(0, 256, (5, 5, 3))
    mixed = around * (1 - share) + animal * share
    return Image.fromarray(mixed.astype(np.uint8)).resize((80, 80), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def tool(tmp_path_factory):
    return tiny_dino.write(tmp_path_factory.mktemp("tool"))


@pytest.fixture
def here(tool, monkeypatch):
    """The judge of likeness is on this computer, the finder of pets is not."""
    for module in (likeness, likeness_pet):
        monkeypatch.setattr(module, "has_tool", lambda name: name == "likeness")
    monkeypatch.setattr(likeness_pet, "find_tool", lambda name: tool)


@pytest.fixture
def make(tmp_path, here):
    """Make a run of photos (number → picture) of which some are held out, with pictures by step."""
    numbers = itertools.count()

    def run(photos: dict[int, Image.Image], held: set[int], steps: dict[int, list[Image.Image]]):
        folder = tmp_path / str(next(numbers))
        paths = {}
        for number, image in photos.items():
            paths[number] = folder / f"{number}.png"
            files.write_bytes(paths[number], image_requests.png_bytes(image, "", 0))
        settings = Settings(model=REAL, preview_prompts=PROMPTS)
        made = create_run(
            settings, list(paths.values()), f"run {folder.name}", None, [paths[k] for k in held]
        )
        for step, images in steps.items():
            for k, (image, prompt) in enumerate(zip(images, PROMPTS, strict=True)):
                data = image_requests.png_bytes(image, prompt, k)
                files.write_bytes(made.previews_dir / f"step-{step:05d}" / f"{k:02d}.png", data)
            if step:
                files.write_bytes(made.adapters_dir / f"step-{step:05d}.safetensors", b"")
        return made

    return run


PHOTOS = {k: picture(k) for k in range(6)}
BEFORE = [picture(100 + k, OTHER) for k in range(4)]


def test_a_copy_of_a_training_photo_is_told_and_one_of_a_held_out_photo_is_not(make):
    made = make(
        PHOTOS,
        {4, 5},
        {
            0: BEFORE,
            10: [PHOTOS[0], PHOTOS[1], *BEFORE[2:]],
            20: [PHOTOS[4], PHOTOS[5], PHOTOS[4], BEFORE[3]],
        },
    )
    rows = likeness.measure(made)
    assert (rows["by_step"][10]["copies"], rows["by_step"][20]["copies"]) == (2, 0)
    assert rows["anchors"]["held_out"] and rows["anchors"]["photos"] == 2
    assert rows["by_step"][10]["not_found"] is None, "nobody looked"
    assert rows["by_step"][20]["subject"] > rows["by_step"][10]["subject"], "copying is no merit"
    assert rows["best_step"] == 20, "most pictures of the other step are copies"
    assert likeness.read(made) == rows


def test_without_held_out_photos_copying_is_rewarded_and_shows(make):
    copies = [PHOTOS[0], PHOTOS[1], PHOTOS[2], BEFORE[3]]
    fresh = [picture(60 + k) for k in range(3)]
    rows = likeness.measure(make(PHOTOS, set(), {0: BEFORE, 10: [*fresh, BEFORE[3]], 20: copies}))
    assert not rows["anchors"]["held_out"] and rows["anchors"]["photos"] == 6
    assert rows["by_step"][20]["copies"] == 3 and rows["best_step"] == 10
    assert "from step 20 on" in rows["advice"]


def test_neither_the_order_of_photos_nor_of_pictures_matters(make):
    steps = {0: BEFORE, 10: [picture(70 + k) for k in range(3)] + [BEFORE[3]]}
    one = likeness.measure(make(PHOTOS, {4, 5}, steps))
    turned = {8 - k: image for k, image in PHOTOS.items()}  # names in the opposite order
    other = likeness.measure(
        make(dict(reversed(turned.items())), {4, 3}, dict(reversed(steps.items())))
    )
    assert one["anchors"] == pytest.approx(other["anchors"], abs=2e-4)
    for step in steps:
        for key in ("subject", "class_word", "nearest"):
            assert one["by_step"][step][key] == pytest.approx(other["by_step"][step][key], abs=2e-4)


def test_the_class_word_that_becomes_the_pet_is_overlearnt(make, monkeypatch):
    """Pictures of the class word that went more than half of the way to those of the pet."""
    monkeypatch.setattr(likeness_pet, "propose_box", lambda image: None)
    pet = [picture(80 + k) for k in range(3)]
    made = make(PHOTOS, {4, 5}, {0: BEFORE, 10: [*pet, BEFORE[3]], 20: [*pet, picture(83)]})
    assert likeness.measure(made)["overlearnt_from"] is None, "one picture has no spread"
    monkeypatch.setattr(
        likeness_pictures, "_sample", lambda run, wanted, progress: sample(run, wanted)
    )

    def sample(run, wanted):
        for step, keys in wanted:
            for k, (prompt, seed) in enumerate(keys):
                mixed = step == 20 or (step == 10 and k < 3)
                image = picture(seed + k, PET if mixed else OTHER)
                path = run.likeness_dir / f"step-{step:05d}" / f"{k:02d}-{seed}.png"
                files.write_bytes(path, image_requests.png_bytes(image, prompt, seed))

    rows = likeness.measure(made, rounds=3)
    assert rows["anchors"]["rounds"] == 3 and rows["by_step"][10]["pictures"] == 16
    assert (rows["best_step"], rows["overlearnt_from"]) == (10, 20)


@pytest.mark.parametrize("sure, lost", [(2.0, 0), (-6.0, 4)])
def test_pets_that_the_finder_does_not_find_are_counted(
    make, tool, monkeypatch, tmp_path, sure, lost
):
    """The finder's real class sees a cat in every picture, or in none."""
    made = make(PHOTOS, {5}, {0: BEFORE, 10: [*(picture(90 + k) for k in range(3)), BEFORE[3]]})
    for name, data in tiny_detector.published(sure).items():
        files.write_bytes(tmp_path / "detector" / name, data)
    folders = {"likeness": tool, "detector": tmp_path / "detector"}
    monkeypatch.setattr(likeness_pet, "has_tool", lambda name: True)
    monkeypatch.setattr(likeness_pet, "find_tool", folders.get)
    step = likeness.measure(made)["by_step"][10]
    assert step["not_found"] == lost and step["pictures"] == 4, "they are measured all the same"


def test_only_the_frame_is_seen_and_nothing_is_stretched():
    image = Image.new("RGB", (300, 200), "red")
    image.paste("blue", (60, 50, 180, 110))
    crop = np.asarray(square_crop(image, Box(0.2, 0.25, 0.6, 0.55)))
    assert crop.shape == (SIDE_PX, SIDE_PX, 3)
    rows = np.flatnonzero((crop == (0, 0, 255)).all(-1).mean(1) > 0.9)
    assert len(rows) == pytest.approx(SIDE_PX / 2, abs=4), "120 × 60 stays 2 : 1"
    assert (crop[:40] == (124, 116, 104)).all() and not (crop == (255, 0, 0)).all(-1).any()


def test_more_pictures_go_on_where_they_were_broken_off(make, monkeypatch):
    made, asked = make(PHOTOS, set(), {0: BEFORE, 10: BEFORE, 20: BEFORE}), []

    class Session:
        def __init__(self, run, exact):
            assert run.image_worker() is not None, "a training that starts ends it"

        def generate(self, prompts, seeds, step, strength, px):
            assert (step is None) == (strength == 0.0)
            if len(asked) == 2:
                asked.append(None)
                raise KeyboardInterrupt
            asked.append((step, tuple(seeds)))
            return [picture(seed) for seed in seeds]

    monkeypatch.setattr(image_session, "ImageSession", Session)
    told = []
    with pytest.raises(KeyboardInterrupt):
        likeness_pictures.make_rounds(made, 1, lambda *n: told.append(n))
    assert told == [(0, 12), (4, 12), (8, 12)] and made.image_worker() is None
    assert all(len(images) == 4 for images in likeness_pictures.compared(made).values())
    likeness_pictures.make_rounds(made, 1, lambda *n: told.append(n))
    assert asked == [(None, (2000,) * 4), (10, (2000,) * 4), None, (20, (2000,) * 4)]
    assert all(len(images) == 8 for images in likeness_pictures.compared(made).values())
    files.write_bytes(made.adapters_dir / "step-00030.safetensors", b"")
    files.write_bytes(
        made.previews_dir / "step-00030" / "00.png",
        image_requests.png_bytes(BEFORE[0], PROMPTS[0], 0),
    )
    assert len(likeness_pictures.compared(made)[20]) == 4, "a new step lacks that round"


def test_old_reports_and_runs_open(make):
    made = make(PHOTOS, set(), {0: BEFORE, 10: BEFORE})
    old = {"subject": None, "class_word": None, "places_obeyed": None}
    files.write_json(
        likeness.likeness_file(made),
        {"by_step": {"10": old}, "best_step": None, "overlearnt_from": None, "advice": "Look."},
    )
    said = likeness.read(made)
    assert said["measure"] is None and "row 4" in said["advice"], "not measured yet"
    rows = likeness.measure(made)
    assert rows["measure"] == "features" and likeness.read(made) == rows
    demo = create_run(dataclasses.replace(made.settings(), model="demo"), [], "demo")
    files.write_bytes(demo.adapters_dir / "step-00010.safetensors", b"")
    figures = {"subject": 0.8, "class_word": 0.1, "places_obeyed": [3, 4]}
    files.write_json(
        likeness.likeness_file(demo),
        {"by_step": {"10": figures}, "best_step": 10, "overlearnt_from": None, "advice": "Keep."},
    )
    assert likeness.read(demo)["by_step"][10]["subject"] == 0.8
    assert report({}, [])["best_step"] is None
