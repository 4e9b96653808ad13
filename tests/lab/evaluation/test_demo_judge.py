"""Evaluation with a renderer in the model's place: then the right numbers are known."""

import numpy as np
import pytest
from PIL import Image

from blockskip.core import presets
from blockskip.core.errors import UserError
from blockskip.core.paths import ROOT
from blockskip.core.settings import Settings, settings_to_dict
from blockskip.data.demo_vocabulary import PLACES
from blockskip.lab.demo_world.captions import fresh_captions
from blockskip.lab.demo_world.render import render
from blockskip.lab.demo_world.subjects import DEMO_SUBJECTS, demo_photos
from blockskip.lab.demo_world.world import Pet, random_scene
from blockskip.lab.evaluation import demo_judge
from blockskip.lab.measuring.sheets import CELL_PX
from blockskip.runs.run import Run

SUBJECT = DEMO_SUBJECTS[0]


@pytest.fixture
def run(tmp_path):
    folder = Run(tmp_path / "a run")
    folder.photos_dir.mkdir(parents=True)
    for k, photo in enumerate(demo_photos(SUBJECT, 4, 96)):
        Image.fromarray(photo).save(folder.photos_dir / f"{k}.png")
    settings = Settings.of(class_name="cat", text_tokens=24)
    folder.write_info({"settings": settings_to_dict(settings)})
    return folder


def painter(run, prompts, seeds, steps=0, with_lora=True, *, exact):
    """A perfect model: the pet when it was trained and is asked for, else a grey cat."""
    assert exact  # no step cache where something is measured
    images = []
    for prompt, seed in zip(prompts, seeds, strict=True):
        pet = SUBJECT.pet if with_lora and "sks" in prompt else Pet("cat", "grey")
        place = next((p for p, words in PLACES.items() if any(w in prompt for w in words)), "room")
        scene = random_scene(np.random.default_rng(seed), place)
        images.append(Image.fromarray(render(pet, scene, 64, seed)))
    return images


def test_a_perfect_model_gets_perfect_marks(run, monkeypatch):
    calls = []
    monkeypatch.setattr(
        demo_judge.results, "generate_images", lambda *a, **k: calls.append(k) or painter(*a, **k)
    )
    monkeypatch.setattr(
        demo_judge.checkpoints,
        "newest_checkpoint",
        lambda run: run.checkpoints_dir / "step-300.safetensors",
    )
    report = demo_judge.evaluate_run(run, images_per_prompt=4)
    assert [call["with_lora"] for call in calls] == [
        False,
        True,
    ]  # the model is loaded twice, not more
    assert report["tuned"]["identity"] > 0.85 > 0.6 > report["base"]["identity"]
    assert report["class_word"]["identity"] == pytest.approx(report["base"]["identity"], abs=0.05)
    assert report["beach"]["place_obeyed"] == report["snow"]["place_obeyed"] == 1.0
    low, high = report["tuned"]["identity_95"]
    assert low <= report["tuned"]["identity"] <= high and report["step"] == 300
    assert Image.open(report["sheet"]).width > 4 * CELL_PX


def test_a_run_on_another_model_is_refused(run):
    info = run.info()
    info["settings"]["model"] = "flux-dev"
    run.write_info(info)
    with pytest.raises(UserError, match="flux-dev"):
        demo_judge.evaluate_run(run)


def test_obedience_counts_only_what_is_named_and_finds_disobedience():
    judge, wanted = demo_judge.load_judge(), fresh_captions(24, 3)
    drawn = [Image.fromarray(render(pet, scene, 64, k)) for k, (_, pet, scene) in enumerate(wanted)]
    right = demo_judge.prompt_accuracy(judge, drawn, wanted)
    assert min(right[name] for name in ("species", "coat", "background")) > 0.85
    wrong = demo_judge.prompt_accuracy(judge, drawn[1:] + drawn[:1], wanted)
    assert wrong["all"] < 0.2 < right["all"]


@pytest.mark.parametrize("model", ["demo", pytest.param("demo-sana", marks=pytest.mark.long)])
def test_a_demo_model_draws_what_captions_say(model, tmp_path):
    """The weights that come along are trained ones, whole, and those of their row."""
    row = presets.model_row(model)
    said = demo_judge.evaluate_base(ROOT / row.source, num=4, sheet=tmp_path / "sheet.webp")
    assert min(said["full"][what] for what in ("species", "coat", "background")) > 0.8
    assert said["vae_psnr_db"] > 28
