"""Whatever a captioner says becomes a caption of this pet: its looks, preambles and thoughts go, and
training makes the same of the caption as of the answer."""

import itertools
import re

import pytest

from blockskip.data.captions import add_subject, training_caption
from blockskip.data.descriptions import (
    INSTRUCTION,
    MAX_CHARS,
    caption_file,
    described_caption,
    instruction_for,
    plain_answer,
    without_looks,
)

MOMO = "a photo of momo cat"
PREAMBLES = (
    *("", "Sure! ", "Certainly, ", "Here is the caption:\n\n", "Sure thing! Here’s a caption: "),
    *("**Caption:** ", "This image shows ", "In this photo, we can see ", "A close-up photo of "),
    *("<think>A cat.\nIts fur?</think>\n", "thoughts without a beginning</think> ", "There is "),
    "Okay. The image captures ",
)
SUBJECTS = (
    *("the cat ", "The cat is ", "a fluffy orange tabby cat with green eyes ", "A black cat "),
    *("The cat, a small grey tabby with white paws, is ", "the white and brown cat that is "),
    "the cat with long, soft white fur ",
)
LOOKS = (
    *("", ", its fur white and soft", " and its coat is striped"),
    *(", her long grey fur ruffled", " with short, dense black fur"),
)
ENDS = (".", "", "!", ". Its coat is black.", ". The fi")


@pytest.mark.parametrize("preamble", PREAMBLES)
def test_preambles_looks_and_loose_ends_go(preamble):
    for subject, looks, end in itertools.product(SUBJECTS, LOOKS, ENDS):
        answer = f"{preamble}{subject}lying on a sofa{looks}, seen from above{end}"
        said = described_caption(answer, "cat")
        assert said == "lying on a sofa, seen from above" + "!" * (end == "!"), answer


@pytest.mark.parametrize(
    "answer, caption",
    [
        ("A woman holding a cat in a kitchen.", "a photo of a woman holding momo cat in a kitchen"),
        ("The cat lying next to another cat.", f"{MOMO}, lying next to another cat"),
        ("Two cats sleep on a bed.", f"{MOMO}, two cats sleep on a bed"),
        ("The cat wearing a red collar and a bell.", f"{MOMO}, wearing a red collar and a bell"),
        ("The cat, its bright green eyes closed.", f"{MOMO}, its eyes closed"),
        ("The cat with its paws on a fur blanket.", f"{MOMO}, with its paws on a fur blanket"),
        ("The cat on a rug, a second cat behind it.", f"{MOMO}, on a rug, a second cat behind it"),
        ("A Great Dane behind the cat.", "a photo of a Great Dane behind momo cat"),
        ("A picture frame above the cat.", "a photo of a picture frame above momo cat"),
        ("Eine Katze auf dem Sofa.", f"{MOMO}, eine Katze auf dem Sofa"),
        ("The cat.", MOMO),
        ("", MOMO),
        ("<think>It goes on and on", MOMO),
        ("Its fur is white. Its coat is soft.", MOMO),
    ],
)
def test_an_answer_is_trained_with_the_trigger(answer, caption):
    assert training_caption(described_caption(answer, "cat"), "momo", "cat") == caption


WORDS = "the cat a another dog cats lying on sofa, with its fur. green eyes holding photo of black and".split()


def test_training_makes_the_same_of_a_caption_as_of_its_answer():
    for words in itertools.islice(itertools.permutations(WORDS, 5), 0, None, 397):
        answer = " ".join(words)
        plain = without_looks(plain_answer(answer), "cat")
        plain = plain[:1].lower() + plain[1:]
        caption = described_caption(answer, "cat")
        assert training_caption(caption, "momo", "cat") == add_subject(plain, "momo", "cat"), answer


@pytest.mark.parametrize("cut", [False, True])
def test_what_is_too_long_or_cut_off_ends_with_a_sentence_or_a_clause(cut):
    long = "The cat lying on a sofa. " + "It is in a room with many things. " * 40
    said = plain_answer(long, cut)
    assert len(said) <= MAX_CHARS and said.endswith("things.")
    said = plain_answer("The cat lying on a sofa, " + "near a lamp, " * 60 + "and a cha", True)
    assert len(said) <= MAX_CHARS and said.endswith("near a lamp")
    assert plain_answer("The cat lying on a so", True) == "The cat lying on a"
    assert len(plain_answer("x" * 5000, cut)) <= MAX_CHARS


def test_a_caption_is_one_line_that_can_be_written():
    nasty = "The cat\x00 lying\r\non a\u2028sofa \ud800 in `light`\n# now.\x1b[0m"
    caption = described_caption(nasty, "cat")
    assert caption.encode("utf-8") and not re.search(r"[\x00-\x1f`#]", caption)
    described_caption("a" * 1_000_000, "cat")
    described_caption("its very soft " * 100_000, "cat")  # in no time


@pytest.mark.parametrize("name", ["cat", "guinea pig", "dr+gon", ""])
def test_the_instruction_names_the_kind_and_keeps_every_brace(name):
    assert "{" not in instruction_for("", name) and f"“the {name or 'pet'}”" in instruction_for(
        " ", name
    )
    assert instruction_for("Say {0} of {class} {", name) == f"Say {{0}} of {name or 'pet'} {{"
    assert described_caption(f"The {name or 'pet'} lying on a rug.", name) == "lying on a rug"
    assert INSTRUCTION.isascii() is False and "{class}" in INSTRUCTION


def test_each_photo_has_its_own_file(tmp_path):
    one, two, three = (tmp_path / name for name in ("a.jpg", "A.png", "b.jpg"))
    assert caption_file(one, tmp_path, [one, three]).name == "a.txt"
    assert caption_file(one, tmp_path, [one, two, three]).name == "a.jpg.txt"
    assert caption_file(two, tmp_path, [one, two, three]).name == "A.png.txt"
    (tmp_path / "B.TXT").write_text("x")
    assert caption_file(three, tmp_path, [three]).name == "B.TXT", "however it is spelt"
