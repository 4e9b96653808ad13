"""A server of language models as LM Studio and Ollama are, with all their faults, on a free port."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

Reply = tuple[int, Any]  # status, and JSON or bytes


def saying(content: Any, **message: Any) -> Reply:
    """Return the answer of a model."""
    choice = {"message": {"role": "assistant", "content": content} | message}
    return 200, {"choices": [choice | {"finish_reason": "stop"}]}


class ModelServer(ThreadingHTTPServer):
    """models: names. reply: what it answers to photos, or a function of the request's body. headers:
    of answers. tags: Ollama's own list. hold: answer only when `go` is set. drop: close the
    connection in the middle of an answer. asked: (method, path, headers, body) of all requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply: Reply | Callable[[dict], Reply] = saying("The cat on a rug.")
        self.models: list[Any] = ["qwen3-vl:2b"]
        self.tags: list[Any] | None = None
        self.headers: dict[str, str] = {}
        self.hold = self.drop = False
        self.go = Event()
        self.asked: list[tuple[str, str, dict, Any]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    @property
    def photos(self) -> list[dict]:
        """Bodies of the requests that had a photo."""
        return [body for method, _, _, body in self.asked if method == "POST"]

    def __enter__(self) -> ModelServer:
        Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.go.set()
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: ModelServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked.append(("GET", self.path, dict(self.headers), None))
        lists = {"/v1/models": {"object": "list", "data": [{"id": n} for n in self.server.models]}}
        if self.server.tags is not None:
            lists["/api/tags"] = {"models": self.server.tags}
        if self.path in lists:
            return self._send(200, lists[self.path])
        return self._send(200, {"error": f"Unexpected endpoint or method. (GET {self.path})"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(("POST", self.path, dict(self.headers), body))
        if self.server.hold:
            self.server.go.wait()
        reply = self.server.reply
        self._send(*(reply(body) if callable(reply) else reply))

    def _send(self, status: int, told: Any) -> None:
        data = told if isinstance(told, bytes) else json.dumps(told).encode()
        with contextlib.suppress(ConnectionError):  # the other end has had enough
            self.send_response(status)
            for name, value in self.server.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data) * (1 + self.server.drop)))
            self.end_headers()
            self.wfile.write(data)
