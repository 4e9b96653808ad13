"""Photos that are held out of training are in nothing that trains."""

import numpy as np
import pytest
from PIL import Image

from blockskip.core.errors import BadInput
from blockskip.core.presets import model_rows
from blockskip.core.settings import Settings
from blockskip.data.photos import read_photos
from blockskip.data.schedule import build_schedule
from blockskip.data.subject_boxes import Box
from blockskip.memory.planning.planner import choose_settings
from blockskip.runs import hold_out, worker_process
from blockskip.runs.run import create_run
from blockskip.training import encode

REAL = next(name for name, row in model_rows().items() if not row.demo)


@pytest.fixture
def photos(tmp_path):
    paths = []
    for k in range(6):
        rough = np.random.default_rng(k).integers(0, 256, (5, 5, 3)).astype(np.uint8)
        paths.append(tmp_path / f"photo-{k}.png")
        Image.fromarray(rough).resize((80, 80)).save(paths[-1])
    return paths


def test_training_is_that_of_the_other_photos_alone(photos, monkeypatch):
    """Photos, captions, draws, crops and latents; no file of the others is ever opened."""
    photos[2].with_suffix(".txt").write_text("never read", encoding="utf-8")
    settings = choose_settings(steps=1, preview_every=0, preview_prompts=(), seed=1)
    opened, encoded, captions = [], [], []
    image_open, draws, texts = Image.open, encode.encode_draws, encode.encode_captions

    def open_(file, *rest, **options):
        opened.append(str(getattr(file, "name", file)))
        return image_open(file, *rest, **options)

    def encode_draws(family, pipe, *rest):
        encoded.append((rest[0], rest[1], latents := draws(family, pipe, *rest)))
        return latents

    def encode_captions(family, pipe, said, *rest):
        captions.extend(said)
        return texts(family, pipe, said, *rest)

    run = create_run(settings, photos, held_out=photos[2:3])
    monkeypatch.setattr(Image, "open", open_)
    monkeypatch.setattr(encode, "encode_draws", encode_draws)
    monkeypatch.setattr(encode, "encode_captions", encode_captions)
    worker_process.work(run)
    assert run.state() == "done" and run.info()["held_out"] == 1
    ((used, drawn, latents),) = encoded
    expected, _ = read_photos([p for p in photos if p != photos[2]], settings.subject_caption)
    assert [photo.sha for photo in used] == [photo.sha for photo in expected]
    assert drawn == build_schedule(expected, settings, 16) and len(latents) == len(drawn)
    assert {draw.photo for draw in drawn} == set(range(5)), "the other five, all of them"
    assert [facts["file"][4:] for facts in run.info()["photos"]] == [
        f"photo-{k}.png" for k in (0, 1, 3, 4, 5)
    ]
    assert opened and not any("held_out" in name or "photo-2" in name for name in opened)
    assert captions and not any("never read" in caption for caption in captions)


def test_the_copy_has_caption_and_frame_and_a_run_without_has_no_folder(photos):
    photos[1].with_suffix(".txt").write_text("on a sofa", encoding="utf-8")
    run = create_run(Settings(), photos, "some", {photos[1]: Box(0.1, 0.1, 0.5, 0.5)}, photos[1:2])
    assert sorted(path.name for path in run.held_out_dir.iterdir()) == [
        "001-photo-1.box.json",
        "001-photo-1.png",
        "001-photo-1.txt",
    ]
    none = create_run(Settings(), photos, "none")
    assert not none.held_out_dir.exists() and "held_out" not in none.info()
    with pytest.raises(BadInput, match="No photo is left"):
        create_run(Settings(), photos, "all", held_out=photos)


def test_nothing_is_held_out_unless_the_judge_is_here_or_the_user_says_so(photos, monkeypatch):
    settings = Settings(model=REAL, seed=2)
    assert hold_out.chosen(photos, settings, None, {}) == []
    monkeypatch.setattr(hold_out, "has_tool", lambda name: name == "likeness")
    chosen = hold_out.chosen(photos, settings, None, {})
    assert len(chosen) == 1 and chosen[0].name in hold_out.notes(chosen)[0]
    assert hold_out.chosen(photos, settings, 0, {}) == []
    framed = hold_out.chosen(
        photos, settings, 2, {photo: Box(0, 0, 0.5, 0.5) for photo in photos[:2]}
    )
    assert set(framed) == set(photos[:2])
    with pytest.raises(BadInput, match="6 of 6"):
        hold_out.chosen(photos, settings, 6, {})
    demo = Settings(seed=2)
    assert hold_out.chosen(photos, demo, None, {}) == []
    with pytest.raises(BadInput, match="demo model"):
        hold_out.chosen(photos, demo, 1, {})
