"""The terminal looks for the pet before a run is made, where a photo has no frame."""

import re

import pytest
from helpers import fake_feed, tiny_detector

from blockskip.cli import app, progress
from blockskip.data.subject_boxes import Box, box_author, box_path, read_box, write_box
from blockskip.models import pet_finder, sources
from blockskip.runs.run import list_runs

MINE = Box(0.1, 0.1, 0.6, 0.6)


@pytest.fixture
def train(monkeypatch, capsys, tmp_path):
    """Make a run that nobody trains. Returns (its photos, what was said)."""
    photos = fake_feed.make_photos(tmp_path / "pet", 4)
    monkeypatch.setattr(progress, "watch_run", lambda *_, **__: 0)
    monkeypatch.setattr(sources, "find_model", lambda row: None)

    def run(*words):
        line = ["train", str(tmp_path / "pet"), "--model", "flux2-klein-4b", "--class", "cat"]
        monkeypatch.setattr("sys.argv", ["blockskip", *line, *words])
        assert app.main() == 0
        said = " ".join(re.sub(r"\s+", " ", capsys.readouterr().err).split())
        return sorted(list_runs()[0].photos_dir.glob("*.png")), said

    run.photos = photos
    return run


def test_frames_are_found_where_nobody_has_decided(train, tmp_path):
    tiny_detector.install()
    write_box(train.photos[0], MINE)
    write_box(train.photos[1], None, "user")
    copies, said = train()
    assert [box_author(copy) for copy in copies] == ["user", "user", "finder", "finder"]
    assert read_box(copies[0]) == MINE and read_box(copies[1]) is None and read_box(copies[2])
    assert "The pet was found in 2 of 2 photos." in said
    assert [box_path(photo).exists() for photo in train.photos] == [True, True, False, False]
    assert not list(tmp_path.glob("Dätä folder/frames-*")), "nothing is left behind"


def test_photos_without_the_pet_are_named(train, monkeypatch):
    tiny_detector.install()
    monkeypatch.setattr(pet_finder, "wait", lambda photos, folder, progress: None)
    monkeypatch.setattr(pet_finder, "seen_in", lambda photo, folder: ())
    copies, said = train()
    assert "photo 1.png: No cat was found here." in said and "found in 0 of 4" in said
    assert not any(map(read_box, copies))


def test_without_the_finder_it_is_told_how_to_get_it(train):
    copies, said = train()
    assert "models fetch detector" in said and "40 MB, Apache-2.0" in said
    assert not any(map(read_box, copies))


@pytest.mark.parametrize("words", [("--frames", "none"), ("--model", "demo")])
def test_nobody_looks_where_it_is_not_wanted(train, words, monkeypatch):
    tiny_detector.install()
    monkeypatch.setattr(pet_finder, "wait", lambda *_: pytest.fail("looked"))
    copies, said = train(*words)
    assert "found" not in said and not any(map(read_box, copies))
