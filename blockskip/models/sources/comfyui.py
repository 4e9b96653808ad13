"""Models from existing files: a ComfyUI folder, or single files by path.

Files are identified by their tensors (models/sources/known_formats.py); names only choose between
files of the same shape. Nothing is downloaded or written into those folders.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from blockskip.core import files
from blockskip.core.errors import BadFile, BadInput, ModelMissing, NotFound, UserError, command
from blockskip.core.presets import ModelRow
from blockskip.models.sources import registry
from blockskip.models.sources.comfyui_locations import candidates, is_comfyui
from blockskip.models.sources.comfyui_paths import (
    LORA_SUFFIXES,
    extra_folders,
    files_below,
    lora_folders,
)
from blockskip.models.sources.entry import GGUF_SUFFIX
from blockskip.models.sources.file_choice import Choice, choose_file
from blockskip.models.sources.file_contents import TRANSFORMERS, description
from blockskip.models.sources.layouts import configs_folder
from blockskip.models.sources.part_formats import PartFormat
from blockskip.models.sources.source import Source
from blockskip.models.sources.tensors import bits_per_weight, shard, tensor_table
from blockskip.models.sources.vocabularies import find_vocabularies

__all__ = [
    "base_folders",
    "candidates",
    "find_in_comfyui",
    "source_from_files",
    "is_comfyui",
]
__all__ += ["unreadable_files", "weight_files"]
log = logging.getLogger(__name__)
Check = Callable[[Source, str], object]


class NoTransformer(ModelMissing):
    """Nothing of a model's transformer is in the folders, so the model is not to be expected."""


MODEL_FOLDERS = ("diffusion_models", "unet", "checkpoints", "text_encoders", "clip", "vae")
_SUFFIXES = (".safetensors", ".sft", GGUF_SUFFIX)


def is_read_from_files(row: ModelRow) -> bool:
    """Return whether the model is read from single files, as ComfyUI has them."""
    return not row.files and all(_format(row, part).folder for part in row.parts)


def _format(row: ModelRow, part: str) -> PartFormat:
    return Source(row, configs_folder(row)).format(part)


def source_from_files(row: ModelRow, paths: Sequence[Path], check: Check | None = None) -> Source:
    """Return the model in these files and folders. A file in `paths` takes precedence over one
    found in a folder. check(source, part): looks at a found file more closely, and raises UserError
    if another is to be taken.

    Raises UserError with the missing part and its usual place.
    """
    given_files, folder_files = _listed(row, paths)
    choices = _choices(row, given_files, folder_files, check)
    part_files = {part: choice.best for part, choice in choices.items() if choice.best}
    missing = [part for part in row.parts if part not in part_files]
    unused = [path for path in given_files if path not in part_files.values()]
    if missing:
        choice = choices[missing[0]]
        raise _missing_part_error(row, missing[0], paths, unused, folder_files, choice)
    if unused:
        parts = ", ".join(dict.fromkeys(_format(row, part).title for part in row.parts))
        raise BadFile(
            f"{unused[0].name} holds no part of {row.title} that another file does not hold "
            f"already{_contents(unused[0])}.",
            f"Name one file a part: {parts}.",
        )
    configs = configs_folder(row)
    folders = [root for path in paths if path.is_dir() for root in base_folders(path)]
    tokenizers = {} if row.sibling_of else find_vocabularies(configs, folders)
    return Source(row, configs, part_files, tokenizers)


def lora_from_files(
    row: ModelRow, paths: Sequence[Path], check: Callable[[Source], object]
) -> Source:
    """Return the LoRA of others that a row is, in these files and ComfyUI's folders for LoRAs. What
    a LoRA is for is not told by its tensors: a file that is not named must have a usual name.

    check(source): raises UserError if the file does not fit; then the next one is taken. Raises
    UserError if there is none.
    """
    _check_there(paths)
    usual = tuple(name.lower() for name in row.comfyui.usual("lora"))
    roots = [root for path in paths if path.is_dir() for root in base_folders(path)]
    below = files_below((f for root in roots for f in lora_folders(root)), LORA_SUFFIXES)
    listed = [path for path in below if path.name.lower().startswith(usual)]
    listed.sort(key=lambda path: path.name != row.files[0])  # the version of the row comes first
    found = [*(path for path in paths if path.is_file()), *listed]
    if not usual or not found:
        raise ModelMissing(
            f"{row.title} was not found in {', '.join(map(str, paths))}.",
            f"Put {row.files[0]} into ComfyUI's models/loras, or name the file: "
            f"{command('models use')} {row.name} FILE",
        )
    *others, last = (Source(row, configs_folder(row), {"lora": path}) for path in found)
    for source in others:
        try:
            check(source)
        except UserError as error:
            if source.lora in paths:
                raise
            log.info("%s is passed over: %s", source.lora, error.title)
        else:
            return source
    check(last)
    return last


def unreadable_files(
    row: ModelRow, folders: Sequence[Path], check: Check | None = None
) -> list[str]:
    """Return a sentence for each file in ComfyUI's folders that cannot be read and holds a part of
    the model, or may hold one. check: as of `source_from_files`. Raises UserError as that."""
    _, folder_files = _listed(row, folders)
    choices = _choices(row, [], folder_files, check).values()
    titles = (title for choice in choices for title in (*choice.unreadable, *choice.broken))
    return list(dict.fromkeys(titles))


def _check_there(paths: Sequence[Path]) -> None:
    for path in paths:
        try:
            path.stat()
        except FileNotFoundError:
            raise NotFound(f"{path} is not there.", "Check the path.") from None
        except OSError as error:
            raise files.read_error(error, path) from error


def _listed(row: ModelRow, paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Return (files among `paths`, weight files in folders among them)."""
    _check_there(paths)
    if not is_read_from_files(row):
        raise BadInput(
            f"{row.title} is not read from single files, nor from ComfyUI's.",
            f"Download it: {command('models fetch')} {row.name}. Or name a folder of it in "
            "diffusers' layout, one with a model_index.json.",
        )
    roots = [root for path in paths if path.is_dir() for root in base_folders(path)]
    folder_files = [path for root in roots for path in weight_files(root)]
    return [path for path in paths if path.is_file()], folder_files


def _choices(
    row: ModelRow, given_files: list[Path], folder_files: list[Path], check: Check | None
) -> dict[str, Choice]:
    """Return the choice of a file for each part. Named files come before found ones."""
    configs, choices = configs_folder(row), {}
    for part in row.parts:
        source = Source(row, configs)
        choices[part] = choose_file(source, part, given_files, explicit=True)
        if choices[part].best is None:
            look = check and partial(_check_file, row, configs, part, check)
            choices[part] = choose_file(source, part, folder_files, explicit=False, check=look)
        if choices[part].best is None:
            check = None  # the model is not whole: the rest need not be looked at closely
    return choices


def _check_file(row: ModelRow, configs: Path, part: str, check: Check, path: Path) -> None:
    check(Source(row, configs, {part: path}), part)


def find_in_comfyui(row: ModelRow) -> list[tuple[Path, str]]:
    """Return this machine's ComfyUI folders with all files of the model, each with a note on the
    transformer's file and its precision.

    Reads the header of every model file, which takes seconds for hundreds of files.
    """
    matches = []
    for folder in dict.fromkeys([*registry.comfyui_folders(), *candidates()]):
        try:
            source = source_from_files(row, [folder])
            notes = [_precision_note(source), *unreadable_files(row, [folder])]
        except UserError as error:
            log.info("%s is passed over: %s", folder, error.title)
            continue
        matches.append((folder, ". ".join(note.rstrip(".") for note in notes)))
    return matches


def _precision_note(source: Source) -> str:
    """Return the transformer's file and precision."""
    bits = bits_per_weight(source.tensors("transformer").values())
    rounded = ", rounded: what is learnt is as good as that" if bits < 15 else ""
    return f"{source.files['transformer'].name}, {bits:.0f} bits a weight{rounded}"


def weight_files(root: Path) -> Iterator[Path]:
    """Yield the weight files in ComfyUI's model folders once each, following links. For another
    folder, yield the weight files directly in it. Raises UserError if it cannot be read."""
    if os.path.isdir(root / "models"):
        yield from files_below(_model_folders(root), _SUFFIXES)
        return
    try:
        paths = [root / name for name in sorted(os.listdir(root))]
    except OSError as error:
        raise files.read_error(error, root) from error
    named = (path for path in paths if path.name.lower().endswith(_SUFFIXES))
    yield from (path for path in named if not os.path.isdir(path))


def base_folders(folder: Path) -> list[Path]:
    """Return ComfyUI's root folders for a root, its `models` folder or its parent folder. A root
    may lack `models` if it holds the program."""
    nearby = [folder, folder / "ComfyUI", folder.parent if folder.name == "models" else folder]
    roots = [root for root in nearby if any(map(os.path.isdir, (root / "models", root / "comfy")))]
    return list(dict.fromkeys(roots)) or [folder]


def _model_folders(root: Path) -> list[Path]:
    """Return the model folders below `models` and those in `extra_model_paths.yaml`."""
    folders = [root / "models" / kind for kind in MODEL_FOLDERS] + extra_folders(
        root, MODEL_FOLDERS
    )
    return [folder for folder in folders if os.path.isdir(folder)]


def _contents(path: Path) -> str:
    """Return what a file that is no part of the model holds instead, to be added to a message."""
    try:
        keys = tensor_table([path])
    except UserError:
        return ""
    if piece := shard(path):
        return f": it is {piece}"
    what = description(keys)
    return f": it is {what}" if what else ""


def _missing_part_error(
    row: ModelRow,
    part: str,
    paths: Sequence[Path],
    unused: list[Path],
    folder_files: list[Path],
    choice: Choice,
) -> UserError:
    format, usual = _format(row, part), row.comfyui.usual(part)
    file = f"{usual[0]}.safetensors, or an fp8 or GGUF file of it," if usual else "its file"
    in_checkpoint = part != "transformer" and usual[:1] == row.comfyui.usual("transformer")[:1]
    folder = "checkpoints" if in_checkpoint else format.folder
    locations = ", ".join(str(path) for path in paths)
    problems = [f"{path.name}{_contents(path)}." for path in unused if _contents(path)]
    problems += [*choice.unreadable, *choice.broken]
    problems += [f"{path.name} is {shard(path)}." for path in folder_files if shard(path)]
    nothing = part == "transformer" and not choice.unreadable
    return (NoTransformer if nothing else ModelMissing)(
        f"{row.title}'s {format.title} was not found in {locations}."
        + "".join(f" {problem}" for problem in dict.fromkeys(problems)),
        f"Put {file} into ComfyUI's models/{folder}, or name the file: "
        f"{command('models use')} {row.name} FILE FOLDER …",
    )


def of_parts(problems: Sequence[UserError]) -> list[UserError]:
    """Return the problems of models of which a part is there."""
    return [error for error in problems if not isinstance(error, NoTransformer)]


def nothing_found(folders: Sequence[Path], problems: Sequence[UserError]) -> UserError:
    """Return the error of folders that hold no model completely. problems: of each model; that of
    one of which a part is there tells most, and that of a folder itself stays."""
    if not isinstance(problems[0], ModelMissing):
        return problems[0]
    found: dict[str, str] = {}
    broken = []
    for path in (path for f in folders for root in base_folders(f) for path in weight_files(root)):
        try:
            if (what := description(tensor_table([path]))) in TRANSFORMERS:
                found.setdefault(what, f"{what} ({path.name})")
        except UserError as error:
            broken.append(error.title)
    if in_part := of_parts(problems):
        title, remedy, beside = in_part[0].title, in_part[0].remedy, []
    else:
        title = f"No model that can be trained was found in {', '.join(map(str, folders))}."
        remedy = (
            "Name the folder with ComfyUI's `models` in it, or name a model's files: "
            f"{command('models use')} NAME FILE FOLDER …"
        )
        beside = [f"There is {', '.join(found.values())}."] if found else []
    said = [problem for problem in dict.fromkeys(broken) if problem not in title]
    return ModelMissing(" ".join([title, *said, *beside]), remedy)
