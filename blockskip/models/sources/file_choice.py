"""Choose a model part's file among single files: each is asked whether it can be read, then the
readable ones are ranked. Nothing here needs torch."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from blockskip.core.errors import UserError
from blockskip.core.files import read_error
from blockskip.core.presets import ModelRow
from blockskip.models.sources.entry import FLOAT_DTYPES, FP8_DTYPES, INT8_DTYPE, TensorEntry
from blockskip.models.sources.known_formats import format_of, marks
from blockskip.models.sources.side_tensors import scale_of
from blockskip.models.sources.source import Source
from blockskip.models.sources.tensors import bits_per_weight, tensor_table

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """The best file of a part, None if there is none. unreadable: a sentence for each file of the
    part that cannot be read. broken: for each one of which it is not known what it holds."""

    best: Path | None = None
    unreadable: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def choose_file(
    source: Source,
    part: str,
    files: Sequence[Path],
    explicit: bool,
    check: Callable[[Path], object] | None = None,
) -> Choice:
    """Choose among files. explicit: whether the user named them, which allows namesakes. check:
    looks at the best file more closely, and raises UserError if the next one is to be taken. Raises
    UserError for an explicit file that cannot be read.

    Files with the usual name come first, then the highest precision, then files of this part alone.
    """
    kind, config = source.class_name(part), json.dumps(source.config(part), sort_keys=True)
    usual = tuple(name.lower() for name in source.row.comfyui.usual(part))
    ranked, unreadable, broken = [], list[str](), list[str]()
    for path in files:
        name = path.name.lower()
        if not explicit and is_namesake(source.row, part, name):
            continue
        found = _found(path, kind, config)
        if isinstance(found, _Unreadable):
            if explicit:
                raise found.error
            log.info("%s is passed over: %s", path, found.error.title)
            (unreadable if found.is_part else broken).append(found.error.title)
        elif found is not None:
            usual_name = not usual or name.startswith(usual)
            told = usual_name or not found.alone or part not in source.row.comfyui.named
            if explicit or told:
                ranked.append((not usual_name, found.rank, not found.alone, str(path), path))
    best = _first_good([path for *_, path in sorted(ranked)], unreadable, explicit, check)
    return Choice(best, unreadable, broken)


@dataclass(frozen=True)
class _Readable:
    """A file with a part. rank: of its precision, the best first. alone: whether it holds nothing
    else."""

    rank: tuple[int, float]
    alone: bool


@dataclass(frozen=True)
class _Unreadable:
    """A file that cannot be read. is_part: whether it is known to hold the part."""

    error: UserError
    is_part: bool


def _found(path: Path, kind: str, config: str) -> _Readable | _Unreadable | None:
    """Return what a file has of a part of the class `kind` with this config (JSON), None for
    nothing."""
    try:
        if not marks(path) & format_of(kind).marks:
            return None
        stat = path.stat()
    except UserError as error:
        return _Unreadable(error, False)
    except OSError as error:
        return _Unreadable(read_error(error, path), False)
    return _examined(path, kind, config, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=4096)
def _examined(
    path: Path, kind: str, config: str, size: int, changed_ns: int
) -> _Readable | _Unreadable | None:
    """See `_found`; many models ask for the same part, each time a page looks at them. size,
    changed_ns: of the file."""
    format, tensors = format_of(kind), None
    try:
        everything = tensor_table([path])
        tensors = format.find(everything, json.loads(config))
        if tensors is None:
            return None
        format.check_readable(tensors)
        return _Readable(_precision_rank(tensors), len(everything) == len(tensors))
    except UserError as error:
        return _Unreadable(error, tensors is not None)


def _first_good(
    ranked: Sequence[Path],
    unreadable: list[str],
    explicit: bool,
    check: Callable[[Path], object] | None,
) -> Path | None:
    """Return the first file that `check` accepts. Adds a sentence on each one before to
    `unreadable`."""
    for path in ranked:
        try:
            if check is not None:
                check(path)
        except UserError as error:
            if explicit:
                raise
            log.info("%s is passed over: %s", path, error.title)
            unreadable.append(error.title)
        else:
            return path
    return None


def is_namesake(row: ModelRow, part: str, name: str) -> bool:
    """Return whether a file's name, in lower case, is that of another model of the same shape."""
    own = " ".join(row.comfyui.usual("transformer")).lower()
    for word in row.comfyui.others:
        if word in name and word not in own:
            return True
        if part == "transformer" and word in own and word not in name:
            return True
    return False


def _precision_rank(tensors: dict[str, TensorEntry]) -> tuple[int, float]:
    """Return a sort key, the least rounded first: bf16 and fp16, as safetensors or GGUF; rotated
    int8; GGUFs of 8 bits; fp8; plain int8; other GGUFs by their bits.

    Measured on weights with and without outliers: rotated int8 and Q8_0 are .5 to 1 % off, fp8 2.7 %,
    plain int8 .9 to 6 %. A GGUF is rounded again for arithmetic in 8 bits, rotated int8 is not.
    """
    if any(tensor.is_gguf for tensor in tensors.values()):
        bits = bits_per_weight(tensors.values())
        full = all(tensor.dtype in FLOAT_DTYPES for tensor in tensors.values())
        return (1, 0) if full else (3 if bits > 8 else 6, -bits)
    digits = {key: tensor for key, tensor in tensors.items() if tensor.dtype == INT8_DTYPE}
    if digits:  # narrow layers may not be rotated
        rotated = sum(t.nbytes for key, t in digits.items() if scale_of(tensors, key)[1] > 1)
        return (2 if rotated > sum(t.nbytes for t in digits.values()) / 2 else 5, 0)
    return (4 if any(tensor.dtype in FP8_DTYPES for tensor in tensors.values()) else 0, 0)
