"""Models from existing files: a ComfyUI folder, or single files by path.

Files are identified by their tensors (models/sources/flux_checkpoint.py); names only choose between
files of the same shape. Nothing is downloaded or written into those folders.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from blockskip.core.errors import BadFile, BadInput, ModelMissing, NotFound, UserError, command
from blockskip.core.presets import ModelRow
from blockskip.models.sources import registry
from blockskip.models.sources.comfyui_locations import candidates, is_comfyui
from blockskip.models.sources.diffusers_checkpoint import DiffusersFiles
from blockskip.models.sources.entry import FLOAT_DTYPES, FP8_DTYPES, GGUF_SUFFIX, TensorEntry
from blockskip.models.sources.gguf import readable
from blockskip.models.sources.layouts import SingleFileLayout, configs_folder, layout_of
from blockskip.models.sources.source import Source
from blockskip.models.sources.tensors import bits_per_weight, tensor_table

__all__ = [
    "base_folders",
    "candidates",
    "extra_folders",
    "find_in_comfyui",
    "source_from_files",
    "is_comfyui",
]
__all__ += ["weight_files"]
log = logging.getLogger(__name__)
MODEL_FOLDERS = ("diffusion_models", "unet", "checkpoints", "text_encoders", "clip", "vae")
_SUFFIXES = (".safetensors", ".sft", GGUF_SUFFIX)


def source_from_files(row: ModelRow, paths: Sequence[Path]) -> Source:
    """Return the model in these files and folders. A file in `paths` takes precedence over one
    found in a folder.

    Raises UserError with the missing part and its usual place.
    """
    for path in paths:
        if not path.exists():
            raise NotFound(f"{path} is not there.", "Check the path.")
    layout = layout_of(row)
    if isinstance(layout, DiffusersFiles):
        raise BadInput(
            f"{row.title} is not read from single files, nor from ComfyUI's.",
            f"Download it: {command('models fetch')} {row.name}. Or name a folder of it in "
            "diffusers' layout, one with a model_index.json.",
        )
    folders = [root for path in paths if path.is_dir() for root in base_folders(path)]
    given_files = [path for path in paths if path.is_file()]
    part_files: dict[str, Path] = {}
    source = Source(row, configs_folder(row))
    folder_files = [path for root in folders for path in weight_files(root)]
    for part in layout.PARTS:
        best = partial(_best_file, source, layout, part)
        if choice := best(given_files, explicit=True) or best(folder_files, explicit=False):
            part_files[part] = choice
    missing = [part for part in layout.PARTS if part not in part_files]
    if missing:
        raise _missing_part_error(row, layout, missing[0], paths, [*given_files, *folder_files])
    for path in given_files:
        if path not in part_files.values():
            raise BadFile(
                f"{path.name} holds no part of {row.title} that another file does not hold "
                "already.",
                "Name one file a part: transformer, CLIP-L, T5-XXL, VAE.",
            )
    return Source(row, source.folder, part_files, _tokenizers(layout, [*folders, source.folder]))


def find_in_comfyui(row: ModelRow) -> list[tuple[Path, str]]:
    """Return this machine's ComfyUI folders with all files of the model, each with a note on the
    transformer's file and its precision.

    Reads the header of every model file, which takes seconds for hundreds of files.
    """
    matches = []
    for folder in dict.fromkeys([*registry.comfyui_folders(), *candidates()]):
        try:
            source = source_from_files(row, [folder])
            note = _precision_note(source)
        except UserError as error:
            log.info("%s is passed over: %s", folder, error.title)
            continue
        matches.append((folder, note))
    return matches


def _precision_note(source: Source) -> str:
    """Return the transformer's file and precision. Raises UserError for an unsupported format."""
    layout, tables = layout_of(source.row), {}
    for part, path in source.files.items():
        tables[part] = layout.part_tensors(part, tensor_table([path]), source.config(part)) or {}
        for key, tensor in tables[part].items():
            supported = (
                readable(tensor.dtype)
                if tensor.is_gguf
                else tensor.dtype in FLOAT_DTYPES + FP8_DTYPES
            )
            if key.endswith(".weight") and not supported:
                raise BadFile(f"{path.name} is packed ({tensor.dtype}).")
    first, tensors = next(iter(tables.items()))
    bits = bits_per_weight(tensors.values())
    rounded = ", rounded: what is learnt is as good as that" if bits < 15 else ""
    return f"{source.files[first].name}, {bits:.0f} bits a weight{rounded}"


def weight_files(root: Path) -> Iterator[Path]:
    """Yield the weight files in ComfyUI's model folders once each, following links. For another
    folder, yield the weight files directly in it."""
    visited: set[str] = set()
    if not (root / "models").is_dir():
        yield from (p for p in sorted(root.iterdir()) if p.suffix.lower() in _SUFFIXES)
        return
    for folder in _model_folders(root):
        for current, subfolders, names in os.walk(folder, followlinks=True):
            if os.path.realpath(current) in visited:
                subfolders.clear()  # a link to a parent would recurse for ever
                continue
            visited.add(os.path.realpath(current))
            for name in sorted(names):
                if name.lower().endswith(_SUFFIXES):
                    yield Path(current, name)


def base_folders(folder: Path) -> list[Path]:
    """Return ComfyUI's root folders for a root, its `models` folder or its parent folder. A root
    may lack `models` if it holds the program."""
    nearby = [folder, folder / "ComfyUI", folder.parent if folder.name == "models" else folder]
    roots = [root for root in nearby if (root / "models").is_dir() or (root / "comfy").is_dir()]
    return list(dict.fromkeys(roots)) or [folder]


def _model_folders(root: Path) -> list[Path]:
    """Return the model folders below `models` and those in `extra_model_paths.yaml`."""
    folders = [root / "models" / kind for kind in MODEL_FOLDERS] + list(extra_folders(root))
    return [folder for folder in folders if folder.is_dir()]


def extra_folders(base: Path, kinds: Sequence[str] = MODEL_FOLDERS) -> Iterator[Path]:
    """Yield the folders of these kinds in `extra_model_paths.yaml`. Raises UserError if the file
    cannot be read."""
    import yaml

    path = base / "extra_model_paths.yaml"
    if not path.exists():
        return
    try:
        sections = yaml.safe_load(path.read_text(encoding="utf-8-sig")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadFile(f"{path} cannot be read: {error}.", "Correct or rename it.") from error
    for section in sections.values() if isinstance(sections, dict) else ():
        if not isinstance(section, dict):
            continue
        root = base / os.path.expandvars(os.path.expanduser(str(section.get("base_path") or "")))
        for kind in kinds:
            for line in str(section.get(kind) or "").splitlines():
                if line.strip():
                    yield root / os.path.expandvars(os.path.expanduser(line.strip()))


def _best_file(
    source: Source, layout: SingleFileLayout, part: str, files: Sequence[Path], explicit: bool
) -> Path | None:
    """Return the best file of a part, or None. explicit: whether the user named the files, which
    allows namesakes.

    Files with the usual name come first, then the highest precision, then files of this part alone.
    """
    config, ranked = source.config(part), []
    usual_name = source.row.file if part == "transformer" else layout.PREFERRED[part]
    for path in files:
        name = path.name.lower()
        if not explicit and _is_namesake(source.row, layout, part, name):
            continue
        try:
            file_tensors = tensor_table([path])
        except UserError as error:
            if explicit:
                raise
            log.info("%s is passed over: %s", path, error.title)
            continue
        tensors = layout.part_tensors(part, file_tensors, config)
        if tensors is None:
            continue
        has_usual_name = name.startswith(usual_name)
        ranked.append(
            (
                not has_usual_name,
                _precision_rank(tensors),
                len(file_tensors) > len(tensors),
                str(path),
                path,
            )
        )
    return min(ranked)[-1] if ranked else None


def _is_namesake(row: ModelRow, layout: SingleFileLayout, part: str, name: str) -> bool:
    """Return whether the name belongs to another model of the same shape."""
    for word in layout.NAMESAKES:
        expected = part == "transformer" and word in row.file
        if (word in name) != expected:
            return True
    return False


def _precision_rank(tensors: dict[str, TensorEntry]) -> tuple[int, float]:
    """Return a sort key, best first: bf16 and fp16 safetensors, a bf16 or fp16 GGUF, fp8, quantised
    GGUFs by bits per weight, unsupported formats."""
    full = all(tensor.dtype in FLOAT_DTYPES for tensor in tensors.values())
    if not any(tensor.is_gguf for tensor in tensors.values()):
        return (0 if full else 2, 0)
    if not all(readable(tensor.dtype) for tensor in tensors.values()):
        return (4, 0)
    return (1, 0) if full else (3, -bits_per_weight(tensors.values()))


def _tokenizers(layout: SingleFileLayout, folders: Sequence[Path]) -> dict[str, Path]:
    """Return the folder of each vocabulary. Raises UserError if no folder has it."""
    tokenizers = {}
    for name, (subfolder, files) in layout.TOKENIZERS.items():
        holders = _folders_holding(folders, (name, subfolder), files)
        # models may be in a folder without the program, and all ComfyUIs share the vocabulary
        holders = holders or _folders_holding(candidates(), (subfolder,), files)
        if not holders:
            raise ModelMissing(
                f"The text encoders' vocabulary is missing ({subfolder}).",
                "ComfyUI's program brings it. Where its models lie apart from the program, name "
                "both folders, the one with `models` in it and the one with main.py in it: "
                f"{command('models use-comfyui')} FOLDER FOLDER",
            )
        tokenizers[name] = holders[0]
    return tokenizers


def _folders_holding(
    folders: Sequence[Path], subfolders: Sequence[str], files: Sequence[str]
) -> list[Path]:
    locations = [folder / sub for folder in folders for sub in subfolders]
    return [p for p in locations if any((p / file).exists() for file in files)]


def _problem(path: Path) -> str:
    """Return why a file was skipped, "" if it can be read."""
    try:
        tensor_table([path])
    except UserError as error:
        return error.title
    return ""


def _missing_part_error(
    row: ModelRow, layout: SingleFileLayout, part: str, paths: Sequence[Path], files: list[Path]
) -> UserError:
    part_title, file, kind = layout.PARTS[part]
    file = file.format(transformer=row.file)
    locations = ", ".join(str(path) for path in paths)
    problems = "".join(f" {problem}" for problem in filter(None, map(_problem, files)))
    return ModelMissing(
        f"{row.title}'s {part_title} was not found in {locations}.{problems}",
        f"Put {file} into ComfyUI's models/{kind}, or name the file: "
        f"{command('models use')} {row.name} FILE FOLDER …",
    )
