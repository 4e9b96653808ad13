"""Models from existing files: a ComfyUI folder, or single files by path.

Files are identified by their tensors (models/sources/flux_checkpoint.py); names only choose between
files of the same shape. Nothing is downloaded or written into those folders.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from blockskip.core.errors import BadFile, BadInput, ModelMissing, NotFound, UserError, command
from blockskip.core.presets import ModelRow
from blockskip.models.sources import registry
from blockskip.models.sources.comfyui_locations import candidates, is_comfyui
from blockskip.models.sources.comfyui_paths import extra_folders
from blockskip.models.sources.diffusers_checkpoint import DiffusersFiles
from blockskip.models.sources.entry import GGUF_SUFFIX
from blockskip.models.sources.file_choice import Choice, choose_file
from blockskip.models.sources.file_contents import OTHER_TRANSFORMERS, description
from blockskip.models.sources.layouts import SingleFileLayout, configs_folder, layout_of
from blockskip.models.sources.source import Source
from blockskip.models.sources.tensors import bits_per_weight, shard, tensor_table

__all__ = [
    "base_folders",
    "candidates",
    "find_in_comfyui",
    "source_from_files",
    "is_comfyui",
]
__all__ += ["unreadable_files", "weight_files"]
log = logging.getLogger(__name__)
MODEL_FOLDERS = ("diffusion_models", "unet", "checkpoints", "text_encoders", "clip", "vae")
_SUFFIXES = (".safetensors", ".sft", GGUF_SUFFIX)


def source_from_files(row: ModelRow, paths: Sequence[Path]) -> Source:
    """Return the model in these files and folders. A file in `paths` takes precedence over one
    found in a folder.

    Raises UserError with the missing part and its usual place.
    """
    layout, given_files, folder_files = _listed(row, paths)
    choices = _choices(row, layout, given_files, folder_files)
    part_files = {part: choice.best for part, choice in choices.items() if choice.best}
    missing = [part for part in layout.PARTS if part not in part_files]
    unused = [path for path in given_files if path not in part_files.values()]
    if missing:
        unreadable = choices[missing[0]].unreadable
        raise _missing_part_error(row, layout, missing[0], paths, unused, folder_files, unreadable)
    if unused:
        raise BadFile(
            f"{unused[0].name} holds no part of {row.title} that another file does not hold "
            f"already{_contents(unused[0])}.",
            "Name one file a part: transformer, CLIP-L, T5-XXL, VAE.",
        )
    configs = configs_folder(row)
    folders = [root for path in paths if path.is_dir() for root in base_folders(path)]
    return Source(row, configs, part_files, _tokenizers(layout, [*folders, configs]))


def unreadable_files(row: ModelRow, folders: Sequence[Path]) -> list[str]:
    """Return a sentence for each file of the model's parts in ComfyUI's folders that cannot be
    read. Raises UserError as `source_from_files`."""
    layout, _, folder_files = _listed(row, folders)
    choices = _choices(row, layout, [], folder_files).values()
    return list(dict.fromkeys(title for choice in choices for title in choice.unreadable))


def _listed(
    row: ModelRow, paths: Sequence[Path]
) -> tuple[SingleFileLayout, list[Path], list[Path]]:
    """Return (layout, files among `paths`, weight files in folders among them)."""
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
    roots = [root for path in paths if path.is_dir() for root in base_folders(path)]
    folder_files = [path for root in roots for path in weight_files(root)]
    return layout, [path for path in paths if path.is_file()], folder_files


def _choices(
    row: ModelRow, layout: SingleFileLayout, given_files: list[Path], folder_files: list[Path]
) -> dict[str, Choice]:
    """Return the choice of a file for each part. Named files come before found ones."""
    source, choices = Source(row, configs_folder(row)), {}
    for part in layout.PARTS:
        choices[part] = choose_file(source, layout, part, given_files, explicit=True)
        if choices[part].best is None:
            choices[part] = choose_file(source, layout, part, folder_files, explicit=False)
    return choices


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
    folders = [root / "models" / kind for kind in MODEL_FOLDERS] + extra_folders(
        root, MODEL_FOLDERS
    )
    return [folder for folder in folders if folder.is_dir()]


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


def _problem(path: Path) -> str:
    """Return why a file was skipped, "" if it can be read."""
    try:
        tensor_table([path])
    except UserError as error:
        return error.title
    piece = shard(path)
    return f"{path.name} is {piece}." if piece else ""


def _missing_part_error(
    row: ModelRow,
    layout: SingleFileLayout,
    part: str,
    paths: Sequence[Path],
    unused: list[Path],
    folder_files: list[Path],
    unreadable: list[str],
) -> UserError:
    part_title, file, kind = layout.PARTS[part]
    file = file.format(transformer=row.file)
    locations = ", ".join(str(path) for path in paths)
    problems = [f"{path.name}{_contents(path)}." for path in unused if _contents(path)]
    problems += [*unreadable, *filter(None, map(_problem, [*unused, *folder_files]))]
    others = _other_families(folder_files) if part == "transformer" else []
    only = f" Only FLUX.1 is taken from ComfyUI's files, not {', '.join(others)}." if others else ""
    return ModelMissing(
        f"{row.title}'s {part_title} was not found in {locations}."
        + "".join(f" {problem}" for problem in dict.fromkeys(problems))
        + only,
        f"Put {file} into ComfyUI's models/{kind}, or name the file: "
        f"{command('models use')} {row.name} FILE FOLDER …",
    )


def _other_families(files: Sequence[Path]) -> list[str]:
    """Return the other families whose transformers are among the files, each with a file's name."""
    found: dict[str, str] = {}
    for path in files:
        try:
            what = description(tensor_table([path]))
        except UserError:
            continue
        if what in OTHER_TRANSFORMERS:
            found.setdefault(what, f"{what} ({path.name})")
    return list(found.values())
