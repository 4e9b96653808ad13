"""What was measured counts for this computer, and the minutes follow from it."""

import dataclasses
import json
import math

import pytest

from blockskip.core import files
from blockskip.core.paths import data_dir
from blockskip.core.presets import model_row
from blockskip.memory.planning import measured_speed
from blockskip.memory.planning.duration import Rates, Work, run_seconds
from blockskip.memory.planning.measured_speed import Computer, PassRates, Speed
from blockskip.memory.planning.planner import choose_settings

HERE = Computer("RTX 3060", "550.1", "2.13.0", 8)
SLOW = PassRates(tflops=0.02, launch_ms=0.5, backward=2.0)
QUICK = PassRates(tflops=0.03, launch_ms=0.5, backward=2.0)
WIDE = PassRates(tflops=12.0, launch_ms=1.0, backward=1.1)
PROCESSOR = Speed(
    computer=HERE,
    device="cpu",
    product_tflops={"float32": 0.1},
    narrow={1: SLOW, 4: QUICK},
    encode_mps={1: 1.0, 4: 2.0},
    decode_mps={1: 0.5, 4: 1.0},
    memory_gbs=20.0,
    start_s=6.0,
)
CARD = dataclasses.replace(
    PROCESSOR,
    device="cuda",
    wide=WIDE,
    wide_int8=PassRates(tflops=21.0, launch_ms=1.5, backward=1.2),
    product_tflops={"float32": 0.1, "bfloat16": 20.0, "int8": 60.0},
    to_card_gbs=11.0,
    from_card_gbs=12.0,
    disk_gbs=3.0,
)
DEMO = choose_settings(model="demo")


@pytest.fixture(autouse=True)
def _here(monkeypatch):
    monkeypatch.setattr(measured_speed, "this_computer", lambda: HERE)


@pytest.mark.parametrize("speed", [PROCESSOR, CARD], ids=["processor", "card"])
def test_what_was_kept_is_read_again(speed):
    assert measured_speed.load() is None
    measured_speed.save(speed)
    assert measured_speed.load() == speed and measured_speed.is_known()
    measured_speed.save(dataclasses.replace(CARD, wide=None))
    assert not measured_speed.is_known(), "the card had no room for wide blocks"
    assert all(0 < len(clause) < 80 for clause in measured_speed.describe(speed))


@pytest.mark.parametrize("change", [{"card": "RTX 4090"}, {"driver": "551"}, {"torch": "3"}])
def test_another_computer_was_not_measured(monkeypatch, change):
    measured_speed.save(CARD)
    other = dataclasses.replace(HERE, **change)
    monkeypatch.setattr(measured_speed, "this_computer", lambda: other)
    assert measured_speed.load() is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data | {"format": 2},
        lambda data: data | {"more": 1},
        lambda data: data | {"memory_gbs": 0},
        lambda data: data | {"memory_gbs": math.inf},
        lambda data: data | {"narrow": {"one": data["narrow"]["1"]}},
        lambda data: data | {"narrow": {}},
        lambda data: {},
        lambda data: [data],
    ],
)
def test_a_damaged_file_counts_for_nothing(damage):
    measured_speed.save(CARD)
    path = data_dir() / "speed.json"
    files.write_text(path, json.dumps(damage(json.loads(path.read_text()))))
    assert measured_speed.load() is None
    path.write_bytes(b"\xff{")
    assert measured_speed.load() is None


def test_a_damaged_file_is_reported_once(caplog):
    """The page asks for the speed every second."""
    files.write_text(data_dir() / "speed.json", "{")
    assert {measured_speed.load() for _ in range(3)} == {None}
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def rates(speed, model="demo", **changed):
    return measured_speed.measured_rates(speed, model_row(model), DEMO.changed(**changed))


def test_rates_are_those_of_the_runs_blocks_threads_and_device():
    assert rates(PROCESSOR, threads=1).tflops == rates(PROCESSOR, threads=3).tflops == 0.02
    assert rates(PROCESSOR, threads=4).tflops == rates(PROCESSOR, threads=0).tflops == 0.03
    assert rates(PROCESSOR, "flux-dev").tflops == 0.1, "products of the processor"
    assert rates(PROCESSOR, device="cuda") is None and rates(CARD, device="cpu") is None
    no_products = dataclasses.replace(PROCESSOR, product_tflops={})
    assert rates(no_products, "flux-dev") is None
    assert rates(CARD, "flux-dev").tflops == 12.0 and rates(CARD, "flux-dev").bus_gbs == 11.0
    assert rates(dataclasses.replace(CARD, wide=None), "flux-dev") is None
    in_int8 = rates(CARD, "flux-dev", precision="int8", arithmetic="int8")
    assert in_int8.tflops == 21.0 and in_int8.memory_gbs == math.inf, "rounding was measured too"
    assert rates(CARD, "flux-dev", precision="int8").tflops == 12.0
    assert rates(CARD).launches_wait is False and rates(PROCESSOR).launches_wait is True
    assert rates(PROCESSOR).disk_gbs == 2.2, "where it was not measured, that of a common PC"


def test_a_processor_adds_launches_and_a_card_hides_them():
    work = Work(tflop=2.0, passes=1000, backward=0.5)
    computing = Rates(tflops=1.0, memory_gbs=1, bus_gbs=1, launch_ms=1.0)
    assert work.seconds(computing) == 2.0
    waits = dataclasses.replace(computing, launches_wait=True, backward=3.0)
    assert work.seconds(waits) == 3.0 * 2
    vae = Work(tflop=0.0, encoded_mp=3.0, decoded_mp=1.0)
    assert vae.seconds(computing) == 0.0, "not counted where it was not measured"
    assert vae.seconds(dataclasses.replace(waits, encode_mps=2.0, decode_mps=4.0)) == 1.75


def test_a_runs_seconds_are_the_sum_of_its_parts():
    row, settings = model_row("demo"), DEMO.changed(preview_speed="exact")
    whole = run_seconds(row, settings, rates(PROCESSOR, threads=1))
    twice = {"tflops": 0.04, "launch_ms": 0.25, "backward": 2.0}
    half = dataclasses.replace(
        PROCESSOR,
        narrow={1: PassRates(**twice)},
        encode_mps={1: 2.0},
        decode_mps={1: 1.0},
        start_s=3.0,
    )
    assert run_seconds(row, settings, rates(half)) == pytest.approx(whole / 2)
    quicker = run_seconds(row, settings.changed(preview_speed="fastest"), rates(PROCESSOR))
    assert quicker < run_seconds(row, settings, rates(PROCESSOR)), "key steps are known"
