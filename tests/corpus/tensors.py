"""Torn, foreign and bit-flipped safetensors and GGUF files.

What the format's own library refuses is refused by the file's name; what it reads is read alike.
"""

from __future__ import annotations

import json
import random
import struct
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from corpus.cases import Case, demand, demand_refusal, numbered, value_or_refusal
from corpus.mutations import DEEP, FILE_MUTATIONS
from gguf import GGUFReader
from helpers.ggufs import read_gguf, write_gguf
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from blockskip.core import safetensors_files
from blockskip.models.sources.tensor_reader import Reader
from blockskip.models.sources.tensors import find_weight, tensor_table

NAME = "weights"
FLIPS = 60
CUTS = 30


def cases(seed: int) -> list[Case]:
    """Return all broken files of weights."""
    return [
        *numbered("tensors-header", "safetensors headers", map(_header_case, _headers())),
        *numbered("tensors-torn", "torn safetensors", map(_torn_case, _torn(seed, ".safetensors"))),
        *numbered("gguf-header", "GGUF headers", map(_gguf_case, _gguf_headers())),
        *numbered("gguf-torn", "torn GGUFs", map(_torn_gguf_case, _torn(seed, ".gguf"))),
    ]


@cache
def good_bytes(suffix: str) -> bytes:
    """Return a good file with tensors of several types and shapes."""
    torch.manual_seed(3)
    if suffix == ".safetensors":
        tensors = {
            "a.weight": torch.randn(2, 3),
            "b.weight": torch.randn(4).bfloat16(),
            "c.weight": torch.randn(2, 2).to(torch.float8_e4m3fn),
            "d": torch.tensor([7]),
            "e": torch.tensor(0.5),
            "f": torch.zeros(0, 3),
        }
        return save(tensors, {"format": "pt", "note": "ü"})
    tensors = {"a.weight": torch.randn(2, 32), "b.weight": torch.randn(3), "c": torch.randn(4, 64)}
    with tempfile.TemporaryDirectory() as name:
        write_gguf(Path(name) / "good.gguf", tensors, "Q8_0")
        return (Path(name) / "good.gguf").read_bytes()


def read_library(path: Path) -> dict[str, torch.Tensor] | None:
    """Return the tensors as safetensors itself reads them, None if it refuses."""
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError, KeyError):
        return None


def read_ours(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors as the program reads them. Raises UserError."""
    reader = Reader()
    tensor_table([path])
    safetensors_files.read_metadata(path)
    return {key: reader.tensor(path, key) for key in reader.header(path)}


def same(ours: dict[str, torch.Tensor], right: dict[str, torch.Tensor] | None) -> bool:
    """Return whether two sets of tensors are equal to the bit."""
    return (
        right is not None
        and ours.keys() == right.keys()
        and all(ours[key].dtype == right[key].dtype for key in right)
        and all(_bits(ours[key]) == _bits(right[key]) for key in right)
    )


def _bits(tensor: torch.Tensor) -> tuple[tuple, bytes]:
    flat = tensor.contiguous().reshape(-1)
    return tuple(tensor.shape), flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def _headers() -> list[bytes]:
    """Return whole files whose header is wrong in one way."""
    data = good_bytes(".safetensors")
    length = struct.unpack("<Q", data[:8])[0]
    table, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    files = [_file(_with(table, **change), body) for change in _changes(table["a.weight"])]
    texts = [
        b"",
        b"{",
        b"[]",
        b"null",
        b"5",
        b'"a"',
        b"{}",
        b'{"__metadata__": []}',
        b'{"__metadata__": {"a": 1}}',
        b'{"__metadata__": {"a": null}}',
        b'{"__metadata__": 5}',
        json.dumps(table).encode()[:-1] + b', "a.weight": {}}',
        json.dumps(table).encode() + b" x",
        json.dumps(table).encode() + b"\x00",
        json.dumps(table).encode("utf-16"),
        b"\xef\xbb\xbf" + json.dumps(table).encode(),
        json.dumps(table).encode()[:-1] + b"," + json.dumps(table).encode()[1:],
        b'{"a":' * DEEP + b"1" + b"}" * DEEP,
        b"[" * DEEP,
        b"\xff" * 64,
    ]
    files += [struct.pack("<Q", len(text)) + text + body for text in texts]
    for wrong in (0, 1, 7, length - 1, length + 1, len(data), 2**31, 2**32, 2**63, 2**64 - 1):
        files.append(struct.pack("<Q", wrong) + data[8:])
    files += [data + b"x", data + bytes(4096), data[:-1], data[:8], data[:3], b""]
    return files


def _changes(entry: dict) -> list[dict[str, Any]]:
    """Return changes of the first tensor's entry: overlaps, overflows, wrong types …"""
    first, last = entry["data_offsets"]
    offsets: list[Any] = [
        [first, last - 1],
        [first - 1, last],
        [first + 4, last + 4],
        [last, first],
        [0, last],
        [-24, 0],
        [first, 2**63],
        [2**63, 2**64],
        [2**64, 2**64 + 24],
        [float(first), last],
        [first],
        [first, last, last],
        [str(first), str(last)],
        None,
        {},
        [None, None],
        [True, False],
        [float("nan"), last],
        first,
    ]
    shapes: list[Any] = [
        [3, 3],
        [2],
        [-2, -3],
        [2**32, 2**32],
        [2**64],
        [2.0, 3],
        ["2", 3],
        [[2], 3],
        "23",
        None,
        {},
        [6, True],
        [2, 3, 1.5],
        [1] * 5000,
        6,
        [0, 2**62],
    ]
    dtypes: list[Any] = ["F33", "f32", "", None, 5, float("nan"), ["F32"], {}, "F4", "x" * 10_000]
    dtypes += ["F16", "F64", "BOOL", "C64", "F8_E8M0", "U64", "MXFP4", "NVFP4"]
    found: list[dict[str, Any]] = [{"data_offsets": value} for value in offsets]
    found += [{"shape": value} for value in shapes] + [{"dtype": value} for value in dtypes]
    return [*found, {"dtype": None, "shape": None, "data_offsets": None}, {"extra": [1, 2]}]


def _with(table: dict, **change: Any) -> dict:
    return table | {"a.weight": table["a.weight"] | change}


def _file(table: Any, body: bytes) -> bytes:
    text = json.dumps(table).encode("utf-8")
    return struct.pack("<Q", len(text)) + text + body


def _torn(seed: int, suffix: str) -> list[bytes | str]:
    """Return cut and flipped files, and names of general mutations."""
    data, chance = good_bytes(suffix), random.Random(seed)
    head = min(len(data), 700)
    cuts = sorted({chance.randrange(len(data)) for _ in range(CUTS)})
    return [*(data[:cut] for cut in cuts), *(_flip(data, chance, head) for _ in range(FLIPS))] + [
        name for name in FILE_MUTATIONS if name != "missing"
    ]


def _flip(data: bytes, chance: random.Random, head: int) -> bytes:
    copy = bytearray(data)
    copy[chance.randrange(head)] ^= 1 << chance.randrange(8)
    return bytes(copy)


def _written(data: bytes | str, suffix: str) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        path = folder / f"{NAME}{suffix}"
        path.write_bytes(good_bytes(suffix) if isinstance(data, str) else data)
        if isinstance(data, str):
            FILE_MUTATIONS[data](path)
        return path

    return build


def _like_the_library(path: Path) -> None:
    right = read_library(path)
    value_or_refusal(lambda: read_ours(path), lambda ours: same(ours, right), path.name)


def _header_case(data: bytes) -> tuple[Callable, Callable]:
    return _written(data, ".safetensors"), _like_the_library


def _torn_case(data: bytes | str) -> tuple[Callable, Callable]:
    return _written(data, ".safetensors"), _like_the_library


def gguf_bytes(
    tensors: list[tuple[bytes, list[int], int, int]],
    settings: list[bytes] = (),
    version: int = 3,
    magic: bytes = b"GGUF",
    counts: tuple[int, int] | None = None,
    body: bytes = bytes(4096),
) -> bytes:
    """Return a GGUF file. tensors: (name, axes, type, offset). counts: of tensors and settings."""
    number, kept = counts or (len(tensors), len(settings))
    out = struct.pack("<4sIQQ", magic, version, number, kept) + b"".join(settings)
    for name, axes, kind, offset in tensors:
        out += struct.pack("<Q", len(name)) + name + struct.pack("<I", len(axes))
        out += struct.pack(f"<{len(axes)}Q", *axes) + struct.pack("<IQ", kind, offset)
    return out + bytes(-len(out) % 32) + body


def _setting(name: bytes, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + value


def _gguf_headers() -> list[bytes]:
    """Return files that are wrong in one way each: all are refused."""
    one, name = [(b"a.weight", [32, 2], 0, 0)], b"a.weight"
    entries: list[list[tuple]] = [
        [(name, [32, 2], 9999, 0)],
        [(name, [32, 2], 2**32 - 1, 0)],
        [(name, [2**63, 2], 0, 0)],
        [(name, [2**32, 2**32], 0, 0)],
        [(name, [2**32, 2**32, 2**32, 2**32], 0, 0)],
        [(name, [32, 2], 0, 2**64 - 32)],
        [(name, [32, 2], 0, 2**40)],
        [(name, [32, 2], 0, 4096)],
        [(name, [32, 2], 0, 33)],
        [(name, [31, 2], 8, 0)],
        [(name, [1, 1, 1, 1, 1], 0, 0)],
        [*one, *one],
        [*one, (b"b.weight", [32, 2], 0, 32)],
        [(b"\xff\xfe", [32, 2], 0, 0)],
        [(b"x" * 70_000, [32, 2], 0, 0)],
    ]
    files = [gguf_bytes(entry) for entry in entries]
    files += [gguf_bytes(one, version=v) for v in (0, 1, 4, 2**24 * 3, 2**32 - 1)]
    files += [gguf_bytes(one, magic=m) for m in (b"GGML", b"ggjt", b"FUGG", b"PK\x03\x04")]
    files += [gguf_bytes(one, counts=c) for c in ((2**63, 0), (0, 2**63), (2**64 - 1,) * 2, (9, 0))]
    settings = [
        _setting(b"general.alignment", 4, struct.pack("<I", 0)),
        _setting(b"a", 8, struct.pack("<Q", 2**60)),
        _setting(b"a", 9, struct.pack("<IQ", 8, 2**60)),
        _setting(b"a", 9, struct.pack("<IQ", 4, 2**61)),
        _setting(b"a", 9, struct.pack("<IQ", 9, 2**31)),
        _setting(b"a", 9, struct.pack("<IQ", 9, 1) * DEEP),
        _setting(b"a", 99, b""),
        _setting(b"a", 2**32 - 1, b""),
    ]
    return [*files, *(gguf_bytes(one, [setting]) for setting in settings)]


def _gguf_case(data: bytes) -> tuple[Callable, Callable]:
    def refused(path: Path) -> None:
        demand_refusal(lambda: _read_gguf(path), path.name)

    return _written(data, ".gguf"), refused


def _torn_gguf_case(data: bytes | str) -> tuple[Callable, Callable]:
    return _written(data, ".gguf"), _like_the_package


def _read_gguf(path: Path) -> dict[str, torch.Tensor]:
    table = tensor_table([path])
    return {key: find_weight(table, key).read(torch.float32) for key in table}


def _like_the_package(path: Path) -> None:
    def right(ours: dict[str, torch.Tensor]) -> bool:
        table, size = tensor_table([path]), path.stat().st_size
        extents = sorted((entry.start, entry.stop) for entry in table.values())
        inside = all(0 <= first <= last <= size for first, last in extents)
        apart = all(a[1] <= b[0] for a, b in zip(extents, extents[1:], strict=False))
        demand(inside and apart, f"tensors overlap or lie outside: {extents}")
        try:
            GGUFReader(path)
            theirs = read_gguf(path)
        except Exception:  # the package checks little and may raise anything on a broken file
            return True
        equal = (torch.equal(ours[k].nan_to_num(), theirs[k].nan_to_num()) for k in theirs)
        return ours.keys() == theirs.keys() and all(equal)

    value_or_refusal(lambda: _read_gguf(path), right, path.name)
