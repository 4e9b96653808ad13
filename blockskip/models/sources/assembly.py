"""Build the parts of a diffusers pipeline from single files, on the CPU and without network."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import torch

from blockskip.models.sources.layouts import read_index
from blockskip.models.sources.part_checks import build_part, load_part
from blockskip.models.sources.source import Source
from blockskip.models.sources.tensor_reader import Reader
from blockskip.models.sources.vocabularies import load_tokenizer


def assemble(source: Source, dtype: torch.dtype, given: Mapping[str, object]) -> dict[str, Any]:
    """Return all parts that the index names, by name: `given`, and the others loaded.

    Models have their weights, in `dtype`. Raises UserError.
    """
    reader, parts = Reader(), dict(given)
    for name, entry in read_index(source.folder).items():
        if name in parts or not isinstance(entry, list) or entry[0] is None:
            continue
        if name in source.files:
            module = parts[name] = build_part(source, name, dtype)
            load_part(source, name, module, reader)
        elif name in source.tokenizers:
            parts[name] = load_tokenizer(source, name)
        elif name == "scheduler":
            kind = getattr(import_module(entry[0]), entry[1])
            parts[name] = kind.from_pretrained(source.folder / name)
    return parts
