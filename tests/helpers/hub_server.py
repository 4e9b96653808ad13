"""A small loopback server that implements the part of the Hub that huggingface_hub 2.4 uses.

It can be gated, break or stall connections midway, and records requests.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse

from huggingface_hub import constants

COMMIT = "0123456789abcdef0123456789abcdef01234567"
BIG = 1000  # bytes from which a file counts as a weight file (LFS)


class Hub:
    """repository: as in a URL. files: name → bytes. token: of an account with access. guest: of an
    account that has not accepted the licence."""

    def __init__(
        self, repository: str, files: dict[str, bytes], token: str = "", guest: str = "hf_guest"
    ) -> None:
        self.repository, self.files, self.token, self.guest = repository, files, token, guest
        self.hold_after = -1  # bytes of a big file after which nothing comes until `go` is set
        self.go = threading.Event()
        self.cut_after = -1  # bytes of a big file after which connections break; -1 = never
        self.damaged = False  # big files arrive with a wrong byte
        self.asked: list[tuple[str, str, str]] = []  # (method, path, Range)

    def siblings(self) -> list[dict]:
        entries = []
        for name, data in self.files.items():
            entry = {"rfilename": name, "size": len(data), "blobId": hashlib.sha1(data).hexdigest()}
            if len(data) >= BIG:
                sha = hashlib.sha256(data).hexdigest()
                entry["lfs"] = {"sha256": sha, "size": len(data), "pointerSize": 130}
            entries.append(entry)
        return entries


@contextmanager
def serve(hub: Hub):
    """Context manager that yields the server's address, for HF_ENDPOINT."""

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        hub.go.set()
        server.shutdown()
        server.server_close()


@contextmanager
def instead(hub: Hub, monkeypatch, folder):
    """Context manager in which processes ask this server, with a cache and token of their own in
    `folder`. This process stays offline, as the studio is."""
    for place in ("HF_TOKEN_PATH", "HF_HUB_CACHE"):
        monkeypatch.setattr(constants, place, str(folder / place))
        monkeypatch.setenv(place, str(folder / place))
    monkeypatch.setenv("HF_HOME", str(folder))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with serve(hub) as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        yield hub


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        hub, path = self.hub, unquote(urlparse(self.path).path)
        hub.asked.append((self.command, path, self.headers.get("Range", "")))
        if path.startswith(f"/api/models/{hub.repository}"):
            listing = {"id": hub.repository, "sha": COMMIT, "siblings": hub.siblings()}
            return self._send(200, json.dumps({**listing, "gated": "auto"}).encode(), body)
        sent_token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        known_token = sent_token in (hub.token, hub.guest)
        if path == "/api/whoami-v2" and known_token:
            token = {"displayName": "für Katzen", "role": "read"}
            who = {"type": "user", "name": "anna", "auth": {"accessToken": token}}
            return self._send(200, json.dumps(who).encode(), body)
        if sent_token and not known_token or path == "/api/whoami-v2":
            return self._refuse(401, "", "Invalid credentials in Authorization header")
        name = path.removeprefix(f"/{hub.repository}/resolve/{COMMIT}/")
        if name not in hub.files:
            return self._refuse(
                404, "RepoNotFound" if hub.repository not in path else "EntryNotFound"
            )
        if hub.token and sent_token != hub.token:
            return self._refuse(403 if sent_token else 401, "GatedRepo")
        return self._file(hub.files[name], body)

    def _refuse(self, status: int, code: str, why: str = "no") -> None:
        self._send(status, b"", True, {"X-Error-Code": code, "X-Error-Message": why})

    def _file(self, data: bytes, body: bool) -> None:
        first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        tags = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
        status, total = 200, len(data)
        if "Range" in self.headers:
            status, tags["Content-Range"] = 206, f"bytes {first}-{total - 1}/{total}"
        if total >= BIG and self.hub.damaged:
            data = data[:-1] + bytes([data[-1] ^ 1])
        cut = self.hub.cut_after if total >= BIG and body else -1
        self._send(status, data[first:], body, tags, cut if cut < 0 else max(0, cut - first))

    def _write(self, data: bytes) -> None:
        hold = self.hub.hold_after
        with contextlib.suppress(ConnectionError):  # the other end was killed
            if 0 <= hold < len(data):
                self.wfile.write(data[:hold])
                self.hub.go.wait()
                data = data[hold:]
            self.wfile.write(data)

    def _send(
        self, status: int, data: bytes, body: bool, tags: dict | None = None, cut: int = -1
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(tags or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self._write(data if cut < 0 else data[:cut])
        if cut >= 0:
            self.close_connection = True
