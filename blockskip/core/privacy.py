"""Remove what is nobody's business from a text that users send to others (`doctor --report`).

Imports only the standard library, since the doctor also runs where no package is installed.
"""

from __future__ import annotations

import getpass
import os
import platform
import re
from contextlib import suppress
from pathlib import Path

from blockskip.core.names import shown_name

_SECRETS = (  # and what is shown instead
    (re.compile(r"\bhf_\w+"), "(token)"),
    (re.compile(r"//[^/\s@]+@"), "//"),  # name and password in an address
    (re.compile(r"(?i)\b(bearer\s+|(?:key|token|password|secret)=)[^\s&]+"), r"\1(secret)"),
)
_SECRET_VARIABLES = ("TOKEN", "KEY", "SECRET", "PASSWORD", "PASSWD")  # ends of their names
_LEAST = 6  # characters of such a variable's value; a shorter one may be a word


def redact(text: str) -> str:
    """Return a text without the home folder (shown as ~), the names of user and computer, tokens,
    passwords and keys, and as it can be shown in a terminal."""
    for home in _homes():
        for spelling in {home, home.replace("\\", "/"), home.replace("\\", "\\\\")}:
            text = re.sub(re.escape(spelling) + r"(?![\w-])", "~", text, flags=re.IGNORECASE)
    for secret in _secrets():
        text = text.replace(secret, "(secret)")
    for pattern, shown in _SECRETS:
        text = pattern.sub(shown, text)
    for name in _user_names():
        text = _without_word(text, name, "(user)")
    for name in (platform.node(), platform.node().partition(".")[0]):
        text = _without_word(text, name, "(computer)")
    return shown_name(text)


def _without_word(text: str, word: str, shown: str) -> str:
    if len(word) < 2:
        return text
    return re.sub(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])", shown, text, flags=re.IGNORECASE)


def _homes() -> set[str]:
    """Return the home folders that the environment and the system name."""
    named = {os.environ.get(name, "") for name in ("HOME", "USERPROFILE")}
    with suppress(RuntimeError):  # there is none
        named.add(str(Path.home()))
    return {home.rstrip("/\\") for home in named} - {""}


def _user_names() -> set[str]:
    """Return the names of this user, as the environment and the system tell them."""
    names = {os.environ.get(name, "") for name in ("USER", "LOGNAME", "USERNAME", "SUDO_USER")}
    names |= {re.split(r"[/\\]", home)[-1] for home in _homes()}
    with suppress(OSError, KeyError, ImportError):  # a user whom the system does not list
        names.add(getpass.getuser())
    return names


def _secrets() -> set[str]:
    """Return the values of the environment's variables that are called as secrets are."""
    named = {text for name, text in os.environ.items() if name.upper().endswith(_SECRET_VARIABLES)}
    return {text for text in named if len(text) >= _LEAST}
