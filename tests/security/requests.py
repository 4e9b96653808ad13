"""Requests of those whom the studio must not serve, and odd ones of those whom it serves.

The routes are found by asking the running app, Gradio's own among them, so that a new one is tried
without a word here.
"""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from corpus.cases import Case, demand, numbered, shortened
from security.request_parts import (
    FETCHES,
    FILE_ROUTES,
    HOSTS,
    METHODS,
    ORIGINS,
    PATHS,
    STRANGERS,
    Headers,
)
from security.watched_studio import (
    LET_THROUGH,
    Studio,
    filled,
    keeps_quiet,
    opened_studio,
    refused,
    request,
)

from blockskip.studio import guard


def cases(seed: int) -> list[Case]:
    """Return requests of strangers, other pages and odd ones."""
    chance = random.Random(seed)
    return [
        *numbered("stranger", "without the key or the cookie", _strangers()),
        *numbered("query", "the key in other places of an address", _queries()),
        *numbered("page", "other pages in the browser", _pages()),
        *numbered("host", "other names of this computer (DNS rebinding)", _hosts()),
        *numbered("path", "paths to other files", _paths()),
        *numbered("http", "requests that are none, too big or too slow", _odd(chance)),
    ]


def _studio(_: Path) -> Studio:
    return opened_studio()


def _strangers() -> Iterator[tuple[Callable, Callable]]:
    for path, methods in opened_studio().routes:
        for name, headers in STRANGERS.items():
            for method in {*METHODS[:4], *methods} if name == "nothing" else methods:
                yield _studio, _refusal(method, filled(path), headers, name)
    for method in METHODS:
        for path in (
            "/",
            "/config",
            "/gradio_api/queue/join",
            "/no/such/route",
            "*",
            "//",
            "/%2e/",
        ):
            yield _studio, _refusal(method, path, STRANGERS["nothing"], "nothing")
    for mark in (
        "/",
        "/.",
        "/../config",
        "%2f..%2fconfig",
        "//config",
        "/%2e%2e/config",
        "\\..\\config",
    ):
        yield _studio, _refusal("GET", guard.HELLO + mark, STRANGERS["nothing"], "behind hello")


def _refusal(method: str, path: str, headers: Headers, name: str) -> Callable[[Studio], None]:
    def check(studio: Studio) -> None:
        if path == guard.HELLO:
            return _hello(studio, method, headers)
        told = [("host", studio.host), ("connection", "close")]
        told = [pair for pair in told if pair[0] not in dict(headers(studio))] + headers(studio)
        answer = studio.send(request(method, path, told))
        return refused(answer, f"{method} {shortened(path, 60)} with {name}")

    return check


def _hello(studio: Studio, method: str, headers: Headers) -> None:
    answer = studio.send(
        request(
            method, guard.HELLO, [("host", studio.host), ("connection", "close"), *headers(studio)]
        )
    )
    for secret in (studio.key, studio.cookie.partition("=")[2], str(studio.data)):
        demand(secret not in answer.text, "hello tells a secret", LET_THROUGH)


def _queries() -> Iterator[tuple[Callable, Callable]]:
    places: tuple[tuple[str, str], ...] = (
        *(
            ("GET", f"{path}?key={{key}}")
            for path in ("/config", "/gradio_api/info", "//", "/index.html", "/%2f")
        ),
        *((method, "/?key={key}") for method in METHODS if method != "GET"),
        *(
            ("GET", f"/?{query}")
            for query in (
                "x=1&key={key}",
                "KEY={key}",
                "key[]={key}",
                ";key={key}",
                "key={cut}",
                "key=",
                "key",
                "key={key}x",
                "key=x&key={key}",
                "%6bey={key}",
                "key=%00{key}",
                "key={swapped}",
            )
        ),
    )
    for method, place in places:

        def check(studio: Studio, method: str = method, place: str = place) -> None:
            words = {"key": studio.key, "cut": studio.key[:-1], "swapped": studio.key.swapcase()}
            refused(studio.ask(place.format(**words), method, cookie=""), f"{method} {place}")

        yield _studio, check


def _pages() -> Iterator[tuple[Callable, Callable]]:
    """Even a page that had the cookie, which browsers do not send along for it."""
    targets = (
        ("GET", "/config"),
        ("POST", "/gradio_api/call/stop"),
        ("POST", "/gradio_api/upload"),
    )
    targets += (
        ("GET", "/gradio_api/queue/data?session_hash=x"),
        ("GET", "/gradio_api/heartbeat/x"),
    )
    targets += (("OPTIONS", "/gradio_api/queue/join"), ("GET", "/"), ("POST", "/gradio_api/cancel"))
    for method, path in targets:
        for origin in ORIGINS:

            def other_origin(
                studio: Studio, method: str = method, path: str = path, origin: str = origin
            ) -> None:
                told = origin.format(host=studio.host, port=studio.port)
                refused(studio.ask(path, method, b"{}", origin=told), f"{method} {path} of {told}")

            yield _studio, other_origin
        for site, mode, destination in FETCHES:

            def fetched(
                studio: Studio,
                method: str = method,
                path: str = path,
                fetch: Any = (site, mode, destination),
            ) -> None:
                headers = dict(
                    zip(("sec_fetch_site", "sec_fetch_mode", "sec_fetch_dest"), fetch, strict=True)
                )
                refused(studio.ask(path, method, **headers), f"{method} {path} as {fetch}")

            yield _studio, fetched
    for method, path in targets:
        if method == "GET":
            continue

        def form(studio: Studio, method: str = method, path: str = path) -> None:
            navigated = {
                "sec_fetch_site": "cross-site",
                "sec_fetch_mode": "navigate",
                "sec_fetch_dest": "document",
            }
            refused(studio.ask(path, method, b"a=b", **navigated), f"a form to {path}")

        yield _studio, form


def _hosts() -> Iterator[tuple[Callable, Callable]]:
    for name in HOSTS:
        for method, path in (
            ("GET", "/config"),
            ("POST", "/gradio_api/call/stop"),
            ("GET", "/?key={key}"),
        ):

            def check(
                studio: Studio, name: str = name, method: str = method, path: str = path
            ) -> None:
                host = name.format(port=studio.port)
                answer = studio.ask(
                    path.format(key=studio.key), method, host=host, origin=f"http://{host}"
                )
                refused(answer, f"{method} {path} for {host!r}")
                demand("set-cookie" not in answer.headers, f"{host!r} gets the cookie", LET_THROUGH)

            yield _studio, check
    for lines in (
        "",
        "host: 127.0.0.1:{port}\r\nhost: evil.example\r\n",
        "host : 127.0.0.1\r\n",
        "host: evil.example\r\nx-forwarded-host: 127.0.0.1\r\n",
    ):
        for target in ("/config", "http://evil.example/config", "http://127.0.0.1:{port}/config"):
            if lines.startswith("host: 127") or lines or target:

                def raw(studio: Studio, lines: str = lines, target: str = target) -> None:
                    head = f"GET {target} HTTP/1.1\r\n{lines}cookie: {studio.cookie}\r\nconnection: close\r\n\r\n"
                    refused(
                        studio.send(head.replace("{port}", str(studio.port)).encode()),
                        f"{target} with {lines!r}",
                    )

                yield _studio, raw


def _paths() -> Iterator[tuple[Callable, Callable]]:
    """Of somebody who is let in: a page that was deceived, or a program with a bug."""
    for prefix in FILE_ROUTES:
        for path in PATHS:

            def check(studio: Studio, path: str = prefix + path) -> None:
                answer = studio.ask(path)
                keeps_quiet(answer, f"GET {shortened(path, 80)}")
                foreign = answer.headers.get("location", "").startswith(("//", "http", "\\"))
                demand(
                    not foreign, f"{path} leads to {answer.headers.get('location')}", LET_THROUGH
                )
                demand(
                    "x" not in answer.headers.get("set-cookie", ""),
                    f"{path} splits the answer",
                    LET_THROUGH,
                )

            yield _studio, check


def _odd(chance: random.Random) -> Iterator[tuple[Callable, Callable]]:
    big = "x" * 70_000
    heads = (
        f"GET /{big} HTTP/1.1\r\nhost: {{host}}\r\n\r\n",
        f"GET /config HTTP/1.1\r\nhost: {{host}}\r\ncookie: {big}\r\n\r\n",
        "GET /config HTTP/1.1\r\nhost: {host}\r\n" + "x: y\r\n" * 20_000 + "\r\n",
        f"GET /config HTTP/1.1\r\nhost: {{host}}\r\n{big}: x\r\n\r\n",
        "GET /config HTTP/9.9\r\nhost: {host}\r\n\r\n",
        "GET /config\r\n\r\n",
        "GET\t/config HTTP/1.1\r\nhost: {host}\r\n\r\n",
        "GET /config HTTP/1.1\nhost: {host}\n\n",
        "GET /config HTTP/1.1\r\nhost: {host}\r\n x-blockskip-key: folded\r\n\r\n",
        "POST /gradio_api/upload HTTP/1.1\r\nhost: {host}\r\ncontent-length: -1\r\n\r\n",
        "POST /gradio_api/upload HTTP/1.1\r\nhost: {host}\r\ncontent-length: 99999999999999999999\r\n\r\n",
        "POST /gradio_api/upload HTTP/1.1\r\nhost: {host}\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        "POST /gradio_api/upload HTTP/1.1\r\nhost: {host}\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /config HTTP/1.1\r\nhost: {host}\r\n\r\n",
        "POST /gradio_api/upload HTTP/1.1\r\nhost: {host}\r\ntransfer-encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n",
        "POST /gradio_api/upload HTTP/1.1\r\nhost: {host}\r\ntransfer-encoding: identity, chunked\r\n\r\n",
        "POST /gradio_api/upload HTTP/1.1\r\nhost: {host}\r\nexpect: 100-continue\r\ncontent-length: 10000000000\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "CONNECT evil.example:443 HTTP/1.1\r\nhost: {host}\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "\x00\x00\x00\x00\r\n\r\n",
        "\r\n\r\n\r\n",
    )
    for head in heads:

        def strange(studio: Studio, head: str = head) -> None:
            answer = studio.send(head.replace("{host}", studio.host).encode("latin-1"), wait_s=3)
            refused(answer, shortened(repr(head), 60))
            studio.alive()

        yield _studio, strange
    for _ in range(40):
        noise = chance.randbytes(200)

        def nonsense(studio: Studio, noise: bytes = noise) -> None:
            refused(studio.send(noise + b"\r\n\r\n", wait_s=3), "nonsense")

        yield _studio, nonsense
    yield _studio, _a_long_body
    yield _studio, _a_big_upload
    yield _studio, _slow_ones


def _a_long_body(studio: Studio) -> None:
    """A stranger's gigabytes are not waited for."""
    head = f"POST /gradio_api/upload HTTP/1.1\r\nhost: {studio.host}\r\ncontent-length: 9000000000\r\n\r\n"
    begun = time.monotonic()
    refused(studio.send(head.encode() + b"x" * 200_000), "a long body")
    demand(time.monotonic() - begun < 10, "a stranger's body is waited for", LET_THROUGH)


def _a_big_upload(studio: Studio) -> None:
    """Its own user's photo of more than the most."""
    head = b'--b\r\ncontent-disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    body = head + b"x" * (61 << 20) + b"\r\n--b--\r\n"
    answer = studio.ask(
        "/gradio_api/upload", "POST", body, content_type="multipart/form-data; boundary=b"
    )
    demand(answer.status in (0, 413), f"61 MB are taken: {answer.status}", LET_THROUGH)
    studio.alive()


def _slow_ones(studio: Studio) -> None:
    """A hundred half requests keep nobody out."""
    opened = [socket.create_connection(("127.0.0.1", studio.port)) for _ in range(100)]
    try:
        for one in opened:
            one.sendall(b"POST /gradio_api/upload HTTP/1.1\r\nhost: 127")
        studio.alive()
    finally:
        for one in opened:
            one.close()
