"""A box beside a photo goes where the photo goes, and a bad one spoils nothing."""

import pytest
from PIL import Image

from blockskip import runs
from blockskip.boxes import Box, box_path, read_box, write_box
from blockskip.config import Settings
from blockskip.photos import find_photos, read_photos

BOX = Box(0.1, 0.25, 0.75, 1.0)


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "Mötz 1.2 am Fenster.jpg"
    Image.new("RGB", (60, 40)).save(path)
    return path


def test_a_box_comes_back_and_goes(photo):
    assert read_box(photo) is None
    write_box(photo, BOX)
    assert read_box(photo) == BOX
    assert box_path(photo).name == "Mötz 1.2 am Fenster.box.json"
    assert find_photos([photo.parent]) == [photo], "it is no photo"
    write_box(photo, None)
    write_box(photo, None)
    assert read_box(photo) is None and not box_path(photo).exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe\x00",
        b"[]",
        b"null",
        b"{" * 3000,
        b"[" * 100_000,
        b'{"left": 0, "top": 0, "right": 1}',
        b'{"left": 0.5, "top": 0, "right": 0.5, "bottom": 1}',
        b'{"left": 0.9, "top": 0, "right": 0.1, "bottom": 1}',
        b'{"left": 0, "top": 0, "right": 1.2, "bottom": 1}',
        b'{"left": -1, "top": 0, "right": 1, "bottom": 1}',
        b'{"left": NaN, "top": 0, "right": 1, "bottom": 1}',
        b'{"left": 0, "top": 0, "right": Infinity, "bottom": 1}',
        b'{"left": "0", "top": 0, "right": 1, "bottom": 1}',
        b'{"left": false, "top": 0, "right": true, "bottom": 1}',
        b'{"left": 0, "top": 0, "right": 1, "bottom": null}',
    ],
)
def test_a_bad_box_is_no_box(photo, data):
    box_path(photo).write_bytes(data)
    assert read_box(photo) is None
    assert read_photos([photo], "a cat")[0][0].box is None


def test_a_box_by_hand_is_read_and_copied_into_the_run(photo):
    box_path(photo).write_text(
        '{"bottom": 1, "left": 0.1, "right": 0.75, "top": 0.25, "note": "mine"}', encoding="utf-8"
    )
    assert read_photos([photo], "a cat")[0][0].box == BOX
    run = runs.create(Settings(trigger="momo"), [photo])
    (copied,) = read_photos(find_photos([run.photos_dir]), "a cat")[0]
    assert copied.box == BOX
