"""A studio in this process that tells which requests have passed its guards, and how it is asked: by
bytes over a socket, since what attacks is often nothing that a library would send."""

from __future__ import annotations

import contextlib
import functools
import http.client
import os
import re
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpus.cases import Wrong, demand, replaced
from corpus.house import GOOD, SECRET, copy_house, opened

LET_THROUGH = "let through"  # a verdict, beside those of corpus/cases.py
MOST_S = 20  # seconds for an answer
NOT_TOLD = (SECRET, "root:x:0:0", "[settings]", "Traceback (most recent")


@dataclass(frozen=True)
class Answer:
    """status: of HTTP, 0 if the connection was closed without one. passed: whether it passed the
    guards."""

    status: int
    headers: dict[str, str]
    body: bytes
    passed: bool

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")


class Watched:
    """Middleware that stands behind the guards."""

    seen: int = 0

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan" and scope["path"] != "/blockskip/hello":  # open to all
            Watched.seen += 1
        await self.app(scope, receive, send)


@dataclass(frozen=True)
class Studio:
    """A running studio. routes: (path with holes, methods), Gradio's among them."""

    port: int
    key: str
    cookie: str
    data: Path
    routes: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def send(self, request: bytes, wait_s: float = MOST_S) -> Answer:
        """Send bytes and return the answer. Only the head of an answer that does not end is read."""
        before = Watched.seen
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait_s) as connection:
            with contextlib.suppress(ConnectionError, TimeoutError):
                connection.sendall(request)
            return self._read(connection, request.partition(b" ")[0].decode("latin-1"), before)

    def _read(self, connection: socket.socket, method: str, before: int) -> Answer:
        answer = http.client.HTTPResponse(connection, method=method)
        try:
            answer.begin()
            endless = "text/event-stream" in answer.headers.get("content-type", "")
            body = b"" if endless else answer.read()
            headers = {name.lower(): text for name, text in answer.getheaders()}
            return Answer(answer.status, headers, body, Watched.seen > before)
        except (http.client.HTTPException, OSError):
            return Answer(0, {}, b"", Watched.seen > before)
        finally:
            answer.close()

    def ask(
        self,
        path: str,
        method: str = "GET",
        body: bytes = b"",
        **headers: str,
    ) -> Answer:
        """Send a request of an own page: with the cookie, unless the headers say otherwise."""
        given = {"host": self.host, "cookie": self.cookie, "connection": "close"}
        given |= {name.replace("_", "-").lower(): text for name, text in headers.items()}
        if body:
            given["content-length"] = str(len(body))
        return self.send(request(method, path, given.items(), body))

    def alive(self) -> None:
        """Raise Wrong unless its user is still let in."""
        answer = self.ask("/config")
        demand(answer.status == 200, f"the studio does not answer its user: {answer.status}")


def request(method: str, path: str, headers: Any, body: bytes = b"") -> bytes:
    """Return a request as bytes. headers: pairs; latin-1, other letters as UTF-8."""
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {text}" for name, text in headers), "", ""]
    return "\r\n".join(lines).encode("utf-8", "surrogatepass") + body


def refused(answer: Answer, what: str) -> None:
    """Raise Wrong if a request that must be refused passed the guards or was told anything."""
    if answer.passed:
        raise Wrong(LET_THROUGH, f"{what}: passed, status {answer.status}")
    demand(answer.status in (0, *range(400, 500)), f"{what}: status {answer.status}", LET_THROUGH)
    keeps_quiet(answer, what)


def keeps_quiet(answer: Answer, what: str) -> None:
    """Raise Wrong if an answer fails, or tells what is nobody's business."""
    demand(answer.status < 500, f"{what}: status {answer.status}", LET_THROUGH)
    for secret in NOT_TOLD:
        demand(secret not in answer.text, f"{what}: it tells {secret!r}", LET_THROUGH)


_kept = contextlib.ExitStack()


def opened_studio() -> Studio:
    """Return the studio of this process, opened once. `close_studio` closes it."""
    studio = _launched()
    os.environ["BLOCKSKIP_DATA"] = str(studio.data)  # a test may have another in between
    os.environ["GRADIO_TEMP_DIR"] = str(studio.data / "gradio")
    return studio


def close_studio() -> None:
    """Close the studio, and leave the process as it was before."""
    _kept.close()
    _launched.cache_clear()


@functools.cache
def _launched() -> Studio:
    from blockskip.studio import app, guard, run_state

    folder = Path(_kept.enter_context(tempfile.TemporaryDirectory(prefix="security-studio-")))
    data = copy_house(folder).folder.parent.parent
    (data / "secret.txt").write_text(SECRET, encoding="utf-8")
    (data / "runs" / GOOD[0] / "secret.txt").write_text(SECRET, encoding="utf-8")
    _kept.enter_context(opened(data))
    _kept.enter_context(replaced((run_state, "start", lambda run, card="": None)))  # no trainings
    guards = guard.middleware
    watching = (guard, "middleware", lambda *words: [*guards(*words), guard.Middleware(Watched)])
    with replaced(watching):
        blocks, url = app.launch(app.free_port(18860), data)
    _kept.callback(blocks.close, verbose=False)
    address, _, key = url.partition("/?key=")
    port = int(address.rpartition(":")[2])
    studio = Studio(port, key, "", data, tuple(_routes(blocks.app.routes)))
    entry = studio.ask(f"/?key={key}", cookie="")
    cookie = entry.headers["set-cookie"].partition(";")[0]
    studio = Studio(port, key, cookie, data, studio.routes)
    studio.alive()
    return studio


def _routes(routes: Any) -> Any:
    for route in routes:
        inner = getattr(route, "original_router", route)  # FastAPI's included ones
        if getattr(inner, "routes", None):
            yield from _routes(inner.routes)
        elif getattr(route, "path", None):
            yield route.path, tuple(sorted(getattr(route, "methods", None) or ("GET",)))


def filled(path: str, word: str = "x") -> str:
    """Return a route's path with `word` in its holes."""
    return re.sub(r"{[^}]*}", word, path)
