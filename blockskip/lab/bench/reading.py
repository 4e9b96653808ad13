"""Measure the memory that streaming a transformer takes, for each format of its weights.

`python -m blockskip.lab.bench.reading FOLDER` writes files of random weights there (7 GB), streams
the blocks of each through RAM in a process of its own, and prints peaks of the process's memory
beside the bytes of a block. Two blocks are in RAM at a time, the one that runs and the next.
"""

from __future__ import annotations

import json
import sys
from itertools import zip_longest
from pathlib import Path

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter
from torch import Tensor, nn

from blockskip.core import safetensors_files
from blockskip.core.units import GIB
from blockskip.lab.measuring.process_memory import MemoryWatch, memory_now
from blockskip.lab.measuring.subprocess_job import run_in_subprocess, serve
from blockskip.memory.open_model import stored_tensor
from blockskip.memory.placement import streamed_block
from blockskip.memory.streaming import offload, weight_stores
from blockskip.models.sources.empty_model import set_dtype
from blockskip.models.sources.tensors import find_weight, tensor_table

FORMATS = ("bf16", "float8", "int8", "int8-convrot", "Q8_0", "Q4_K")
CPU = torch.device("cpu")


def measure(folder: Path, width: int = 3072, blocks: int = 12) -> list[dict]:
    """Return for each format the GiB of its file, of a block in bf16, of the peak above what the
    process had before, and the seconds. width: of the model; a block has 9 width² weights."""
    lines = []
    for kind in FORMATS:
        path = folder / f"{kind}-{width}-{blocks}"
        if not path.exists():
            write(path, kind, width, blocks)
        job = {"path": str(path), "width": width, "blocks": blocks}
        name = "blockskip.lab.bench.reading"
        lines.append({"format": kind} | run_in_subprocess(name, job, folder, kind))
    return lines


def linears(width: int) -> dict[str, tuple[int, int]]:
    """Return name → shape of a block's linears."""
    return {"attn": (width, width), "up": (4 * width, width), "down": (width, 4 * width)}


def write(path: Path, kind: str, width: int, blocks: int) -> None:
    """Write a file of random weights, the same ones in each block. kind: of FORMATS."""
    shapes, chance = linears(width), np.random.default_rng(0)
    if kind in GGMLQuantizationType.__members__:
        _write_gguf(path, kind, shapes, blocks)
        return
    block: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        digits = torch.from_numpy(chance.integers(-127, 127, shape, np.int8))
        if kind.startswith("int8"):
            told = {"convrot": True, "convrot_groupsize": 256} if kind != "int8" else {}
            description = json.dumps({"format": "int8_tensorwise"} | told).encode()
            block[f"{name}.comfy_quant"] = torch.tensor(list(description), dtype=torch.uint8)
            block[f"{name}.weight"] = digits
        else:
            dtype = torch.bfloat16 if kind == "bf16" else torch.float8_e4m3fn
            block[f"{name}.weight"] = digits.to(dtype)
        if kind != "bf16":
            block[f"{name}.weight_scale"] = torch.full((shape[0], 1), 1e-3)
    everything = {f"{n}.{name}": tensor for n in range(blocks) for name, tensor in block.items()}
    safetensors_files.save_tensors(path, everything, checksums=False)


def _write_gguf(path: Path, kind: str, shapes: dict[str, tuple[int, int]], blocks: int) -> None:
    block_type = GGMLQuantizationType[kind]
    weights, num_bytes = GGML_QUANT_SIZES[block_type]
    writer, chance = GGUFWriter(path, ""), np.random.default_rng(0)
    for name, (rows, columns) in shapes.items():
        packed = (rows, columns // weights * num_bytes)
        data = chance.integers(0, 0x40, packed, np.uint8)  # too small for an infinite half float
        for n in range(blocks):
            writer.add_tensor(f"{n}.{name}.weight", data, raw_dtype=block_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def stream(job: dict) -> dict:
    """Stream the blocks of a file as a traversal without gradients does. Returns GiB and seconds."""
    path, shapes = Path(job["path"]), linears(job["width"])
    with torch.device("meta"):
        model = nn.ModuleList(nn.ModuleDict(_linears(shapes)) for _ in range(job["blocks"]))
    set_dtype(model.requires_grad_(False), torch.bfloat16)
    table = tensor_table([path])
    offload(model, {name: stored_tensor(find_weight(table, name)) for name in model.state_dict()})
    before = memory_now()[0]
    with torch.no_grad(), MemoryWatch() as watch:
        for block, following in zip_longest(model, list(model)[1:]):
            with streamed_block(CPU, block, following):
                pass
        for store in weight_stores([model]):
            store.release_buffers()
    block_bytes = sum(2 * rows * columns for rows, columns in shapes.values())
    return {
        "file_gib": path.stat().st_size / GIB,
        "block_gib": block_bytes / GIB,
        "peak_gib": watch.anon_gib - before,
        "seconds": watch.seconds,
    }


def _linears(shapes: dict[str, tuple[int, int]]) -> dict[str, nn.Module]:
    return {name: nn.Linear(shape[1], shape[0], bias=False) for name, shape in shapes.items()}


def _main() -> None:
    if len(sys.argv) > 2:  # in the process of one format
        serve(stream)
        return
    for line in measure(Path(sys.argv[1])):
        blocks = line["peak_gib"] / line["block_gib"]
        sizes = f"file {line['file_gib']:.2f} GiB, block {line['block_gib']:.3f} GiB"
        peak = f"peak {line['peak_gib']:.3f} GiB = {blocks:.2f} blocks"
        print(f"{line['format']:13} {sizes}, {peak}, {line['seconds']:.1f} s")


if __name__ == "__main__":
    _main()
