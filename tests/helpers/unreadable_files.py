"""Weight files as programs write them in formats that are not read, and files that are none."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

FP8 = torch.float8_e4m3fn


def nvfp4(tensor: Tensor, rows: int, columns: int) -> tuple[Tensor, dict[str, Tensor]]:
    scales = {"weight_scale": torch.ones(rows, 2).to(FP8), "weight_scale_2": torch.ones(())}
    return torch.ones(rows, columns // 2, dtype=torch.uint8), scales


def int8(tensor: Tensor, rows: int, columns: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Without ComfyUI's description."""
    return tensor.to(torch.int8), {"weight_scale": torch.ones(rows, 1)}


def nf4(tensor: Tensor, rows: int, columns: int) -> tuple[Tensor, dict[str, Tensor]]:
    tables = {"weight.absmax": torch.ones(2), "weight.quant_map": torch.ones(16)}
    return torch.ones(rows * columns // 2, 1, dtype=torch.uint8), tables


def lost(tensor: Tensor, rows: int, columns: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Float8 that has lost its scales."""
    return (tensor / tensor.abs().max() * 448).float().to(FP8), {}


KINDS = (nvfp4, int8, nf4, lost)


def packed(state: dict[str, Tensor], kind) -> dict[str, Tensor]:
    """Return the state as programs write it in one of these formats."""
    done = {}
    for key, tensor in state.items():
        done[key] = tensor
        if tensor.ndim > 1:
            done[key], beside = kind(tensor, len(tensor), tensor[0].numel())
            done |= {key.removesuffix("weight") + name: value for name, value in beside.items()}
    return done


def write_broken(folder: Path, whole: Path) -> list[str]:
    """Write one file of each kind that holds no model, with names of models. whole: a good file.
    Return their names."""
    data = whole.read_bytes()
    contents = {
        "cut-short.safetensors": data[: len(data) // 2],
        "pointer.safetensors": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "page.safetensors": b"<!DOCTYPE html><html>Please log in</html>",
        "zeros.gguf": bytes(4096),
        "empty.safetensors": b"",
        "archive.safetensors": b"PK\x03\x04" + bytes(100),
        "cut-short.gguf": b"GGUF\x03\0\0\0\x09",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    save_file({"a.weight": torch.ones(2, 2)}, folder / "going-on.safetensors")
    (folder / "going-on.safetensors.aria2").write_bytes(b"")
    (folder / "going-on.safetensors").write_bytes(data[:100])
    return [*contents, "going-on.safetensors"]
