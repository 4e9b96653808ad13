"""Tell what a file is by its first bytes, never by its name, and read its table of tensors."""

from __future__ import annotations

import json
import os
import struct
from functools import lru_cache
from pathlib import Path

from blockskip.core import safetensors_files
from blockskip.core.errors import BadFile, UserError
from blockskip.core.files import read_error
from blockskip.models.sources import gguf
from blockskip.models.sources.entry import GGUF_SUFFIX

PICKLES = (".ckpt", ".bin", ".pt", ".pth", ".pkl")
UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".incomplete", ".aria2", ".tmp")
_HEAD_BYTES = 512
_AGAIN = "Fetch the file again."
# first bytes → what such a file is, and what to do
_SIGNATURES = (
    (
        b"version https://git-lfs",
        "only a pointer of Git LFS to the model",
        "Run “git lfs pull” in its folder, or download the file from the model's page.",
    ),
    (
        b"PK\x03\x04",
        "a zip archive, or a PyTorch file, which can hold programs and is never opened",
        "",
    ),
    (b"\x1f\x8b", "a compressed archive", ""),
    (b"7z\xbc\xaf", "a compressed archive", ""),
    (b"Rar!", "a compressed archive", ""),
    *(
        (bytes((0x80, version)), "a PyTorch file, which can hold programs and is never opened", "")
        for version in range(2, 6)
    ),
)
_TAKE_SAFETENSORS = "Take the .safetensors file of the same model."
_FORMATS_KEY = "_quantization_metadata"  # of a safetensors header, written by ComfyUI and others
_TRANSFORMER_PREFIX = "model.diffusion_model."  # which the names in it may lack


@lru_cache(maxsize=256)
def cached_table(path: Path, size: int, changed_ns: int) -> tuple[bool, dict[str, dict]]:
    """Return `read_table`, kept until the file changes. size and changed_ns are cache keys."""
    return read_table(path)


def read_table(path: Path) -> tuple[bool, dict[str, dict]]:
    """Return (whether it is a GGUF, the table at the file's head). An entry of a safetensors file
    has a further key `told` if the header describes its number format. Raises UserError that says
    what the file is if it is no model."""
    if _is_growing(path):  # its table may be whole already
        raise _unfinished(path)
    is_gguf = _is_gguf(path)
    try:
        return is_gguf, gguf.read_table(path) if is_gguf else _described_table(path)
    except UserError as error:
        raise _unfinished(path) if _is_called_unfinished(path) else error from error


def _described_table(path: Path) -> dict[str, dict]:
    header = safetensors_files.read_header(path, "Fetch or make it again.")
    try:
        layers = dict(json.loads(header.metadata[_FORMATS_KEY])["layers"])
    except (LookupError, TypeError, ValueError, RecursionError):
        layers = {}  # then weights that need a description are refused
    for layer, told in layers.items():
        for key in (f"{layer}.weight", f"{_TRANSFORMER_PREFIX}{layer}.weight"):
            if key in header.table:
                header.table[key]["told"] = json.dumps(told)
    return header.table


def _is_gguf(path: Path) -> bool:
    """Return whether the file is a GGUF; otherwise it may be a safetensors file."""
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise read_error(error, path) from error
    if head.startswith(b"GGUF"):
        return True
    if head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < 1 << 32:
        return False
    _raise_for_other_kinds(path, head)
    return path.suffix.lower() == GGUF_SUFFIX


def _raise_for_other_kinds(path: Path, head: bytes) -> None:
    """Raise UserError if the first bytes are those of a known kind of file that holds no model."""
    if _is_called_unfinished(path):
        raise _unfinished(path)
    if path.suffix.lower() in PICKLES:
        raise BadFile(f"{path.name} can hold programs and is never opened.", _TAKE_SAFETENSORS)
    if not head:
        raise BadFile(f"{path.name} cannot be read: it is empty.", _AGAIN)
    for signature, what, remedy in _SIGNATURES:
        if head.startswith(signature):
            raise BadFile(f"{path.name} cannot be read: it is {what}.", remedy or _TAKE_SAFETENSORS)
    if len(head) > 8 and not head.strip(b"\x00"):
        raise BadFile(
            f"{path.name} cannot be read: it holds only zeros, its download was not finished.",
            _AGAIN,
        )
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start[:64].lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise BadFile(
            f"{path.name} cannot be read: it is a web page. The download needed a login or failed.",
            _AGAIN,
        )
    if len(start) > 8 and all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in start):
        line = start.decode("ascii").splitlines()[0][:60]
        raise BadFile(f"{path.name} cannot be read: it is a text, “{line}”.", _AGAIN)


def _is_growing(path: Path) -> bool:
    """Return whether aria2 downloads the file: its record lies beside it, and the file has its full
    size from the beginning."""
    return os.path.exists(path.with_name(f"{path.name}.aria2"))


def _is_called_unfinished(path: Path) -> bool:
    """Return whether browsers and other programs name downloads so that have not ended."""
    return path.suffix.lower() in UNFINISHED


def _unfinished(path: Path) -> UserError:
    return BadFile(
        f"{path.name} cannot be read: it is a download that was not finished.",
        "Let the download finish first.",
    )
