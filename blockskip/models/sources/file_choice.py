"""Choose a model part's file among single files: each is asked whether it can be read, then the
readable ones are ranked. Nothing here needs torch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from blockskip.core.errors import UserError
from blockskip.core.presets import ModelRow
from blockskip.models.sources.entry import FLOAT_DTYPES, TensorEntry
from blockskip.models.sources.layouts import SingleFileLayout
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
    source: Source, layout: SingleFileLayout, part: str, files: Sequence[Path], explicit: bool
) -> Choice:
    """Choose among files. explicit: whether the user named them, which allows namesakes. Raises
    UserError for an explicit file that cannot be read.

    Files with the usual name come first, then the highest precision, then files of this part alone.
    """
    config, ranked, unreadable = source.config(part), [], []
    usual_name = source.row.file if part == "transformer" else layout.PREFERRED[part]
    for path in files:
        name = path.name.lower()
        if not explicit and _is_namesake(source.row, layout, part, name):
            continue
        tensors: dict[str, TensorEntry] | None = None
        try:
            file_tensors = tensor_table([path])
            tensors = layout.part_tensors(part, file_tensors, config)
            if tensors is None:
                continue
            layout.check_readable(part, tensors, config)
        except UserError as error:
            if explicit:
                raise
            log.info("%s is passed over: %s", path, error.title)
            if tensors is not None:
                unreadable.append(error.title)
            continue
        has_usual_name = name.startswith(usual_name)
        alone = len(file_tensors) == len(tensors)
        ranked.append((not has_usual_name, _precision_rank(tensors), not alone, str(path), path))
    return Choice(min(ranked)[-1] if ranked else None, unreadable)


def _is_namesake(row: ModelRow, layout: SingleFileLayout, part: str, name: str) -> bool:
    """Return whether the name belongs to another model of the same shape."""
    for word in layout.NAMESAKES:
        expected = part == "transformer" and word in row.file
        if (word in name) != expected:
            return True
    return False


def _precision_rank(tensors: dict[str, TensorEntry]) -> tuple[int, float]:
    """Return a sort key, best first: bf16 and fp16 safetensors, a bf16 or fp16 GGUF, fp8, quantised
    GGUFs by bits per weight."""
    full = all(tensor.dtype in FLOAT_DTYPES for tensor in tensors.values())
    if not any(tensor.is_gguf for tensor in tensors.values()):
        return (0 if full else 2, 0)
    return (1, 0) if full else (3, -bits_per_weight(tensors.values()))
