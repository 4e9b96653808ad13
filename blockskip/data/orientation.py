"""Normalise decoded pictures: rotated by the EXIF tag, sRGB (data/colour.py), 8 bits per channel,
transparent parts white, without metadata."""

from __future__ import annotations

import numpy as np
from PIL import Image

from blockskip.data.colour import Convert, srgb_converter

_ORIENTATION = 0x0112  # EXIF tag; the values are those of EXIF 2.32, 4.6.4
_TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def normalise_image(image: Image.Image) -> Image.Image:
    """Convert an opened picture to upright 8-bit sRGB without metadata. Raises the decoder's
    errors."""
    image.load()
    turn = _TURN.get(_orientation(image))  # after load(), which rotates a TIFF and drops its tag
    rgb = _to_rgb(image)
    if turn is not None:
        rgb = rgb.transpose(turn)
    rgb.info = {}  # otherwise a later save would include comments and profiles
    return rgb


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF, but the picture itself is fine
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    convert = srgb_converter(image)
    if image.mode.startswith("I") or image.mode == "F":
        return _to_8_bits(image, convert)
    if image.has_transparency_data:
        alpha = image.convert("RGBA").getchannel("A")
        white = Image.new("RGB", image.size, "white")
        white.paste(convert(_opaque(image)), mask=alpha)
        return white
    return convert(image)


def _opaque(image: Image.Image) -> Image.Image:
    """Return the colours without alpha, not multiplied by it."""
    if image.mode in ("L", "LA", "La"):
        return image.convert("LA").convert("L")
    return image.convert("RGBA").convert("RGB")


def _to_8_bits(image: Image.Image, convert: Convert) -> Image.Image:
    """Scale 16-bit or 32-bit grey to 8 bits. Pillow itself would clip values above 255."""
    values = np.asarray(image).astype(np.float64)
    top = 65535.0 if image.mode != "F" else max(1.0, float(np.nanmax(values)))
    scaled = np.nan_to_num(values).clip(0, top) * (255 / top)
    ramp = np.asarray(convert(Image.fromarray(np.arange(256, dtype=np.uint8)[None])))[0]
    channels = [np.interp(scaled, np.arange(256), curve) for curve in ramp.T]
    return Image.merge("RGB", [Image.fromarray(c.round().astype(np.uint8)) for c in channels])
