"""Photos as phones make them come out the way a person sees them; a bad one is named, the rest go
on."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin

from blockskip.core.errors import UserError
from blockskip.data import photos
from blockskip.data.photos import (
    RejectedPhoto,
    find_photos,
    open_photo,
    read_photos,
    reencode,
    scale_photo,
)

PLAIN = "a photo of sks cat"


def scene(width: int = 60, height: int = 40) -> Image.Image:
    """Four corners in four colours on grey: every turn and mirror of it looks different."""
    image = Image.new("RGB", (width, height), (128, 128, 128))
    half = (width // 2, height // 2)
    for corner, colour in (((0, 0), "red"), ((half[0], 0), "lime"), ((0, half[1]), "blue")):
        image.paste(Image.new("RGB", half, colour), corner)
    return image


def oriented(value: int) -> tuple[Image.Image, bytes]:
    """The scene as a camera held that way stores it, and the EXIF that says so."""
    undo = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[value]  # Image.Transpose numbers
    exif = Image.Exif()
    exif[0x0112] = value
    exif[0x010F] = "Camera of mine"
    stored = scene() if undo is None else scene().transpose(Image.Transpose(undo))
    return stored, exif.tobytes()


def far(one: Image.Image, other: Image.Image) -> float:
    assert one.size == other.size and one.mode == other.mode == "RGB"
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).mean())


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "heic"])
def test_every_orientation_comes_out_upright(tmp_path, value, suffix):
    stored, exif = oriented(value)
    path = tmp_path / f"Kätzchen auf dem Sofa {value}.{suffix}"
    photos._register()
    more = {"subsampling": 0} if suffix == "jpg" else {}
    stored.save(path, exif=exif, quality=95, **more)
    image = open_photo(path)
    assert far(image, scene()) < 8
    assert not image.getexif() and not image.info
    (photo,), bad = read_photos([path], PLAIN)
    assert (photo.width, photo.height, photo.caption, bad) == (60, 40, PLAIN, [])


def test_the_names_of_a_phone(tmp_path):
    for name in (
        "IMG_10.JPG",
        "img_9.jpg",
        "IMG_1.HEIC",
        "ü 2.png",
        "._IMG_1.HEIC",
        ".hidden.jpg",
        "IMG_1.AAE",
        "img_9.txt",
        "Thumbs.db",
        "desktop.ini",
    ):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "deep.jpg").write_bytes(b"x")
    found = find_photos([tmp_path])
    assert [p.name for p in found] == ["IMG_1.HEIC", "img_9.jpg", "IMG_10.JPG", "ü 2.png"]
    assert find_photos([tmp_path / "IMG_10.JPG", tmp_path]) == found, "named twice, found once"
    assert [p.name for p in find_photos([tmp_path / "more"])] == ["deep.jpg"]


def test_no_photos_is_said(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("x")
    for path, words in (
        (tmp_path / "nowhere", "nowhere"),
        (tmp_path / ("x" * 400), "xxx"),
        (tmp_path / "empty", "without photos"),
        (tmp_path / "notes", "without photos"),
        (tmp_path / "notes" / "a.txt", "No photos"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            find_photos([path])
        assert caught.value.remedy


def jpeg(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "JPEG")
    return data.getvalue()


BAD = {
    "zero.jpg": (b"", "empty (0 bytes)"),
    "page.jpg": (b"\n<!DOCTYPE html><html>not found</html>", "web page"),
    "notes.png": (b"dear diary", "not a photo"),
    "film.heic": (b"\x00\x00\x00\x14ftypqt  \x00\x00\x00\x00qt  ", "video"),
    "paper.jpg": (b"%PDF-1.7", "PDF"),
    "cut.jpg": (jpeg(scene(640, 480))[:3000], "damaged or cut short"),
    "shell.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a photo"),
    "raw.dng": (b"II*\x00", "raw"),
    "dot.png": (None, "only 1 × 1 pixels"),
    "thread.png": (None, "strip of 20 × 400 pixels"),
}


@pytest.fixture
def folder(tmp_path):
    """One good photo among bad ones of every kind."""
    for name, (data, _) in BAD.items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    Image.new("RGB", (20, 400)).save(tmp_path / "thread.png")
    scene().save(tmp_path / "good.png")
    return tmp_path


def test_the_bad_are_named_and_the_good_goes_on(folder):
    good, bad = read_photos(find_photos([folder]), PLAIN)
    assert [p.path.name for p in good] == ["good.png"]
    assert {r.name for r in bad} == set(BAD)
    for rejected in bad:
        assert isinstance(rejected, RejectedPhoto) and rejected.reason.startswith("it ")
        assert BAD[rejected.name][1] in rejected.reason


def test_none_usable_is_one_sentence_that_names_them(folder):
    (folder / "good.png").unlink()
    with pytest.raises(UserError, match=f"None of the {len(BAD)} files is a usable photo: cut.jpg"):
        read_photos(find_photos([folder]), PLAIN)
    with pytest.raises(UserError, match="zero.jpg is not a usable photo: it is empty"):
        read_photos([folder / "zero.jpg"], PLAIN)


@pytest.mark.parametrize("name", [n for n in BAD if n not in ("dot.png", "thread.png")])
def test_opening_a_bad_file_says_what_and_what_to_do(folder, name):
    with pytest.raises(UserError) as caught:
        open_photo(folder / name)
    assert name in caught.value.title and caught.value.remedy


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif", "heic", "gif", "bmp"])
def test_no_cut_crashes(tmp_path, kind):
    photos._register()
    path = tmp_path / f"x.{kind}"
    scene(160, 120).save(path)
    data = path.read_bytes()
    for end in range(0, len(data), max(1, len(data) // 25)):
        path.write_bytes(data[:end])
        try:
            assert open_photo(path).mode == "RGB"
        except UserError as error:
            assert path.name in error.title


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(photos, "MAX_PIXELS", 1000)
    scene().save(tmp_path / "big.png")
    with pytest.raises(UserError, match="million pixels"):
        open_photo(tmp_path / "big.png")


@pytest.mark.parametrize(
    "data, caption",
    [
        ("ein Foto von sks Kätzchen".encode(), "ein Foto von sks Kätzchen"),
        ("\ufeffein Kätzchen\r\n".encode(), "ein Kätzchen"),
        ("ein Kätzchen – süß".encode("cp1252"), "ein Kätzchen – süß"),
        ("猫 sks".encode("utf-16"), "猫 sks"),
        (b"two\n  lines\t of it \n", "two lines of it"),
        (b" \r\n\t", PLAIN),
        (b"", PLAIN),
        (b"\xef\xbb\xbf", PLAIN),
        (None, PLAIN),
    ],
)
def test_captions_in_every_encoding(tmp_path, data, caption):
    path = tmp_path / "Mötz 1.2.jpg"
    scene().save(path)
    if data is not None:
        path.with_suffix(".txt").write_bytes(data)
    assert read_photos([path], PLAIN)[0][0].caption == caption


def test_the_hash_is_the_files(tmp_path):
    for name, image in (("a.png", scene()), ("b.png", scene()), ("c.png", scene(61))):
        image.save(tmp_path / name)
    one, same, other = (p.sha for p in read_photos(find_photos([tmp_path]), PLAIN)[0])
    assert one == same != other and len(one) == 32


def test_every_kind_of_pixel_becomes_rgb(tmp_path):
    grey = np.linspace(0, 65535, 60 * 40).reshape(40, 60).astype(np.uint16)
    expected = Image.fromarray((grey >> 8).astype(np.uint8)).convert("RGB")
    Image.fromarray(grey).save(tmp_path / "grey16.png")
    Image.fromarray(grey.astype(np.int32)).save(tmp_path / "grey32.tif")
    Image.fromarray((grey / 65535).astype(np.float32)).save(tmp_path / "float.tif")
    for path in tmp_path.iterdir():
        assert far(open_photo(path), expected) < 1, path.name
        path.unlink()
    scene().convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    scene().convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "palette.png")
    scene().save(tmp_path / "moving.gif", save_all=True, append_images=[Image.new("RGB", (60, 40))])
    scene().save(
        tmp_path / "moving.webp",
        save_all=True,
        lossless=True,
        append_images=[Image.new("RGB", (60, 40))],
    )
    scene().save(
        tmp_path / "two.jpg",
        format="MPO",
        save_all=True,
        quality=95,
        subsampling=0,
        append_images=[Image.new("RGB", (60, 40))],
    )
    for path in tmp_path.iterdir():
        assert far(open_photo(path), scene()) < 8, path.name
    scene().convert("L").save(tmp_path / "l.png")
    assert far(open_photo(tmp_path / "l.png"), scene().convert("L").convert("RGB")) == 0
    Image.new("1", (20, 20), 1).save(tmp_path / "one.png")
    assert open_photo(tmp_path / "one.png").getpixel((3, 3)) == (255, 255, 255)


def test_transparent_parts_are_white(tmp_path):
    clear = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    clear.paste((0, 0, 255, 255), (0, 0, 10, 20))
    clear.save(tmp_path / "rgba.png")
    clear.save(tmp_path / "rgba.webp", lossless=True)
    Image.merge("LA", (Image.new("L", (20, 20), 9), Image.new("L", (20, 20), 0))).save(
        tmp_path / "la.png"
    )
    palette = Image.new("P", (20, 20), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.save(tmp_path / "p.png", transparency=1)
    for name in ("rgba.png", "rgba.webp", "la.png", "p.png"):
        assert open_photo(tmp_path / name).getpixel((15, 5)) == (255, 255, 255), name
    assert open_photo(tmp_path / "rgba.png").getpixel((5, 5)) == (0, 0, 255)


def test_an_embedded_colour_profile_is_obeyed(tmp_path):
    """A made-up wide profile: the sRGB one with its red and green columns swapped."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    srgb = bytes(data)
    red, green = data.index(b"rXYZ"), data.index(b"gXYZ")
    data[red : red + 4], data[green : green + 4] = b"gXYZ", b"rXYZ"
    name = data.find("sRGB".encode("utf-16-be"))
    data[name : name + 8] = "ODDS".encode("utf-16-be")
    image = Image.new("RGB", (20, 20), (200, 30, 40))
    image.save(tmp_path / "odd.png", icc_profile=bytes(data))
    image.save(tmp_path / "srgb.png", icc_profile=srgb)
    image.save(tmp_path / "broken.png", icc_profile=b"no profile")
    for known in ("srgb.png", "broken.png"):
        assert open_photo(tmp_path / known).getpixel((1, 1)) == (200, 30, 40)
    swapped = open_photo(tmp_path / "odd.png").getpixel((1, 1))
    assert np.abs(np.subtract(swapped, (30, 200, 40))).max() <= 3


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_spoils_nothing(tmp_path):
    scene().save(tmp_path / "x.jpg", exif=b"Exif\x00\x00MM\x00*\x00\x00\xff\xff", quality=95)
    assert far(open_photo(tmp_path / "x.jpg"), scene()) < 8


@pytest.mark.parametrize(
    "size, short, expected",
    [
        ((60, 40), 20, (30, 20)),
        ((40, 60), 80, (80, 120)),
        ((1, 1), 64, (64, 64)),
        ((333, 1000), 64, (64, 192)),
        ((64, 64), 64, (64, 64)),
        ((4000, 3001), 512, (682, 512)),
    ],
)
def test_the_short_side_is_exact(size, short, expected):
    assert scale_photo(Image.new("RGB", size), short).size == expected


def test_sizes_are_the_schedules():
    from blockskip.data.photos import Photo
    from blockskip.data.schedule import scaled_size

    for width in range(37, 400, 13):
        for height in (17, 100, 399):
            photo = Photo(None, "", width, height, "")
            assert scale_photo(Image.new("L", (width, height)), 64).size == scaled_size(photo, 64)


def test_scaling_down_does_not_alias():
    board = (np.indices((512, 512)).sum(0) % 2 * 255).astype(np.uint8)
    small = np.asarray(scale_photo(Image.fromarray(board), 64), float)
    assert np.abs(small - 127.5).max() < 3


def test_an_upload_keeps_the_picture_and_nothing_else(tmp_path, monkeypatch):
    stored, _ = oriented(6)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8825).update({1: "N", 2: (TiffImagePlugin.IFDRational(48),) * 3})  # GPS
    path = tmp_path / "from phone.jpg"
    stored.save(
        path,
        exif=exif,
        comment=b"secret place",
        quality=95,
        subsampling=0,
        icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    )
    path.write_bytes(path.read_bytes() + b"PK\x03\x04 hidden payload")
    for name in ("copy.jpg", "copy.png"):
        target = tmp_path / "kept" / name
        reencode(path, target)
        data = target.read_bytes()
        for word in (b"secret", b"Exif", b"eXIf", b"hidden", b"ICC_PROFILE", b"iCCP", b"tEXt"):
            assert word not in data, word
        assert far(open_photo(target), scene()) < 8
    assert far(open_photo(tmp_path / "kept" / "copy.png"), open_photo(path)) == 0
    monkeypatch.setattr(photos, "UPLOAD_SIDE_PX", 30)
    reencode(path, tmp_path / "small.png")
    assert Image.open(tmp_path / "small.png").size == (30, 20)


def test_photos_need_no_torch():
    code = "import sys, blockskip.data.photos; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
