"""A whole model of a row's true size with random weights, in the library's layout, so that everything
a run does can be measured where no weights can be had.

Its tokenizers know a few words only: what is measured depends on how many tokens there are, not which.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from blockskip.core import files
from blockskip.core.paths import ASSETS
from blockskip.core.presets import ModelRow
from blockskip.lab.full_size.random_checkpoint import write_checkpoint
from blockskip.models.sources.empty_model import empty
from blockskip.models.sources.layouts import configs_folder

WORDS = "a photo of sks cat dog in the snow on beach user assistant system end <| |>".split()
SPECIAL = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>"}
CHAT = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} end {% endfor %}"
_SCHEDULER = {"base_shift": 0.5, "max_shift": 1.15, "use_dynamic_shifting": True}


def write_model(
    row: ModelRow,
    folder: Path,
    device: torch.device,
    progress: Callable[[str, int, int], None] = lambda part, n, total: None,
) -> int:
    """Write it, or what of it is not there yet; gives the bytes of its weights.

    device: where numbers are drawn. progress(part, n, total): bytes of a part. Raises UserError when
    the disk has too little room.
    """
    configs, total = configs_folder(row), 0
    for path in configs.rglob("*.json"):
        target = folder / path.relative_to(configs)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    index = files.read_json(folder / "model_index.json")
    for part, entry in index.items():
        if not isinstance(entry, list):
            continue
        library, kind = entry
        if part == "scheduler":
            _scheduler(folder / part, kind)
        elif part.startswith("tokenizer"):
            _tokenizer(folder / part, kind)
        elif library is not None:
            stem = "diffusion_pytorch_model" if library == "diffusers" else "model"
            total += write_checkpoint(
                _empty(folder / part, library, kind, getattr(torch, row.dtype)),
                folder / part,
                progress=lambda n, total, part=part: progress(part, n, total),
                device=device,
                stem=stem,
            )
    return total


def _empty(folder: Path, library: str, kind: str, dtype: torch.dtype) -> nn.Module:
    shape = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if library == "diffusers":
        import diffusers

        return empty(lambda: getattr(diffusers, kind).from_config(shape), dtype)
    import transformers

    settings = transformers.AutoConfig.for_model(**shape)
    return empty(lambda: getattr(transformers, kind)(settings), dtype)


def _scheduler(folder: Path, kind: str) -> None:
    """Most rows' configurations name it only: how noise is spaced changes neither bytes nor seconds."""
    if (folder / "scheduler_config.json").exists():
        return
    said = {"_class_name": kind, **_SCHEDULER} if kind.startswith("FlowMatch") else {}
    files.write_json(folder / "scheduler_config.json", said or {"_class_name": kind})


def _tokenizer(folder: Path, kind: str) -> None:
    shipped = ASSETS / "demo-model" / ("tokenizer" if "CLIP" in kind else "tokenizer_2")
    if kind.startswith(("CLIP", "T5")):
        shutil.copytree(shipped, folder, dirs_exist_ok=True)
        return
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    known = dict.fromkeys([*SPECIAL.values(), *WORDS])
    table = Tokenizer(models.WordLevel({w: i for i, w in enumerate(known)}, SPECIAL["unk_token"]))
    table.pre_tokenizer = pre_tokenizers.Whitespace()
    made = getattr(transformers, kind)(tokenizer_object=table, **SPECIAL)
    made.chat_template = CHAT
    made.save_pretrained(folder)
