"""The benchmark at a tiny size: what it compares is what it says, and what it counts is true."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from blockskip.core.errors import UserError
from blockskip.core.settings import ALL_BLOCKS, Settings, settings_to_dict
from blockskip.lab.bench import bench as lab_bench
from blockskip.lab.bench.bench import compare
from blockskip.lab.bench.contenders import CONTENDERS, SIZES, Contender, Plan, contenders
from blockskip.lab.bench.report import command, machine, markdown
from blockskip.lab.bench.timeline import gpu_spans, merge_spans, overlap_length, overlap_stats
from blockskip.lab.bench.worker import Job, make_trainer, open_streamed, work
from blockskip.lab.full_size.random_model import FLUX_DEV, flux, write_checkpoint
from blockskip.models.families.flux import Flux
from blockskip.training.lora import snapshot

CPU = torch.device("cpu")
HEAD = 128  # width of one head, and of the whole model
SHAPE = FLUX_DEV | {
    "num_layers": 2,
    "num_single_layers": 2,
    "num_attention_heads": 1,
    "joint_attention_dim": 40,
    "pooled_projection_dim": 24,
}
SETTINGS = Settings.of(
    model="flux-dev",
    s_min_px=32,
    s_max_px=64,
    text_tokens=5,
    rank=4,
    steps=3,
    window_steps=3,
    device="cpu",
    lr=3e-3,
)
OURS = {"front": 2, "back": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    write_checkpoint(flux(SHAPE, torch.float32), folder / "transformer")
    return folder


def job(folder: Path, name: str = "lora", windows: bool = False, count: bool = False, **how) -> Job:
    settings = SETTINGS.changed(**how)
    return Job(
        name=name,
        settings=settings_to_dict(settings),
        windows=windows,
        shape=SHAPE,
        dtype="float32",
        folder=str(folder),
        count=count,
    )


def trained(one: Job, settings: Settings):
    model, _ = open_streamed(one, settings, CPU)
    trainer = make_trainer(one, settings, model, CPU)
    return [event.loss for event in trainer.run()], snapshot(trainer.lora)


@pytest.mark.parametrize(
    "how",
    [{}, {"recomputed": ALL_BLOCKS}, {"middle": "streamed", "recomputed": ALL_BLOCKS}],
    ids=["whole", "checkpointed", "swapped"],
)
def test_plain_lora_is_our_trainer_with_nothing_skipped(folder, how):
    """So only time and memory differ between the contenders, never the training."""
    plain = SETTINGS.changed(patches="full", **how)
    ours = SETTINGS.changed(patches="full")
    losses, lora = trained(job(folder, "plain", patches="full", **how), plain)
    expected, its_lora = trained(job(folder, "ours", windows=True, patches="full"), ours)
    assert losses == pytest.approx(expected, rel=1e-5)
    assert lora.keys() == its_lora.keys() and len(lora) == 2 * (2 * 8 + 2 * 3)
    for name, tensor in its_lora.items():
        torch.testing.assert_close(lora[name], tensor, atol=1e-4, rtol=1e-3)


def forward_flops(image: int, text: int, double: int, single: int) -> int:
    """Products of the blocks with one draw, by hand: linears, attention, modulation."""
    tokens, d2 = image + text, HEAD**2
    attention = 4 * tokens**2 * HEAD
    # a double block: q, k, v, out and a feed-forward of 4 for either stream; 6 modulations each
    doubles = 2 * tokens * (4 + 8) * d2 + 2 * 12 * d2 + attention
    # a single one: q, k, v, a feed-forward of 4, and back from 5; 3 modulations
    singles = 2 * tokens * (3 + 4 + 5) * d2 + 2 * 3 * d2 + attention
    return double * doubles + single * singles


def around_flops(image: int, text: int) -> int:
    """Time, guidance and pooled embeddings, and the embedders of both streams."""
    d = HEAD
    embeddings = 2 * (2 * (256 * d + d * d)) + 2 * (24 * d + d * d)
    return embeddings + 2 * image * 64 * d + 2 * text * 40 * d


def test_flops_of_a_window_are_those_of_a_hand(folder):
    """Half resolution: 2 x 2 image tokens, 5 text tokens; LoRA on q, k, v of the last three blocks.
    A window ends before the head."""
    said = work(job(folder, "ours", windows=True, count=True, front=1, back=1))
    lora = 2 * 9 * 4 * 2 * HEAD * 4  # a double block: q, k, v, out for either stream
    lora += 2 * 9 * 4 * 2 * HEAD * 3  # a single one: q, k, v
    by_hand = forward_flops(4, 5, 2, 2) + around_flops(4, 5) + lora
    assert said["window_flops_a_draw"] == by_hand
    again = work(job(folder, "ours2", windows=True, count=True, front=1, back=1, reuse=3))
    assert again["window_flops_a_draw"] == by_hand / 3, "three uses share it"
    assert again["step_flops_a_draw"] == said["step_flops_a_draw"]


def test_checkpointing_costs_one_more_forward_of_the_blocks(folder):
    plain = work(job(folder, "lora", count=True, patches="full"))
    checkpointed = work(job(folder, "ck", count=True, patches="full", recomputed=ALL_BLOCKS))
    assert plain["window_flops_a_draw"] == 0, "nothing is stored for plain LoRA"
    more = checkpointed["flops_a_draw"] - plain["flops_a_draw"]
    blocks = forward_flops(16, 5, 2, 2)
    assert 0.95 * blocks <= more <= 1.1 * blocks  # with its LoRA; what ends a block may be spared
    assert checkpointed["losses"] == plain["losses"]


def test_measuring_the_errors_of_products_is_no_part_of_a_window(folder):
    how = {"precision": "int8", "arithmetic": "int8", "windows": True, "count": True, **OURS}
    first, again = (work(job(folder, "products", **how)) for _ in range(2))
    assert again["flops_a_draw"] == first["flops_a_draw"]


def test_swapping_brings_every_block_twice_a_step_and_ours_the_model_once_a_window(folder):
    blocks = [block for _, block in Flux().blocks(flux(SHAPE, torch.float32))]
    size = sum(p.numel() * 4 for block in blocks for p in block.parameters())
    how = {"patches": "full", "middle": "streamed", "recomputed": ALL_BLOCKS}
    swapped = work(job(folder, "swap", **how))
    assert swapped["weight_bytes_a_draw"] == 2 * size
    assert work(job(folder, "lora", patches="full"))["weight_bytes_a_draw"] == 0
    ours = work(job(folder, "ours", windows=True, **OURS))
    twice = work(job(folder, "ours", windows=True, **OURS, steps=6, window_steps=6, reuse=2))
    assert 0 < ours["weight_bytes_a_draw"] * 3 < size, "what the middle holds does not come again"
    assert twice["weight_bytes_a_draw"] == ours["weight_bytes_a_draw"] / 2
    assert ours["window_bytes_a_draw"] > twice["window_bytes_a_draw"] > 0


def test_peaks_are_in_the_order_that_theory_says(folder):
    def storage(name: str, windows: bool = False, **how) -> float:
        how = {"s_min_px": 128, "s_max_px": 256} | how
        return work(job(folder, name, windows=windows, count=True, **how))["storage_gib"]

    plain = storage("lora", patches="full")
    checkpointed = storage("ck", patches="full", recomputed=ALL_BLOCKS)
    swapped = storage("swap", patches="full", recomputed=ALL_BLOCKS, middle="streamed")
    assert storage("ours", True, **OURS) < swapped < checkpointed < plain
    assert storage("qlora", patches="full", precision="nf4") < plain
    assert storage("half") < plain


def test_a_window_left_behind_is_not_taken_for_work(folder):
    """Counting leaves one; timed afterwards, it would be found instead of computed."""
    work(job(folder, "left", windows=True, count=True, **OURS))
    said = work(job(folder, "left", windows=True, **OURS))
    assert said["weight_bytes_a_draw"] > 0 and len(said["step_seconds"]) == 3


def told(seconds: float, flops: float, peak: float, **more) -> tuple[dict, dict]:
    """What one process says when it counts, and when it is timed."""
    timed = {
        "seconds_a_draw": seconds,
        "window_seconds_a_draw": 0.0,
        "step_seconds_a_draw": seconds,
        "weight_bytes_a_draw": 0,
        "window_bytes_a_draw": 0,
        "losses": [1.0],
        "memory": {"peak_gib": peak, "before_gib": 1.0},
        "stages": {"residuals": {}, "train": {}},
    }
    return {"flops_a_draw": flops, "step_flops_a_draw": flops}, timed | more


def test_ratios_are_taken_inside_a_round():
    """A machine twice as slow in one round changes no ratio."""
    those = [Contender(name=n, about="", settings=SETTINGS) for n in ("lora", "ours", "full")]
    counts, quick = zip(
        told(4, 12e12, 9), told(2, 3e12, 3), ({}, {"failed": "out of memory: x"}), strict=True
    )
    slow = [told(8, 0, 9)[1], told(4, 0, 3)[1], {"failed": "out of memory: x"}]
    rows = {row["name"]: row for row in compare(those, counts, [list(quick), slow])}
    assert rows["ours"]["times_faster"] == 2 and rows["ours"]["times_spread"] == [2, 2]
    assert rows["ours"]["ceiling"] == 4 and rows["ours"]["share_of_ceiling"] == 0.5
    assert rows["ours"]["times_less_memory"] == 3 and rows["ours"]["times_less_above_program"] == 4
    assert rows["lora"]["times_faster"] == 1
    assert rows["full"]["failed"].startswith("out of memory") and "ceiling" not in rows["full"]


def test_a_rung_beside_its_plan_says_when_the_cap_was_broken():
    stages = {"train": {"allocated_gib": 4.0, "reserved_gib": 5.8}}
    stages["residuals"] = {"allocated_gib": 2.0, "reserved_gib": 3.0}
    one = Contender(
        name="ours-6gb",
        about="",
        settings=SETTINGS,
        cap_gib=6.0,
        planned={"train": 4.2, "residuals": 2.0},
    )
    count, timed = told(1, 1, 1, stages=stages, context_gib=0.4)
    (row,) = compare([one], [count], [[timed]])
    assert row["peak_gib"] == 4.0 and row["against_plan"]["residuals"]["within_cap"]
    assert not row["against_plan"]["train"]["within_cap"]
    assert row["against_plan"]["train"]["planner_off"] == pytest.approx(0.05)


def test_contenders_are_what_the_table_says(tmp_path):
    those = {one.name: one for one in contenders(Plan(work=tmp_path, side_px=512, draws=16))}
    assert list(those) == list(CONTENDERS)
    ours, twice = those["ours"].settings, those["ours-reuse-2"].settings
    assert (ours.plan.front, ours.plan.back, ours.steps) == (19, 10, 16) and ours.num_draws == 16
    assert twice.steps == 32 and twice.num_draws == 16
    assert all(not those[n].settings.plan.front for n in those if not n.startswith("ours"))
    with pytest.raises(UserError, match="no contender"):
        contenders(Plan(work=tmp_path, contenders=("ours", "theirs")))
    with pytest.raises(UserError, match="full size"):
        contenders(Plan(work=tmp_path, rungs=(8.0,)))
    rung = contenders(Plan(work=tmp_path, size="full", rungs=(8.0,)))[-1]
    assert rung.cap_gib == 8 and rung.planned["train"] < 8 and rung.windows
    assert rung.settings.steps == rung.settings.plan.window_steps


def test_side_by_side_from_job_to_page(tmp_path, monkeypatch):
    """The whole way, two contenders, once each (all in this process); the page names no folder."""
    monkeypatch.setitem(SIZES, "tiny", SHAPE)
    monkeypatch.setattr(lab_bench, "run_job", work)
    plan = Plan(
        work=tmp_path,
        size="tiny",
        contenders=("lora", "ours"),
        side_px=64,
        text_tokens=4,
        skip=(1, 1),
        draws=2,
        baseline_draws=2,
        rounds=1,
        threads=1,
        device="cpu",
        timeline=str(tmp_path / "trace"),
    )
    lines = []
    report = {"command": command(plan), "machine": machine()} | lab_bench.run_bench(
        plan, lines.append
    )
    assert [line for line in lines if line.startswith("4/4 ")] == ["4/4 round 1/1: ours"]
    lora, ours = json.loads(json.dumps(report))["contenders"]
    assert ours["ceiling"] == lora["tflop_a_draw"] / ours["tflop_a_draw"] > 1
    assert ours["peak_gib"] > 0.9 * ours["before_gib"] > 0
    for stage in ("residuals", "train"):
        trace = tmp_path / f"trace-{stage}.json"
        assert json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    page = markdown(report)
    assert "blockskip lab bench --work DIR --size tiny" in page and str(tmp_path) not in page
    assert page.count("\n| `") == 2


@pytest.mark.long
def test_a_contender_works_in_a_process_of_its_own_and_is_named_when_it_breaks(folder):
    alone = job(folder, count=True, patches="full")
    assert lab_bench.run_job(alone) == work(alone) | {"storage_gib": pytest.approx(0.03, abs=0.03)}
    broken = dataclasses.replace(job(folder), shape=SHAPE | {"num_layers": 3})
    with pytest.raises(UserError, match="lora broke"):
        lab_bench.run_job(broken)


def test_hidden_copying_is_what_both_do_at_once():
    events = [
        {"cat": "gpu_memcpy", "name": "Memcpy HtoD (Pinned -> Device)", "ts": 0, "dur": 10},
        {"cat": "gpu_memcpy", "name": "Memcpy HtoD (Pinned -> Device)", "ts": 20, "dur": 10},
        {"cat": "gpu_memcpy", "name": "Memcpy DtoH (Device -> Pinned)", "ts": 50, "dur": 10},
        {"cat": "kernel", "name": "gemm", "ts": 5, "dur": 10},
        {"cat": "kernel", "name": "gemm", "ts": 12, "dur": 12},
        {"cat": "cpu_op", "name": "aten::mm", "ts": 0, "dur": 99},
        {"name": "a mark without a length", "ts": 3},
    ]
    copies, kernels = gpu_spans(events)
    assert merge_spans(kernels) == [(5, 24)]
    assert overlap_length(copies, kernels) == 5 + 4
    events.append({"cat": "cuda_runtime", "name": "cudaStreamSynchronize", "ts": 1, "dur": 1})
    said = overlap_stats(events)
    assert said["copy_ms"] == 0.02 and said["copy_hidden"] == 9 / 20
    assert said["idle"] == pytest.approx(1 - 19 / 30), "of what lies between the first and the last"
    assert said["waits"] == {"cudaStreamSynchronize": 1} and overlap_stats(events[5:]) == {}
