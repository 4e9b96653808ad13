"""Which step to keep: the rules on figures that are known, the figures on pictures that are known."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from blockskip.core import files
from blockskip.core.paths import ROOT
from blockskip.core.settings import Settings, settings_to_dict
from blockskip.lab.demo_world.render import render
from blockskip.lab.demo_world.subjects import DEMO_SUBJECTS, demo_photos
from blockskip.lab.demo_world.world import Pet, random_scene
from blockskip.runs import image_requests, likeness, likeness_measure
from blockskip.runs.likeness_rules import report
from blockskip.runs.likeness_types import THRESHOLD, StepLikeness
from blockskip.runs.run import Run

SUBJECT = DEMO_SUBJECTS[0]
PROMPTS = ("a photo of sks cat", "a photo of sks cat on the beach", "a photo of a cat")


def seen(
    subject: float, class_word: float = 0.1, obeyed: int = 4, spread: float = 0.1
) -> StepLikeness:
    """Nine pictures of the pet, three of the class word, four of places; the same noise, the same
    luck."""
    return StepLikeness(
        {("p", k): subject + spread * (k % 3 - 1) for k in range(9)},
        {("c", k): class_word for k in range(3)},
        {("p", k): k < obeyed for k in range(4)},
    )


@pytest.mark.parametrize(
    "looks, best, since, words",
    [
        # a gain that nobody sees, or that only chance separates is not worth more training
        ({100: seen(0.89), 200: seen(0.90)}, 100, None, "later ones"),
        ({100: seen(0.88), 200: seen(0.90, spread=0.2), 300: seen(0.89)}, 100, None, "later ones"),
        ({100: seen(0.70), 200: seen(0.88), 300: seen(0.90, spread=0.2)}, 200, None, "later ones"),
        ({100: seen(0.60), 200: seen(0.75), 300: seen(0.90)}, 300, None, "the last one"),
        # the class word becomes this pet; places are no longer drawn
        ({100: seen(0.70), 200: seen(0.8), 300: seen(0.95, 0.6)}, 200, 300, "from step 300 on"),
        ({100: seen(0.70), 200: seen(0.9, 0.1, 1), 300: seen(0.9, 0.1, 0)}, 100, 200, "step 200"),
        # a slip that passes is no overlearning, but is not kept either
        ({100: seen(0.70), 200: seen(0.9, 0.6), 300: seen(0.85)}, 300, None, "the last one"),
        ({100: seen(0.90, 0.7), 200: seen(0.95, 0.9)}, 100, 100, "less strength"),
        ({100: seen(0.20), 200: seen(0.3)}, 200, None, "train more steps"),
    ],
)
def test_the_step_to_keep(looks, best, since, words):
    said = report({0: seen(0.1), **looks}, sorted(looks))
    assert (said["best_step"], said["overlearnt_from"]) == (best, since)
    assert words in said["advice"] and "12 pictures a step" in said["advice"]


def test_three_pictures_are_no_reason_for_an_early_step():
    """Their 95 % interval holds the first step too, which is shown and does not decide."""

    def look(*values):
        return StepLikeness({("p", k): value for k, value in enumerate(values)}, {("c", 0): 0.1})

    looks = {0: look(0, 0, 0), 50: look(0.6, 0.5, 0.75), 100: look(0.8, 0.85, 0.9)}
    looks |= {150: look(0.82, 0.86, 0.87)}
    said = report(looks, [50, 100, 150])
    mean, half_width = said["by_step"][50]["less"]
    assert half_width > mean > 0.2 and said["best_step"] == 100
    assert said["by_step"][100]["less"] is None or said["by_step"][150]["less"] is None


def test_the_untrained_model_and_steps_that_are_gone_are_never_chosen():
    said = report({0: seen(0.99), 50: seen(0.99), 100: seen(0.8)}, [100, 150])
    assert said["best_step"] == 100 and set(said["by_step"]) == {0, 50, 100}
    assert report({0: seen(0.9)}, [])["best_step"] is None


@pytest.fixture
def run(tmp_path):
    found = Run(tmp_path / "a run")
    for k, photo in enumerate(demo_photos(SUBJECT, 4, 96)):
        files.write_bytes(
            found.photos_dir / f"{k}.png", image_requests.png_bytes(Image.fromarray(photo), "", k)
        )
    settings = Settings(class_name="cat", preview_prompts=PROMPTS)
    found.write_info({"settings": settings_to_dict(settings)})
    files.write_bytes(found.adapters_dir / "step-00020.safetensors", b"")
    return found


def draw(run, step: int, pets: list[Pet], place: str) -> None:
    """Previews of a step as a renderer makes them."""
    for k, (prompt, pet) in enumerate(zip(PROMPTS, pets, strict=True)):
        scene = random_scene(np.random.default_rng(k), place if "beach" in prompt else "room")
        data = image_requests.png_bytes(Image.fromarray(render(pet, scene, 64, k)), prompt, k)
        files.write_bytes(run.previews_dir / f"step-{step:05d}" / f"{k:02d}.png", data)


def test_the_judge_tells_pets_and_places_apart(run):
    other = Pet("cat", "grey")
    draw(run, 0, [other, other, other], "beach")
    draw(run, 10, [SUBJECT.pet, SUBJECT.pet, other], "beach")
    draw(run, 20, [SUBJECT.pet, SUBJECT.pet, SUBJECT.pet], "sofa")
    rows = report(likeness_measure.measure_steps(run, []), [10, 20])
    before, good, spoilt = (rows["by_step"][step] for step in (0, 10, 20))
    assert before["subject"] < 0.5 < 0.85 < good["subject"]
    assert good["class_word"] < THRESHOLD < 0.85 < spoilt["class_word"]
    assert (good["places_obeyed"], spoilt["places_obeyed"]) == ((1, 1), (0, 1))
    assert (rows["best_step"], rows["overlearnt_from"]) == (10, 20)


def test_what_was_written_is_read_until_there_is_a_newer_step(run):
    assert likeness.read(run) is None
    files.write_json(likeness.likeness_file(run), report({20: seen(0.8)}, [20]))
    assert likeness.read(run)["by_step"][20]["subject"] == pytest.approx(0.8)
    files.write_bytes(run.adapters_dir / "step-00030.safetensors", b"")
    draw(run, 20, [SUBJECT.pet] * 3, "room")
    assert likeness.read(run) is not None, "it was stopped there, and has no pictures"
    draw(run, 30, [SUBJECT.pet] * 3, "room")
    assert likeness.read(run) is None


def test_a_real_model_gets_no_figures_but_where_to_look(run):
    info = run.info()
    info["settings"]["model"] = "flux-dev"
    run.write_info(info)
    said = likeness.read(run)
    assert "row 3, “a photo of a cat”" in said["advice"]
    assert said["best_step"] is None and said["by_step"][20]["subject"] is None


def test_reading_loads_no_torch():
    code = "import sys\nfrom blockskip.runs import likeness\nassert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
