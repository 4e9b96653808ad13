"""Location and storage format of a tensor in a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

GGUF_SUFFIX = ".gguf"
FLOAT_DTYPES = ("F64", "F32", "F16", "BF16")
FP8_DTYPES = ("F8_E4M3", "F8_E5M2")


@dataclass(frozen=True)
class TensorEntry:
    """A tensor at bytes [start, stop) of a file. dtype: safetensors' name (BF16, F8_E4M3 …), or
    ggml's in a GGUF file (BF16, Q4_K …)."""

    path: Path
    key: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def nbytes(self) -> int:
        """Size in the file, bytes."""
        return self.stop - self.start

    @property
    def is_gguf(self) -> bool:
        """Whether the file is a GGUF, which only models/sources/gguf.py reads."""
        return self.path.suffix.lower() == GGUF_SUFFIX

    @property
    def is_quantised(self) -> bool:
        """Whether weights are stored in blocks with shared scales."""
        return self.is_gguf and self.dtype not in FLOAT_DTYPES
