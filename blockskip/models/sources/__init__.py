"""Where a model's weights come from: a folder in diffusers' layout (the demo model is one), a
ComfyUI folder, single files, or the hub.

What was chosen is remembered in `models.json` in the data folder. Caches and runs are keyed by what
the weights are (`Source.fingerprint`), never by a name.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from blockskip.core import presets, processes
from blockskip.core.errors import Unexpected, UserError, from_kind
from blockskip.core.paths import ROOT
from blockskip.core.presets import ModelRow
from blockskip.core.units import GIB
from blockskip.models.sources import comfyui, hub, registry
from blockskip.models.sources.availability import ModelStatus, list_models, status_dict
from blockskip.models.sources.comfyui import find_in_comfyui
from blockskip.models.sources.comfyui_loras import comfyui_root, copy_to_comfyui, loras_dir
from blockskip.models.sources.entry import TensorEntry
from blockskip.models.sources.layouts import layout_of
from blockskip.models.sources.registry import find_model
from blockskip.models.sources.source import Source
from blockskip.models.sources.tensors import bits_per_weight

__all__ = [
    "ModelStatus",
    "Source",
    "check_model",
    "comfyui_root",
    "copy_to_comfyui",
    "fetch",
    "find_model",
]
__all__ += [
    "find_in_comfyui",
    "loras_dir",
    "list_models",
    "select_comfyui",
    "select_model",
    "status_dict",
]
__all__ += ["select_comfyui_in_subprocess"]


def fetch(row: ModelRow, progress: hub.Progress = lambda *_: None) -> Source:
    """Download a model, or what is still missing of it. progress: told bytes here, bytes in all and
    the file it is at. Raises UserError, also when what came is another model.

    Nobody else may do so at the same time: `downloads.start` sees to that.
    """
    if (ROOT / row.source).exists():
        return Source(row, ROOT / row.source)
    source = Source(row, hub.fetch(row, lambda folder: check_model(Source(row, folder)), progress))
    registry.save_selection(row, None)  # what was just asked for wins over what was chosen before
    return source


def select_model(row: ModelRow, paths: Sequence[Path]) -> Source:
    """Take a model from a folder in diffusers' layout, a ComfyUI folder or single files, from now
    on. Raises UserError when a part is missing."""
    paths = [Path(path).expanduser().resolve() for path in paths]
    if len(paths) == 1 and (paths[0] / "model_index.json").exists():
        source = Source(row, paths[0])
    else:
        source = comfyui.source_from_files(row, paths)
    check_model(source)
    registry.save_selection(row, source)
    return source


def select_comfyui(*folders: Path) -> list[Source]:
    """Take every model that these ComfyUI folders hold whole from there, from now on: one folder,
    or that of the models and that of the program, where they are apart.

    Raises UserError, about the first real model, when they hold none.
    """
    folders = tuple(folder.expanduser().resolve() for folder in folders)
    if any(comfyui.is_comfyui(base) for folder in folders for base in comfyui.base_folders(folder)):
        registry.save_comfyui_folders(folders)  # LoRAs go there, whatever models it has
    found, problems = [], {}
    for row in presets.model_rows().values():
        if row.parts:
            continue
        try:
            found.append(select_model(row, folders))
        except UserError as error:
            problems[row.name] = error
    if not found:  # nobody looks for the demo model there
        raise next(error for name, error in problems.items() if not presets.model_row(name).demo)
    return found


def select_comfyui_in_subprocess(*folders: Path) -> None:
    """As `select_comfyui`, in a process of its own: looking at every weight takes torch, which the
    studio's own process never loads. Takes some seconds. Raises UserError."""
    words = ["models", "use-comfyui", *(str(folder.absolute()) for folder in folders), "--json"]
    try:
        answer = json.loads(processes.run_for_output("blockskip", words, seconds=300))
    except ValueError:
        raise Unexpected("ComfyUI's files could not be looked at.", "Try again.") from None
    if "error" in answer:
        raise from_kind(answer["kind"], answer["error"], answer["remedy"])


def check_model(source: Source) -> dict[str, dict]:
    """Read every file's header and find every weight: part → {files, gib, precision, bits, note}.

    bits: of a weight on average, scales and all. note: what its user should know of a packed GGUF,
    else "". Raises UserError when a file is missing, cut short or of another model.
    """
    said = {}
    for part in layout_of(source.row).PARTS:
        weights = source.weights(part).values()
        stored = {weight.entry for weight in weights}
        said[part] = {
            "files": sorted({str(tensor.path) for tensor in stored}),
            "gib": round(sum(tensor.nbytes for tensor in stored) / GIB, 3),
            "precision": "+".join(sorted({tensor.dtype.lower() for tensor in stored})),
            "bits": round(bits_per_weight(stored), 2),
            "note": _precision_note(stored),
        }
    return said


def _precision_note(stored: set[TensorEntry]) -> str:
    packed = next((tensor.path.name for tensor in stored if tensor.is_quantised), "")
    if not packed:
        return ""
    return (
        f"{packed} is a GGUF of {bits_per_weight(stored):.1f} bits a weight: what is learnt on it "
        "starts from these rounded weights and is as good as they are. The processor unpacks them each time "
        "they pass: training, once a window; previews, once a step, unless NF4, int8 or RAM keeps "
        "them."
    )
