"""The full-size measurement, at a tiny size: what it says is true of what it did."""

import dataclasses

import torch

from blockskip.lab.full_size.fullsize import Job, fullsize_text, run_full_size
from blockskip.lab.full_size.random_model import FLUX_DEV, T5_XXL, flux, write_checkpoint
from blockskip.lab.measuring.process_memory import MemoryWatch

SHAPE = FLUX_DEV | {
    "num_layers": 2,
    "num_single_layers": 3,
    "num_attention_heads": 1,
    "joint_attention_dim": 40,
    "pooled_projection_dim": 24,
}


def test_the_report_counts_every_weight_once_a_window(tmp_path):
    job = Job(work=tmp_path, shape=SHAPE, skip=(1, 1), draws=4, batch=2, side_px=32, text_tokens=5)
    said = []
    report = run_full_size(job, said.append)
    first, second = report["training"]["windows"]
    assert first["read_bytes"] == report["checkpoint_bytes"]
    assert second["read_bytes"] < first["read_bytes"], "the middle stays"
    assert first["most_often_read"] == second["most_often_read"] == 1
    assert report["training"]["peak"]["anon_gib"] > 0
    assert (tmp_path / "checkpoint.safetensors").exists()
    beside = report["beside_diffusers"]
    assert beside["ours_read_bytes"] == report["checkpoint_bytes"]
    assert beside["blocks_compared"] == 5
    assert beside["largest_difference_of_a_block"] == 0
    assert beside["largest_difference_of_the_output"] == 0
    streamed = dataclasses.replace(job, middle="streamed", precision="nf4", compare=False)
    assert run_full_size(streamed)["training"]["step_seconds"]


def test_a_text_encoder_is_read_once_for_its_captions(tmp_path):
    shape = T5_XXL | {"vocab_size": 50, "d_model": 32, "d_ff": 48, "num_layers": 2, "num_heads": 2}
    report = fullsize_text(tmp_path, shape, captions=3, tokens=6)
    assert report["finite"] and report["most_often_read"] == 1
    assert report["read_bytes"] == report["checkpoint_bytes"]


def test_a_random_checkpoint_is_written_in_shards_once_and_goes_on(tmp_path):
    model = flux(SHAPE)
    total = write_checkpoint(model, tmp_path, shard_bytes=200_000)
    made = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(made) > 3
    assert write_checkpoint(model, tmp_path) == total
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == made
    one = next(path for path in made if path.suffix == ".safetensors")
    lost = one.read_bytes()
    one.unlink()
    (tmp_path / "model.safetensors.index.json").unlink()
    assert write_checkpoint(model, tmp_path, shard_bytes=200_000) == total
    again = [path for path in made if path.stat().st_mtime_ns != made[path]]
    assert {path.name for path in again} == {one.name, "model.safetensors.index.json"}
    assert one.read_bytes() == lost


def test_memory_that_was_used_is_seen():
    with MemoryWatch() as watch:
        used = torch.ones(64 << 20, dtype=torch.uint8)
        del used
    assert watch.anon_gib > 0.06 and watch.seconds > 0
