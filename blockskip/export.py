"""Trained LoRA → a .safetensors file for ComfyUI, diffusers or kohya's tools; reopened and checked.

    comfyui    diffusers' names, nothing about scale anywhere; ComfyUI and diffusers both load it
    diffusers  the same tensors, with the LoRA's settings in the header, as diffusers itself writes
    them
    kohya      sd-scripts' names, q/k/v fused, `.alpha` keys; for Forge, SwarmUI, ComfyUI

alpha = rank in all three: ComfyUI never reads the scale in a header, and diffusers refuses a file
that states it twice. Numbers are float32 for a float32 model; else float16, eight times finer than
bfloat16, unless a tensor's values are too small for it. A file is written under another name and
gets its own only after `verify` has reopened it; an older export stays until then.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from PIL import Image
from torch import Tensor

from blockskip import __version__, files
from blockskip.config import ModelRow, Settings
from blockskip.events import UserError
from blockskip.families import flux_names
from blockskip.families.flux_workflow import workflow

FORMATS = ("comfyui", "diffusers", "kohya")
THUMBNAIL_PX = 256
_SUFFIXES = {"kohya": (".lora_down.weight", ".lora_up.weight")}  # A, B; else diffusers':
_DIFFUSERS = (".lora_A.weight", ".lora_B.weight")
_PREFIX = "transformer."


@dataclass(frozen=True)
class Exported:
    """A checked file. keys: tensors in it. modules: linear layers adapted. workflow: for
    ComfyUI."""

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
) -> Exported:
    """Write a LoRA and check what was written; equal arguments give equal bytes.

    lora: `transformer.<linear>.lora_A.weight` (r, in) and `….lora_B.weight` (out, r), trained at
    alpha = rank. out: a file, or a folder to put one in. started: ISO date of the run's start.
    Raises UserError, and then `out` is what it was before; a file that fails the check is kept as
    *.bad.
    """
    if format not in FORMATS:
        raise ValueError(f"format {format!r} is not one of {FORMATS}")
    names = _names(row.family)
    out = _target(out, settings)
    modules = _modules(lora, names, out.name)
    tensors = _stored(names.to_kohya(lora, row.width) if format == "kohya" else lora, row)
    header = _metadata(tensors, format, settings, row, started, num_photos, step, out.stem)
    if format == "diffusers":
        header |= _adapter_metadata(lora, modules)
    if thumbnail is not None:
        header["modelspec.thumbnail"] = _data_uri(thumbnail)
    unchecked = out.with_name(f"{out.stem}.unchecked{out.suffix}")
    files.save_tensors(unchecked, tensors, header)
    try:
        try:
            verify(unchecked, modules, format=format, family=row.family, called=out.name)
        except UserError:
            files.replace(unchecked, out.with_name(f"{out.name}.bad"))
            raise
        files.replace(unchecked, out)
    except OSError as error:
        raise files.disk_error(out, error) from error
    return Exported(
        out,
        format,
        len(tensors),
        len(modules),
        out.stat().st_size,
        _write_workflow(out, format, settings, row),
    )


def verify(
    path: Path, modules: Collection[str], *, format: str, family: str = "flux", called: str = ""
) -> None:
    """Reopen a file: all keys known and paired, shapes fit, numbers finite, some update not zero.

    modules: the linears it must adapt, all and only these. called: its name in messages. Raises
    UserError.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    called = called or path.name
    try:
        data = path.read_bytes()  # not mapped: Windows could not rename a mapped file
        tensors = load(data)
    except (OSError, SafetensorError) as error:
        raise _broken(called, "it cannot be read back") from error
    stated = files.read_metadata(path).get("modelspec.hash_sha256")
    if stated is not None and stated != _content_hash(data):
        raise _broken(called, "its content is not what was written")
    _check_keys(tensors, modules, format, _names(family), called)
    down, up = _suffixes(format)
    layers = [name.removesuffix(down) for name in tensors if name.endswith(down)]
    for layer in layers:
        _check_pair(
            tensors[layer + down], tensors[layer + up], tensors.get(f"{layer}.alpha"), layer, called
        )
    if not any(_changes(tensors[layer + down], tensors[layer + up]) for layer in layers):
        raise UserError(
            f"{called} would change nothing: nothing has been learnt yet.",
            "Let it train for some steps, then export again.",
        )


def _write_workflow(out: Path, format: str, settings: Settings, row: ModelRow) -> Path | None:
    """<name>.workflow.json beside the LoRA; for the demo model its note says what it cannot do."""
    if format == "diffusers":
        return None
    path = out.with_name(f"{out.stem}.workflow.json")
    files.write_json(path, workflow(out.name, settings.subject_caption, row, _is_demo(row)))
    return path


def _metadata(
    tensors: dict[str, Tensor],
    format: str,
    settings: Settings,
    row: ModelRow,
    started: str,
    num_photos: int,
    step: int,
    output: str,
) -> dict[str, str]:
    """The header that model managers read: ModelSpec 1.0.1, and the `ss_` keys of sd-scripts."""
    from safetensors.torch import save

    phrase = f"{settings.trigger} {settings.class_name}"
    rank = str(settings.rank)
    names = _names(row.family)
    made = f"BlockSkip Studio {__version__}, {step} steps, rank {rank}, {num_photos} photos"
    only = (
        " It fits this studio's small demo model only; FLUX.1 itself cannot use it."
        if _is_demo(row)
        else ""
    )
    digest = _content_hash(save(tensors))
    header = {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "blockskip-demo/lora" if _is_demo(row) else names.ARCHITECTURE,
        "modelspec.implementation": names.IMPLEMENTATION,
        "modelspec.title": f"{phrase} – {row.title}",
        "modelspec.date": started,
        "modelspec.description": f"A LoRA that knows “{phrase}”, for {row.title}. {made}.{only}",
        "modelspec.trigger_phrase": phrase,
        "modelspec.usage_hint": f"Write “{settings.subject_caption}” in the prompt; strength 1.",
        "modelspec.tags": f"{settings.class_name}, {settings.trigger}",
        "modelspec.license": row.licence,
        "modelspec.hash_sha256": digest,
        "ss_output_name": output,
        "ss_base_model_version": "blockskip-demo" if _is_demo(row) else names.BASE_MODEL,
        "ss_network_dim": rank,
        "ss_network_alpha": rank,
        "ss_steps": str(step),
        "ss_num_train_images": str(num_photos),
        "ss_training_comment": made,
        "ss_tag_frequency": json.dumps({"photos": {phrase: num_photos}}, ensure_ascii=False),
        "sshs_model_hash": digest.removeprefix("0x"),
    }
    if format == "kohya":
        header |= {"ss_network_module": names.KOHYA_MODULE, "ss_v2": "False"}
    return header


def _adapter_metadata(lora: dict[str, Tensor], modules: Collection[str]) -> dict[str, str]:
    """What diffusers' own `save_lora_weights` writes. Left out when ranks differ: diffusers then
    reads each layer's rank from its tensors, with the same scale of 1."""
    ranks = {lora[f"{_PREFIX}{module}{_DIFFUSERS[0]}"].shape[0] for module in modules}
    if len(ranks) > 1:
        return {}
    (rank,) = ranks
    config = {"r": rank, "lora_alpha": rank, "target_modules": sorted(modules)}
    packed = {_PREFIX + key: value for key, value in config.items()}
    return {"lora_adapter_metadata": json.dumps(packed, sort_keys=True)}


def _stored(tensors: dict[str, Tensor], row: ModelRow) -> dict[str, Tensor]:
    """The tensors as they are saved, sorted by name (see the module's text for the kind of
    number)."""
    full = {name: tensors[name].detach().cpu().float().contiguous() for name in sorted(tensors)}
    if row.dtype == "float32" or not all(_fits_half(tensor) for tensor in full.values()):
        return full
    return {
        name: tensor if name.endswith(".alpha") else tensor.half() for name, tensor in full.items()
    }


def _fits_half(tensor: Tensor) -> bool:
    """Whether float16 moves no value by more than a thousandth of the tensor's largest."""
    return bool((tensor - tensor.half().float()).abs().max() <= tensor.abs().max() / 1024)


def _modules(lora: dict[str, Tensor], names: ModuleType, called: str) -> list[str]:
    """The linears a LoRA adapts. Raises UserError unless it is whole and the family knows them
    all."""
    found: dict[str, int] = {}
    for key in lora:
        suffix = next((s for s in _DIFFUSERS if key.endswith(s)), "")
        module = key.removeprefix(_PREFIX).removesuffix(suffix)
        if not suffix or not key.startswith(_PREFIX) or not names.is_comfy_key(module):
            raise _broken(called, f"no program would know the part “{key}”")
        found[module] = found.get(module, 0) + 1
    for module, count in found.items():
        if count != 2:
            raise _broken(called, f"half of the pair is missing in {module}")
    return sorted(found)


def _check_keys(
    tensors: dict[str, Tensor],
    modules: Collection[str],
    format: str,
    names: ModuleType,
    called: str,
) -> None:
    """Exactly the keys that programs look for, no more and no fewer."""
    kohya = format == "kohya"
    layers = names.kohya_names(modules) if kohya else {_PREFIX + module for module in modules}
    suffixes = (*_suffixes(format), ".alpha") if kohya else _suffixes(format)
    expected = {layer + suffix for layer in layers for suffix in suffixes}
    if missing := sorted(expected - tensors.keys()):
        raise _broken(called, f"{missing[0]} is missing")
    if stray := sorted(tensors.keys() - expected):
        raise _broken(called, f"no program would know the part “{stray[0]}”")


def _check_pair(down: Tensor, up: Tensor, alpha: Tensor | None, layer: str, called: str) -> None:
    if down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1] or not down.shape[0]:
        raise _broken(called, f"the shapes of {layer} do not fit together")
    if alpha is not None and float(alpha) != down.shape[0]:
        raise _broken(called, f"the scale of {layer} is not 1")
    if not (torch.isfinite(down).all() and torch.isfinite(up).all()):
        raise UserError(
            f"{called} holds numbers that are not finite ({layer}).",
            "The training ran away; train again with a lower learning rate.",
        )


def _changes(down: Tensor, up: Tensor) -> bool:
    """Whether B·A is not zero: its squared norm is the trace of (BᵀB)(AAᵀ), two small matrices."""
    down, up = down.double(), up.double()
    return bool(((up.T @ up) * (down @ down.T)).sum() > 0)


def _content_hash(data: bytes) -> str:
    """ModelSpec's hash_sha256: over a safetensors file's content, the header left out."""
    start = 8 + int.from_bytes(data[:8], "little")
    return f"0x{hashlib.sha256(data[start:]).hexdigest()}"


def _data_uri(image: Image.Image) -> str:
    """At most 256 pixels a side, < 200 kB: ComfyUI reads no header above 1 MiB."""
    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    small.save(data, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode('ascii')}"


def _target(out: Path, settings: Settings) -> Path:
    if out.is_dir():
        out = out / f"{settings.trigger}-{settings.class_name}.safetensors"
    return out if out.suffix == ".safetensors" else out.with_name(f"{out.name}.safetensors")


def _suffixes(format: str) -> tuple[str, str]:
    return _SUFFIXES.get(format, _DIFFUSERS)


def _names(family: str) -> ModuleType:
    """The module with the family's names. Raises UserError for a family that has none."""
    known = {"flux": flux_names}
    if family not in known:
        raise UserError(
            f"LoRAs of the {family} family cannot be exported yet.",
            "The trained LoRA is safe in the run's checkpoints.",
        )
    return known[family]


def _is_demo(row: ModelRow) -> bool:
    return row.source.startswith("assets/")


def _broken(called: str, what: str) -> UserError:
    return UserError(
        f"{called} is not a whole LoRA: {what}.",
        "Export it again; if this comes back, tell us and attach the doctor's report.",
    )
