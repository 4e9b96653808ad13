"""The frontier of previews: every way is measured on the same prompts, kept, and told as it was."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from blockskip.core import files
from blockskip.core.errors import UserError
from blockskip.core.paths import PRESETS
from blockskip.lab.measuring import pages, plots
from blockskip.lab.previews import calibrate, tradeoff
from blockskip.lab.previews import report as tradeoff_report
from blockskip.lab.previews.sampling_methods import (
    BOTH,
    BY_TAU,
    CACHE,
    EXACT,
    KEYS,
    MAGNITUDE,
    UNCORRECTED,
    SamplingMethod,
    file_stem,
    key_step_method,
    sampling_methods,
)
from blockskip.lab.previews.tradeoff import Plan
from blockskip.memory.planning.planner import choose_settings
from blockskip.sampling import dynamic_patches, patch_adapters

STEPS = 6
WAYS = [
    SamplingMethod("rests always", CACHE, first_block_threshold=9.0),
    SamplingMethod("by magnitude", MAGNITUDE, mag_threshold=0.1),
    key_step_method(2),
    SamplingMethod("all 4p", "all 4p", dynamic_patches.PatchSchedule({4: float("inf")}, hold=2)),
    SamplingMethod(
        "alone",
        UNCORRECTED,
        dynamic_patches.PatchSchedule({4: float("inf")}, hold=6),
        with_correction=False,
    ),
]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Two pictures of the demo model by every way, adapters as they begin."""
    folder, patch = tmp_path_factory.mktemp("frontier"), pytest.MonkeyPatch()
    patch.setattr(tradeoff, "sampling_methods", lambda steps, patches: WAYS)
    plan = Plan(work=folder / "work", adapters=folder / "a.safetensors", prompts=2, steps=(6,))
    opened = tradeoff.ModelSession("demo", 8.0)
    made = {
        factor: patch_adapters.PatchAdapter(opened.transformer, opened.family, factor, 2)
        for factor in patch_adapters.FACTORS
    }
    patch_adapters.save(plan.adapters, made, {})
    sampler = tradeoff.Sampler(plan)
    tradeoff.measure(plan, sampler, lambda line: None)
    yield plan, sampler
    patch.undo()


def test_every_way_is_told_as_it_was(measured, tmp_path, monkeypatch):
    plan, sampler = measured
    exact, rests, _, keys, patches, alone = tradeoff_report.method_lines(plan, sampler, STEPS)
    assert exact["pixels_off"] == 0 and exact["quicker_flops"] == 1 and exact["difference"] == 0
    assert exact["quicker_seconds"] == 1
    assert rests["quicker_flops"] > 3 and rests["pixels_off"] > 1
    assert tradeoff.measurements(plan, WAYS[0], STEPS)[0]["passes"] == [1, 0, 0, 0, 0, 0]
    assert sorted(tradeoff.measurements(plan, WAYS[2], STEPS)[0]["passes"]) == [0, 0, 0, 0, 1, 1]
    assert 2.5 < keys["quicker_flops"] < 3 and keys["pixels_off"] > 0  # what decodes counts, too
    told = tradeoff.measurements(plan, WAYS[3], STEPS)[0]
    assert told["factors"] == [1, 1, 1, 4, 4, 1] and told["passes"] == [1, 1, 1, 2, 1, 1]
    assert patches["steps_by_size"] == {1: 0.6667, 2: 0.0, 4: 0.3333}
    # 86 tokens, or 26 in the three steps after the first three
    assert patches["ceiling"] == pytest.approx(6 / (3 + 3 * (4 + 22) / (64 + 22)), abs=1e-3)
    assert tradeoff.measurements(plan, WAYS[4], STEPS)[0]["passes"] == [1] * 6
    assert alone["steps_by_size"][4] == 0.5 and alone["pixels_off"] > patches["pixels_off"]
    # nothing is measured twice, nor mixed with what was measured on something else
    monkeypatch.setattr(tradeoff, "_measure_batch", None)
    tradeoff.measure(plan, sampler, lambda line: None)
    monkeypatch.setattr(sampler, "prompts", ["a cat", "another cat"])
    with pytest.raises(UserError, match="another model, adapters or prompts"):
        tradeoff.measure(plan, sampler, lambda line: None)


def test_the_page_keeps_what_was_written_above_its_tables(measured, tmp_path):
    plan, sampler = measured
    out = tmp_path / "out"
    written = tradeoff_report.write(plan, sampler, out)
    assert all(path.exists() for path in written)
    page = (out / "previews.md").read_text(encoding="utf-8")
    assert all(way.name in page for way in (EXACT, *WAYS)) and "times fewer" in page
    files.write_text(out / "previews.md", "# Found\n\nWords.\n" + page[page.index("<!--") :])
    tradeoff_report.write(plan, sampler, out)
    again = (out / "previews.md").read_text(encoding="utf-8")
    assert again.startswith("# Found\n\nWords.\n") and again.count(pages.MARKER) == 1
    assert json.loads((out / "previews.json").read_text(encoding="utf-8"))["prompts"] == 2


def test_what_is_better_than_the_step_cache_alone_is_kept(measured, monkeypatch):
    plan, _ = measured
    both = SamplingMethod(
        "patches too",
        BOTH,
        dynamic_patches.PatchSchedule({4: 1.5}, 0.25, 2),
        first_block_threshold=0.1,
    )
    every = [EXACT, *calibrate.CACHE_METHODS.values(), key_step_method(2), both]
    monkeypatch.setattr(calibrate.Candidates, "methods", lambda self, steps: every)
    adapters = plan.adapters.with_name("calibrated.safetensors")
    adapters.write_bytes(plan.adapters.read_bytes())
    plan = replace(plan, work=plan.work / "calibrated", adapters=adapters)
    written = []
    monkeypatch.setattr(calibrate, "write_keys", lambda *given: written.append(given))
    told = {
        "step cache, fast": (1.0, 1.5, CACHE),
        "step cache, fastest": (3.0, 2.0, CACHE),
        "2 key steps": (0.9, 1.6, KEYS),
        "patches too": (2.9, 2.1, BOTH),
    }
    lines = [
        {"way": name, "pixels_off": off, "quicker_seconds": q, "quicker_flops": q, "kind": kind}
        for name, (off, q, kind) in told.items()
    ]
    monkeypatch.setattr(calibrate, "measure", lambda *_: None)
    monkeypatch.setattr(calibrate.tradeoff_report, "method_lines", lambda *_: lines)
    monkeypatch.setattr(dynamic_patches, "adapter_file", lambda model: plan.adapters)
    before = load_file(plan.adapters)
    found = calibrate.calibrate(plan, lambda line: None)
    assert found["schedule"]["hold"] == 2 and not found["keys"]["fastest"]
    assert dynamic_patches.calibrated_schedule("demo", STEPS) == (
        dynamic_patches.PatchSchedule({4: 1.5}, 0.25, 2),
        0.1,
    )
    assert dynamic_patches.calibrated_schedule("demo", STEPS + 1) is None
    ((path, *of, keys),) = written
    assert path == PRESETS / "keysteps.toml" and of == ["demo", STEPS]
    assert list(keys) == ["fast"] and keys["fast"] == found["keys"]["fast"]
    assert len(keys["fast"]) == 2 and keys["fast"][0] == 0
    after = load_file(plan.adapters)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    lines[3]["pixels_off"] = 3.1  # quicker, but further off
    lines[2]["quicker_flops"] = 2.2
    found = calibrate.calibrate(plan, lambda line: None)
    assert found["schedule"] is None and dynamic_patches.calibrated_schedule("demo", STEPS) is None
    assert found["keys"]["fastest"] == found["keys"]["fast"] == keys["fast"]


@pytest.mark.long
def test_of_a_run_pictures_are_its_pets_and_judged_by_likeness(measured, tmp_path, monkeypatch):
    plan, sampler = measured
    settings = choose_settings(model="demo", class_name="cat")
    run = SimpleNamespace(name="a run", settings=lambda: settings, fingerprint=lambda: "its mark")
    photos = tradeoff_report.pictures(plan, EXACT, STEPS)
    monkeypatch.setattr(tradeoff, "judge_and_photos", lambda run: (None, photos))
    monkeypatch.setattr(tradeoff, "load_lora", lambda run: learnt)
    learnt: dict = {}
    monkeypatch.setattr(tradeoff, "restore", lambda lora, kept: learnt.update(lora))
    plan = replace(plan, run=run, work=tmp_path / "work", prompts=2)
    tuned = tradeoff.open_sampler(plan)
    assert tuned.prompts == [settings.subject_caption, f"{settings.subject_caption} on the beach"]
    monkeypatch.setattr(tradeoff, "sampling_methods", lambda steps, patches: WAYS[:1])
    tradeoff.measure(plan, tuned, lambda line: None)
    before = tradeoff_report.method_lines(plan, tuned, STEPS)[0]
    assert tuned.provenance() != sampler.provenance()
    with torch.no_grad():
        for name, tensor in learnt.items():
            tensor += 0.3 * ("lora_B" in name)
    with pytest.raises(UserError, match="measurements of another model"):
        tradeoff.measure(plan, tuned, lambda line: None)  # it has learnt more since
    plan = replace(plan, work=tmp_path / "again")
    tradeoff.measure(plan, tuned, lambda line: None)
    after = tradeoff_report.method_lines(plan, tuned, STEPS)[0]
    assert before["judged"] != after["judged"]  # the LoRA is at work, and photos are what counts
    tradeoff_report.write(plan, tuned, tmp_path)
    page = (tmp_path / "previews-of-a-pet.md").read_text(encoding="utf-8")
    assert "| likeness |" in page and "FLUX" not in page


def test_a_run_is_drawn_on_its_own_model_only(measured, monkeypatch):
    run = SimpleNamespace(name="a run", settings=lambda: choose_settings(model="demo"))
    run.fingerprint = lambda: "its mark"
    monkeypatch.setattr(tradeoff, "judge_and_photos", lambda run: (None, []))
    with pytest.raises(UserError, match="trains demo, not sana-0.6b"):
        tradeoff.open_sampler(replace(measured[0], run=run, model="sana-0.6b"))


def test_passes_are_counted_whatever_goes_through_a_block_at_once(measured, monkeypatch):
    plan, sampler = measured
    monkeypatch.setattr(sampler, "settings", sampler.settings.changed(preview_batch=1))
    told = tradeoff.measurements(plan, WAYS[3], STEPS)[0]
    assert sampler.run(WAYS[3], range(2), STEPS)[2] == told["passes"]


def test_only_the_correction_takes_a_second_pass(measured):
    _, sampler = measured
    for with_correction, most in ((False, 1), (True, 2)):
        method = replace(WAYS[-1], with_correction=with_correction)
        _, factors, passes = sampler.run(method, range(1), STEPS)
        assert max(factors) == 4 and max(passes) == most


def test_no_more_key_steps_than_steps_are_tried():
    assert not [way for way in sampling_methods(6, False) if way.num_key_steps]
    assert [way.num_key_steps for way in sampling_methods(8, False) if way.num_key_steps] == [7, 6]


def test_a_step_cache_of_every_way_is_the_librarys():
    for steps in (50, 12):
        found = sampling_methods(steps, True)
        assert len({file_stem(way) for way in found}) == len(found)
        kinds = {CACHE, MAGNITUDE, KEYS, "all 2p", "all 4p", BY_TAU, BOTH}
        assert {way.group for way in found} == kinds | {UNCORRECTED}
        assert len(kinds) + 1 <= len(plots.COLOURS), "each has a curve"
        assert all(way.largest_patches == 1 for way in sampling_methods(steps, False))
