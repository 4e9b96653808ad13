"""What is used now: believable numbers, quickly, and never a guess."""

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from blockskip.core.units import GIB
from blockskip.memory import monitor


def test_usage_is_believable():
    now = monitor.usage(os.getpid())
    assert 0.005 < now.rss_gib < now.ram_total_gib
    assert 0 < now.ram_used_gib < now.ram_total_gib
    assert now.vram_total_gib == -1 or 0 <= now.vram_used_gib <= now.vram_total_gib
    assert now.vram_free_gib == -1 or now.vram_free_gib <= now.vram_total_gib


def test_a_process_that_is_gone_uses_an_unknown_amount():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert monitor.usage(child.pid).rss_gib in (-1.0, 0.0)


def test_the_peak_is_never_below_what_is_used():
    held = bytearray(64 << 20)
    assert monitor.peak_rss_gib() >= monitor.memory_event().rss_gib * 0.98
    used, kept = monitor.card_peaks_gib()
    assert len(held) and (used == kept == -1 or 0 <= used <= kept)


def test_it_is_cheap():
    monitor.memory_event()
    started = time.process_time()
    for _ in range(50):
        monitor.memory_event()
    assert (time.process_time() - started) / 50 < 0.005


def test_torch_is_not_imported_by_asking():
    code = (
        "import sys\nfrom blockskip.memory import monitor\n"
        "monitor.usage()\nmonitor.memory_event()\n"
        "monitor.card_peaks_gib()\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": "."})
    assert done.returncode == 0


class FakeNvml:
    """Two cards: 8 GiB at index 0 and 24 GiB at index 1."""

    class NVMLError(Exception):
        pass

    sizes = (8, 24)

    def nvmlDeviceGetCount(self):
        return 2

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid):
        return {"GPU-small": 0, "GPU-large": 1}[uuid]

    NVML_TEMPERATURE_GPU, NVML_TEMPERATURE_THRESHOLD_SLOWDOWN = 0, 1
    degrees = (61, 64)

    def nvmlDeviceGetTemperature(self, handle, sensor):
        if handle is None or sensor != self.NVML_TEMPERATURE_GPU:
            raise self.NVMLError
        return self.degrees[handle]

    def nvmlDeviceGetTemperatureThreshold(self, handle, which):
        assert which == self.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN
        if handle == 0:
            raise self.NVMLError  # as on cards that do not tell
        return 93

    def nvmlDeviceGetMemoryInfo(self, handle):
        if handle is None:
            raise self.NVMLError
        total = self.sizes[handle] * GIB
        return SimpleNamespace(used=total // 4, total=total)


@pytest.mark.parametrize(
    "visible, total", [("", 24), ("0", 8), ("1,0", 24), ("GPU-small", 8), ("7", 24)]
)
def test_the_card_of_the_users_choice_is_asked(monkeypatch, visible, total):
    monkeypatch.setattr(monitor, "_nvml", FakeNvml)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monitor._handle.cache_clear()
    now = monitor.usage()
    heat = monitor.card_celsius(), monitor.slowdown_celsius()
    monitor._handle.cache_clear()
    assert heat == ((61, -1) if total == 8 else (64, 93))
    assert (now.vram_total_gib, now.vram_used_gib) == (total, total / 4)
    assert now.vram_free_gib == total * 0.75


def test_a_card_that_does_not_answer_is_unknown(monkeypatch):
    monkeypatch.setattr(monitor, "_nvml", FakeNvml)
    monkeypatch.setattr(monitor, "_handle", lambda nvml, uuid: None)
    assert monitor.usage().vram_total_gib == monitor.card_celsius() == -1


def test_room_is_the_drives_and_a_folder_that_is_gone_is_unknown(tmp_path):
    now = monitor.memory_event(tmp_path, 0.5)
    assert now.disk_free_gib > 0 and now.disk_run_gib == 0.5
    assert monitor.memory_event(tmp_path / "gone").disk_free_gib == -1
