"""Colours are those that the file means, whichever place says so. What is expected is computed here
from the published formulas (IEC 61966-2-1, Adobe RGB (1998), BT.2100, H.273), one pixel at a time."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from blockskip.data import photos
from blockskip.data.photos import open_photo

ASKED = (200, 120, 40)
D65 = (0.3127, 0.3290)
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
BT2020 = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))
ADOBE = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))


def srgb_light(v):
    return v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4


def pq_nits(v):
    power = v ** (1 / 78.84375)
    return 10000 * (max(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (
        1 / 0.1593017578125
    )


def hlg_nits(pixel):
    a, b, c = 0.17883277, 1 - 4 * 0.17883277, 0.5 - 0.17883277 * np.log(4 * 0.17883277)
    scene = [v**2 / 3 if v <= 0.5 else (np.exp((v - c) / a) + b) / 12 for v in pixel]
    y = 0.2627 * scene[0] + 0.6780 * scene[1] + 0.0593 * scene[2]
    return [1000 * y**0.2 * v for v in scene]


def xyz(primaries):
    """Columns: XYZ of red, green, blue under D65."""
    m = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    white = np.array([D65[0] / D65[1], 1, (1 - sum(D65)) / D65[1]])
    return m * np.linalg.solve(m, white)


def shown(light, primaries) -> tuple:
    """The sRGB pixel of linear light, 1 = white; brighter than white is dimmed, keeping the hue."""
    linear = np.linalg.solve(xyz(SRGB), xyz(primaries) @ np.array(light))
    linear = np.clip(linear / max(1, linear.max()), 0, 1)
    coded = [12.92 * v if v <= 0.0031308 else 1.055 * v ** (1 / 2.4) - 0.055 for v in linear]
    return tuple(round(255 * v) for v in coded)


def means(curve, primaries, pixel=ASKED) -> tuple:
    return shown([curve(v / 255) for v in pixel], primaries)


AS_ADOBE = means(lambda v: v ** (563 / 256), ADOBE)
AS_P3 = means(srgb_light, P3)


def assert_near(path, expected, levels=2):
    found = open_photo(path).getpixel((20, 20))
    assert np.abs(np.subtract(found, expected)).max() <= levels, (found, expected)


def picture(pixel=ASKED) -> Image.Image:
    return Image.new("RGB", (48, 40), pixel)


def png(path, *chunks, image=None, exif=b""):
    """Write a PNG with chunks (name, data) before its pixels."""
    data = io.BytesIO()
    (image or picture()).save(data, "PNG", **({"exif": exif} if exif else {}))
    data = data.getvalue()
    more = b""
    for name, body in chunks:
        more += struct.pack(">I", len(body)) + name + body
        more += struct.pack(">I", zlib.crc32(name + body))
    path.write_bytes(data[:33] + more + data[33:])  # after IHDR
    return path


def gama(gamma):
    return b"gAMA", struct.pack(">I", round(gamma * 100000))


def chrm(primaries):
    points = [v for point in (D65, *primaries) for v in point]
    return b"cHRM", struct.pack(">8I", *(round(v * 100000) for v in points))


def profile(name="ODDS", gamma=None, swap=False) -> bytes:
    """LittleCMS's sRGB profile under another name: red and green swapped, or another gamma."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    at = data.find("sRGB".encode("utf-16-be"))
    data[at : at + 8] = name.encode("utf-16-be")
    if swap:
        red, green = data.index(b"rXYZ"), data.index(b"gXYZ")
        data[red : red + 4], data[green : green + 4] = b"gXYZ", b"rXYZ"
    if gamma:
        at = data.index(b"para", data.index(b"rTRC") + 40)
        data[at + 8 : at + 16] = struct.pack(">HHi", 0, 0, round(gamma * 65536))
    return bytes(data)


def with_code_points(data: bytes, *points: int) -> bytes:
    """A profile whose copyright is replaced by the tag cicp."""
    data = bytearray(data)
    at = data.index(b"cprt", 132)
    (offset,) = struct.unpack_from(">I", data, at + 4)
    data[at : at + 4], data[offset : offset + 12] = b"cicp", b"cicp\0\0\0\0" + bytes(points)
    return bytes(data)


def iccp(data):
    return b"iCCP", b"x\0\0" + zlib.compress(data)


def exif(space=None, index=None, points=None) -> bytes:
    tags = Image.Exif()
    if space is not None:
        tags.get_ifd(0x8769)[0xA001] = space
    if index is not None:
        tags.get_ifd(0x8769)[0xA005] = {1: index}
    if points is not None:
        tags[0x013E], tags[0x013F] = D65, tuple(v for point in points for v in point)
    return tags.tobytes()


EXIF = [
    ({"space": 65535, "index": "R03"}, AS_ADOBE),
    ({"space": 2}, AS_ADOBE),
    ({"space": 65535, "points": P3}, AS_P3),
    ({"space": 65535, "index": "R98"}, ASKED),
    ({"space": 65535}, ASKED),
    ({"space": 1, "points": P3}, ASKED),
]


@pytest.mark.parametrize(
    "kind, said, expected",
    [
        (kind, said, expected)
        for kind in ("jpg", "png", "webp", "tif", "heic")
        for said, expected in EXIF
        if kind != "tif" or "index" not in said  # Pillow cannot write that into a TIFF
    ],
)
def test_exif(tmp_path, kind, said, expected):
    photos._register()
    path = tmp_path / f"a.{kind}"
    more = {"heic": {"quality": 100, "chroma": 444, "save_nclx_profile": False}}.get(kind, {})
    more |= {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}.get(kind, {})
    picture().save(path, exif=exif(**said), **more)
    assert_near(path, expected, 2 if kind != "heic" else 3)


SRGB_CHUNK = (b"sRGB", b"\0")


def cicp(primaries, transfer, matrix=0, full=1):
    return b"cICP", bytes((primaries, transfer, matrix, full))


@pytest.mark.parametrize(
    "chunks, expected",
    [
        ([cicp(12, 13)], AS_P3),
        ([cicp(1, 8)], means(lambda v: v, SRGB)),
        ([cicp(9, 13)], means(srgb_light, BT2020)),
        ([cicp(1, 13)], ASKED),
        ([cicp(1, 1)], ASKED),
        ([cicp(2, 2)], ASKED),
        ([cicp(12, 13, matrix=1)], ASKED),  # not allowed in PNG, so not read
        ([cicp(1, 4, full=0)], means(lambda v: ((v * 255 - 16) / 219) ** 2.2, SRGB)),
        ([gama(1.0)], means(lambda v: v, SRGB)),
        ([gama(1 / 1.8)], means(lambda v: v**1.8, SRGB)),
        ([gama(0.45455)], ASKED),
        ([gama(0.45455), chrm(P3)], AS_P3),
        ([chrm(P3)], AS_P3),
        ([gama(1 / 1.8), chrm([(0.3, 0.3)] * 3)], means(lambda v: v**1.8, SRGB)),
        ([SRGB_CHUNK, gama(1.0), chrm(P3)], ASKED),
        ([iccp(profile(gamma=1.0)), gama(0.45455)], means(lambda v: v, SRGB)),
        ([iccp(profile("sRGB", gamma=1.0))], means(lambda v: v, SRGB)),  # the name tells nothing
        ([iccp(profile("ODDS"))], ASKED),
        ([iccp(with_code_points(profile(gamma=2.0), 12, 13, 0, 1))], AS_P3),
        ([iccp(b"no profile"), gama(1.0)], means(lambda v: v, SRGB)),
        ([cicp(12, 13), iccp(profile(gamma=1.0)), SRGB_CHUNK], AS_P3),
        ([cicp(2, 2), gama(1.0)], means(lambda v: v, SRGB)),
    ],
)
def test_png(tmp_path, chunks, expected):
    assert_near(png(tmp_path / "a.png", *chunks), expected)


def test_what_png_says_comes_before_exif(tmp_path):
    assert_near(png(tmp_path / "a.png", SRGB_CHUNK, exif=exif(2)), ASKED)


@pytest.mark.parametrize("pixel", [ASKED, (150, 90, 60), (250, 240, 200), (0, 0, 0), (148,) * 3])
def test_hdr_keeps_what_is_not_brighter_than_white(tmp_path, pixel):
    pq = shown([pq_nits(v / 255) / 203 for v in pixel], BT2020)
    hlg = shown([v / 203 for v in hlg_nits([v / 255 for v in pixel])], BT2020)
    assert_near(png(tmp_path / "pq.png", cicp(9, 16), image=picture(pixel)), pq)
    assert_near(png(tmp_path / "hlg.png", cicp(9, 18), image=picture(pixel)), hlg)
    assert pq != pixel or pixel == (0, 0, 0)


def test_hdr_reference_white_is_white(tmp_path):
    """BT.2408: 58 % of PQ and 75 % of HLG are 203 cd/m²."""
    assert_near(png(tmp_path / "pq.png", cicp(9, 16), image=picture((148,) * 3)), (255,) * 3)
    assert_near(png(tmp_path / "hlg.png", cicp(9, 18), image=picture((191,) * 3)), (255,) * 3)


@pytest.mark.parametrize("code, curve", [(13, srgb_light), (8, lambda v: v), (16, None)])
def test_heic_and_avif_code_points(tmp_path, code, curve):
    photos._register()
    more = {"quality": 100, "chroma": 444, "transfer_characteristics": code, "full_range_flag": 1}
    expected = (
        shown([pq_nits(v / 255) / 203 for v in ASKED], P3) if code == 16 else means(curve, P3)
    )
    picture().save(tmp_path / "a.heic", color_primaries=12, **more)
    assert_near(tmp_path / "a.heic", expected, 4)
    data = io.BytesIO()
    picture().save(data, "AVIF", quality=100, subsampling="4:4:4")
    at = data.getvalue().index(b"colrnclx") + 8
    avif = bytearray(data.getvalue())
    avif[at : at + 4] = struct.pack(">2H", 12, code)
    (tmp_path / "a.avif").write_bytes(avif)
    assert_near(tmp_path / "a.avif", expected, 4)


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif", "heic", "avif", "bmp"])
def test_a_profile_in_every_kind(tmp_path, kind):
    photos._register()
    path, swapped = tmp_path / f"a.{kind}", profile(swap=True)
    more = {"quality": 100} if kind != "webp" else {"lossless": True}
    picture().save(path, icc_profile=swapped, **more)
    if kind == "bmp":  # a BITMAPV5HEADER with the profile behind the pixels
        old = path.read_bytes()
        pixels = old[struct.unpack_from("<I", old, 10)[0] :]
        head = bytearray(old[14:54] + bytes(84))
        head[:4], head[56:60] = struct.pack("<I", 124), b"DEBM"
        head[112:120] = struct.pack("<2I", 124 + len(pixels), len(swapped))
        start = struct.pack("<2sIHHI", b"BM", 138 + len(pixels) + len(swapped), 0, 0, 138)
        path.write_bytes(start + head + pixels + swapped)
    assert_near(path, (120, 200, 40), 6)


def test_every_kind_of_pixel_obeys_its_profile(tmp_path):
    linear, swapped = profile(gamma=1.0), profile(swap=True)
    grey = means(lambda v: v, SRGB, (60,) * 3)
    picture().quantize(4).save(tmp_path / "palette.png", icc_profile=swapped)
    assert_near(tmp_path / "palette.png", (120, 200, 40))
    clear = picture().convert("RGBA")
    clear.paste((9, 9, 9, 0), (0, 0, 48, 5))
    clear.save(tmp_path / "clear.png", icc_profile=swapped)
    assert_near(tmp_path / "clear.png", (120, 200, 40))
    assert open_photo(tmp_path / "clear.png").getpixel((5, 0)) == (255, 255, 255)
    for name, mode in (
        ("l.png", "L"),
        ("la.png", "LA"),
        ("l.jpg", "L"),
    ):  # grey, and an RGB profile
        Image.new("L", (48, 40), 60).convert(mode).save(tmp_path / name, icc_profile=linear)
        assert_near(tmp_path / name, grey)
    deep = Image.fromarray(np.full((40, 48), 60 * 257, np.uint16))
    for name, more in (("deep.png", {}), ("deep.tif", {})):
        deep.save(tmp_path / name, icc_profile=linear, **more)
        assert_near(tmp_path / name, grey)
    assert_near(png(tmp_path / "deepgamma.png", gama(1.0), image=deep), grey)
    Image.new("CMYK", (48, 40), (0, 100, 200, 20)).save(tmp_path / "c.jpg", icc_profile=swapped)
    plain = Image.new("CMYK", (48, 40), (0, 100, 200, 20)).convert("RGB").getpixel((0, 0))
    assert_near(tmp_path / "c.jpg", plain, 4)  # a profile of another kind of picture is not used


def test_large_text_and_profiles_do_not_spoil_a_png(tmp_path):
    """ComfyUI writes whole workflows, scanners profiles of megabytes."""
    workflow = b"workflow\0\0" + zlib.compress(b"{}" * 2_000_000)
    assert_near(png(tmp_path / "a.png", (b"zTXt", workflow)), ASKED)
