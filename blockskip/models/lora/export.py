"""Export a trained LoRA to a .safetensors file for ComfyUI, diffusers or kohya's tools.

    comfyui    no scale, and diffusers' names, or those of the original model if ComfyUI knows only
               these (FLUX 3); ComfyUI and diffusers both load it
    diffusers  the same tensors, with the LoRA's config in the header as diffusers writes it
    kohya      sd-scripts' names, q/k/v fused, `.alpha` keys; for Forge, SwarmUI, ComfyUI
    native     names of the original model, q/k/v fused; for ComfyUI's custom nodes

LoraNames.FORMATS (models/lora/protocol.py) lists the formats of a model. alpha = rank in all of
them, because ComfyUI never reads the scale in a header and diffusers rejects a file that states it
twice. Values are float32 for a float32 model. For other models they are float16, eight times finer
than bfloat16, unless a tensor's values are too small for it. A file is written under a temporary
name and renamed only after `verify` has reopened it, so an older export stays until then.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from blockskip.core import files, safetensors_files
from blockskip.core.errors import BadFile, BadInput, UserError, WrongState
from blockskip.core.presets import ModelRow
from blockskip.core.settings import Settings
from blockskip.models.families.base import get_family
from blockskip.models.lora.comfyui_workflow import workflow
from blockskip.models.lora.metadata import (
    DIFFUSERS,
    adapter_metadata,
    content_hash,
    data_uri,
    metadata,
)
from blockskip.models.lora.names import PREFIX, output_path
from blockskip.models.lora.protocol import LoraNames

_SUFFIXES = {"kohya": (".lora_down.weight", ".lora_up.weight")}  # (A, B); default: DIFFUSERS


@dataclass(frozen=True)
class ExportedLora:
    """A verified file. keys: number of tensors. modules: number of adapted linears. workflow:
    ComfyUI workflow beside the file."""

    path: Path
    format: str
    keys: int
    modules: int
    bytes: int
    workflow: Path | None = None


def export_lora(
    lora: dict[str, Tensor],
    out: Path,
    *,
    format: str,
    settings: Settings,
    row: ModelRow,
    started: str,
    num_photos: int,
    step: int,
    thumbnail: Image.Image | None = None,
) -> ExportedLora:
    """Write a LoRA and verify the file. Equal arguments give equal bytes.

    lora: `transformer.<linear>.lora_A.weight` (r, in) and `….lora_B.weight` (out, r), trained at
    alpha = rank. out: a file, or a folder for it. started: ISO date of the run's start. Raises
    UserError and leaves `out` unchanged; a file that fails the check is kept as *.bad.
    """
    names = get_family(row.family).lora_names
    if format not in names.FORMATS:
        raise BadInput(
            f"LoRAs of {row.title} are not exported in {format}'s format.",
            f"Use {' or '.join(names.FORMATS)}.",
        )
    out = output_path(out, settings)
    modules = _adapted_modules(lora, names, out.name)
    tensors = _to_saved_dtype(names.exported_tensors(format, lora, row.width), row)
    header = metadata(tensors, format, settings, row, started, num_photos, step, out.stem)
    if format == "diffusers":
        header |= adapter_metadata(lora, modules)
    if thumbnail is not None:
        header["modelspec.thumbnail"] = data_uri(thumbnail)
    _write_checked(
        out, tensors, header, partial(verify, modules=modules, format=format, names=names)
    )
    beside = _write_workflow(out, format, settings, row)
    return ExportedLora(out, format, len(tensors), len(modules), out.stat().st_size, beside)


def _write_checked(
    out: Path, tensors: dict[str, Tensor], header: dict[str, str], check: Callable[..., None]
) -> None:
    """Write `out` under a temporary name and rename it once `check` has passed."""
    unchecked = out.with_name(f"{out.stem}.unchecked{out.suffix}")
    safetensors_files.save_tensors(unchecked, tensors, header, checksums=False)
    try:
        try:
            check(unchecked, display_name=out.name)
        except UserError:
            files.replace(unchecked, out.with_name(f"{out.name}.bad"))
            raise
        files.replace(unchecked, out)
    except OSError as error:
        raise files.disk_error(out, error) from error


def verify(
    path: Path, modules: Collection[str], *, format: str, names: LoraNames, display_name: str = ""
) -> None:
    """Reopen a file and check it: keys complete and paired, shapes fitting, values finite, at least
    one update not zero.

    modules: exactly the linears it must adapt. display_name: the file's name in messages. Raises
    UserError.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    display_name = display_name or path.name
    try:
        data = path.read_bytes()  # not mapped: Windows could not rename a mapped file
        tensors = load(data)
    except (OSError, SafetensorError) as error:
        raise _broken(display_name, "it cannot be read back") from error
    stated = safetensors_files.read_metadata(path).get("modelspec.hash_sha256")
    if stated is not None and stated != content_hash(data):
        raise _broken(display_name, "its content is not what was written")
    _check_keys(tensors, modules, format, names, display_name)
    down, up = _suffixes(format)
    layers = [name.removesuffix(down) for name in tensors if name.endswith(down)]
    for layer in layers:
        _check_pair(
            tensors[layer + down],
            tensors[layer + up],
            tensors.get(f"{layer}.alpha"),
            layer,
            display_name,
        )
    if not any(_is_nonzero(tensors[layer + down], tensors[layer + up]) for layer in layers):
        raise WrongState(
            f"{display_name} would change nothing: nothing has been learnt yet.",
            "Let it train for some steps, then export again.",
        )


def _write_workflow(out: Path, format: str, settings: Settings, row: ModelRow) -> Path | None:
    """Write <name>.workflow.json beside the LoRA, if ComfyUI loads it."""
    graph = workflow(out.name, settings.subject_caption, row)
    if format == "diffusers" or graph is None:
        return None
    path = out.with_name(f"{out.stem}.workflow.json")
    files.write_json(path, graph)
    return path


def _to_saved_dtype(tensors: dict[str, Tensor], row: ModelRow) -> dict[str, Tensor]:
    """Return the tensors sorted by name, in the dtype of the file (see the module docstring)."""
    full = {name: tensors[name].detach().cpu().float().contiguous() for name in sorted(tensors)}
    if row.dtype == "float32" or not all(_fits_half(tensor) for tensor in full.values()):
        return full
    return {
        name: tensor if name.endswith(".alpha") else tensor.half() for name, tensor in full.items()
    }


def _fits_half(tensor: Tensor) -> bool:
    """Return whether float16 moves no value by more than 1/1024 of the tensor's largest."""
    return bool((tensor - tensor.half().float()).abs().max() <= tensor.abs().max() / 1024)


def _adapted_modules(lora: dict[str, Tensor], names: LoraNames, display_name: str) -> list[str]:
    """Return the linears that a LoRA adapts. Raises UserError for an incomplete pair or a linear
    unknown to the family."""
    counts: dict[str, int] = {}
    for key in lora:
        suffix = next((s for s in DIFFUSERS if key.endswith(s)), "")
        module = key.removeprefix(PREFIX).removesuffix(suffix)
        if not suffix or not key.startswith(PREFIX) or not names.is_comfy_key(module):
            raise _broken(display_name, f"no program would know the part “{key}”")
        counts[module] = counts.get(module, 0) + 1
    for module, count in counts.items():
        if count != 2:
            raise _broken(display_name, f"half of the pair is missing in {module}")
    return sorted(counts)


def _check_keys(
    tensors: dict[str, Tensor],
    modules: Collection[str],
    format: str,
    names: LoraNames,
    display_name: str,
) -> None:
    """Raise UserError unless the keys are exactly those that the format expects."""
    suffixes = (*_suffixes(format), ".alpha") if format == "kohya" else _suffixes(format)
    layers = names.exported_layers(format, modules)
    expected = {layer + suffix for layer in layers for suffix in suffixes}
    if missing := sorted(expected - tensors.keys()):
        raise _broken(display_name, f"{missing[0]} is missing")
    if stray := sorted(tensors.keys() - expected):
        raise _broken(display_name, f"no program would know the part “{stray[0]}”")


def _check_pair(
    down: Tensor, up: Tensor, alpha: Tensor | None, layer: str, display_name: str
) -> None:
    if down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1] or not down.shape[0]:
        raise _broken(display_name, f"the shapes of {layer} do not fit together")
    if alpha is not None and float(alpha) != down.shape[0]:
        raise _broken(display_name, f"the scale of {layer} is not 1")
    if not (torch.isfinite(down).all() and torch.isfinite(up).all()):
        raise UserError(
            f"{display_name} holds numbers that are not finite ({layer}).",
            "The training ran away; train again with a lower learning rate.",
        )


def _is_nonzero(down: Tensor, up: Tensor) -> bool:
    """Return whether B·A is not zero. Its squared norm is the trace of (BᵀB)(AAᵀ), both (r, r)."""
    down, up = down.double(), up.double()
    return bool(((up.T @ up) * (down @ down.T)).sum() > 0)


def _suffixes(format: str) -> tuple[str, str]:
    return _SUFFIXES.get(format, DIFFUSERS)


def _broken(display_name: str, problem: str) -> UserError:
    return BadFile(
        f"{display_name} is not a whole LoRA: {problem}.",
        "Export it again; if this comes back, tell us and attach the doctor's report.",
    )
