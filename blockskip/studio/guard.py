"""Middleware that accepts requests only from the studio's own page and from local programs.

The studio listens on the loopback address, but any web page the user visits can send requests
there, and a foreign host name can be made to point there (DNS rebinding). Gradio checks neither.
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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

    Programs that are not browsers (gradio_client) send neither Origin nor Sec-Fetch-Site and pass.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        outward = any(word in scope.get("path", "") for word in OUTWARD)
        if scope["type"] != "http" or outward or not allowed(Headers(scope=scope)):
            refusal = PlainTextResponse("Refused: this request comes from another site.", 403)
            if scope["type"] == "http":
                await refusal(scope, receive, send)
            else:  # the studio has no websockets
                await send({"type": "websocket.close", "code": 1008})
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_with_headers)


def allowed(headers: Headers) -> bool:
    """Return whether a request comes from the studio's page, the address bar or a program."""
    origin = headers.get("origin")
    if origin is not None and origin != f"http://{headers.get('host', '')}":
        return False
    if headers.get("sec-fetch-site") in (None, "same-origin", "none"):
        return True
    return (
        headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    )


def middleware() -> list[Middleware]:
    """Return the two guards, in the order in which they act."""
    return [Middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS)), Middleware(SameOrigin)]
