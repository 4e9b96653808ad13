"""What is measured: passes tell launches from products, the disk's speed is not RAM's, and the whole
is kept."""

import os
import subprocess
import sys

import pytest
import torch

from blockskip.core.paths import data_dir
from blockskip.core.units import GIB
from blockskip.memory import disk_speed, measure_speed, speed_process
from blockskip.memory.planning import measured_speed

CPU = torch.device("cpu")


class Passes:
    """Passes through ten blocks of a device, each 3 TFLOP a draw and a second for every 2."""

    num_blocks, row = 10, None

    def __init__(self, device):
        self.device = torch.device(device)

    def tflop(self, draws):
        return 3.0 * draws

    def forward(self, draws):
        launches, products = 5.0, self.tflop(draws) / 2
        return launches + products if self.device.type == "cpu" else max(launches, products)

    def seconds(self, draws):
        return [self.forward(1), self.forward(draws), 3.5 * self.forward(draws)]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_launches_are_told_from_products(device):
    found = measure_speed.pass_rates(Passes(device), 8)
    assert found.tflops == pytest.approx(2.0) and found.backward == pytest.approx(2.5)
    assert found.launch_ms == pytest.approx(500.0)


def test_noise_gives_no_impossible_rate(monkeypatch):
    noisy = Passes("cpu")
    noisy.seconds = lambda draws: [1.0, 0.2, 0.01]  # more draws in less time
    found = measure_speed.pass_rates(noisy, 8)
    assert found.tflops > 0 and found.launch_ms >= 0 and found.backward > 0


@pytest.fixture
def once(monkeypatch):
    """Every call is made once, and takes a hundredth of a second."""

    def seconds(calls, device, at_most_s=0):
        for call in calls:
            call()
        return [0.01] * len(calls)

    monkeypatch.setattr(measure_speed, "seconds", seconds)
    monkeypatch.setattr(measure_speed, "COPIED_BYTES", 1 << 10)
    monkeypatch.setattr(measure_speed, "product_rates", lambda device: {"float32": 0.1})


def test_the_demo_model_is_measured_and_the_result_kept(once, monkeypatch):
    monkeypatch.setattr(measure_speed, "age_s", lambda: 7.0)
    threads = torch.get_num_threads()
    assert speed_process.measure_and_keep()
    speed = measured_speed.load()
    assert speed.device == "cpu" and speed.wide is None and speed.narrow.keys() == {1, threads}
    assert speed.start_s == 7.0 and torch.get_num_threads() == threads


@pytest.mark.parametrize("age, started", [(7.0, 7.0), (-5.0, 0.0), (7200.0, 0.0)])
def test_a_clock_that_was_set_meanwhile_tells_nothing(monkeypatch, age, started):
    monkeypatch.setattr(measure_speed.psutil.Process, "create_time", lambda self: 1e9)
    monkeypatch.setattr(measure_speed.time, "time", lambda: 1e9 + age)
    assert measure_speed.age_s() == started


def test_a_link_to_nothing_is_no_file_of_weights():
    folder = data_dir() / "models"
    folder.mkdir(parents=True)
    whole, gone = folder / "a.safetensors", folder / "b.safetensors"
    whole.write_bytes(bytes(100))
    try:
        gone.symlink_to(folder / "none")
    except OSError:
        pytest.skip("no links here")
    found = measure_speed._files()
    sizes = [path.stat().st_size for path in found]
    assert whole in found and gone not in found and sizes == sorted(sizes, reverse=True)


def test_wide_blocks_find_the_room_that_earlier_ones_took(monkeypatch):
    free = [1.0]
    monkeypatch.setattr(measure_speed, "free_memory", lambda: free.append(5.0))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free[-1] * GIB, 8 * GIB))
    monkeypatch.setattr(measure_speed, "half_type", lambda device: torch.bfloat16)
    monkeypatch.setattr(measure_speed, "blocks_rates", lambda *args, in_int8: "measured")
    assert measure_speed.wide_rates(torch.device("cuda"), in_int8=True) == "measured"


def test_a_process_that_hangs_is_ended(monkeypatch):
    monkeypatch.setattr(speed_process, "LONGEST_S", 0.01)
    hanging = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    monkeypatch.setattr(speed_process, "stop", hanging.kill)
    assert not speed_process.finished(hanging)
    assert hanging.wait(10) != 0
    hanging.stdin.close()


def test_a_failure_keeps_nothing_and_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(measure_speed, "measure", lambda: 1 / 0)
    assert not speed_process.measure_and_keep() and measured_speed.load() is None
    speed_process.stop()  # nothing to end


@pytest.mark.parametrize("in_int8", [False, True])
def test_blocks_of_flux_pass_with_a_lora(once, in_int8):
    found = measure_speed.blocks_rates(CPU, torch.bfloat16, heads=1, in_int8=in_int8)
    assert found.tflops > 0 and torch.get_default_dtype() == torch.float32
    assert measure_speed.wide_rates(CPU) is None


@pytest.fixture
def large(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_speed, "LEAST_BYTES", 1 << 16)
    path = tmp_path / "large"
    path.write_bytes(os.urandom(1 << 17))
    return path


def test_a_file_from_the_disk_tells_its_speed_and_one_from_ram_does_not(large, monkeypatch):
    came = iter([0, 1 << 17])
    monkeypatch.setattr(disk_speed, "_from_disk", lambda: next(came))
    assert disk_speed.disk_gbs([large]) > 0
    monkeypatch.setattr(disk_speed, "_from_disk", lambda: 0)
    assert disk_speed.disk_gbs([large]) == 0


def test_what_tells_nothing_is_passed_over(large, monkeypatch, tmp_path):
    monkeypatch.setattr(disk_speed, "_from_disk", lambda: -1)
    small = tmp_path / "small"
    small.write_bytes(b"x")
    assert disk_speed.disk_gbs([tmp_path / "none", tmp_path, large]) > 0
    assert disk_speed.disk_gbs([small]) == disk_speed.disk_gbs([]) == 0
