"""Captions name the pet once and keep what else is said."""

import pytest

from blockskip.core.settings import Settings
from blockskip.data.captions import add_subject, default_caption, notes, training_caption

MOMO = "a photo of momo cat"


def test_automatic_captions():
    assert default_caption("momo", "cat") == default_caption("momo", "cat", " .\n") == MOMO
    assert default_caption("momo", "cat", "lying on\n a sofa. ") == f"{MOMO}, lying on a sofa"
    assert default_caption("momo", "") == "a photo of momo"


@pytest.mark.parametrize(
    "said, caption",
    [
        ("a black cat sitting on a table", f"{MOMO}, sitting on a table"),
        ("there is a cat that is laying down", f"{MOMO}, laying down"),
        ("a black and white cat laying on a bed", f"{MOMO}, laying on a bed"),
        (
            "arafed cat laying on a couch with a blanket",
            f"{MOMO}, laying on a couch with a blanket",
        ),
        ("a close up of a cat with green eyes", MOMO),
        ("a white cat with blue eyes sitting on a rug", f"{MOMO}, sitting on a rug"),
        ("a cat with its eyes closed", f"{MOMO}, with its eyes closed"),
        ("the cat is sitting in the grass", f"{MOMO}, sitting in the grass"),
        ("A Cat looking at the camera.", f"{MOMO}, looking at the camera"),
        ("a small kitten on a chair", f"{MOMO}, on a chair"),
        ("a cat in a dog bed", f"{MOMO}, in a dog bed"),
        ("a woman holding a cat", "a photo of a woman holding momo cat"),
        ("a dog and a brown cat on a rug", "a photo of a dog and momo cat on a rug"),
        ("a sleeping cat on a couch", "a photo of a sleeping momo cat on a couch"),
        ("a cat's face", "a photo of momo cat's face"),
        ("two cats sleeping on a bed", f"{MOMO}, two cats sleeping on a bed"),
        ("a teddy bear on a bed", f"{MOMO}, a teddy bear on a bed"),
        ("a sofa by a window", f"{MOMO}, a sofa by a window"),
        ("a photo of a cat", MOMO),
        ("a cat", MOMO),
        ("", MOMO),
    ],
)
def test_what_a_captioner_says_becomes_a_caption_of_this_pet(said, caption):
    assert add_subject(said, "momo", "cat") == caption


def test_odd_names_are_plain_text():
    assert add_subject("a (toy) dragon on a shelf", "s(k\\1s", "dr+gon") == (
        "a photo of s(k\\1s dr+gon, a (toy) dragon on a shelf"
    )
    assert (
        add_subject("a maine coon sleeping", "mo", "maine coon")
        == "a photo of mo maine coon, sleeping"
    )
    assert add_subject("a cat sleeping", "mo", "") == "a photo of mo, sleeping"


SOFA = "lying on a sofa"


@pytest.mark.parametrize(
    "trigger, text, caption",
    [
        ("momo", SOFA, f"{MOMO}, {SOFA}"),
        ("momo", "cat", MOMO),
        ("momo", f"a black cat {SOFA}", f"{MOMO}, {SOFA}"),
        ("momo", "eine Katze auf dem Sofa", f"{MOMO}, eine Katze auf dem Sofa"),
        ("momo", "[trigger] on a sofa", "momo on a sofa"),
        ("momo", "a photo of {Trigger} cat", MOMO),
        ("momo", "[name], <trigger word> and [trigger_word]", "momo, momo and momo"),
        ("Luna", "[trigger]'s paw", "Luna's paw"),
        ("r\\1", "[trigger] asleep", "r\\1 asleep"),
        # there already, in any case
        ("Luna", "Luna asleep", "Luna asleep"),
        ("Luna", "luna asleep", "luna asleep"),
        ("luna", "LUNA’s bed", "LUNA’s bed"),
        ("o'hara", "O’Hara sleeping", "O’Hara sleeping"),
        ("luna 2", "Luna\n  2 sleeping", "Luna 2 sleeping"),
        ("größe", "GRÖSSE schläft", "GRÖSSE schläft"),
        ("mo-mo!", "look: Mo-Mo! asleep", "look: Mo-Mo! asleep"),
        ("小花", "一只小花在沙发上", "一只小花在沙发上"),
        ("나비", "나비가 잔다", "나비가 잔다"),
        ("мурка", "Мурка спит", "Мурка спит"),
        # not there: part of another word
        ("luna", "lunatic eyes", "a photo of luna cat, lunatic eyes"),
        ("sks", "sks1 asleep", "a photo of sks cat, sks1 asleep"),
        ("luna", "luna_2 asleep", "a photo of luna cat, luna_2 asleep"),
        ("मो", "मोमो सोया", "a photo of मो cat, मोमो सोया"),
        ("мур", "мурка спит", "a photo of мур cat, мурка спит"),
        ("luna", "lune", "a photo of luna cat, lune"),
    ],
)
def test_a_trained_caption_has_the_trigger_once(trigger, text, caption):
    assert training_caption(text, trigger, "cat") == caption
    assert training_caption(caption, trigger, "cat") == caption, "completed once"


def test_the_terminal_says_what_is_added_and_what_is_not_used(tmp_path):
    said = {"1": SOFA, "2": "[trigger] asleep", "3": "Momo asleep", "4": "", "5": "in a box"}
    for name, text in said.items():
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    (tmp_path / "6.txt").write_bytes("一只猫".encode("gbk"))
    paths = [tmp_path / f"{name}.jpg" for name in "123456"]
    assert notes(paths, Settings(trigger="momo")) == [
        "6.txt is not used as a caption: its text encoding is not certain; save it as UTF-8 with "
        "BOM.",
        "The trigger “momo” is added to 2 captions that lack it.",
    ]
    assert notes(paths[1:4], Settings(trigger="momo")) == []
    assert notes(paths[:1], Settings(trigger="momo"))[-1].endswith("to 1 caption that lacks it.")
