"""The ablation: its rows are what they say, and it can be stopped anywhere."""

import dataclasses
import json

import pytest
import torch

from blockskip.core import flow_matching
from blockskip.core.errors import UserError
from blockskip.core.presets import model_row
from blockskip.core.settings import Settings
from blockskip.lab.ablation import ablate, baselines, subjects, tables, variants
from blockskip.lab.ablation import experiment as experiments
from blockskip.lab.ablation import report as ablation_report
from blockskip.lab.ablation.ablate import Plan
from blockskip.lab.ablation.experiment import Experiment, ExperimentRunner, _attribute_accuracy
from blockskip.lab.ablation.statistics import by_variant
from blockskip.lab.demo_world.judge_data import judge_pool
from blockskip.lab.demo_world.judge_report import true_attributes
from blockskip.lab.demo_world.subjects import DEMO_SUBJECTS, HELD_OUT_SUBJECTS
from blockskip.lab.demo_world.world import Pet, Scene
from blockskip.lab.measuring.json_lines import read_lines
from blockskip.runs.demo_judge import load_judge

ALL = {row.key: row for table in tables.tables().values() for row in table.variants}


def num_skipped(key: str, cell: str = "pet-0") -> int:
    settings = ALL[key].override(Settings(steps=300), cell)
    both = settings.plan.front + settings.plan.back
    return variants.NUM_BLOCKS - both if ALL[key].trainer is baselines.HollowTrainer else both


def test_rows_fit_the_demo_models_as_they_are():
    demo, sana = model_row("demo"), model_row("demo-sana")
    assert demo.num_blocks == variants.NUM_BLOCKS
    assert all(demo.span(percent / 100) == splits[0] for percent, splits in variants.SPLITS.items())
    assert all(sana.span(percent / 100) == span for percent, span in variants.SANA_SPANS.items())
    assert all(row.baseline in ALL for row in ALL.values() if row.trainer)


HALVES = [key for key in ALL if key.split("@")[0].count("-") == 1 and "-50" in key]


@pytest.mark.parametrize("key", [*HALVES, *(row.key for row in tables.tables()["A"].variants)])
def test_at_50_percent_every_row_skips_half_of_the_blocks(key):
    assert {num_skipped(key, f"pet-{k}") for k in range(20)} == {variants.NUM_BLOCKS // 2}


def test_random_splits_differ_between_cells_and_are_not_the_chosen_one():
    splits = [ALL["random-50"].override(Settings(), f"pet-{k}") for k in range(40)]
    found = {(s.plan.front, s.plan.back) for s in splits}
    assert len(found) > 5 and variants.SPLITS[50][0] not in found
    assert splits == [ALL["random-50"].override(Settings(), f"pet-{k}") for k in range(40)]


def test_a_window_of_ten_percent_is_the_default_and_of_all_is_the_papers_way():
    """So that table C need not make the rows of table B32 again."""
    small, windows = ({r.key for r in tables.tables()[name].variants} for name in ("B32", "C"))
    asked = {
        tables.window_key(percent, split, share)
        for percent, splits in variants.SPLITS.items()
        for split in splits
        for share in variants.WINDOWS
    }
    assert windows == {key for key in asked if key.startswith("window")}
    assert asked - windows <= small and {"dynamic", "once-50@32"} <= asked
    for percent, (split, _) in variants.SPLITS.items():
        for share in (10, 100):
            default = Experiment(ALL["dynamic"], DEMO_SUBJECTS[0], 0, 300).settings()
            row = ALL[tables.window_key(percent, split, share)]
            made = Experiment(row, DEMO_SUBJECTS[0], 0, 300).settings()
            windowed = variants.with_window(*split, share)(default, "")
            if share == 100:
                assert made.refresh == "once" and windowed.plan.window_steps == windowed.steps
            else:
                assert made == windowed


def test_class_images_are_what_draws_of_the_bare_class_word_show(tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "NUM_CLASS_IMAGES", 3)
    runner = ExperimentRunner(tmp_path, images=2)
    cell = Experiment(ALL["class-images"], DEMO_SUBJECTS[0], 0, 3)
    settings, photos = cell.settings(), runner.photos(cell.subject)
    data = runner.training_data(settings, photos)
    shown = runner._with_class_images(settings, data)
    changed = (shown.latents != data.latents).flatten(1).any(1).tolist()
    assert changed == [draw.prior for draw in data.draws] and 0 < sum(changed) < len(changed)
    pipe = runner.open_model(settings)
    trainer = runner._trainer(cell, settings, shown, pipe, tmp_path / "window")
    rows_ = trainer.window_rows(0)
    own = flow_matching.velocity(shown.latents[: len(rows_)], trainer.data.noise(rows_))
    assert torch.equal(trainer.targets(rows_, trainer.prior_pass(rows_)), own)


def test_pets_that_are_reported_were_seen_by_nobody():
    asked = subjects.subjects(6)
    assert {judge_pool(s.pet) for s in asked} == {"check"}  # not the model's, not the judge's
    known = {s.pet.signature for s in (*DEMO_SUBJECTS, *HELD_OUT_SUBJECTS)}
    assert not known & {s.pet.signature for s in asked}
    assert len({s.pet.signature for s in asked}) == 6
    assert {s.pet.species for s in asked} == {"cat", "dog", "rabbit", "bear"}
    assert not {s.key for s in asked} & {s.key for s in subjects.subjects(6, for_tuning=True)}


def test_pets_that_the_judge_misreads_are_not_reported():
    """Blue marks on a white cat are drawn, and not seen by the judge."""
    judge, misread = (
        load_judge(),
        Pet("cat", "white", eye="green", blaze=True, star=True, mark="blue"),
    )
    assert not subjects.is_judgeable(judge, misread)
    assert subjects.is_judgeable(judge, Pet("dog", "green", eye="brown", socks=True))


def test_a_table_cut_off_is_balanced():
    made = ablate.experiments(Plan(work=None, groups=("A+B", "C")))
    per_round = sum(len(tables.tables()[name].variants) for name in "AB")
    for k in range(12):
        some = made[k * per_round : (k + 1) * per_round]
        assert len({cell.name for cell in some}) == 1
        assert len({cell.variant.key for cell in some}) == per_round
    assert not {c.variant.key for c in made[: 12 * per_round]} & {
        c.variant.key for c in made[12 * per_round :]
    }


def test_unknown_tables_and_rows_are_named():
    with pytest.raises(UserError, match="Z"):
        ablate.experiments(Plan(work=None, groups=("A+Z",)))
    with pytest.raises(UserError, match="no-such"):
        ablate.experiments(Plan(work=None, keys=("no-such",)))


@pytest.mark.long
def test_a_table_of_another_model_is_made_with_that_model(tmp_path):
    keys = ("sana-untrained", "sana-ours-50")
    plan = Plan(work=tmp_path, groups=("SANA",), keys=keys, subjects=1, steps=2, images=1)
    assert {cell.settings().model for cell in ablate.experiments(plan)} == {"demo-sana"}
    before, after = ablate.ablate(plan)
    assert after["front"] + after["back"] == 6 and after["peak_bytes"] > 0
    assert before["identity"] != after["identity"]


@pytest.mark.long
def test_pictures_are_sampled_with_the_rows_shift(tmp_path):
    keys = ("t-demo-1-1", "t-demo-1-1.88")
    plan = Plan(work=tmp_path, groups=("T",), keys=keys, subjects=1, steps=1, images=1)
    assert {cell.settings().shift for cell in ablate.experiments(plan)} == {1.0}
    plain, sampled = ablate.ablate(plan)
    assert plain["final_loss"] == sampled["final_loss"]
    assert plain["identity"] != sampled["identity"]


def test_a_mirrored_picture_of_the_pet_shows_all_of_it():
    pet = DEMO_SUBJECTS[0].pet  # with odd eyes
    assert _attribute_accuracy(pet, true_attributes(pet, Scene("snow", mirror=True))) == 1.0
    other = dataclasses.replace(pet, coat="green", star=False)
    assert _attribute_accuracy(pet, true_attributes(other, Scene("snow"))) == pytest.approx(
        1 - 2 / len(subjects.PET_ATTRIBUTES)
    )


def test_stopped_in_the_middle_of_a_line_it_goes_on_and_makes_nothing_twice(tmp_path):
    plan = Plan(
        work=tmp_path, keys=("untrained", "none-50"), subjects=1, seeds=1, steps=2, images=1
    )
    path, begun = tmp_path / "cells.jsonl", ablate.ablate(plan)
    first = next(begun)
    assert first["row"] == "untrained" and read_lines(path) == [first]
    with pytest.raises(UserError, match="Another process"):
        next(ablate.ablate(plan))
    begun.close()
    path.write_bytes(path.read_bytes() + b'{"row": "none-50", "subj')
    (second,) = list(ablate.ablate(plan))
    assert read_lines(path) == [first, second]
    assert second["row"] == "none-50" and second["peak_bytes"] > 0 and -1 <= second["identity"] <= 1
    assert list(ablate.ablate(plan)) == []
    changed = dataclasses.replace(plan, keys=("none-50",), steps=1)
    assert [line["steps"] for line in ablate.ablate(changed)] == [1]
    assert json.loads(path.read_text(encoding="utf-8").splitlines()[-1])["steps"] == 1
    (tmp_path / "ablation.json").write_text(
        ablation_report.results_json(by_variant([first, second]))
    )
    elsewhere = dataclasses.replace(plan, work=tmp_path / "new", known=tmp_path / "ablation.json")
    assert list(ablate.ablate(elsewhere)) == [], "what a page tells is known"
