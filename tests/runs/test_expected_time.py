"""A run's minutes: by earlier runs here, else by the measured speed, else those of a common PC."""

import json

import pytest
from helpers.speeds import speed_here
from typer.testing import CliRunner

from blockskip.cli import speed as speed_lines
from blockskip.cli.app import app
from blockskip.core import events
from blockskip.core.errors import UserError
from blockskip.core.presets import model_row
from blockskip.lab.gpu import commands, predict
from blockskip.lab.gpu import report as page
from blockskip.memory import monitor, speed_process
from blockskip.memory.monitor import Usage
from blockskip.memory.planning import measured_speed
from blockskip.memory.planning.duration import run_seconds, usual_rates
from blockskip.memory.planning.measured_speed import PassRates, describe
from blockskip.memory.planning.planner import choose_settings
from blockskip.runs import expected_time
from blockskip.runs.expected_time import minutes_by_history
from blockskip.runs.run import create_run

DEMO = choose_settings(model="demo")


def kept(**changes):
    """Keep a measurement of this computer, and return it."""
    speed = speed_here(**changes)
    measured_speed.save(speed)
    return speed


@pytest.fixture
def card(monkeypatch):
    monkeypatch.setattr(monitor, "usage", lambda pid=None: Usage(1, 8, 16, 1.0, 12.0))


def of(settings, history=()):
    expected = expected_time.expected_time(settings, history)
    return expected and (expected.basis, expected.minutes)


def test_the_better_source_is_taken(card):
    row = model_row("demo")
    common = run_seconds(row, DEMO, usual_rates()) / 60
    assert of(DEMO) == ("common", common)
    speed = kept()
    counted = run_seconds(row, DEMO, measured_speed.measured_rates(speed, row, DEMO)) / 60
    assert of(DEMO) == ("measured", counted) and counted != common
    assert of(DEMO, [(DEMO, 90.0)]) == ("history", 1.5)


def test_nothing_is_told_of_a_processor_that_was_not_measured():
    assert of(DEMO) is None
    assert expected_time.expected_dict(DEMO) == {"expected_minutes": None, "minutes_from": None}


def test_a_card_that_was_only_measured_in_part_is_not_called_common(card):
    flux = choose_settings(model="flux-dev", budget_gib=12.0, free_gib=11.0, system="Linux")
    kept(device="cuda")
    assert of(flux) is None


def test_only_runs_that_finished_count(tmp_path):
    photo = tmp_path / "a.png"
    photo.write_bytes(b"")
    run = create_run(DEMO, [photo], "first")
    assert expected_time.finished_runs() == []
    done = events.Done(
        adapter="a",
        exported="b",
        steps=300,
        seconds=100.0,
        stages={},
        final_loss=0.1,
        peak_rss_gib=1.0,
        peak_vram_gib=-1.0,
    )
    run.append(done)
    assert expected_time.finished_runs() == [(run.settings(), 100.0)]
    run.append(events.Started(steps=400, resumed_from=300))
    assert expected_time.finished_runs() == [], "it is being lengthened"


@pytest.mark.parametrize("basis", ["measured", None])
def test_the_terminal_tells_the_minutes_and_whose_they_are(basis):
    if basis:
        kept()
    told = CliRunner().invoke(app, ["plan", "--model", "demo", "--json"])
    data = json.loads(told.stdout)
    assert data["minutes_from"] == basis and (data["expected_minutes"] is None) == (basis is None)
    text = " ".join(CliRunner().invoke(app, ["plan", "--model", "demo"]).stdout.split())
    assert ("counted from a measurement of this computer, give or take a third" in text) == bool(
        basis
    )
    assert ("doctor --measure" in text) != bool(basis)


def test_the_doctor_tells_what_was_measured(monkeypatch):
    class Process:
        returncode = 0

        def wait(self, seconds):
            return self.returncode

    monkeypatch.setattr(speed_process, "start", Process)
    assert speed_lines.measured_lines()[0].state == "warning", "nothing was kept"
    kept()
    (line,) = speed_lines.measured_lines()
    assert line.state == "OK" and "float32: 0.1 TFLOP/s" in line.text
    monkeypatch.setattr(speed_process, "start", lambda: None)
    assert speed_lines.measured_lines()[0].state == "warning"

    def locked():
        raise UserError("the data folder could not be written.", "Choose another.")

    monkeypatch.setattr(speed_lines, "make_data_dir", locked)
    (line,) = speed_lines.measured_lines()
    assert line.state == "warning" and "could not be written" in line.text and line.remedy


def test_what_a_card_multiplies_in_8_bits_is_told():
    passes = [PassRates(tflops=rate, launch_ms=1.0, backward=2.0) for rate in (28.0, 52.0)]
    told = describe(speed_here(device="cuda", wide=passes[0], wide_int8=passes[1]))
    assert any("28 TFLOP/s (52 in 8 bits)" in clause for clause in told)
    assert not any("8 bits" in clause for clause in describe(speed_here(wide=passes[0])))


def test_a_prediction_can_be_of_this_computer(card, monkeypatch, tmp_path):
    monkeypatch.setattr(
        predict, "_tflop_per_pass", lambda _: dict.fromkeys(predict.STAGES, (10.0, 9.0))
    )
    monkeypatch.setattr(predict, "_picture_tflop", lambda row, side_px: 1.0)
    monkeypatch.setattr(predict, "GPU_SPECS", dict([*predict.GPU_SPECS.items()][:1]))
    plan = commands.GpuJob(work=tmp_path, measured=True)
    with pytest.raises(UserError, match="measured"):
        commands.measure("predict", plan, lambda line: None)
    wide = PassRates(tflops=12.0, launch_ms=1.0, backward=1.0)
    products = {"float32": 0.1, "bfloat16": 20.0, "int8": 60.0}
    kept(device="cuda", wide=wide, product_tflops=products, to_card_gbs=11.0)
    report = commands.measure("predict", plan, lambda line: None)
    here = [row for row in report["rows"] if row["card"].endswith("(measured)")]
    assert len(here) == len(predict.PLAN_OPTIONS) and len(report["rows"]) == 2 * len(
        predict.PLAN_OPTIONS
    )
    for row in here:
        assert row["tflops"] == 20.0 and row["minutes"]["100%"] == row["minutes"]["50%"]
        assert row["minutes"]["100%"]["steps"] * 60 >= row["steps_tflop"] / 12.0
    page.record(tmp_path / "gpu.md", "predict", report, "blockskip lab bench", True)
    assert "Measured rows are counted" in (tmp_path / "gpu.md").read_text(encoding="utf-8")


def test_minutes_come_from_runs_that_worked_alike():
    s = choose_settings(model="demo", steps=120, preview_every=30)
    of = minutes_by_history
    assert of([], s) is None and of([(s, 0.0)], s) is None
    assert of([(s, 90.0)], s) == pytest.approx(1.5)
    for other in ({"device": "cuda"}, {"model": "flux-dev"}, {"precision": "nf4"}, {"threads": 9}):
        assert of([(s.changed(**other), 90.0)], s) is None
    longer = s.changed(steps=240, preview_every=60)  # as many pictures
    assert 1.5 < of([(s, 90.0)], longer) < 3.0
    more_pictures = s.changed(preview_every=10)
    assert of([(s, 90.0)], more_pictures) > 1.5
    smaller = s.changed(draft_px=s.preview_px // 2)
    assert of([(more_pictures, 90.0)], smaller.changed(preview_every=10)) < 1.5
    nearest = s.changed(steps=130)
    assert of([(s, 90.0), (longer, 900.0)], nearest) < 2.0, "the run of nearly that size counts"
    fewer = s.changed(front=0, back=0)
    assert of([(s, 90.0)], fewer) > 1.5, "blocks that learn take longer than skipped ones"
    whole = fewer.changed(prior=0.0)
    again = [of([(whole.changed(reuse=1), 90.0)], whole.changed(reuse=n)) for n in (1, 2)]
    assert again == [1.5, 1.5], "there are no windows that draws used again could save"
