"""A photo is known by what is in it, not by its ending, and what accompanies photos is passed over."""

import io

import pytest
from PIL import Image

from blockskip.core.errors import UserError
from blockskip.data import photos
from blockskip.data.photos import find_photos, open_photo, read_photos

FORMATS = ("JPEG", "PNG", "WEBP", "HEIF", "AVIF", "BMP", "TIFF", "GIF")


def encoded(kind: str) -> bytes:
    photos._register()
    data = io.BytesIO()
    picture = Image.new("RGB", (48, 40), (200, 120, 40))
    picture.save(data, kind, **({} if kind in ("BMP", "GIF", "TIFF", "PNG") else {"quality": 100}))
    return data.getvalue()


def test_the_endings_are_all_that_the_decoders_know():
    photos._register()
    Image.init()
    known = {end for end, kind in Image.EXTENSION.items() if kind in (*photos.READABLE, "MPO")}
    assert known < set(photos.SUFFIXES)
    assert {".jif", ".jfi", ".pjpeg", ".pjp"} == set(photos.SUFFIXES) - known, "browsers' names"


@pytest.mark.parametrize("kind", FORMATS)
def test_any_ending_will_do(tmp_path, kind):
    names = [
        "a.jpg",
        "b.JFIF",
        "c.jpe",
        "d.png",
        "e.heic",
        "f.avif",
        "g",
        "h.1",
        "i.jpeg!d",
        "j.dat",
    ]
    names += [] if kind == "TIFF" else ["k.dng"]
    for name in names:
        (tmp_path / name).write_bytes(encoded(kind))
    good, bad = read_photos(find_photos([tmp_path]), "x")
    assert [photo.path.name for photo in good] == names and not bad
    for photo in good:
        pixel = open_photo(photo.path).getpixel((20, 20))
        assert max(abs(a - b) for a, b in zip(pixel, (200, 120, 40), strict=True)) <= 3


def test_companions_are_passed_over_in_silence(tmp_path):
    jpeg = encoded("JPEG")
    for name in ("IMG_1.HEIC", "IMG_2.jpg", "cat", "mask.png"):
        (tmp_path / name).write_bytes(jpeg)
    for name in (
        *("IMG_1.MOV", "IMG_2.mp4", "IMG_2-masklabel.png", "IMG_2-condlabel.png", "IMG_1.AAE"),
        *("IMG_2.xmp", "IMG_2.txt", "IMG_2.caption", "IMG_2.npz", "IMG_2_flux.safetensors"),
        *("IMG_2.json", "IMG_2.jpg.supplemental-metadata.json", "metadata.jsonl", "metadata.csv"),
        *("Thumbs.db", ".DS_Store", "desktop.ini", "._IMG_1.HEIC", "IMG_2.jpg.pp3", "dataset.toml"),
    ):
        (tmp_path / name).write_bytes(b"x")
    assert {p.name for p in find_photos([tmp_path])} == {
        "IMG_1.HEIC",
        "IMG_2.jpg",
        "cat",
        "mask.png",
    }
    assert [p.name for p in find_photos([tmp_path / "IMG_1.MOV"])] == ["IMG_1.MOV"], "named later"


def tiff(**tags) -> bytes:
    data = io.BytesIO()
    numbers = {int(key[1:]): value for key, value in tags.items()}
    Image.new("RGB", (48, 40)).save(data, "TIFF", tiffinfo=numbers)
    return data.getvalue()


@pytest.mark.parametrize(
    "name, data, words",
    [
        ("a.tif", tiff(t254=1), "raw file"),  # NEF and ARW: first a small preview
        ("a.jpg", tiff(t50706=b"\x01\x04\0\0"), "raw file"),  # DNGVersion
        ("a.nef", tiff(), "raw file"),
        ("a.cr3", b"\0\0\0\x18ftypcrx ", "raw file"),
        ("a.jpg", b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        ("a.jxl", b"\xff\x0a\0\0", "JPEG XL"),
        ("a.jp2", b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        ("a.jpg", b"PK\x03\x04", "ZIP"),
        ("a.psd", b"8BPS", "Photoshop"),
        ("a.jpg", b"\0\0\0\x18ftypM4V ", "video"),
        ("a.jpg", b"\0\0\0\x18ftypiso6", "video"),
        ("a.svg", b"<svg xmlns=", "web page"),
    ],
)
def test_what_is_no_photo_is_named_by_its_content(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=words) as caught:
        open_photo(tmp_path / name)
    assert caught.value.remedy
