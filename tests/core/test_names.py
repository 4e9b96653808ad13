"""Names made from text of the user: valid on every system, and the same for the same text."""

import unicodedata

import pytest

from blockskip.core.names import (
    MAX_BYTES,
    MAX_CHARACTERS,
    is_safe_name,
    safe_name,
    same_name,
    shown_name,
    unused_name,
)


@pytest.mark.parametrize(
    "text, name",
    [
        ("Momo-cat", "Momo-cat"),
        ("o'hara", "o_hara"),
        ("luna!", "luna_"),
        ("Lu/na:\"x'", "Lu_na__x_"),
        ("../x", "_x"),
        ("..", "run"),
        ("a\\b|c?d*e<f>", "a_b_c_d_e_f_"),
        ("a\x00b\x1fc\x7f", "abc"),
        ("a\nb\tc", "a b c"),
        ("a\u202eb\u200bc\ufeff", "abc"),
        ("\ud800a\udcff", "a"),
        (" . x. ", "x"),
        ("-rf", "rf"),
        ("Zoe\u0308", "Zo\u00eb"),
        ("हिन्दी", "हिन्दी"),
        ("🐱", "run"),
        ("???", "run"),
        ("", "run"),
        ("con", "_con"),
        ("NUL.txt", "_NUL.txt"),
        ("com1", "_com1"),
        ("LPT9.a.b", "_LPT9.a.b"),
        ("COM¹", "_COM¹"),
        ("aux .png", "_aux .png"),
        ("CONIN$", "CONIN_"),
        ("console", "console"),
        ("COM10", "COM10"),
    ],
)
def test_a_text_becomes_a_name(text, name):
    assert safe_name(text, "run") == name
    assert safe_name(name, "run") == name, "a name stays as it is"


@pytest.mark.parametrize("letter", ["x", "é", "猫", "𝔁", "猫\u0301", "🐱x", ". ", "con."])
@pytest.mark.parametrize("count", [1, 27, 80, 300])
def test_names_are_short_enough(letter, count):
    """In characters, and in bytes with room for endings; a cut leaves no blank, dot or half letter."""
    name = safe_name(letter * count, "fallback")
    assert len(name) <= MAX_CHARACTERS and len(name.encode()) <= MAX_BYTES
    assert name == name.strip(" .") and safe_name(name, "other") == name and is_safe_name(name)
    assert len(safe_name(letter * count, "f", 60).encode()) <= 60


def test_names_that_some_systems_confuse():
    assert same_name("Luna", "lUNA") and same_name("Zoë", unicodedata.normalize("NFD", "Zoë"))
    assert not same_name("Luna", "Luna-2")
    assert unused_name("luna", []) == "luna"
    assert unused_name("Luna", ["luna", "LUNA-2", "other"]) == "Luna-3"


def test_bytes_that_are_no_text_are_shown():
    name = b"r\xffn".decode("utf-8", "surrogateescape")
    assert shown_name(name) == "r?n" and shown_name("Zoë") == "Zoë"
