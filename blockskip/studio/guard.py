"""Middleware that accepts requests only from the studio's own page and from programs with its key.

The studio listens on the loopback address, but any web page the user visits can send requests
there, a foreign host name can be made to point there (DNS rebinding), and so can other users of
this computer. Gradio checks none of it.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blockskip.core.shortage import shortage
from blockskip.studio import peer, strings
from blockskip.studio.access import Access

log = logging.getLogger(__name__)
HELLO = "/blockskip/hello"
UPLOAD = "/gradio_api/upload"
SPARE_BYTES = 64 << 20  # kept free by uploads, for what the photos become

HOSTS = ("127.0.0.1", "localhost")
OUTWARD = ("file=http:", "file=https:", "/proxy=")  # Gradio would fetch these from other servers
HEADERS = {
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


class SameOrigin:
    """Middleware that refuses requests from pages of other origins and forbids framing the studio.

    Programs that are not browsers (gradio_client) send neither Origin nor Sec-Fetch-Site and pass
    here.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        outward = any(word in scope.get("path", "") for word in OUTWARD)
        method = scope.get("method", "GET")
        if scope["type"] != "http" or outward or not allowed(Headers(scope=scope), method):
            refusal = PlainTextResponse("Refused: this request comes from another site.", 403)
            if scope["type"] == "http":
                await refusal(scope, receive, send)
            else:  # the studio has no websockets
                await send({"type": "websocket.close", "code": 1008})
            return
        if not _could_be_file(scope["path"]):
            await PlainTextResponse("Not found.", 404)(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_with_headers)


def _could_be_file(path: str) -> bool:
    """Return whether a file could have this path. Some routes of Gradio fail on one that cannot."""
    parts = path.encode("utf-8", errors="surrogateescape").split(b"/")
    return b"\0" not in b"".join(parts) and max(map(len, parts)) <= 255


class KeyHolders:
    """Middleware that refuses requests without the page's cookie or the key of this launch.

    The page is opened with the key in its address, and goes on at the clean address with a cookie.
    Other users may have seen the address on the browser's command line (peer.py).
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._public(scope["method"], scope["path"]):
            await self.app(scope, receive, send)
            return
        headers, query = Headers(scope=scope), scope.get("query_string", b"")
        entrance = scope["path"] == "/" and scope["method"] == "GET" and query.startswith(b"key=")
        admitted = self.access.has_cookie(headers)
        if not admitted and self.access.has_key(headers, query if entrance else b""):
            admitted = not peer.is_other_user(scope)
        if entrance and admitted:
            await self._let_in(headers)(scope, receive, send)
        elif admitted:
            await self.app(scope, receive, send)
        else:
            await PlainTextResponse(strings.NO_KEY, 403)(scope, receive, send)

    def _public(self, method: str, path: str) -> bool:
        """Return whether anybody may ask. At the start, Gradio asks its own server."""
        own = (method, path) in (("HEAD", "/"), ("GET", "/gradio_api/startup-events"))
        return path == HELLO or (own and self.access.opening)

    def _let_in(self, headers: Headers) -> Response:
        """Return the answer that sets the cookie and leads to the clean address.

        After a link from elsewhere a browser would not send the cookie along a redirect, so that a
        page has to lead there.
        """
        cookie = {"set-cookie": self.access.set_cookie(), "cache-control": "no-store"}
        if headers.get("sec-fetch-site") in (None, "none", "same-origin"):
            return RedirectResponse("/", 303, cookie)
        return HTMLResponse('<meta http-equiv="refresh" content="0; url=/">', 200, cookie)


class BrowserLanguage:
    """Middleware that answers in the language that the browser asks for."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        with strings.language(strings.preferred(Headers(scope=scope).get("accept-language"))):
            await self.app(scope, receive, send)


class Shortages:
    """Middleware that answers in one sentence when the disk is full or memory runs out."""

    def __init__(self, app: ASGIApp, free_bytes: Callable[[], int]) -> None:
        self.app, self.free_bytes = app, free_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            if scope["path"] == UPLOAD:
                self._check_space(Headers(scope=scope))
            await self.app(scope, receive, watched)
        except Exception as error:
            short = shortage(error)
            if short is None or begun:
                raise
            log.warning("%s: %s", scope["path"], error)
            refusal = PlainTextResponse(f"{short.title} {short.remedy}", 507)
            await refusal(scope, receive, send)

    def _check_space(self, headers: Headers) -> None:
        """Raises OSError before an upload that would fill the disk."""
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) + SPARE_BYTES > self.free_bytes():
            raise OSError(errno.ENOSPC, "No space left on device")


def allowed(headers: Headers, method: str = "GET") -> bool:
    """Return whether a request comes from the studio's page, the address bar or a program."""
    origin = headers.get("origin")
    if origin is not None and origin != f"http://{headers.get('host', '')}":
        return False
    if headers.get("sec-fetch-site") in (None, "same-origin", "none"):
        return True
    return (
        method in ("GET", "HEAD")
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
    )


def middleware(access: Access, free_bytes: Callable[[], int]) -> list[Middleware]:
    """Return the guards, in the order in which they act. free_bytes: of the data folder's disk."""
    return [
        Middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS)),
        Middleware(SameOrigin),
        Middleware(BrowserLanguage),
        Middleware(KeyHolders, access=access),
        Middleware(Shortages, free_bytes=free_bytes),
    ]
