"""What a card is to show, tried out without one: every part runs on tiny models and makes its page."""

import json
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from blockskip.cli.app import app
from blockskip.core import files, presets
from blockskip.core.errors import UserError
from blockskip.core.units import GIB
from blockskip.lab.bench import bench
from blockskip.lab.bench import worker as bench_worker
from blockskip.lab.bench.contenders import CONTENDERS, SIZES
from blockskip.lab.full_size.random_model import write_model
from blockskip.lab.gpu import commands, predict
from blockskip.lab.gpu import report as page
from blockskip.lab.gpu import worker as child
from blockskip.lab.gpu.commands import MEASUREMENTS, GpuJob
from blockskip.memory import int8_products
from blockskip.memory.monitor import Usage
from blockskip.memory.planning.duration import Work
from blockskip.models.sources import Source, check_model

CPU = torch.device("cpu")
PARTS = ("text", "latents", "windows", "steps", "pictures")


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A dry run whose parts work in this process. lines: what was said."""
    monkeypatch.setattr(
        commands, "run_in_subprocess", lambda _, job, *__: child.PARTS[job["what"]](job["job"])
    )
    return GpuJob(work=tmp_path / "wörk", device="cpu", tiny=True)


def test_a_random_model_is_whole_and_written_once(tmp_path, monkeypatch):
    row, told = presets.model_row("demo"), []
    size = write_model(row, tmp_path, CPU, lambda *said: told.append(said))
    assert {part for part, _, _ in told} >= {"transformer", "vae", "text_encoder", "text_encoder_2"}
    said = check_model(Source(row, tmp_path))
    assert sum(part["gib"] for part in said.values()) == pytest.approx(size / GIB, abs=0.01)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert write_model(row, tmp_path, CPU) == size
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}


def test_a_run_at_a_cap_from_plan_to_page(tiny, tmp_path):
    kept = []
    report = commands.measure("caps", tiny, lambda line: None, kept.append)
    assert kept[-1] == json.loads(json.dumps(report)), "it can be kept after each run"
    (run,) = report["runs"]
    assert "failed" not in run and run["loss"] > 0 and run["eased"] == []
    assert {"text", "latents", "residuals", "train", "preview", "preview-half"} <= set(
        run["stages"]
    )
    assert all(s["off"] is None for s in run["stages"].values() if "off" in s), "no card"
    path = tmp_path / "gpu.md"
    page.record(path, "caps", report, "blockskip lab bench --gpu caps", True)
    other = {"runs": [report["runs"][0] | {"name": "another", "budget_gib": 4.0}]}
    page.record(path, "caps", other, "blockskip lab bench --gpu caps", True)
    text = path.read_text(encoding="utf-8")
    assert text.count("preview-half") == 2, "an earlier budget stays"
    assert "dry run" in text.lower() and "| `smoke` |" in text and str(tmp_path) not in text


@pytest.mark.parametrize("name", ["quant", "previews"])
def test_a_part_makes_its_page(tiny, tmp_path, name):
    report = commands.measure(name, tiny, lambda line: None)
    page.record(tmp_path / "gpu.md", name, report, "blockskip lab bench", True)
    assert f"## {name}" in (tmp_path / "gpu.md").read_text(encoding="utf-8")
    if name == "quant":
        off = {k: row["gradients_off"] for k, row in report["precisions"].items()}
        assert off["full"] == 0 < off["int8"] < off["int8-products"] < off["nf4"]
    else:
        assert len(report["runs"][0]["rows"]) == 6


def test_skipping_stands_beside_swapping_under_each_cap(tiny, tmp_path, monkeypatch):
    assert {*commands.RIVALS, *commands.CAPPED} <= CONTENDERS.keys()
    small = {"num_layers": 2, "num_single_layers": 2, "joint_attention_dim": 40}
    monkeypatch.setitem(SIZES, "tiny", SIZES["tiny"] | small)
    monkeypatch.setattr(bench, "run_job", bench_worker.work)
    monkeypatch.setattr(commands, "RIVALS", ("lora",))
    ways = ("swap", "swap-together", "swap-products", "swap-28-products", "ours-int8-products")
    monkeypatch.setattr(commands, "CAPPED", ways)
    make = commands._bench
    monkeypatch.setattr(commands, "_bench", lambda plan, **how: make(plan, skip=(1, 1), **how))
    path = tmp_path / "gpu.md"
    report = commands.measure("speed", replace(tiny, budgets=(12.0,)), lambda line: None)
    rows = {row["name"]: row for row in report["caps"]["12"]["contenders"]}
    assert all(row["cap_gib"] == 12 and "failed" not in row for row in rows.values())
    (errors,) = tiny.work.rglob("int8_errors.json")
    assert min(files.read_json(errors, dict[str, float]).values()) <= int8_products.MAX_ERROR
    free = commands.measure(
        "speed", replace(tiny, budgets=(0.0,), contenders=("lora",)), lambda line: None
    )
    assert [row["name"] for row in free["caps"]["0"]["contenders"]] == ["lora"]
    some = {"contenders": list(rows.values())[:1]}
    for known in (report, report | {"caps": {"8": report["caps"]["12"], "12": some}}, free):
        page.record(path, "speed", known, "blockskip lab bench", True)
    with pytest.raises(UserError, match="None of these"):
        commands.measure("speed", replace(tiny, contenders=("theirs",)), lambda line: None)
    alone, together = (rows[name]["weight_bytes_a_draw"] for name in ("swap", "swap-together"))
    assert alone == 4 * together > 0, "a block comes once for the draws of a step"
    text = path.read_text(encoding="utf-8")
    assert text.index("Without a cap:") < text.index("Under 8 GiB:") < text.index("Under 12 GiB:")
    assert text.count("times as fast as `swap") == 2, "earlier caps and contenders stay"


def test_the_whole_process_is_what_the_driver_says(monkeypatch):
    used = iter([1.0, 3.5, 6.0, *[2.0] * 1000])
    monkeypatch.setattr(
        "blockskip.memory.monitor.usage", lambda: Usage(1, 8, 16, next(used, 2.0), 24.0)
    )
    from blockskip.lab.gpu.stages import DriverMemory

    driver = DriverMemory()
    driver.sample()
    driver.sample()
    assert driver.process_gib == 5.0


def test_a_part_that_breaks_does_not_end_the_others(tiny, monkeypatch):
    def broken(*_):
        raise UserError("caps-demo-8 broke: no word")

    real = commands.run_in_subprocess
    monkeypatch.setattr(
        commands,
        "run_in_subprocess",
        lambda m, job, *a: (broken if job["what"] == "stages" else real)(m, job, *a),
    )
    report = commands.measure("caps", tiny, lambda line: None)
    assert "broke" in report["runs"][0]["failed"]
    page.markdown(
        {"caps": {"command": "", "machine": page.machine(), "dry": True, "report": report}}
    )


@pytest.mark.long
def test_a_prediction_is_the_longer_of_computing_and_copying(monkeypatch):
    monkeypatch.setattr(
        predict, "_tflop_per_pass", lambda _: dict.fromkeys(predict.STAGES, (10.0, 9.0))
    )
    found = predict.work()
    assert not found["share_measured"] and len(found["rows"]) == 3 * len(predict.GPU_SPECS)
    for row in found["rows"]:
        all_of_it, half = (row["minutes"][share]["all"] for share in ("100%", "50%"))
        assert all_of_it < half <= 2 * all_of_it
    row = found["rows"][0]
    card = predict.GPU_SPECS[row["card"]]
    assert row["steps_tflop"] == row["draws"] / row["batch"] * 10
    assert row["steps_unpacked_gb"] == 0 and row["steps_int8_tflop"] == pytest.approx(
        0.9 * row["steps_tflop"]
    )
    rounding = row["steps_rounded_gb"] / card.memory_gbs / 0.8
    products = row["steps_tflop"] - row["steps_int8_tflop"] * 3 / 4
    seconds = products / card.tflops + rounding
    assert row["minutes"]["100%"]["steps"] == pytest.approx(seconds / 60)
    large = row["picture_tflop"]
    assert large * 4 * (1 + 9 / 4) < row["pictures_tflop"] < large * 4 * (1 + 9 / 3), "of 512 px"
    assert row["minutes"]["100%"]["all"] == sum(row["minutes"]["100%"][part] for part in PARTS)
    slow = dict.fromkeys(PARTS, Work(tflop=0.0)) | {
        "windows": Work(tflop=0.0, bus_gb=0.8 * card.bus_gbs * 60)
    }
    made = predict._minutes(card, slow, 0.0, 1.0)
    assert made["all"] == made["windows"] == 1.0, "the bus decides"
    assert predict.work(share=0.4)["rows"][0]["minutes"].keys() == {"40%"}


def test_without_a_card_only_a_dry_run_and_arithmetic_are_possible(tmp_path):
    work = ["--work", str(tmp_path), "--device", "cpu"]
    for asked in (
        ["gpu", "caps", *work],
        ["bench", *work, "--gpu", "caps"],
        ["bench", "--gpu=caps", *work],
    ):
        refused = CliRunner().invoke(app, ["lab", *asked])
        assert isinstance(refused.exception, UserError) or "no graphics card" in refused.output
    with pytest.raises(UserError, match="no “kaps”"):
        commands.measure("kaps", GpuJob(work=tmp_path), print)
    assert list(MEASUREMENTS)[:5] == ["smoke", "caps", "speed", "overlap", "quant"]
