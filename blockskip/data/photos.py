"""Read photo files from phones and cameras as upright RGB photos with captions.

A photo is returned as a person sees it: rotated by its EXIF tag, in sRGB, 8 bits per channel, first
frame, transparent parts white, without metadata. One bad file never stops the others, but is
reported with the reason. This module does not crop, augment or describe photos, and does not import
torch.
"""

from __future__ import annotations

import codecs
import hashlib
import io
import re
import unicodedata
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

from blockskip.core import files
from blockskip.core.errors import BadFile, BadPhoto, NotFound, UserError
from blockskip.core.names import shown_name
from blockskip.data.caption_files import Captions, captions_beside
from blockskip.data.orientation import normalise_image
from blockskip.data.subject_boxes import Box, read_box

READABLE = ("JPEG", "PNG", "WEBP", "HEIF", "AVIF", "BMP", "TIFF", "GIF")
MAX_PIXELS = 200_000_000  # the largest phone sensor has 199.8 million; more may be an attack
MIN_SIDE_PX = 16  # too small to show a pet
MAX_RATIO = 16  # long to short side; a thin strip would take gigabytes when scaled
UPLOAD_SIDE_PX = 4096

# endings of READABLE, for file dialogs; files are known by what is in them
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".pjpeg", ".pjp", ".mpo"),
    *(".png", ".apng", ".webp", ".gif", ".bmp"),
    *(".heic", ".heics", ".heif", ".heifs", ".hif", ".avif", ".avifs", ".tif", ".tiff"),
)
# files found beside photos: captions, edits, notes, caches of trainers, leftovers of the system
_SIDECARS = {".txt", ".caption", ".json", ".jsonl", ".csv", ".toml", ".yaml", ".yml", ".md"}
_SIDECARS |= {".xmp", ".aae", ".pp3", ".dop", ".thm", ".npz", ".safetensors", ".ini", ".db"}
_FILMS = {".mov", ".mp4", ".mp"}  # of live and motion photos, if a photo has the same name
_MASKS = ("-masklabel", "-condlabel")  # OneTrainer's, after the photo's name
_RAW = {".dng", ".nef", ".cr2", ".cr3", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw"}
_RAW_REMEDY = "Export it as JPEG or HEIC first."
# first bytes of what is no photo
_MAGIC = (
    (b"%PDF", "is a PDF document, not a photo"),
    (b"PK\x03\x04", "is a ZIP archive, not a photo"),
    (b"8BPS", "is a Photoshop file, not a photo"),
    (b"\xff\x0a", "is a JPEG XL picture"),
    (b"\x00\x00\x00\x0cJXL ", "is a JPEG XL picture"),
    (b"\x00\x00\x00\x0cjP  ", "is a JPEG 2000 picture"),
    (b"\x1a\x45\xdf\xa3", "is a video, not a photo"),
)
_FILM_BRANDS = (b"qt  ", b"iso", b"mp4", b"M4V ", b"avc1", b"3gp", b"dash")
_READABLE_KINDS = "JPEG, PNG, HEIC, AVIF, WebP, TIFF, BMP and GIF can be read."


@dataclass(frozen=True)
class Photo:
    """A usable photo. width, height: upright, in pixels. sha: blake2b of the file, 32 hex
    digits. box: the pet's box from the file beside the photo (data/subject_boxes.py)."""

    path: Path
    caption: str
    width: int
    height: int
    sha: str
    box: Box | None = None


@dataclass(frozen=True)
class RejectedPhoto:
    """A skipped file. reason: a clause such as “it is empty (0 bytes)”."""

    name: str
    reason: str


class UnusablePhoto(BadPhoto):
    """One file cannot be used. fault: the predicate to its name, such as “is empty (0 bytes)”."""

    def __init__(self, path: Path, fault: str, remedy: str) -> None:
        super().__init__(f"{path.name} {fault}.", remedy)
        self.reason = f"it {fault}"


def find_photos(paths: Sequence[Path]) -> list[Path]:
    """Return candidate files from files and folders, in natural order (2 before 10).

    Ignores nested folders, hidden files and files that only accompany photos, such as captions.
    Raises UserError if a path does not exist, or if a folder or the selection has no photos.
    """
    candidates: dict[Path, Path] = {}
    for path in map(Path, paths):
        if not _exists(path):
            raise NotFound(
                f"There is no file or folder called “{path}”.",
                "Check the name, or choose the photos again.",
            )
        inside = _photos_in(path) if path.is_dir() else [path]
        candidates |= {file.resolve(): file for file in inside if not _ignored(file)}
    if not candidates:
        raise BadPhoto(
            "No photos were given.", f"Choose photos or a folder of them. {_READABLE_KINDS}"
        )
    return sorted(_without_companions(candidates.values()), key=_natural)


def open_photo(path: Path) -> Image.Image:
    """Open a photo as a person sees it: upright, RGB, sRGB, 8 bits. Raises UserError
    (UnusablePhoto)."""
    return _open(path, None)[0]


def open_small(path: Path, short_px: int) -> tuple[Image.Image, tuple[int, int]]:
    """Open a photo at a reduced size, and return it with its true upright (width, height).

    A JPEG is decoded at 1/2, 1/4 or 1/8 of its size, with a short side of at least `short_px`.
    Other formats keep their size. Raises UserError (UnusablePhoto).
    """
    image, (width, height) = _open(path, short_px)
    turned = (width > height) != (image.width > image.height)
    return image, (height, width) if turned else (width, height)


def _open(path: Path, short_px: int | None) -> tuple[Image.Image, tuple[int, int]]:
    """Return the upright photo, and its (width, height) as stored in the file."""
    _check_file(path)
    _register()
    again = "Copy it again from the camera or phone, or leave it out."
    try:
        with Image.open(path, formats=READABLE) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            if _is_raw(path, image):
                raise UnusablePhoto(path, "is a camera's raw file", _RAW_REMEDY)
            size = image.size
            if short_px is not None:
                image.draft(
                    None, (short_px * size[0] // min(size), short_px * size[1] // min(size))
                )
            return normalise_image(image), size
    except (UserError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise UnusablePhoto(
            path,
            f"has more than {MAX_PIXELS // 10**6} million pixels",
            "Make it smaller in any photo program.",
        ) from error
    except UnidentifiedImageError as error:
        if path.suffix.lower() in _RAW:
            raise UnusablePhoto(path, "is a camera's raw file", _RAW_REMEDY) from error
        raise UnusablePhoto(path, _other_kind(path), _READABLE_KINDS) from error
    except PermissionError as error:
        raise UnusablePhoto(path, "may not be read", "Get the right to read it.") from error
    except Exception as error:  # a decoder may raise anything on a damaged file
        raise UnusablePhoto(path, "is damaged or cut short", again) from error


def read_photos(files: Sequence[Path], caption: str) -> tuple[list[Photo], list[RejectedPhoto]]:
    """Open every file once, and return usable photos and rejected files, both in input order.

    caption: for photos without a caption of their own (data/caption_files.py). Raises UserError if
    no photo is usable.
    """
    good, bad, captions = [], [], captions_beside(files)
    for path in map(Path, files):
        try:
            good.append(read_photo(path, caption, captions))
        except UnusablePhoto as error:
            bad.append(RejectedPhoto(shown_name(path.name), error.reason))
    if not good:
        shown = "; ".join(f"{r.name}: {r.reason}" for r in bad[:5]) + ("; …" if bad[5:] else "")
        title = (
            f"{bad[0].name} is not a usable photo: {bad[0].reason}."
            if len(bad) == 1
            else f"None of the {len(bad)} files is a usable photo: {shown}."
        )
        raise BadPhoto(title, f"Choose other photos. {_READABLE_KINDS}")
    return good, bad


def scale_photo(image: Image.Image, short_px: int) -> Image.Image:
    """Scale a photo to a short side of `short_px`, keeping its aspect ratio to the nearest
    pixel."""
    factor = short_px / min(image.size)
    width, height = (max(short_px, round(side * factor)) for side in image.size)
    # Pillow's Lanczos filter widens when shrinking, so it does not alias; reducing_gap is for speed
    return image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)


def file_sha(path: Path) -> str:
    """Return the blake2b hash of a file, 32 hex digits. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def reencode(path: Path, target: Path) -> None:
    """Write a copy with the pixels only: no location, date, camera or hidden payload.

    target: .png is written losslessly, other suffixes as JPEG, both with sides of at most 4096 px.
    Raises UserError for a bad photo or a full disk.
    """
    image = open_photo(path)
    image.thumbnail((UPLOAD_SIDE_PX, UPLOAD_SIDE_PX), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    if target.suffix.lower() == ".png":
        image.save(data, "PNG")
    else:
        image.save(data, "JPEG", quality=95, subsampling=0)
    files.write_bytes(target, data.getvalue())


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # the name is too long, or a parent folder is not accessible
        return False


def _photos_in(folder: Path) -> list[Path]:
    try:
        inside = [path for path in folder.iterdir() if path.is_file() and not _ignored(path)]
    except OSError as error:
        raise BadFile(
            f"The folder “{folder}” cannot be read: {error.strerror}.",
            "Check that it may be opened.",
        ) from error
    if not inside:
        raise BadPhoto(
            f"“{folder}” is a folder without photos.",
            f"Folders inside it are not looked at. {_READABLE_KINDS}",
        )
    return inside


def _without_companions(files: Collection[Path]) -> list[Path]:
    """Return the files without the films and masks that belong to one of the others."""
    films = {file for file in files if file.suffix.lower() in _FILMS}
    photos = {file.stem for file in files if file not in films}
    masks = {f"{photo}{end}" for photo in photos for end in _MASKS} & photos
    return [file for file in files if file.stem not in (photos if file in films else masks)]


def _ignored(path: Path) -> bool:
    """Return whether a file is hidden (macOS's `._*` files too) or only accompanies photos."""
    leftover = path.name.startswith(".") or path.name == "Icon\r"
    return leftover or path.suffix.lower() in _SIDECARS


def _natural(path: Path) -> tuple:
    """Return a sort key that puts img2 before img10, ignoring case and Unicode composition."""
    name = unicodedata.normalize("NFC", path.name).casefold()
    parts = re.split(r"([0-9]+)", name)
    return [(int(p), "") if p.isdecimal() else (-1, p) for p in parts], str(path)


def _check_file(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UnusablePhoto(path, "is no longer there", "Choose the photos again.") from error
    if size == 0:
        raise UnusablePhoto(
            path, "is empty (0 bytes)", "Copy it again from the camera or phone, or leave it out."
        )


@cache
def _register() -> None:
    """Register HEIC with Pillow, and raise its limits: pixels (a warning at 89 million) to
    MAX_PIXELS, and PNG's texts and profiles (1 MiB), since some hold whole workflows."""
    import pillow_heif

    pillow_heif.register_heif_opener()
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY
    warnings.filterwarnings("ignore", module="PIL")  # of damaged EXIF, in a user's terminal


def _is_raw(path: Path, image: Image.Image) -> bool:
    """Return whether a picture is only the preview in a camera's raw file, which many are TIFFs."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return False
    with open(path, "rb") as file:
        canon = file.read(10)[8:] == b"CR"
    tags = image.tag_v2
    reduced = bool(int(tags.get(254, 0)) & 1)  # NewSubfileType: a smaller copy of another picture
    return canon or reduced or 50706 in tags or path.suffix.lower() in _RAW  # DNGVersion


def _other_kind(path: Path) -> str:
    """Describe a file that is no photo, by its first bytes."""
    with open(path, "rb") as file:
        head = file.read(64)
    text = head.lstrip(codecs.BOM_UTF8).lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<svg")):
        return "is a web page, not a photo"
    if head[4:8] == b"ftyp" and head[8:12].startswith(_FILM_BRANDS):
        return "is a video, not a photo"
    found = [words for magic, words in _MAGIC if head.startswith(magic)]
    return found[0] if found else "is not a photo, or is damaged"


def read_photo(path: Path, caption: str, captions: Captions | None = None) -> Photo:
    """Read one photo as in `read_photos`. captions: default: those beside it. Raises UserError
    (UnusablePhoto)."""
    image = open_photo(path)
    width, height = image.size
    if min(width, height) < MIN_SIDE_PX:
        raise UnusablePhoto(path, f"is only {width} × {height} pixels", "Choose a bigger photo.")
    if max(width, height) > MAX_RATIO * min(width, height):
        raise UnusablePhoto(path, f"is a strip of {width} × {height} pixels", "Crop it first.")
    text = (captions or captions_beside([path])).of(path) or caption
    return Photo(path, text, width, height, file_sha(path), read_box(path))
