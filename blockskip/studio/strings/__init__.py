"""Every sentence on the studio's page: short, plain, and about what the user sees.

Each language is a package with the same names. `strings.NAME` is the text in the language of the
browser whose request is being answered; outside a request it is English. Texts with braces are
filled by str.format; values are escaped where they go into HTML.
"""

from __future__ import annotations

import contextlib
import functools
import re
import string
from collections.abc import Iterator
from contextvars import ContextVar
from types import ModuleType
from typing import TYPE_CHECKING, Any

from blockskip.studio.strings import english, german

if TYPE_CHECKING:
    from blockskip.studio.strings.english import *

LANGUAGES: dict[str, ModuleType] = {language.TAG: language for language in (english, german)}
_NUMBER = re.compile(r"\d+\.\d+( \w+)?")  # “5.0 GB” in a text
_tag: ContextVar[str] = ContextVar("language", default=english.TAG)


def __getattr__(name: str) -> Any:
    return _text(_tag.get(), name)


@functools.cache
def _text(tag: str, name: str) -> Any:
    return _filled(getattr(LANGUAGES[tag], name))


def tag() -> str:
    """Return the tag of the language in use, a key of LANGUAGES."""
    return _tag.get()


@contextlib.contextmanager
def language(tag: str) -> Iterator[None]:
    """Use a language inside the block, in this thread and in the tasks it begins."""
    before = _tag.set(tag)
    try:
        yield
    finally:
        _tag.reset(before)


def preferred(accept_language: str | None) -> str:
    """Return the tag of the language that a browser likes best of ours, English if it names none.

    accept_language: the header (RFC 9110, 12.5.4), such as “de-AT,de;q=0.9,en;q=0.8”.
    """
    liked = []
    for choice in (accept_language or "").split(","):
        tag, _, weight = choice.partition(";")
        with contextlib.suppress(ValueError):
            liked.append((-float(weight.strip().removeprefix("q=") or 1), tag.strip().lower()))
    tags = [
        tag.partition("-")[0] for weight, tag in sorted(liked, key=lambda one: one[0]) if weight
    ]
    return next((tag for tag in tags if tag in LANGUAGES), english.TAG)


def translated(text: str) -> str:
    """Return a text of the program outside the studio, such as an error, in the language in use, or
    as it is where PROGRAM_TEXTS has no translation."""
    return _translated(_tag.get(), text)


@functools.lru_cache(maxsize=1024)
def _translated(tag: str, text: str) -> str:
    for pattern, template in _patterns(tag):
        if found := pattern.fullmatch(text):
            values = {name: _translated(tag, value) for name, value in found.groupdict().items()}
            return template.format(**values)
    decimal = _text(tag, "DECIMAL")
    return text.replace(".", decimal) if _NUMBER.fullmatch(text) else text


@functools.cache
def _patterns(tag: str) -> list[tuple[re.Pattern[str], str]]:
    """Return a pattern for each text of PROGRAM_TEXTS, with a group for each of its fields."""
    field = re.compile(r"\\{(\w+)\\}")
    return [
        (re.compile(field.sub(r"(?P<\1>.+?)", re.escape(text)), re.DOTALL), translation)
        for text, translation in _text(tag, "PROGRAM_TEXTS").items()
    ]


def number(value: float, format_spec: str = "g") -> str:
    """Return a number with the decimal sign of the language."""
    return format(value, format_spec).replace(".", _text(_tag.get(), "DECIMAL"))


class _Text(str):
    """A text whose `format` writes numbers as its language does."""

    def format(self, *args: Any, **values: Any) -> str:
        return _Numbers().vformat(self, args, values)


class _Numbers(string.Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, float):
            return number(value, format_spec)
        return super().format_field(value, format_spec)


def _filled(text: Any) -> Any:
    """Return a text, or a dict or tuple of texts, as _Text."""
    if isinstance(text, dict):
        return {key: _filled(value) for key, value in text.items()}
    if isinstance(text, tuple):
        return tuple(map(_filled, text))
    return _Text(text) if isinstance(text, str) else text
