"""What is said about photos is true: each fault is found where it was made, and nowhere else."""

import dataclasses
import functools
import io
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

from blockskip.core.errors import UserError
from blockskip.core.paths import ASSETS
from blockskip.data import photo_features
from blockskip.data.demo_vocabulary import BACKGROUNDS
from blockskip.data.photo_checks import Finding, advice, check, findings
from blockskip.data.photo_features import features, from_dict, measure
from blockskip.data.subject_boxes import Box, write_box
from blockskip.lab.demo_world.render import render
from blockskip.lab.demo_world.world import random_pet, random_scene

DEMO = sorted((ASSETS / "demo-photos").glob("*/*.jpg"))


@functools.cache
def picture(seed: int, background: str = "room", size: tuple[int, int] = (200, 150)) -> Image.Image:
    """A drawn pet in a scene."""
    rng = np.random.default_rng(seed)
    pet = random_pet(rng)
    scene = random_scene(rng, background or BACKGROUNDS[seed % 6], accessories=False)
    return Image.fromarray(render(pet, scene, size, seed))


def fur(seed: int = 0) -> Image.Image:
    """Fine strokes of all brightnesses on patches of colour, as sharp as pixels can be."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 200, (6, 8, 3)).repeat(90, 0).repeat(90, 1)
    strokes = np.repeat(rng.normal(0, 18, (540, 180, 1)), 4, 1)
    return Image.fromarray(np.clip(coarse + strokes, 0, 255).astype(np.uint8))


def exposed(image: Image.Image, stops: float) -> Image.Image:
    """The picture as `stops` more light would have made it."""
    light = (np.asarray(image) / 255) ** 2.2 * 2.0**stops
    return Image.fromarray((np.clip(light, 0, 1) ** (1 / 2.2) * 255).round().astype(np.uint8))


def moved(image: Image.Image, by_px: int) -> Image.Image:
    """The picture as a pet that runs to the right would make it."""
    shifts = [np.roll(np.asarray(image, float), i, 1) for i in range(by_px)]
    return Image.fromarray(np.mean(shifts, 0).astype(np.uint8))


def kinds(image: Image.Image, least_px: int = 512, box: Box | None = None) -> list[str]:
    return [f.kind for f in findings({"a": measure(image)}, {"a": box}, least_px)["a"]]


def saved(image: Image.Image, quality: int) -> Image.Image:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=quality)
    return Image.open(data).convert("RGB")


@pytest.fixture(scope="module")
def good():
    """A drawing, and strokes like fur, 540 pixels on the short side."""
    return [picture(3, "meadow", (720, 540)), fur()]


def test_nothing_is_said_of_the_demo_photos():
    for pet in ("violet-cat", "teal-spotted-dog"):
        paths = [path for path in DEMO if path.parent.name == pet]
        found = check(paths, 64)
        assert found == [[]] * 5
        measured = {path.name: features(path) for path in paths}
        assert advice(measured, {}, dict(zip(measured, found, strict=True))) == []
    small = [Image.open(path).convert("RGB").resize((64, 64)) for path in DEMO]
    assert all(kinds(image, 64) == [] for image in small), "sharp for its size"


def test_blur_is_found_from_two_pixels_on_and_sharp_photos_are_let_be(good):
    for image in good:
        assert kinds(image) == kinds(saved(image, 40)) == []
        assert kinds(image.filter(ImageFilter.GaussianBlur(0.7))) == []
        for sigma in (2.2, 4, 8, 16):
            assert kinds(image.filter(ImageFilter.GaussianBlur(sigma))) == ["blurred"], sigma
    assert kinds(moved(good[0], 17)) == ["blurred"], "along one axis only"


def test_blur_is_judged_at_the_size_that_is_trained(good):
    """Blurred by 3 of 2160 pixels is sharp at 512; what is trained at 64 forgives more."""
    big = good[0].resize((2880, 2160), Image.Resampling.NEAREST)
    assert kinds(big.filter(ImageFilter.GaussianBlur(3))) == []
    assert kinds(good[0].filter(ImageFilter.GaussianBlur(4)), least_px=64) == []


def test_with_a_box_the_pet_is_asked_and_not_the_sofa(good):
    """A blurred pet on a sharp sofa, and the other way round."""
    box = Box(0.3, 0.3, 0.8, 0.8)
    soft = good[1].filter(ImageFilter.GaussianBlur(3))
    edges = tuple(round(e * s) for e, s in zip((0.3, 0.3, 0.8, 0.8), good[1].size * 2, strict=True))
    pet_soft, pet_sharp = good[1].copy(), soft.copy()
    pet_soft.paste(soft.crop(edges), edges)
    pet_sharp.paste(good[1].crop(edges), edges)
    assert kinds(pet_soft, box=box) == ["blurred"] and kinds(pet_soft) == []
    assert kinds(pet_sharp, box=box) == []


def test_light_is_judged(good):
    for image in good:
        assert kinds(exposed(image, 0.4)) == kinds(exposed(image, -1)) == []
        assert "dark" in kinds(exposed(image, -5))
    assert "white" in kinds(exposed(good[0], 3))
    half = Image.fromarray(np.asarray(good[1]).copy())
    half.paste("white", (0, 0, 200, 540))
    assert kinds(half, box=Box(0.4, 0.1, 1, 1)) == []
    assert kinds(half, box=Box(0, 0.1, 0.5, 1)) == ["white"]
    assert kinds(picture(1, "night", (720, 540))) == [], "a night is no fault"


def test_size_and_shape(good):
    assert kinds(good[0].resize((400, 300))) == ["small"]
    wide = Image.new("RGB", (1600, 540))
    wide.paste(good[1], (0, 0))
    wide.paste(fur(1), (720, 0))
    assert kinds(wide) == ["strip"]
    assert kinds(wide, box=Box(0, 0, 0.3, 1)) == []
    assert kinds(wide, box=Box(0, 0, 0.9, 1)) == ["cut"]
    assert kinds(good[1], box=Box(0.4, 0.4, 0.6, 0.6)) == ["speck"]


@pytest.mark.parametrize(
    "change",
    [
        lambda i: saved(i, 20),
        lambda i: i.resize((i.width // 3, i.height // 3)),
        lambda i: ImageOps.mirror(i),
        lambda i: exposed(i, -0.8),
        lambda i: i.filter(ImageFilter.GaussianBlur(2)),
        lambda i: i.crop((6, 5, i.width - 5, i.height - 4)),
    ],
    ids=["saved again", "shrunk", "mirrored", "darker", "blurred", "cut a little"],
)
def test_the_same_photo_again_is_named_and_another_pose_is_not(change):
    for seed in range(3):
        image = picture(seed, "")
        others = {f"other {k}": measure(picture(20 + k, "")) for k in range(5)}
        found = findings({"a": measure(image), **others, "b": measure(change(image))}, {}, 50)
        assert [f.kind for f in found["b"]] == ["twin"] and "Nearly the same as a:" in found["b"][
            0
        ].text
        assert not any(found[key] for key in ("a", *others))


def test_a_moved_pet_in_the_same_place_is_no_duplicate():
    rng = np.random.default_rng(5)
    for seed in range(6):
        pet, scene = random_pet(rng), random_scene(rng, BACKGROUNDS[seed], accessories=False)
        other = dataclasses.replace(
            scene, x=scene.x + 0.15, scale=scene.scale * 0.8, mirror=not scene.mirror
        )
        shown = {
            name: measure(Image.fromarray(render(pet, s, (200, 150), seed)))
            for name, s in (("a", scene), ("b", other))
        }
        assert findings(shown, {}, 64)["b"] == []


def test_three_of_a_kind_all_name_the_first():
    image = measure(picture(2))
    found = findings({"a": image, "b": image, "c": image}, {}, 64, {"a": "Mötz 1.jpg"})
    assert [[f.kind for f in found[key]] for key in "abc"] == [[], ["twin"], ["twin"]]
    assert all("Mötz 1.jpg" in found[key][0].text for key in "bc")
    assert findings({}, {}, 64) == {}


def told(photos: dict, boxes: dict | None = None) -> list[str]:
    return advice(photos, boxes or {}, findings(photos, boxes or {}, 64))


def test_advice_counts_near_duplicates_once_and_ends_when_the_set_is_good():
    photos = {str(k): measure(picture(40 + k, BACKGROUNDS[k % 6])) for k in range(6)}
    few = dict(list(photos.items())[:2])
    assert "Add at least 2 more photos;" in told(few)[0]
    assert (
        "at least 2 more photos (near-duplicates count once)" in told({**few, "again": few["0"]})[0]
    )
    assert told(photos) == []
    assert "4 more photos" in told({})[0]
    crowd = {f"{key} {k}": photo for k in range(4) for key, photo in photos.items()}
    assert "20 good photos are enough:" in advice(crowd, {}, {key: [] for key in crowd})[0]
    assert told(crowd) == [], "six photos four times are six photos"


def test_advice_on_places_views_and_faults():
    rng = np.random.default_rng(1)
    pet, sofa = random_pet(rng), random_scene(rng, "sofa", accessories=False)
    same = {}
    for k in range(5):
        scene = dataclasses.replace(sofa, x=0.4 + 0.1 * k, scale=0.5 + 0.05 * k, mirror=k % 2 == 1)
        same[str(k)] = measure(Image.fromarray(render(pet, scene, (200, 150), k)))
    clean = {key: [] for key in same}
    assert any("other places" in s for s in advice(same, {}, clean))
    other = {str(k): measure(picture(40 + k, BACKGROUNDS[k])) for k in range(5)}
    far = {key: Box(0.4, 0.4, 0.7, 0.8) for key in other}
    near = {key: Box(0.05, 0.05, 0.95, 0.95) for key in other}
    assert advice(other, far, clean) == ["Add a photo of the face from close."]
    assert "whole body" in advice(other, near, clean)[0]
    assert advice(other, {**far, "0": near["0"]}, clean) == []
    bad = {key: [Finding("blurred", "")] for key in same}
    said = advice(dict(list(same.items())[:3]), {}, bad)
    assert len(said) == 3 and all(
        sentence[0].isupper() and sentence.endswith(".") for sentence in said
    )


@pytest.fixture
def counted(monkeypatch):
    """How often a photo is decoded."""
    opened = []

    def look(path, short_px, real=photo_features.open_small):
        opened.append(path)
        return real(path, short_px)

    monkeypatch.setattr(photo_features, "open_small", look)
    return opened


def test_a_photo_is_decoded_once_even_by_another_process(tmp_path, counted):
    path, kept = tmp_path / "ä 1.jpg", tmp_path / "kept"
    picture(1).save(path)
    first = check([path], 64, kept)
    assert check([path], 64, kept) == first and len(counted) == 1
    photo_features._cached_features.cache_clear()  # as in a new process
    assert features(path, kept) == features(path) and len(counted) == 2, (
        "the second asked for no folder"
    )
    path.rename(tmp_path / "b.jpg")
    assert features(tmp_path / "b.jpg", kept) and len(counted) == 2, "known by its content"
    for broken in (b"", b"{}", b"[1]", b'{"width": 3}'):
        next(kept.glob("*.json")).write_bytes(broken)
        photo_features._cached_features.cache_clear()
        assert check([tmp_path / "b.jpg"], 64, kept) == first
    assert len(counted) == 6
    before = features(tmp_path / "b.jpg", kept)
    picture(2).save(tmp_path / "b.jpg", quality=60)
    assert features(tmp_path / "b.jpg", kept) != before and len(counted) == 7


def test_features_go_through_json(tmp_path):
    image = measure(picture(1))
    assert from_dict(json.loads(json.dumps(dataclasses.asdict(image)))) == image


@pytest.mark.parametrize("suffix", ["jpg", "png", "heic"])
def test_size_and_cells_are_those_of_the_upright_photo(tmp_path, suffix):
    """A sideways phone photo, big enough to be decoded small: white above, sharp below."""
    upright = Image.new("RGB", (1080, 1440), "white")
    upright.paste(fur().resize((1080, 810), Image.Resampling.NEAREST), (0, 630))
    path, exif = tmp_path / f"a.{suffix}", Image.Exif()
    exif[0x0112] = 6
    from blockskip.data import photos

    photos._register()
    upright.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif.tobytes(), quality=95)
    found = features(path)
    assert (found.width, found.height) == (1080, 1440)
    assert found.white[:6] == (1.0,) * 6 and found.white[-6:] == (0.0,) * 6
    assert not any(any(pair) for pair in found.soft[:6]) and all(all(p) for p in found.soft[-6:])


def test_boxes_beside_the_photos_are_heeded_and_bad_files_are_named(tmp_path):
    path = tmp_path / "a.jpg"
    fur().save(path, quality=95)
    write_box(path, Box(0.4, 0.4, 0.6, 0.6))
    assert [f.kind for f in check([path], 512)[0]] == ["speck"]
    (tmp_path / "b.jpg").write_bytes(b"no photo")
    for name in ("b.jpg", "gone.jpg"):
        with pytest.raises(UserError, match=name):
            check([path, tmp_path / name], 512)


def test_nothing_here_needs_torch():
    code = "import sys, blockskip.data.photo_checks, blockskip.data.captions; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
