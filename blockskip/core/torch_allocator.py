"""How torch's allocators share memory out, in the variable that torch reads when it is imported.

Pinned RAM is planned to the byte, but torch would round it up to the next power of two and keep it.
The two numbers must be equal, because torch reuses any cached block of a size class without
checking that it is large enough.

GPU memory is planned closely (presets/budgets.toml, `allocator`), but what is cut out of freed large
segments leaves gaps: with torch's defaults some stages need a fifth more than they use
(assets/evidence/simulated.md). On Linux segments grow instead. Elsewhere segments of MAX_SPLIT_MB
and more are not cut, so that they can be returned whole at the limit, and pieces below 10 MiB come
from segments just below that size.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from importlib.metadata import PackageNotFoundError, version

# in torch's order; the last two are older names
NAMES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
LARGE_SEGMENT_MB, MAX_SPLIT_MB = 36, 40  # MiB; torch refuses a second number below the first
PINNED = "pinned_max_round_threshold_mb:1,pinned_max_cached_size_mb:1"
GROWING = "expandable_segments:True"
WHOLE = f"large_segment_size_mb:{LARGE_SEGMENT_MB},max_split_size_mb:{MAX_SPLIT_MB}"


def configure(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set torch's variable in `environment`, unless the user has set one of its names."""
    if any(name in environment for name in NAMES):
        return
    grows = False
    if sys.platform == "linux":
        grows = segments_can_grow(os.uname().release, os.uname().machine, _torch_build())
    environment[NAMES[0]] = f"{PINNED},{GROWING if grows else WHOLE}"


def segments_can_grow(release: str, machine: str, build: str) -> bool:
    """Return whether `expandable_segments` works on a Linux: on a PC without AMD's build of torch.

    Under WSL the first allocation may fail (pytorch issue 192330), as on NVIDIA's ARM boards
    (unsloth-zoo pull request 1235). release: the kernel's. build: torch's version.
    """
    return machine == "x86_64" and "microsoft" not in release.lower() and "rocm" not in build


def _torch_build() -> str:
    try:
        return version("torch")
    except PackageNotFoundError:
        return ""
