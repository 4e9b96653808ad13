"""A worker, and a stand-in of 0.75 B parameters for it to train: the demo model's parts around a
transformer of FLUX's depth and a quarter of its width, with random weights."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch

from blockskip.core import files, presets
from blockskip.core.paths import ASSETS, data_dir
from blockskip.lab.bench.contenders import SIZES
from blockskip.lab.full_size import random_model
from blockskip.runs import run, worker_entry

NAME = __spec__.name
SHAPE = {**SIZES["small"], "num_layers": 19, "num_single_layers": 38, "attention_head_dim": 128}
WIDER = 6  # times the demo model's width


def folder() -> Path:
    """Return the stand-in's folder, beside the data folder."""
    return data_dir().with_name("0.75 B")


def write() -> None:
    """Write the stand-in, unless it is there."""
    part = folder() / "transformer"
    if part.exists():
        return
    shutil.copytree(ASSETS / "demo-model", folder())
    files.remove(part / "diffusion_pytorch_model.safetensors")
    shape = files.read_json(part / "config.json") | SHAPE | {"axes_dims_rope": (16, 56, 56)}
    files.write_json(part / "config.json", shape)
    kept = {key: value for key, value in shape.items() if not key.startswith("_")}
    model = random_model.flux(kept, torch.float32)
    random_model.write_checkpoint(model, part, stem="diffusion_pytorch_model")


def stand_in() -> None:
    """Let this process take the stand-in for the demo model, and plan with its sizes."""
    row, sizes = presets.read_preset("models")["demo"], presets.byte_table()["demo"]
    row |= {"source": str(folder()), "blocks": [SHAPE["num_layers"], SHAPE["num_single_layers"]]}
    row |= {"width": row["width"] * WIDER}
    for kind, count in zip(sizes["kinds"], row["blocks"], strict=True):
        squared = {key: kind[key] * WIDER**2 for key in ("linear", "modulation", "unpacked")}
        kind |= squared | {"count": count}
    run.WORKER = NAME


if __name__ == "__main__":
    stand_in()
    sys.exit(worker_entry.main(*sys.argv[1:]))
