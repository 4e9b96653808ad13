"""torch's allocator is set for the machine, and as the user has set it."""

import subprocess
import sys

import pytest

from blockskip.core import torch_allocator
from blockskip.core.torch_allocator import GROWING, LARGE_SEGMENT_MB, MAX_SPLIT_MB, PINNED, WHOLE


@pytest.mark.parametrize("release, machine, build, grows", [
    ("6.8.0-45-generic", "x86_64", "2.13.0+cu130", True),
    ("6.8.0-45-generic", "x86_64", "2.13.0", True),
    ("5.15.153.1-microsoft-standard-WSL2", "x86_64", "2.13.0", False),
    ("4.4.0-19041-Microsoft", "x86_64", "2.13.0", False),
    ("6.8.0-45-generic", "x86_64", "2.13.0+rocm7.2", False),
    ("5.15.148-tegra", "aarch64", "2.13.0", False),
])  # fmt: skip
def test_segments_grow_where_that_works(release, machine, build, grows):
    assert torch_allocator.segments_can_grow(release, machine, build) == grows


@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_elsewhere_large_segments_stay_whole(system, monkeypatch):
    monkeypatch.setattr(torch_allocator.sys, "platform", system)
    environment = {}
    torch_allocator.configure(environment)
    (value,) = environment.values()
    assert WHOLE in value and GROWING not in value
    assert LARGE_SEGMENT_MB <= MAX_SPLIT_MB, "torch refuses the opposite"


@pytest.mark.parametrize("name", torch_allocator.NAMES)
def test_what_the_user_has_set_stays_alone(name):
    environment = {name: "backend:cudaMallocAsync"}
    torch_allocator.configure(environment)
    assert environment == {name: "backend:cudaMallocAsync"}


def test_torch_takes_the_settings():
    """In a process of its own, which they stay in. Numbers that contradict each other are refused."""
    code = (
        "import sys, torch; [torch._C._accelerator_setAllocatorSettings(a) for a in sys.argv[1:]]"
    )
    good = [f"{PINNED},{GROWING}", f"{PINNED},{WHOLE}"]
    for settings, fault in (
        (good, ""),
        ([*good, f"max_split_size_mb:{LARGE_SEGMENT_MB - 1}"], "too small"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *settings], capture_output=True, text=True
        )
        assert done.returncode == bool(fault) and fault in done.stderr
