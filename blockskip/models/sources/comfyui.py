"""A model out of files that are already there: a ComfyUI folder, or single files by path.

What a file is, its own tensors tell (models/sources/flux_checkpoint.py); names only choose between several
files of the same shape. Nothing is downloaded, nothing is written into those folders.
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
    """The model from these files and folders. A file named here wins over one found in a folder.

    Raises UserError saying which part is missing and where it would lie.
    """
    for path in paths:
        if not path.exists():
            raise NotFound(f"{path} is not there.", "Check the path.")
    layout = layout_of(row)
    if isinstance(layout, DiffusersFiles):
        raise BadInput(
            f"{row.title} is not read from single files, nor from ComfyUI's.",
            f"Download it: {command('models fetch')} {row.name}. Or name a folder of it in diffusers' "
            "layout, one with a model_index.json.",
        )
    folders = [base for path in paths if path.is_dir() for base in base_folders(path)]
    named = [path for path in paths if path.is_file()]
    found: dict[str, Path] = {}
    source = Source(row, configs_folder(row))
    around = [path for base in folders for path in weight_files(base)]
    for part in layout.PARTS:
        best = partial(_best_file, source, layout, part)
        if choice := best(named, asked=True) or best(around, asked=False):
            found[part] = choice
    missing = [part for part in layout.PARTS if part not in found]
    if missing:
        raise _missing_part_error(row, layout, missing[0], paths, [*named, *around])
    for path in named:
        if path not in found.values():
            raise BadFile(
                f"{path.name} holds no part of {row.title} that another file does not hold already.",
                "Name one file a part: transformer, CLIP-L, T5-XXL, VAE.",
            )
    return Source(row, source.folder, found, _tokenizers(layout, [*folders, source.folder]))


def find_in_comfyui(row: ModelRow) -> list[tuple[Path, str]]:
    """ComfyUI folders of this machine that hold a usable set of this model's files, each with a note
    for people: the transformer's file and how much it is rounded.

    The head of every model file there is read: seconds where there are hundreds.
    """
    found = []
    for folder in dict.fromkeys([*registry.comfyui_folders(), *candidates()]):
        try:
            source = source_from_files(row, [folder])
            note = _precision_note(source)
        except UserError as error:
            log.info("%s is passed over: %s", folder, error.title)
            continue
        found.append((folder, note))
    return found


def _precision_note(source: Source) -> str:
    """Raises UserError when a file is packed in a way that cannot be read."""
    layout, tables = layout_of(source.row), {}
    for part, path in source.files.items():
        tables[part] = layout.part_tensors(part, tensor_table([path]), source.config(part)) or {}
        for key, tensor in tables[part].items():
            plain = (
                readable(tensor.dtype)
                if tensor.is_gguf
                else tensor.dtype in FLOAT_DTYPES + FP8_DTYPES
            )
            if key.endswith(".weight") and not plain:
                raise BadFile(f"{path.name} is packed ({tensor.dtype}).")
    first, own = next(iter(tables.items()))
    width = bits_per_weight(own.values())
    rounded = ", rounded: what is learnt is as good as that" if width < 15 else ""
    return f"{source.files[first].name}, {width:.0f} bits a weight{rounded}"


def weight_files(base: Path) -> Iterator[Path]:
    """Files with weights where ComfyUI looks for models, links followed, each once; in a folder
    that is no ComfyUI, those right in it."""
    seen: set[str] = set()
    if not (base / "models").is_dir():
        yield from (p for p in sorted(base.iterdir()) if p.suffix.lower() in _SUFFIXES)
        return
    for folder in _model_folders(base):
        for here, inside, names in os.walk(folder, followlinks=True):
            if os.path.realpath(here) in seen:  # a link back up
                inside.clear()
                continue
            seen.add(os.path.realpath(here))
            for name in sorted(names):
                if name.lower().endswith(_SUFFIXES):
                    yield Path(here, name)


def base_folders(folder: Path) -> list[Path]:
    """ComfyUI's own folder, also when its `models` or the folder around it is given; the one with
    the program need have no `models`."""
    near = [folder, folder / "ComfyUI", folder.parent if folder.name == "models" else folder]
    bases = [base for base in near if (base / "models").is_dir() or (base / "comfy").is_dir()]
    return list(dict.fromkeys(bases)) or [folder]


def _model_folders(base: Path) -> list[Path]:
    """Below `models`, and where `extra_model_paths.yaml` sends ComfyUI."""
    folders = [base / "models" / kind for kind in MODEL_FOLDERS] + list(extra_folders(base))
    return [folder for folder in folders if folder.is_dir()]


def extra_folders(base: Path, kinds: Sequence[str] = MODEL_FOLDERS) -> Iterator[Path]:
    """Where `extra_model_paths.yaml` keeps models of these kinds. Raises UserError when it cannot be
    read."""
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
    source: Source, layout: SingleFileLayout, part: str, files: Sequence[Path], asked: bool
) -> Path | None:
    """The file of a part. asked: the user named these files, so a namesake will do.

    The least rounded first, then a file of its own before one that holds several parts.
    """
    config, ranked = source.config(part), []
    usual = source.row.file if part == "transformer" else layout.PREFERRED[part]
    for path in files:
        name = path.name.lower()
        if not asked and _is_namesake(source.row, layout, part, name):
            continue
        try:
            everything = tensor_table([path])
        except UserError as error:
            if asked:
                raise
            log.info("%s is passed over: %s", path, error.title)
            continue
        own = layout.part_tensors(part, everything, config)
        if own is None:
            continue
        known = name.startswith(usual)
        ranked.append(
            (not known, _precision_rank(own), len(everything) > len(own), str(path), path)
        )
    return min(ranked)[-1] if ranked else None


def _is_namesake(row: ModelRow, layout: SingleFileLayout, part: str, name: str) -> bool:
    """Whether a file of this name is of another model of the same shape."""
    for word in layout.NAMESAKES:
        own = part == "transformer" and word in row.file
        if (word in name) != own:
            return True
    return False


def _precision_rank(tensors: dict[str, TensorEntry]) -> tuple[int, float]:
    """Less is better: bf16 and fp16 safetensors, such a GGUF, fp8, a packed GGUF by its bits, one
    that cannot be read."""
    full = all(tensor.dtype in FLOAT_DTYPES for tensor in tensors.values())
    if not any(tensor.is_gguf for tensor in tensors.values()):
        return (0 if full else 2, 0)
    if not all(readable(tensor.dtype) for tensor in tensors.values()):
        return (4, 0)
    return (1, 0) if full else (3, -bits_per_weight(tensors.values()))


def _tokenizers(layout: SingleFileLayout, folders: Sequence[Path]) -> dict[str, Path]:
    """Folder of each vocabulary. Raises UserError when none of `folders` has it."""
    found = {}
    for name, (inside, files) in layout.TOKENIZERS.items():
        holding = _folders_holding(folders, (name, inside), files)
        # the vocabulary is the same in every ComfyUI: where its models lie apart from the program
        holding = holding or _folders_holding(candidates(), (inside,), files)
        if not holding:
            raise ModelMissing(
                f"The text encoders' vocabulary is missing ({inside}).",
                "ComfyUI's program brings it. Where its models lie apart from the program, name both "
                "folders, the one with `models` in it and the one with main.py in it: "
                f"{command('models use-comfyui')} FOLDER FOLDER",
            )
        found[name] = holding[0]
    return found


def _folders_holding(
    folders: Sequence[Path], inside: Sequence[str], files: Sequence[str]
) -> list[Path]:
    places = [folder / sub for folder in folders for sub in inside]
    return [p for p in places if any((p / file).exists() for file in files)]


def _problem(path: Path) -> str:
    """Why a file was passed over, "" when it can be read."""
    try:
        tensor_table([path])
    except UserError as error:
        return error.title
    return ""


def _missing_part_error(
    row: ModelRow, layout: SingleFileLayout, part: str, paths: Sequence[Path], files: list[Path]
) -> UserError:
    what, file, kind = layout.PARTS[part]
    file = file.format(transformer=row.file)
    places = ", ".join(str(path) for path in paths)
    problems = "".join(f" {problem}" for problem in filter(None, map(_problem, files)))
    return ModelMissing(
        f"{row.title}'s {what} was not found in {places}.{problems}",
        f"Put {file} into ComfyUI's models/{kind}, or name the file: "
        f"{command('models use')} {row.name} FILE FOLDER …",
    )
