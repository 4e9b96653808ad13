"""Choose a model part's file among single files: each is asked whether it can be read, then the
readable ones are ranked. Nothing here needs torch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from blockskip.core.errors import UserError
from blockskip.core.presets import ModelRow
from blockskip.models.sources.entry import FLOAT_DTYPES, TensorEntry
from blockskip.models.sources.source import Source
from blockskip.models.sources.tensors import bits_per_weight, tensor_table

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """The best file of a part, None if there is none. unreadable: a sentence for each file of the
    part that cannot be read."""

    best: Path | None = None
    unreadable: list[str] = field(default_factory=list)


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
    format, config, ranked = source.format(part), source.config(part), []
    unreadable: list[str] = []
    usual = tuple(name.lower() for name in source.row.comfyui.usual(part))
    for path in files:
        name = path.name.lower()
        if not explicit and is_namesake(source.row, part, name):
            continue
        tensors: dict[str, TensorEntry] | None = None
        try:
            file_tensors = tensor_table([path])
            tensors = format.find(file_tensors, config)
            if tensors is None:
                continue
            format.check_readable(tensors)
        except UserError as error:
            if explicit:
                raise
            log.info("%s is passed over: %s", path, error.title)
            if tensors is not None:
                unreadable.append(error.title)
            continue
        usual_name = not usual or name.startswith(usual)
        alone = len(file_tensors) == len(tensors)
        if explicit or usual_name or not alone or part not in source.row.comfyui.named:
            ranked.append((not usual_name, _precision_rank(tensors), not alone, str(path), path))
    best = _first_good([path for *_, path in sorted(ranked)], unreadable, explicit, check)
    return Choice(best, unreadable)


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
    """Return a sort key, best first: bf16 and fp16 safetensors, a bf16 or fp16 GGUF, fp8, quantised
    GGUFs by bits per weight."""
    full = all(tensor.dtype in FLOAT_DTYPES for tensor in tensors.values())
    if not any(tensor.is_gguf for tensor in tensors.values()):
        return (0 if full else 2, 0)
    return (1, 0) if full else (3, -bits_per_weight(tensors.values()))
