"""A model on this machine: the paths of its configs, weights and vocabularies."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from blockskip.core import files
from blockskip.core.errors import BadFile, command
from blockskip.core.paths import data_dir
from blockskip.core.presets import ModelRow
from blockskip.models.sources.entry import TensorEntry
from blockskip.models.sources.hub_api import TEXT_SUFFIXES
from blockskip.models.sources.known_formats import format_of
from blockskip.models.sources.layouts import configs_folder, read_config, read_index
from blockskip.models.sources.part_formats import PartFormat
from blockskip.models.sources.tensors import (
    WeightIndex,
    missing_files,
    part_files,
    tensor_table,
)

_FETCH = "Fetch the model again."
SMALL_FILE_BYTES = 16 << 20  # bytes; digests of bigger files are cached


@dataclass(frozen=True)
class Source:
    """Paths of a model. folder: in diffusers' layout, with the weights unless `files` (part → file)
    has them. tokenizers: part → folder, if not in `folder`."""

    row: ModelRow
    folder: Path
    files: dict[str, Path] = field(default_factory=dict)
    tokenizers: dict[str, Path] = field(default_factory=dict)

    @property
    def is_folder(self) -> bool:
        """Whether `folder` holds everything, so that `from_pretrained` can load it."""
        return not self.files

    @property
    def location(self) -> str:
        """The folder, or the transformer's file, for display."""
        return str(next(iter(self.files.values()), self.folder))

    @property
    def lora(self) -> Path:
        """The file of a LoRA of others, if that is what the row is."""
        return self.files.get("lora", self.folder / self.row.files[0])

    def config(self, part: str) -> dict:
        """Return the config.json of a part (transformer, vae, text_encoder …)."""
        return read_config(self.folder / part / "config.json")

    def paths(self, part: str) -> list[Path]:
        """Return the files with a part's weights, [] if one is missing."""
        return [self.files[part]] if self.files else part_files(self.folder / part)

    def published_config(self, part: str) -> dict:
        """Return the config of this model's part as the program ships it, not the folder's own."""
        return replace(self, folder=self.published_folder).config(part)

    @property
    def published_folder(self) -> Path:
        """The folder of the model's configs, `folder` if the program ships none."""
        configs = configs_folder(self.row)
        return configs if configs.is_dir() else self.folder

    def class_name(self, part: str) -> str:
        """Return the class of a part in diffusers or transformers."""
        return read_index(self.published_folder)[part][-1]

    def format(self, part: str) -> PartFormat:
        """Return how files hold a part."""
        return format_of(self.class_name(part))

    def identities(self, part: str) -> tuple[str, ...]:
        """Return the matrices of a part that are the identity, in single files."""
        return () if self.is_folder else self.format(part).identities(self.published_config(part))

    def tensors(self, part: str) -> dict[str, TensorEntry]:
        """Return the stored tensors of a part, without the prefix that a file of several parts
        gives them. Reads only file headers. Raises UserError if files are missing or broken."""
        paths = self.paths(part)
        everything = tensor_table(paths)
        tensors: dict[str, TensorEntry] | None = everything
        if not self.is_folder:
            tensors = self.format(part).find(everything, self.published_config(part))
        if not tensors:
            problem = missing_files(self.folder / part) if not paths and self.is_folder else ""
            raise BadFile(
                f"{self.location} does not hold the whole of {self.row.title}'s "
                f"{self.format(part).title}{problem}.",
                f"Fetch it, or choose other files: {command('models use')} {self.row.name} …",
            )
        return tensors

    def weights(self, part: str) -> WeightIndex:
        """Return parameter name → stored weight. Reads only file headers.

        Raises UserError if files are missing, broken, or lack a tensor of the part.
        """
        return self.format(part).weights(self.tensors(part), self.published_config(part))

    def fingerprint(self, progress: Callable[[int, int], None] | None = None) -> str:
        """Return 16 hex digits that identify every weight, config and vocabulary in use.

        It depends on content, never on the model's name, so caches are keyed by it. The same
        weights in another layout may have another fingerprint. progress: called with bytes done and
        bytes in total while big files are read for the first time (digests are cached until a file
        changes).
        """
        if self.is_folder:
            return _folder_fingerprint(self.folder, progress)
        parts: list[object] = [
            _canonical_content(path) for path in sorted(self.folder.glob("*/*.json"))
        ]
        for name, folder in sorted(self.tokenizers.items()):
            parts += [name, *(_canonical_content(path) for path in _text_files(folder))]
        digests = _digests(sorted(set(self.files.values())), progress)
        parts += [(part, digests[path]) for part, path in sorted(self.files.items())]
        return files.fingerprint(*parts)

    def signature(self) -> tuple[tuple, ...]:
        """Return what changes when one of the files is written or replaced. It takes no time."""
        found = self.folder.rglob("*") if self.is_folder else set(self.files.values())
        return tuple((str(path), *_attributes(path.stat())) for path in sorted(found))


def _folder_fingerprint(folder: Path, progress: Callable[[int, int], None] | None) -> str:
    """Return the fingerprint of what `from_pretrained` may read: texts, and the weights inside part
    folders, but not those directly in `folder`."""
    parts: list[object] = []
    paths = sorted(path for path in folder.rglob("*") if not _is_hidden(path, folder))
    weight_files = [p for p in paths if p.suffix == ".safetensors" and p.parent != folder]
    digests = _digests(weight_files, progress)
    for path in paths:
        name = path.relative_to(folder).as_posix()
        if path in digests:
            parts += [name, path.stat().st_size, digests[path]]
        elif path.suffix in TEXT_SUFFIXES:
            parts += [name, _canonical_content(path)]
    return files.fingerprint(*parts)


def _text_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix in TEXT_SUFFIXES)


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(name.startswith(".") for name in path.relative_to(folder).parts)


def _canonical_content(path: Path) -> bytes | str:
    if path.suffix != ".json":
        return path.read_bytes()
    return json.dumps(files.read_json(path, Any, _FETCH), sort_keys=True)


def _digests(
    paths: list[Path], progress: Callable[[int, int], None] | None
) -> dict[Path, bytes | str]:
    """Return what identifies each file's content: all bytes of small files, the SHA-256 of big
    ones."""
    cache_file = data_dir() / "fingerprints.json"
    try:
        cache = files.read_json(cache_file, dict[str, tuple[int, int, int, int, str]])
    except (OSError, ValueError):
        cache = {}
    digests: dict[Path, bytes | str] = {}
    updates: dict[str, list] = {}
    total, done = sum(path.stat().st_size for path in paths), 0

    def report(num_read: int) -> None:
        if progress:
            progress(done + num_read, total)

    for path in paths:
        stat = path.stat()
        if stat.st_size <= SMALL_FILE_BYTES:
            digests[path] = path.read_bytes()
        else:
            signature = _attributes(stat)
            cached = cache.get(str(path.resolve()))
            if not cached or list(cached[:-1]) != signature:
                cached = updates[str(path.resolve())] = [*signature, _sha256(path, report)]
            digests[path] = cached[-1]
        done += stat.st_size
    if updates:
        files.write_json(cache_file, cache | updates)
    return digests


def _attributes(stat: os.stat_result) -> list[int]:
    """Return every attribute that changes when a file is written or replaced."""
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _sha256(path: Path, progress: Callable[[int], None]) -> str:
    digest, done = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while chunk := file.read(16 << 20):
            digest.update(chunk)
            done += len(chunk)
            progress(done)
    return digest.hexdigest()
