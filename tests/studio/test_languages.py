"""The page in other languages than English."""

import ast
import os
import re
import string
from itertools import pairwise
from pathlib import Path

import pytest

from blockskip.memory.planning.reason import Reason
from blockskip.memory.planning.wording import TEMPLATES
from blockskip.studio import formatting, plan_strings, strings
from blockskip.studio.strings import english

WORD = re.compile(r"[\w’'-]+")
CODE = Path(strings.__file__).parents[2]
OTHERS = [tag for tag in strings.LANGUAGES if tag != english.TAG]
OWN = {"TAG", "DECIMAL", "MONTHS", "PET_KINDS_SHOWN", "PROGRAM_TEXTS", "PLAN_TEMPLATES"}
PROMPTS = {"PRESETS", "PRESETS_DEMO"}  # in English, under translated names
WRITTEN_BY_CODE = {"in_short", "fits_card"}


def names(language):
    return {name for name in vars(language) if name.isupper()}


def shape(text):
    """What a translation must keep of a text: its fields and its tags."""
    if isinstance(text, dict):
        return {key: shape(value) for key, value in text.items()}
    if isinstance(text, tuple):
        return tuple(map(shape, text))
    if not isinstance(text, str):
        return type(text)
    fields = sorted({(name, spec) for _, name, spec, _ in string.Formatter().parse(text) if name})
    return fields, sorted(re.findall(r"<[^>]*>|%s", text))


@pytest.mark.parametrize("tag", OTHERS)
def test_a_translation_has_the_same_names_fields_and_tags(tag):
    language = strings.LANGUAGES[tag]
    assert names(language) == names(english)
    for name in names(english) - OWN - PROMPTS:
        assert shape(getattr(language, name)) == shape(getattr(english, name)), name
    for name in PROMPTS:
        assert [*getattr(language, name).values()] == [*getattr(english, name).values()]
    assert language.PET_KINDS == english.PET_KINDS  # they go into prompts
    assert len(set(language.PET_KINDS_SHOWN)) == len(language.PET_KINDS)


@pytest.mark.parametrize("tag", OTHERS)
def test_every_word_of_a_plan_is_translated(tag):
    templates = strings.LANGUAGES[tag].PLAN_TEMPLATES
    assert TEMPLATES.keys() - WRITTEN_BY_CODE <= templates.keys() <= TEMPLATES.keys()
    used = {**TEMPLATES, **english.PLAN_TEMPLATES}
    for name in templates.keys() - WRITTEN_BY_CODE:
        assert {field for field, _ in shape(templates[name])[0]} <= {
            field for field, _ in shape(used[name])[0]
        }, name


@pytest.mark.parametrize(
    ("header", "tag"),
    [
        (None, "en"),
        ("", "en"),
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("en-GB,en;q=0.9,de;q=0.8", "en"),
        ("fr-FR, fr;q=0.9, de;q=0.7, en;q=0.6", "de"),
        ("fr;q=0.9,en;q=0.5,de;q=0.7", "de"),
        ("de;q=0,en;q=0.1", "en"),
        ("*", "en"),
        ("DE", "de"),
        ("de;q=much", "en"),
        (";;,;q=,\0" * 50, "en"),
    ],
)
def test_the_browser_chooses_the_language(header, tag):
    assert strings.preferred(header) == tag


def test_numbers_and_dates_are_written_as_the_language_does():
    assert plan_strings.gb(6.72) == "6.7 GB"
    with strings.language("de"):
        assert plan_strings.gb(6.72) == "6,7 GB"
        assert plan_strings.gb(0.01) == "unter 0,1 GB"
        assert formatting.size(2.1 * 2**30) == "2,1 GB"
        assert formatting.clock("2026-03-07T14:05:00+00:00").startswith("7. März")
        assert formatting.duration(3 * 24 * 3600) == "3 Tage"
        assert "1,5" in strings.CHART_OURS.format(now=1.52)
        freed = Reason("freed_nothing", {"size_gib": 1.52})
        assert "1,5 GB" in plan_strings.reason_text(freed)
    assert "1.5 GB" in plan_strings.reason_text(freed)


def test_a_text_of_the_program_is_translated_with_what_it_contains(monkeypatch):
    texts = {
        "{name} is not a usable photo: {reason}.": "{name} ist kein Foto: {reason}.",
        "it is empty": "es ist leer",
    }
    monkeypatch.setattr(strings, "_text", lambda tag, name: texts if tag == "de" else {})
    strings._patterns.cache_clear()
    strings._translated.cache_clear()
    try:
        with strings.language("de"):
            said = strings.translated("a {b}.png is not a usable photo: it is empty.")
            assert said == "a {b}.png ist kein Foto: es ist leer."
            assert strings.translated("another text") == "another text"
    finally:
        strings._patterns.cache_clear()
        strings._translated.cache_clear()


def pairs(text):
    """The pairs of neighbouring words, none across a field."""
    lines = [WORD.findall(line) for line in re.split(r"\{\w+\}|\n", text)]
    return [pair for words in lines for pair in pairwise(words)]


def said_by_the_program():
    """The same of the program's code, f-strings without their values, and of its tables."""
    said = [path.read_text("utf-8") for path in (CODE.parent / "presets").glob("*.toml")]
    for path in CODE.rglob("*.py"):
        if "strings" not in path.parts:
            tree = ast.parse(path.read_text("utf-8"))
            said += [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)]
    return {pair for text in said if isinstance(text, str) for pair in pairs(text)}


@pytest.mark.parametrize("tag", OTHERS)
def test_what_is_translated_for_the_program_is_what_it_says(tag):
    """A sentence that changes in the code leaves its translation behind."""
    said, texts = said_by_the_program(), strings.LANGUAGES[tag].PROGRAM_TEXTS
    others = {os.strerror(number) for number in range(1, 140)}
    for text, translation in texts.items():
        fields = {name for name, _ in shape(text)[0]}
        assert {name for name, _ in shape(translation)[0]} <= fields, text
        if text not in others and not text.startswith(
            ("input should", "string should")
        ):  # pydantic
            mine = pairs(text)
            assert sum(pair in said for pair in mine) >= len(mine) / 2, text


@pytest.mark.parametrize("tag", OTHERS)
def test_what_a_photo_lacks_is_said_in_every_language(tag):
    """Each finding and recommendation, as photos bring them about."""
    found = [
        *("Add a photo of the face from close.", "it is empty (0 bytes)"),
        "Small: 640 × 480 pixels. The model learns from 1024 on the short side, so this one is "
        "enlarged and soft. Use the original, not a preview of it.",
        "Nearly the same as photo.2.jpg: it teaches nothing new. Keep the better of the two.",
        "Replace some of the 5 photos that carry a “!”, where you can.",
    ]
    with strings.language(tag):
        for text in found:
            assert strings.translated(text) != text
        assert "photo.2.jpg" in strings.translated(found[3])
