"""A model that is on this machine: where its configurations, weights and vocabularies lie."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from blockskip.core import files
from blockskip.core.errors import BadFile, command
from blockskip.core.paths import data_dir
from blockskip.core.presets import ModelRow
from blockskip.models.sources.hub_api import TEXT_SUFFIXES
from blockskip.models.sources.layouts import configs_folder, layout_of
from blockskip.models.sources.tensors import WeightIndex, part_files, tensor_table

SMALL_FILE_BYTES = 16 << 20  # bytes; a bigger file's digest is remembered


@dataclass(frozen=True)
class Source:
    """folder: in diffusers' layout, with the weights unless `files` (part → file) says where they
    lie. tokenizers: part → folder, when they are not in `folder`."""

    row: ModelRow
    folder: Path
    files: dict[str, Path] = field(default_factory=dict)
    tokenizers: dict[str, Path] = field(default_factory=dict)

    @property
    def is_folder(self) -> bool:
        """Whether `folder` is all of it, as `from_pretrained` wants it."""
        return not self.files

    @property
    def location(self) -> str:
        """For people: the folder, or the transformer's file."""
        return str(next(iter(self.files.values()), self.folder))

    def config(self, part: str) -> dict:
        """The library's configuration of a part (transformer, vae, text_encoder …)."""
        return json.loads((self.folder / part / "config.json").read_text(encoding="utf-8"))

    def paths(self, part: str) -> list[Path]:
        """The files a part's weights lie in; [] when one is missing."""
        return [self.files[part]] if self.files else part_files(self.folder / part)

    def weights(self, part: str) -> WeightIndex:
        """The library's parameter name → where it lies; nothing but file headers is read.

        Raises UserError when the files are missing, broken, or do not hold the whole part.
        """
        family = layout_of(self.row)
        # the sizes this model must have, whatever the folder's own configuration says
        known = configs_folder(self.row)
        wanted = replace(self, folder=known if known.is_dir() else self.folder).config(part)
        own = family.part_tensors(part, tensor_table(self.paths(part)), wanted)
        if own is None:
            raise BadFile(
                f"{self.location} does not hold the whole of {self.row.title}'s "
                f"{family.PARTS[part][0]}.",
                f"Fetch it, or choose other files: {command('models use')} {self.row.name} …",
            )
        return family.weight_index(part, own, wanted)

    def fingerprint(self, progress: Callable[[int, int], None] | None = None) -> str:
        """16 hex digits of every weight, configuration and vocabulary in use.

        Never of names, so it keys every cache: other weights have another one. The same weights in
        another layout may have another, too. progress: called with bytes done and bytes in all
        while big files are read for the first time (a digest is remembered until the file changes).
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


def _folder_fingerprint(folder: Path, progress: Callable[[int, int], None] | None) -> str:
    """All that `from_pretrained` may read: weights and texts, but no weights beside the parts."""
    parts: list[object] = []
    found = sorted(path for path in folder.rglob("*") if not _is_hidden(path, folder))
    heavy = [p for p in found if p.suffix == ".safetensors" and p.parent != folder]
    digests = _digests(heavy, progress)
    for path in found:
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
    return json.dumps(json.loads(path.read_text(encoding="utf-8")), sort_keys=True)


def _digests(
    paths: list[Path], progress: Callable[[int, int], None] | None
) -> dict[Path, bytes | str]:
    """What tells one file's content from another's: small ones whole, of big ones the SHA-256."""
    store = data_dir() / "fingerprints.json"
    try:
        known = files.read_json(store)
    except (OSError, ValueError):
        known = {}
    found: dict[Path, bytes | str] = {}
    fresh: dict[str, list] = {}
    total, done = sum(path.stat().st_size for path in paths), 0

    def tell(read: int) -> None:
        if progress:
            progress(done + read, total)

    for path in paths:
        stat = path.stat()
        if stat.st_size <= SMALL_FILE_BYTES:
            found[path] = path.read_bytes()
        else:
            # all that a file system notes when a file is written or replaced
            mark = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
            old = known.get(str(path.resolve()))
            if not old or old[:-1] != mark:
                old = fresh[str(path.resolve())] = [*mark, _sha256(path, tell)]
            found[path] = old[-1]
        done += stat.st_size
    if fresh:
        files.write_json(store, known | fresh)
    return found


def _sha256(path: Path, progress: Callable[[int], None]) -> str:
    digest, done = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while chunk := file.read(16 << 20):
            digest.update(chunk)
            done += len(chunk)
            progress(done)
    return digest.hexdigest()
