"""Header of a LoRA file: fields for model managers and diffusers, and a hash of the content."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Collection

from PIL import Image
from torch import Tensor

from blockskip import __version__
from blockskip.core.presets import ModelRow
from blockskip.core.settings import Settings
from blockskip.models.families.base import get_family
from blockskip.models.lora.names import PREFIX

THUMBNAIL_PX = 256
DIFFUSERS = (".lora_A.weight", ".lora_B.weight")


def metadata(
    tensors: dict[str, Tensor],
    format: str,
    settings: Settings,
    row: ModelRow,
    started: str,
    num_photos: int,
    step: int,
    output: str,
) -> dict[str, str]:
    """Return the header for model managers: ModelSpec 1.0.1 and the `ss_` keys of sd-scripts."""
    from safetensors.torch import save

    phrase = f"{settings.trigger} {settings.class_name}"
    names, size = get_family(row.family).lora_names, f"rank {settings.rank}, {num_photos} photos"
    comment = f"BlockSkip Studio {__version__}, {step} steps, {size}"
    note = (
        " It fits this studio's small demo model only; no real model can use it."
        if row.demo
        else ""
    )
    digest = content_hash(save(tensors))
    header = {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": f"blockskip-{row.name}/lora" if row.demo else names.ARCHITECTURE,
        "modelspec.implementation": names.IMPLEMENTATION,
        "modelspec.title": f"{phrase} – {row.title}",
        "modelspec.date": started,
        "modelspec.description": f"A LoRA that knows “{phrase}”, for {row.title}. {comment}.{note}",
        "modelspec.trigger_phrase": phrase,
        "modelspec.usage_hint": f"Write “{settings.subject_caption}” in the prompt; strength 1.",
        "modelspec.tags": f"{settings.class_name}, {settings.trigger}",
        "modelspec.license": row.licence,
        "modelspec.hash_sha256": digest,
        "sshs_model_hash": digest.removeprefix("0x"),
    }
    header |= _kohya_keys(settings, row, num_photos, step, comment, output)
    if format == "kohya":
        header |= {"ss_network_module": names.KOHYA_MODULE, "ss_v2": "False"}
    return header


def _kohya_keys(
    settings: Settings, row: ModelRow, num_photos: int, step: int, comment: str, output: str
) -> dict[str, str]:
    """Return the keys of sd-scripts that model managers read. comment: describes the training."""
    rank, phrase = str(settings.rank), f"{settings.trigger} {settings.class_name}"
    names = get_family(row.family).lora_names
    return {
        "ss_output_name": output,
        "ss_base_model_version": f"blockskip-{row.name}" if row.demo else names.BASE_MODEL,
        "ss_network_dim": rank,
        "ss_network_alpha": rank,
        "ss_steps": str(step),
        "ss_num_train_images": str(num_photos),
        "ss_training_comment": comment,
        "ss_tag_frequency": json.dumps({"photos": {phrase: num_photos}}, ensure_ascii=False),
    }


def adapter_metadata(lora: dict[str, Tensor], modules: Collection[str]) -> dict[str, str]:
    """Return the header field that diffusers' `save_lora_weights` writes.

    Return {} if ranks differ: diffusers then reads each layer's rank from its tensors, with the
    same scale of 1.
    """
    ranks = {lora[f"{PREFIX}{module}{DIFFUSERS[0]}"].shape[0] for module in modules}
    if len(ranks) > 1:
        return {}
    (rank,) = ranks
    config = {"r": rank, "lora_alpha": rank, "target_modules": sorted(modules)}
    packed = {PREFIX + key: value for key, value in config.items()}
    return {"lora_adapter_metadata": json.dumps(packed, sort_keys=True)}


def content_hash(data: bytes) -> str:
    """Return ModelSpec's hash_sha256 of a safetensors file: of all bytes after the header."""
    start = 8 + int.from_bytes(data[:8], "little")
    return f"0x{hashlib.sha256(data[start:]).hexdigest()}"


def data_uri(image: Image.Image) -> str:
    """Return a JPEG thumbnail as a data URI: sides of at most 256 pixels, < 200 kB, because ComfyUI
    does not read headers above 1 MiB."""
    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
    jpeg = io.BytesIO()
    small.save(jpeg, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.getvalue()).decode('ascii')}"
