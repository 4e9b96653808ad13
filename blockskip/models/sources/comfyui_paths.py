"""Where a ComfyUI looks for models besides its own folder: `extra_model_paths.yaml` and Desktop's
files of the same form.

As in ComfyUI's utils/extra_config.py and folder_paths.py. Where a file cannot be read, ComfyUI does
not start.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from blockskip.core.errors import BadFile, UserError
from blockskip.core.files import read_error
from blockskip.models.sources.comfyui_desktop import is_desktop, path_files

log = logging.getLogger(__name__)
_FILE = "extra_model_paths.yaml"
LORA_SUFFIXES = (".safetensors", ".sft")  # of those that ComfyUI lists, the ones that are read


def extra_folders(root: Path, kinds: Sequence[str]) -> list[Path]:
    """Return the folders of these kinds in ComfyUI's files of model folders, whether they exist or
    not. Raises UserError if a file cannot be read."""
    return [folder for folder, _ in _entries(root, kinds)]


def lora_folders(root: Path) -> list[Path]:
    """Return the folders that ComfyUI searches for LoRAs, in its order: of two files of one name
    it uses the first."""
    folders = [_own(root)]
    for folder, default in _lora_entries(root):
        if folder in folders and not default:
            continue
        folders = [each for each in folders if each != folder]
        folders.insert(0 if default else len(folders), folder)
    return folders


def files_below(folders: Iterable[Path], suffixes: tuple[str, ...]) -> Iterator[Path]:
    """Yield the files with these endings (in lower case) in these folders and below, once each,
    following links as ComfyUI does. Folders that may not be read are passed over."""
    visited: set[str] = set()
    for folder in filter(os.path.isdir, folders):
        for current, subfolders, names in os.walk(folder, followlinks=True):
            if os.path.realpath(current) in visited:
                subfolders.clear()  # a link to a parent would recurse for ever
                continue
            visited.add(os.path.realpath(current))
            yield from (Path(current, n) for n in sorted(names) if n.lower().endswith(suffixes))


def loras_dir(root: Path) -> Path:
    """Return the folder for new LoRAs: the first existing one in ComfyUI's files of model folders,
    those marked `is_default` before others, else models/loras."""
    defaults = {folder for folder, default in _lora_entries(root) if default}
    folders = sorted(
        lora_folders(root), key=lambda folder: (folder not in defaults, folder == _own(root))
    )
    return next((folder for folder in folders if os.path.isdir(folder)), _own(root))


def _own(root: Path) -> Path:
    return root / "models" / "loras"


def _lora_entries(root: Path) -> list[tuple[Path, bool]]:
    try:
        return list(_entries(root, ("loras",)))
    except UserError as error:  # ComfyUI cannot read the file either
        log.info("%s", error.title)
        return []


def _entries(root: Path, kinds: Sequence[str]) -> Iterator[tuple[Path, bool]]:
    """Yield the folders of these kinds, with whether they are the default for new files."""
    for path in (*_own_file(root), *path_files(root)):
        for section in _sections(path):
            yield from _folders(section, path.absolute().parent, kinds)


def _own_file(root: Path) -> list[Path]:
    """Return the file beside the program, which Desktop's base folder does not hold."""
    path = root / _FILE
    return (
        [path]
        if os.path.exists(path) and (os.path.exists(root / "main.py") or not is_desktop(root))
        else []
    )


def _sections(path: Path) -> list[dict]:
    import yaml

    try:
        sections = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise read_error(error, path) from error
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise BadFile(f"{path} cannot be read: {error}.", "Correct or rename it.") from error
    sections = sections.values() if isinstance(sections, dict) else ()
    return [section for section in sections if isinstance(section, dict)]


def _folders(section: dict, beside: Path, kinds: Sequence[str]) -> Iterator[tuple[Path, bool]]:
    """Yield a section's folders, with `is_default`. Relative paths begin at the base path, and that
    one at the file's folder, `beside`; only the base path may have variables."""
    base = os.path.expandvars(os.path.expanduser(str(section.get("base_path") or "")))
    default = bool(section.get("is_default"))
    for kind in kinds:
        for line in str(section.get(kind) or "").split("\n"):
            if line.strip():
                yield Path(os.path.normpath(beside / base / line)), default
