"""The laboratory's commands on a family's tiny pipeline, registered like a model of the table."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blockskip.core import presets
from blockskip.core.presets import ModelRow
from blockskip.lab.measuring.json_lines import read_lines
from blockskip.lab.previews import distil
from blockskip.lab.selection import probe as selection
from blockskip.models.sources import Source, registry
from blockskip.runs import worker_process
from blockskip.sampling import patch_adapters


def register(monkeypatch: pytest.MonkeyPatch, row: ModelRow, folder: Path) -> None:
    """Make `row` a model of the table, with the demo model's sizes, and `folder` its files."""
    sizes = presets.byte_table()["demo"]
    kinds = [sizes["kinds"][0] | {"count": row.num_blocks}]
    rows, table = presets.model_rows() | {row.name: row}, dict(presets.byte_table())
    monkeypatch.setattr(presets, "model_rows", lambda: rows)
    for module in ("blockskip.core.presets", "blockskip.memory.planning.model_stats"):
        sized = table | {row.name: sizes | {"kinds": kinds}}
        monkeypatch.setattr(f"{module}.byte_table", lambda sized=sized: sized)
    registry.save_selection(row, Source(row, folder))


def check_distil(row: ModelRow, work: Path) -> None:
    """Check that `lab distil` trains patch adapters, and goes on where it was stopped."""
    plan = distil.Plan(
        work=work, model=row.name, out=work / "a.safetensors", prompts=2, steps=2, batch=1
    )
    assert not distil.distil(dataclasses.replace(plan, minutes=1e-9), print)
    (latents,) = work.glob("latents-*")
    before = latents.stat().st_mtime_ns
    assert distil.distil(plan, print) and latents.stat().st_mtime_ns == before
    job = distil.Distillation(plan)
    adapters, _ = patch_adapters.load(plan.out, job.transformer, job.family)
    assert set(adapters) == set(patch_adapters.FACTORS)


class _Pixels:
    """An embedder of pictures by their pixels."""

    def embed(self, images: list[Image.Image]) -> torch.Tensor:
        flat = torch.from_numpy(np.stack([np.asarray(image, np.float32) for image in images]))
        return torch.nn.functional.normalize(flat.flatten(1) - 127.5, dim=1)


def check_select(row: ModelRow, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that `lab select` trains on a pet, ablates blocks, and goes on where it was stopped."""
    pets = work / "pets" / "cat-mia"
    pets.mkdir(parents=True)
    for k in range(2):
        noise = np.random.default_rng(k).integers(0, 255, (96, 128, 3), np.uint8)
        Image.fromarray(noise).save(pets / f"{k}.png")
    some = [("front-1", range(1)), (f"front-{row.num_blocks}", range(row.num_blocks))]
    monkeypatch.setattr(selection, "probe_spans", lambda _: some)
    monkeypatch.setattr(selection, "PLACES", {})
    monkeypatch.setattr(selection, "_open_embedder", lambda _: _Pixels())
    quick = partial(
        selection.choose_settings, preview_steps=2, preview_prompts=("a cat",), threads=1
    )
    monkeypatch.setattr(selection, "choose_settings", quick)
    plan = selection.Plan(
        work=work, train=worker_process.work, model=row.name, photos=pets.parent, images=1, steps=2
    )
    assert not selection.probe(dataclasses.replace(plan, minutes=1e-9), print)
    plan = dataclasses.replace(plan, train=lambda run: pytest.fail("tuned again"))
    assert selection.probe(plan, print)
    found = {(line["probe"], line["span"]): line for line in read_lines(work / "probe.jsonl")}
    assert len(found) == 4
    whole = f"front-{row.num_blocks}"
    assert min(found[probe, whole]["distance"] for probe in ("lora", "text")) > 0
