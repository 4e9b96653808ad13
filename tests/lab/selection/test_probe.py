"""Selection looks spans up by their distances, and its probe can be stopped."""

import tomllib
import xml.etree.ElementTree as ET
from dataclasses import replace
from functools import partial

import pytest
import torch
from helpers.tiny import randomise, tiny_draws, tiny_flux

from blockskip.core.errors import UserError
from blockskip.core.settings import Settings, settings_to_dict
from blockskip.lab.measuring.json_lines import append_line, read_lines
from blockskip.lab.selection import probe as selection
from blockskip.lab.selection import report as selection_report
from blockskip.lab.selection.probe import Plan
from blockskip.lab.selection.report import choose_spans
from blockskip.models.families.flux import Flux
from blockskip.runs import worker_process
from blockskip.runs.run import Run
from blockskip.training.lora import add_lora
from blockskip.training.residuals import Span, full_velocity

CPU = torch.device("cpu")
SVG = "{http://www.w3.org/2000/svg}"


def distances(front: list[float], back: list[float]) -> dict[str, float]:
    named = {f"front-{n}": d for n, d in enumerate(front, 1)}
    return named | {f"back-{m}": d for m, d in enumerate(back, 1)}


def test_the_span_chosen_is_the_least_sum():
    # the front hurts little up to 3 blocks, the back up to 2: of 10 blocks half are skipped
    found = distances([0.1, 0.1, 0.1] + [0.9] * 7, [0.05, 0.05] + [0.8] * 7)
    assert choose_spans(found, 10, 0.5) == (3, 2)
    assert choose_spans(found, 10, 0.2) == (0, 2)
    mirrored = distances([0.05, 0.05] + [0.8] * 8, [0.1, 0.1, 0.1] + [0.9] * 6)
    assert choose_spans(mirrored, 10, 0.5) == (2, 3)


def test_of_equals_the_one_that_is_exact():
    assert choose_spans(distances([0.2] * 10, [0.2] * 9), 10, 0.3) == (3, 0)


def test_every_span_a_ratio_may_need_is_probed():
    named = dict(selection.probe_spans(18))
    assert len(named) == 18 + 17 + 15
    assert named["front-7"] == range(7) and named["back-7"] == range(11, 18)
    assert {len(span) for name, span in named.items() if name.startswith("sliding")} == {4}
    zero = dict.fromkeys(named, 0.0)
    assert all(sum(choose_spans(zero, 18, r)) == round(18 * r) for r in (0.3, 0.4, 0.5))


def test_a_probe_that_was_stopped_goes_on_without_tuning_again(tmp_path, monkeypatch):
    some = [("front-1", range(1)), ("front-18", range(18))]
    monkeypatch.setattr(selection, "probe_spans", lambda num_blocks: some)
    quick = partial(selection.choose_settings, preview_steps=2, preview_prompts=("a cat",))
    monkeypatch.setattr(selection, "choose_settings", quick)
    plan = Plan(work=tmp_path / "work", train=worker_process.work, subjects=1, images=1, steps=1)
    assert not selection.probe(replace(plan, minutes=1e-9), print)
    with pytest.raises(UserError, match="No pet"):
        selection_report.summary(plan)
    (run,) = (Run(folder) for folder in (plan.work / "runs").iterdir())
    assert run.state() == "done" and (run.settings().plan.front, run.settings().plan.back) == (0, 0)
    plan = replace(plan, train=lambda run: pytest.fail("tuned again"))
    assert [line["span"] for line in read_lines(plan.work / "probe.jsonl")] == ["front-1"]
    assert selection.probe(plan, print)
    found = read_lines(plan.work / "probe.jsonl")
    assert [(line["probe"], line["span"]) for line in found] == [
        *(("lora", "front-1"), ("lora", "front-18"), ("text", "front-1"), ("text", "front-18"))
    ]
    assert all(0 <= line["distance"] <= 2 for line in found)
    assert min(found[1]["distance"], found[3]["distance"]) > 0, "without all of it: another picture"


def test_real_models_are_tuned_on_folders_named_by_class_word(tmp_path):
    plan = Plan(work=tmp_path, train=worker_process.work, model="flux-dev")
    with pytest.raises(UserError, match="--photos"):
        selection.probe(replace(plan, dino=_tiny_dino(tmp_path)), print)
    for name in ("cat-mia", "dog 2", "Käuzchen_x", "9lives"):
        (tmp_path / "pets" / name).mkdir(parents=True)
    pets = selection._pets(replace(plan, photos=tmp_path / "pets"))
    assert [(pet.key, pet.class_name) for pet in pets] == [
        ("Käuzchen_x", "Käuzchen"),
        ("cat-mia", "cat"),
        ("dog 2", "dog"),
    ]
    with pytest.raises(UserError, match="class word"):
        selection._pets(replace(plan, photos=tmp_path / "pets" / "9lives"))


def _tiny_dino(folder):
    from transformers import CLIPImageProcessorPil, ViTConfig, ViTModel

    sizes = {"hidden_size": 8, "num_attention_heads": 1, "intermediate_size": 8}
    ViTModel(ViTConfig(**sizes, num_hidden_layers=1)).save_pretrained(folder / "dino")
    CLIPImageProcessorPil().save_pretrained(folder / "dino")
    return str(folder / "dino")


def test_what_is_measured_is_looked_up_and_plotted(tmp_path):
    """Of two pets, one measured in part: only the whole one counts."""
    plan = Plan(work=tmp_path, train=worker_process.work, images=1)
    run = Run(tmp_path / "runs" / "a")
    run.folder.mkdir(parents=True)
    settings = settings_to_dict(Settings(steps=300))
    run.write_info({"settings": settings, "model_fingerprint": "0123456789abcdef", "photos": []})
    for pet, spans in (("a", selection.probe_spans(18)), ("b", selection.probe_spans(18)[:5])):
        for name, span in spans:
            kind = name.split("-")[0]
            # the front hurts from its eighth block on, the back from its third
            distance = {"front": len(span) > 7, "back": len(span) > 2}.get(kind, 0.5) * 0.8
            for probe, far in (("lora", distance), ("text", 0.8 - distance)):
                line = {"subject": pet, "probe": probe, "span": name, "images": 1}
                line |= {"eyes": "demo world judge", "distance": far, "each": [far] * 3}
                append_line(tmp_path / "probe.jsonl", line)
    said = selection_report.summary(plan)
    assert said["subjects"] == ["a"] and said["probes"]["lora"]["spans"]["0.5"] == (7, 2)
    assert said["probes"]["text"]["spans"]["0.5"] != (7, 2)
    assert said["probes"]["lora"]["distance_95"]["front-18"] == [0.8, 0.8]
    row = tomllib.loads(selection_report.preset_row(said))
    assert row["demo"]["spans"]["0.5"] == [7, 2] and "0123456789ab, demo" in row["provenance"]
    for probe in selection.PROBES:
        texts = ET.fromstring(selection_report.profile(said, probe)).iter(f"{SVG}text")
        curves = {"the first n", "the last m", "4 in a row, from block"}
        assert curves <= {text.text for text in texts}


def test_lora_off_in_a_span_is_the_model_with_zeros_there():
    model, draws, family = tiny_flux(), tiny_draws(), Flux()
    plain = full_velocity(model, family, draws, 5, CPU)
    lora = add_lora(model, family, Span(0, 0), 4, "attention+ff", seed=0)
    randomise(lora)
    tuned = full_velocity(model, family, draws, 5, CPU)
    blocks = [block for _, block in family.blocks(model)]
    with selection.lora_disabled(blocks):
        assert torch.equal(full_velocity(model, family, draws, 5, CPU), plain)
    with selection.lora_disabled(blocks[2:4]):
        some = full_velocity(model, family, draws, 5, CPU)
    assert torch.equal(full_velocity(model, family, draws, 5, CPU), tuned), "on again afterwards"
    with torch.no_grad():
        for name, parameter in lora.items():
            if name.startswith(tuple(f"transformer.{n}." for n, _ in family.blocks(model)[2:4])):
                parameter.zero_()
    torch.testing.assert_close(full_velocity(model, family, draws, 5, CPU), some)
    assert not torch.equal(some, tuned) and not torch.equal(some, plain)
