"""Sources of a model's weights: a folder in diffusers' layout (such as the demo model), a ComfyUI
folder, single files, or the hub.

The user's selection is stored in `models.json` in the data folder. Caches and runs are keyed by the
content of the weights (`Source.fingerprint`), never by a name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from blockskip.core import files, presets, processes
from blockskip.core.errors import Unexpected, UserError, from_kind
from blockskip.core.paths import ROOT
from blockskip.core.presets import ModelRow
from blockskip.core.units import GIB
from blockskip.models.sources import comfyui, hub, registry
from blockskip.models.sources.availability import (
    ModelStatus,
    list_models,
    picture_model,
    status_dict,
)
from blockskip.models.sources.comfyui import find_in_comfyui, is_read_from_files
from blockskip.models.sources.comfyui_loras import (
    ComfyuiLora,
    chosen_comfyui,
    comfyui_root,
    copy_to_comfyui,
)
from blockskip.models.sources.entry import TensorEntry
from blockskip.models.sources.layouts import index_file
from blockskip.models.sources.model_identity import check_folder
from blockskip.models.sources.registry import find_model, lora_path
from blockskip.models.sources.source import Source
from blockskip.models.sources.tensors import bits_per_weight

__all__ = [
    "ComfyuiLora",
    "ModelStatus",
    "Source",
    "lora_path",
    "check_model",
    "chosen_comfyui",
    "comfyui_root",
    "copy_to_comfyui",
    "fetch",
    "find_model",
]
__all__ += [
    "find_in_comfyui",
    "is_read_from_files",
    "list_models",
    "picture_model",
    "select_comfyui",
    "select_model",
    "status_dict",
]
__all__ += ["select_comfyui_in_subprocess", "unreadable_beside"]


def fetch(row: ModelRow, progress: hub.Progress = lambda *_: None) -> Source:
    """Download the missing files of a model and its training adapter. progress: called with bytes
    present, bytes in total and the current file's name. Raises UserError, also if the repository
    holds another model.

    Only one process at a time may download a model, which `download_process.start` ensures.
    """
    if (adapter := row.adapter_row) is not None:
        fetch(adapter, progress)
        with suppress(UserError):
            return find_model(row)
    if (ROOT / row.source).exists():
        return Source(row, ROOT / row.source)
    source = Source(row, hub.fetch(row, lambda folder: check_model(Source(row, folder)), progress))
    registry.save_selection(row, None)  # the new download replaces an earlier selection
    return source


def select_model(row: ModelRow, paths: Sequence[Path]) -> Source:
    """Select a folder in diffusers' layout, a ComfyUI folder or single files as a model's source.
    Raises UserError if a part is missing."""
    source = _checked_source(row, paths)
    registry.save_selection(row, source)
    return source


def _checked_source(row: ModelRow, paths: Sequence[Path]) -> Source:
    paths = [files.user_path(path).resolve() for path in paths]
    if row.files:
        source = comfyui.lora_from_files(row, paths, check_model)
    elif len(paths) == 1 and index_file(paths[0]):
        source = Source(row, paths[0])
    else:
        source = comfyui.source_from_files(row, paths, _check_part)
    check_model(source)
    return source


def select_comfyui(
    *folders: Path, missing: Callable[[UserError], object] = lambda error: None
) -> list[Source]:
    """Select these ComfyUI folders as the source of every model that they hold completely, and
    return what is used of these. A model that was downloaded, or chosen as a folder, stays: its
    files may be better, and runs were begun on them.

    folders: one folder, or separate folders of the models and the program. missing: called with
    what is wrong with each other model of which there is a transformer. Raises UserError about the
    first real model if they hold none.
    """
    folders = tuple(files.user_path(folder).resolve() for folder in folders)
    if any(comfyui.is_comfyui(root) for folder in folders for root in comfyui.base_folders(folder)):
        registry.save_comfyui_folders(folders)  # LoRAs go there even if it holds no model
    selected, problems = [], []
    extras = *presets.sibling_rows().values(), *presets.adapter_rows().values()
    for row in (*presets.model_rows().values(), *extras):
        if not (row.files or comfyui.is_read_from_files(row)):
            continue
        try:
            source = _checked_source(row, folders)
            if registry.has_folder(row):
                source = find_model(row)
            else:
                registry.save_selection(row, source)
            selected.append(source)
        except UserError as error:
            if not row.demo and not row.sibling_of:  # which are not expected in every ComfyUI
                problems.append(error)
    if not selected:
        raise comfyui.nothing_found(folders, problems)
    for problem in comfyui.of_parts(problems):
        missing(problem)
    return selected


def _check_part(source: Source, part: str) -> None:
    from blockskip.models.sources.part_checks import check_part  # with torch

    check_part(source, part)


def select_comfyui_in_subprocess(*folders: Path) -> list[str]:
    """Run `select_comfyui` in a subprocess, because checking weights needs torch, which the
    studio's process never loads. Takes some seconds. Return a sentence for each file that cannot
    be read and each model that is not whole. Raises UserError."""
    words = ["models", "use-comfyui", *(str(folder.absolute()) for folder in folders), "--json"]
    try:
        answer = json.loads(processes.run_for_output("blockskip", words, seconds=300))
    except ValueError:
        raise Unexpected("ComfyUI's files could not be looked at.", "Try again.") from None
    if "error" in answer:
        raise from_kind(answer["kind"], answer["error"], answer["remedy"])
    return answer["unreadable"] + answer["incomplete"]


def unreadable_beside(*selected: Source) -> list[str]:
    """Return a sentence for each file in ComfyUI's folders that belongs to these models, or to
    others of their shape, but cannot be read. [] for models from elsewhere."""
    titles: list[str] = []
    folders = registry.comfyui_folders()
    for source in selected:
        if source.files and folders and not source.row.files:
            titles += comfyui.unreadable_files(source.row, folders, _check_part)
    return list(dict.fromkeys(titles))


def check_model(source: Source) -> dict[str, dict]:
    """Read every file's header and account for every tensor. Return part → {files, gib, precision,
    bits, note}.

    bits: average per weight, including scales. note: advice for users of a quantised GGUF, else "".
    Raises UserError if a file is missing, truncated or of another model.
    """
    from blockskip.models.sources.part_checks import check_lora, check_part  # with torch

    if source.row.files:
        check_lora(source)
        return {}
    if source.is_folder:
        check_folder(source.row, source.folder)
    summary = {}
    for part in source.row.parts:
        weights = check_part(source, part).values()
        entries = {weight.entry for weight in weights}
        summary[part] = {
            "files": sorted({str(entry.path) for entry in entries}),
            "gib": round(sum(entry.nbytes for entry in entries) / GIB, 3),
            "precision": "+".join(sorted({entry.dtype.lower() for entry in entries})),
            "bits": round(bits_per_weight(entries), 2),
            "note": _precision_note(entries),
        }
    return summary


def _precision_note(entries: set[TensorEntry]) -> str:
    gguf_name = next((entry.path.name for entry in entries if entry.is_quantised), "")
    if not gguf_name:
        return ""
    return (
        f"{gguf_name} is a GGUF of {bits_per_weight(entries):.1f} bits a weight: what is learnt on "
        "it starts from these rounded weights and is as good as they are. The processor unpacks "
        "them each time they pass: training, once a window; previews, once a step, unless NF4, "
        "int8 or RAM keeps them."
    )
