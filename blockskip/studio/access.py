"""Who may use an open studio: those who were given its key.

Every user of this computer can reach the loopback address. The address that is opened holds a key,
a new one each launch. It is exchanged for a cookie, which is the same for all launches on a data
folder, so that open tabs survive a restart of the studio. Programs send the key as a header.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs

from starlette.datastructures import Headers

from blockskip.core import files

HEADER = "x-blockskip-key"
_SECRET_FILE = "studio.secret"
_DAYS_30 = 30 * 24 * 3600


@dataclass
class Access:
    """The secrets of one launch.

    key: in the address that is opened. cookie_name, cookie_value: what a page sends. opening:
    whether Gradio is still asking its own server whether it works.
    """

    cookie_name: str
    cookie_value: str
    key: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    opening: bool = True

    def has_key(self, headers: Headers, query: bytes = b"") -> bool:
        """Return whether a program's header, or the query of an address, has this launch's key."""
        given = parse_qs(query.decode("latin-1")).get("key", [""])[0]
        return _equal(headers.get(HEADER, ""), self.key) | _equal(given, self.key)

    def has_cookie(self, headers: Headers) -> bool:
        """Return whether a request has the page's cookie."""
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        sent = cookies.get(self.cookie_name)
        return sent is not None and _equal(sent.value, self.cookie_value)

    def set_cookie(self) -> str:
        """Return the header that gives a browser the cookie, which no script can read."""
        return (
            f"{self.cookie_name}={self.cookie_value}; Path=/; Max-Age={_DAYS_30}; HttpOnly; "
            "SameSite=Strict"
        )


def create(data: Path) -> Access:
    """Return the secrets of a launch on a data folder. Raises UserError if it is not writable."""
    secret = _secret(data / _SECRET_FILE)
    # cookies are the same for all ports, so that each data folder needs a name of its own
    name = f"blockskip-{files.fingerprint(str(data.resolve()))}"
    return Access(name, hmac.new(secret, b"cookie", hashlib.sha256).hexdigest())


def _secret(path: Path) -> bytes:
    """Return the data folder's secret. A missing or damaged one is made anew."""
    try:
        secret = bytes.fromhex(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        secret = b""
    if len(secret) != 32:
        secret = secrets.token_bytes(32)
        files.write_private(path, secret.hex())
    return secret


def _equal(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), right.encode("utf-8"))
