"""Write GGUF files as converters do, and read them with the `gguf` package."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import torch
from gguf import (
    GGML_QUANT_SIZES,
    MODEL_ARCH,
    GGMLQuantizationType,
    GGUFReader,
    GGUFWriter,
    get_tensor_name_map,
)
from gguf.quants import dequantize, quantize
from torch import Tensor

PACKED = [
    *"Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS IQ3_S IQ3_XXS".split(),
    *"IQ2_S IQ2_XS IQ2_XXS IQ1_S IQ1_M TQ2_0".split(),
]


def write_gguf(
    path: Path,
    tensors: dict[str, Tensor],
    kind: str = "F32",
    kinds: dict[str, str] | None = None,
    architecture: str = "flux",
    reshapes: bool = False,
) -> None:
    """Write tensors. kind: of every matrix. kinds: suffix of a name → its kind. 1-D tensors, and
    rows that are not a whole number of blocks, stay F32, as in converters. Kinds that the package
    cannot pack (the K kinds) become noise; `read_gguf` returns its values. reshapes: store such
    rows 256 wide with a note of their shape, as ComfyUI-GGUF's converter does for some models."""
    writer = GGUFWriter(path, architecture)  # "" is left out, as stable-diffusion.cpp does
    writer.add_string("general.name", "a name")
    writer.add_array(
        "tokenizer.ggml.tokens", ["▁a", "wörd", ""]
    )  # a vocabulary, which readers skip
    writer.add_array("tokenizer.ggml.scores", [0.5, -1.0, 0.0])
    writer.add_bool("tokenizer.ggml.add_space_prefix", True)
    for name, tensor in tensors.items():
        if reshapes and tensor.ndim > 1 and tensor.shape[-1] % 256 and tensor.numel() % 256 == 0:
            writer.add_array(f"comfy.gguf.orig_shape.{name}", list(tensor.shape))
            tensor = tensor.reshape(-1, 256)
        tensor_kind = next((k for end, k in (kinds or {}).items() if name.endswith(end)), kind)
        fits = tensor.ndim > 1 and tensor.shape[-1] % GGML_QUANT_SIZES[_type(tensor_kind)][0] == 0
        array = tensor.float().contiguous().numpy()
        try:
            data = quantize(array, _type(tensor_kind if fits else "F32"))
        except NotImplementedError:  # the package unpacks this type and cannot pack it
            data = noise(tensor.shape, tensor_kind)
        writer.add_tensor(name, data, raw_dtype=_type(tensor_kind if fits else "F32"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def noise(shape: tuple[int, ...], kind: str) -> np.ndarray:
    """Return valid packed rows of any kind, with bytes too small to make a half float infinite."""
    weights, num_bytes = GGML_QUANT_SIZES[_type(kind)]
    rows = (*shape[:-1], shape[-1] // weights * num_bytes)
    return np.random.default_rng(len(kind)).integers(0, 0x40, rows, np.uint8)


def read_gguf(path: Path) -> dict[str, Tensor]:
    """Return every tensor in float32, read and dequantised by the package."""
    return {
        tensor.name: torch.from_numpy(
            np.array(dequantize(tensor.data, tensor.tensor_type), np.float32)
        ).reshape(tuple(reversed(tensor.shape.tolist())))
        for tensor in GGUFReader(path).tensors
    }


def llama_names(
    state: dict[str, Tensor], blocks: int, architecture: MODEL_ARCH = MODEL_ARCH.T5ENCODER
) -> dict[str, Tensor]:
    """Rename a text encoder's tensors as llama.cpp's converter does, without those of its tower for
    pictures, which is a file of its own."""
    names = get_tensor_name_map(architecture, blocks)
    return {
        names.get_name(name.replace("language_model.", ""), (".weight", ".bias")): tensor
        for name, tensor in state.items()
        if name != "encoder.embed_tokens.weight"  # the same as shared.weight
        and "visual." not in name
    }


def foreign_type(path: Path, name: str, number: int) -> None:
    """Change the type of a tensor in a file's table."""
    data = bytearray(path.read_bytes())
    at = data.index(struct.pack("<Q", len(name)) + name.encode()) + 8 + len(name)
    (axes,) = struct.unpack_from("<I", data, at)
    struct.pack_into("<I", data, at + 4 + 8 * axes, number)
    path.write_bytes(data)


def _type(kind: str) -> GGMLQuantizationType:
    return GGMLQuantizationType[kind]
