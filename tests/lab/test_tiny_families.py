"""`lab distil` and `lab select` work on pipelines that the demo models are no example of, and go on
where they were stopped. A family adds its tiny pipeline."""

import copy
import dataclasses
from functools import partial

import pytest
from helpers import family_checks as checks
from helpers import tiny_krea2

from blockskip.core import presets
from blockskip.lab.measuring.json_lines import read_lines
from blockskip.lab.previews import distil
from blockskip.lab.selection import probe as selection
from blockskip.memory.planning import model_stats
from blockskip.runs import worker_process

PIPELINES = {"krea2": tiny_krea2.save_pipeline}
SMALL = {
    "text_tokens": 24,
    "native_px": 32,
    "s_min_px": 16,
    "s_max_px": 32,
    "preview_steps": 4,
    "blocks": (6,),
    "spans": {"0.3": (1, 1), "0.4": (1, 1), "0.5": (2, 1)},
}


@pytest.fixture(scope="module", params=PIPELINES)
def row(request, tmp_path_factory):
    """A row for the tiny pipeline, planned with the sizes of another tiny model."""
    folder = PIPELINES[request.param](tmp_path_factory.mktemp("tiny") / request.param)
    row = checks.tiny_row(request.param, ("transformer", "text_encoder", "vae"), **SMALL)
    row = dataclasses.replace(row, source=str(folder))
    sizes = copy.deepcopy(presets.byte_table()["demo-sana"]) | {"pixels_a_token": 4}
    (kind,) = sizes["kinds"]
    kind["count"] = row.num_blocks
    rows = presets.model_rows() | {row.name: row}
    with pytest.MonkeyPatch.context() as patch, model_stats.override_stats(row.name, sizes):
        patch.setattr(presets, "model_rows", lambda: rows)
        # the demo's judge and pets
        patch.setattr(presets.ModelRow, "demo", property(lambda self: self.name == row.name))
        yield row


def test_adapters_are_learnt_and_resumed(row, tmp_path, monkeypatch):
    monkeypatch.setattr(distil, "held_out_error", lambda job, adapter: 0.5)
    work = tmp_path / "whole"
    plan = distil.Plan(
        work=work, model=row.name, out=work / "a.safetensors", prompts=3, steps=3, batch=2
    )
    assert distil.distil(plan, lambda line: None)
    cut = dataclasses.replace(plan, work=tmp_path / "cut", out=tmp_path / "cut" / "a.safetensors")
    cut.work.mkdir()
    for path in work.glob("latents-*"):
        (cut.work / path.name).write_bytes(path.read_bytes())
    steps = iter([False, True])
    job = distil.Distillation(cut)
    assert distil.train_adapter(job, 4, lambda line: None, lambda: next(steps)) is None
    assert distil.distil(cut, lambda line: None)
    assert cut.out.read_bytes() == plan.out.read_bytes()


@pytest.mark.long
def test_spans_are_probed_and_resumed(row, tmp_path, monkeypatch):
    spans = [("front-6", range(6))]
    monkeypatch.setattr(selection, "probe_spans", lambda num_blocks: spans)
    quick = partial(selection.choose_settings, preview_steps=2, preview_prompts=("a cat",))
    monkeypatch.setattr(selection, "choose_settings", quick)
    plan = selection.Plan(
        work=tmp_path, train=worker_process.work, model=row.name, subjects=1, images=1, steps=1
    )
    assert not selection.probe(dataclasses.replace(plan, minutes=1e-9), print)
    plan = dataclasses.replace(plan, train=lambda run: pytest.fail("tuned again"))
    assert selection.probe(plan, print)
    found = [(line["probe"], line["span"]) for line in read_lines(tmp_path / "probe.jsonl")]
    assert found == [(kind, name) for kind in ("lora", "text") for name, _ in spans]
