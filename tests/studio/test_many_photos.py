"""Photos in number: uploads arrive in parts, and several are set aside, brought back, captioned."""

import json

import pytest
from helpers import fake_feed

from blockskip.core import file_manager
from blockskip.core.settings import Settings
from blockskip.studio import draft, new_run, photo_uploads, photo_view, set_aside
from blockskip.studio.pet_search import Search


@pytest.fixture
def uploads(tmp_path):
    """Photos where Gradio writes uploads."""
    return fake_feed.make_photos(tmp_path / "gradio" / "a1")


def sent(**part):
    answer = photo_uploads._answer(json.dumps(part).encode())
    return answer.status_code, json.loads(answer.body)


def test_parts_of_a_drop_are_one_addition(uploads, tmp_path):
    """What was left out of the first part is still named after the second."""
    bad = tmp_path / "gradio" / "a2" / "film.jpg"
    bad.parent.mkdir()
    bad.write_bytes(b"")
    assert sent(uploads=[str(bad), str(uploads[0])], first=True) == (200, {"photos": 1})
    assert sent(uploads=[str(path) for path in uploads[1:]], first=False) == (200, {"photos": 5})
    assert [name for name, _ in draft.load().rejected] == ["film.jpg"]
    assert not any(path.exists() for path in (bad, *uploads)), "the uploaded files are gone"


def test_only_uploads_are_taken_and_what_is_wrong_is_said(pet, uploads, tmp_path):
    out = str(tmp_path / "gradio" / ".." / "pet" / pet[0].name)
    for paths in ([str(pet[0])], [out], [str(uploads[0]), str(pet[0])], ["\0"], [3], "x", None):
        status, said = sent(uploads=paths, first=True)
        assert status == 400 and "photos" in said["problem"]
    for body in (b"", b"{", b"\xff", b"[1]", b"null", b"[" * 100_000):
        assert photo_uploads._answer(body).status_code == 400
    assert pet[0].exists() and uploads[0].exists() and not draft.load().photos


def test_photos_set_aside_are_not_trained_and_come_back_with_their_captions(pet):
    now = draft.add(pet)
    first, second = (photo.file for photo in now.photos[:2])
    draft.edit_photo(first, "asleep", (0.1, 0.1, 0.9, 0.9))
    set_aside.set_aside([first, second, "no such file"])
    draft.save_answers(name="Momo")
    assert len(draft.load().photos) == 3 and len(draft.load().aside) == 2, "also after an answer"
    run = new_run.from_draft(Settings.of(trigger="momo", steps=4))
    assert len(list(run.photos_dir.glob("*.png"))) == 3
    assert draft.add(pet[:1]).rejected, "dropped again it is named, not doubled"
    back = set_aside.bring_back(first)
    assert [photo.file for photo in back.aside] == [second]
    assert back.photos[-1].caption == "asleep" and back.photos[-1].box == (0.1, 0.1, 0.9, 0.9)
    assert len(set_aside.bring_back().photos) == 5 and not draft.load().aside


def test_no_more_come_back_than_there_is_room_for(pet, monkeypatch):
    now = draft.add(pet)
    set_aside.set_aside([photo.file for photo in now.photos[:3]])
    monkeypatch.setattr(draft, "MAX_PHOTOS", 4)
    back = set_aside.bring_back()
    assert (len(back.photos), len(back.aside)) == (4, 1)


def test_one_caption_for_several_replaces_only_when_asked(pet):
    files = [photo.file for photo in draft.add(pet).photos]
    draft.edit_photo(files[0], "my words", None)
    set_aside.write_caption(files[:3], "asleep", replaced=False)
    captions = [photo.caption for photo in draft.load().photos]
    assert captions == ["my words", "asleep", "asleep", "", ""]
    set_aside.write_caption(files[:3], "on a sofa", replaced=True)
    assert [photo.caption for photo in draft.load().photos][:3] == ["on a sofa"] * 3


def test_as_many_carry_a_mark_as_the_advice_says(tmp_path):
    """Near-duplicates and hints carry one too."""
    pet = fake_feed.make_photos(tmp_path / "pet", 5, side=40)
    draft.add(pet)
    drawn = photo_view.photos(draft.load(), Settings(), False, Search())
    marks = drawn.count('class="badge warn"')
    assert marks and f"the {marks} photos that carry" in drawn


def test_a_file_is_shown_by_the_systems_own_program(tmp_path, monkeypatch):
    lora = tmp_path / "momo.safetensors"
    lora.touch()
    for system, words in (
        ("win32", ["explorer", "/select,", str(lora)]),
        ("darwin", ["open", "-R", str(lora)]),
        ("linux", []),
    ):
        monkeypatch.setattr(file_manager.sys, "platform", system)
        monkeypatch.delenv("DISPLAY", raising=False)
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        assert file_manager.command(lora) == words
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(file_manager.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert file_manager.command(lora) == ["/usr/bin/xdg-open", str(tmp_path)]
