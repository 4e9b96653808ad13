"""Names of files and folders made from text of the user, valid on Windows, macOS and Linux; and names
that others gave, as they can be shown."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

# together with the suffixes of exports and temporary files below the 255 bytes of a file system
MAX_CHARACTERS = 80
MAX_BYTES = 120  # in UTF-8; 40 Chinese characters
_PUNCTUATION = " .-_"
# Windows' devices, whatever their ending
_DEVICES = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"} | {
    f"{port}{number}" for port in ("COM", "LPT") for number in "0123456789¹²³"
}
# commands to a terminal, and marks that turn the direction of what follows
_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def safe_name(text: str, fallback: str, max_bytes: int = MAX_BYTES) -> str:
    """Return `text` as a file name without an ending, valid on every system.

    It keeps letters and digits of any script, blanks, dots, dashes and underscores. Other
    characters become underscores; invisible ones are left out. A text with no letter or digit
    gives `fallback`, a name that is valid itself. Equal texts in other Unicode compositions give
    equal names; a valid name is returned unchanged.
    """
    kept = "".join(map(_safe_character, unicodedata.normalize("NFC", text)))
    name = kept.strip(" .").lstrip(" .-")
    if name.partition(".")[0].rstrip().upper() in _DEVICES:
        name = f"_{name}"
    cut = name[:MAX_CHARACTERS].encode("utf-8")[:max_bytes].decode("utf-8", errors="ignore")
    return cut.rstrip(" .") if any(map(str.isalnum, cut)) else fallback


def is_safe_name(text: str) -> bool:
    """Return whether a text is a file name that every system can hold."""
    return bool(text) and safe_name(text, "") == text


def same_name(first: str, second: str) -> bool:
    """Return whether two names are one file for a file system that ignores case or composition."""
    return _folded(first) == _folded(second)


def unused_name(name: str, taken: Iterable[str]) -> str:
    """Return `name`, with a number added if a file system could take it for one of `taken`."""
    known, unused, number = set(map(_folded, taken)), name, 1
    while _folded(unused) in known:
        number += 1
        unused = f"{name}-{number}"
    return unused


def shown_name(name: str) -> str:
    """Return a file's name, or a text that has some, as it can be shown: what is not UTF-8, controls
    a terminal or turns the direction of a line becomes question marks, one for each."""
    return _COMMANDS.sub("?", name.encode("utf-8", errors="replace").decode("utf-8"))


def is_text(name: str) -> bool:
    """Return whether a file's name is UTF-8; of others Python keeps the bytes as surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _safe_character(character: str) -> str:
    category = unicodedata.category(character)
    if category in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return " " if character in "\t\n\r\u2028\u2029" else ""
    if category == "Zs":
        return " "
    word = character.isalnum() or category in ("Mn", "Mc") or character in _PUNCTUATION
    return character if word else "_"


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKD", name).casefold())
