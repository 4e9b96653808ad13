"""What is used now: believable numbers, quickly, and never a guess."""

import os
import subprocess
import sys
import time

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
    assert len(held) and (monitor.peak_vram_gib() == -1 or monitor.peak_vram_gib() >= 0)


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
        "monitor.peak_vram_gib()\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": "."})
