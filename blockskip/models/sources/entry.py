"""A tensor in a file: where it lies and how it is stored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

GGUF_SUFFIX = ".gguf"
FLOAT_DTYPES = ("F64", "F32", "F16", "BF16")
FP8_DTYPES = ("F8_E4M3", "F8_E5M2")


@dataclass(frozen=True)
class TensorEntry:
    """A tensor in a file, its bytes [start, stop). dtype: safetensors' name of it (BF16,
    F8_E4M3 …), in a GGUF file ggml's (BF16, Q4_K …)."""

    path: Path
    key: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def nbytes(self) -> int:
        """Bytes it takes in the file."""
        return self.stop - self.start

    @property
    def is_gguf(self) -> bool:
        """Whether the file is a GGUF, which nothing but models/sources/gguf.py reads."""
        return self.path.suffix.lower() == GGUF_SUFFIX

    @property
    def is_quantised(self) -> bool:
        """Whether it is in blocks that share scales."""
        return self.is_gguf and self.dtype not in FLOAT_DTYPES
