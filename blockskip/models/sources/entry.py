"""Location and storage format of a tensor in a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

GGUF_SUFFIX = ".gguf"
FLOAT_DTYPES = ("F64", "F32", "F16", "BF16")
FP8_DTYPES = ("F8_E4M3", "F8_E5M2")
INT8_DTYPE = "I8"
NUMBER_DTYPES = (*FLOAT_DTYPES, *FP8_DTYPES, "I64", "BOOL")  # those that do not pack weights


@dataclass(frozen=True)
class TensorEntry:
    """A tensor at bytes [start, stop) of a file. dtype: safetensors' name (BF16, F8_E4M3 …), or
    ggml's in a GGUF file (BF16, Q4_K …). is_gguf: whether the file is a GGUF, which only
    models/sources/gguf.py reads. told: what the file's header says of the number format, JSON, ""
    if nothing. architecture: what a GGUF says that it holds, "" if nothing."""

    path: Path
    key: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int
    is_gguf: bool = False
    told: str = ""
    architecture: str = ""

    @property
    def nbytes(self) -> int:
        """Size in the file, bytes."""
        return self.stop - self.start

    @property
    def is_quantised(self) -> bool:
        """Whether weights are stored in blocks with shared scales."""
        return self.is_gguf and self.dtype not in FLOAT_DTYPES


def is_packed(entry: TensorEntry) -> bool:
    """Return whether the tensor may be stored in a way that hides the weight's shape (NF4, NVFP4,
    integers with several weights each …)."""
    return not entry.is_gguf and entry.dtype not in NUMBER_DTYPES
