"""What is used now: believable numbers, quickly, and never a guess."""

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from helpers.fake_nvml import FakeNvml

from blockskip.core import processes
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


def test_a_driver_that_was_updated_meanwhile_has_no_version(nvml, monkeypatch):
    def changed(self):
        raise self.NVMLError("Driver/library version mismatch")

    monkeypatch.setattr(FakeNvml, "nvmlSystemGetDriverVersion", changed, raising=False)
    assert monitor.driver_version() == ""


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


SMALL, LARGE = FakeNvml.uuids


@pytest.mark.parametrize(
    "visible, chosen",
    [
        (None, LARGE),
        ("0", SMALL),
        ("1,0", LARGE),
        (" 1 , 0", LARGE),
        (SMALL, SMALL),
        ("GPU-1234", SMALL),
        (f"GPU-12f,{SMALL}", LARGE),
        ("", ""),
        ("-1", ""),
        ("-1,0", ""),
        ("7", ""),
        ("GPU-12", ""),  # of both
        ("GPU-9", ""),
        ("NoDevFiles", ""),
    ],
)
def test_page_plan_and_training_mean_one_card(nvml, monkeypatch, visible, chosen):
    """What is chosen is handed on as a UUID, and asking again with it means the same card."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    total = {SMALL: 8, LARGE: 24, "": -1}[chosen]
    for _ in range(2):
        now = monitor.usage()
        assert (now.vram_total_gib, now.vram_free_gib) == (total, total * 0.75 if chosen else -1)
        heat = monitor.card_celsius(), monitor.slowdown_celsius()
        assert heat == {SMALL: (61, -1), LARGE: (64, 93), "": (-1, -1)}[chosen]
        assert monitor.card_name() == (chosen and f"Card {chosen}")
        monitor.pin_card()
        assert processes.child_environment(online=False)["CUDA_VISIBLE_DEVICES"] == (
            chosen or visible
        )


@pytest.mark.parametrize(
    "visible, usable",
    [
        (None, [LARGE, SMALL]),
        ("0,1", [SMALL, LARGE]),
        ("0", [SMALL]),
        ("1,7,0", [LARGE]),  # CUDA ignores what follows an invalid name
        (f"{SMALL},GPU-12f,0", [SMALL, LARGE]),
        ("NoDevFiles", []),
    ],
)
def test_other_cards_are_for_other_runs(nvml, monkeypatch, visible, usable):
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    for _ in range(2):
        sizes = {SMALL: 8, LARGE: 24}
        assert list(monitor.card_sizes_gib().items()) == [(uuid, sizes[uuid]) for uuid in usable]
        monitor.pin_card()


@pytest.mark.parametrize(
    "visible, chosen, total",
    [(None, "MIG-b", 20), ("0", SMALL, 8), ("1", "MIG-a", 10), ("MIG-b", "MIG-b", 20)],
)
def test_an_instance_of_a_card_is_a_card(nvml, monkeypatch, visible, chosen, total):
    monkeypatch.setattr(FakeNvml, "parts", {1: (("MIG-a", 10), ("MIG-b", 20))})
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monitor.pin_card()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == chosen
    assert monitor.usage().vram_total_gib == total


@pytest.mark.parametrize("uuid, total", [("1234abcd-small", 8), ("b", 20)])
def test_the_card_that_torch_uses_is_watched(nvml, monkeypatch, uuid, total):
    """torch tells UUIDs without their prefix."""
    monkeypatch.setattr(FakeNvml, "parts", {1: (("MIG-b", 20),)})
    properties = SimpleNamespace(uuid=uuid)
    cuda = SimpleNamespace(current_device=lambda: 0, get_device_properties=lambda i: properties)
    monkeypatch.setattr(monitor, "_cuda", lambda: SimpleNamespace(cuda=cuda))
    assert monitor.usage().vram_total_gib == total


def test_a_card_that_does_not_answer_is_unknown(nvml, monkeypatch):
    def fallen(handle):
        raise FakeNvml.NVMLError

    monkeypatch.setattr(nvml, "nvmlDeviceGetMemoryInfo", fallen)
    monkeypatch.setattr(nvml, "nvmlDeviceGetUUID", fallen)
    monitor.pin_card()
    assert monitor.usage().vram_total_gib == monitor.card_celsius() == -1


def test_room_is_the_drives_and_a_folder_that_is_gone_is_unknown(tmp_path):
    now = monitor.memory_event(tmp_path, 0.5)
    assert now.disk_free_gib > 0 and now.disk_run_gib == 0.5
    assert monitor.memory_event(tmp_path / "gone").disk_free_gib == -1


@pytest.mark.parametrize("works", [True, False])
def test_windows_commit_is_ram_and_page_file(monkeypatch, works):
    def status(pointer):
        told = pointer._obj
        told.physical_total, told.page_file_total = 16 << 30, 24 << 30
        told.page_file_free = 9 << 30
        return works and told.length == 64

    kernel = SimpleNamespace(GlobalMemoryStatusEx=status)
    monkeypatch.setattr(monitor.ctypes, "windll", SimpleNamespace(kernel32=kernel), raising=False)
    assert monitor.commit() == (monitor.Commit(24.0, 9.0, 8.0) if works else None)
