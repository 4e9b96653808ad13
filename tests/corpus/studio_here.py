"""A studio that this process serves, with the five good runs, and its answers.

The address that `launch` returns is opened first, as a browser does, so that whatever it hands to
the one who opened it (a cookie, a word in the address) is sent with every request.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import http.cookiejar
import json
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpus.house import GOOD, SECRET, copy_house, opened

MOST_S = 60  # seconds for an answer


@dataclass(frozen=True)
class Answer:
    """status: of HTTP. text: the body, or the message of an error. complete: whether an endpoint
    gave a result."""

    status: int
    text: str
    complete: bool = False


class Studio:
    """A running studio. url: as `launch` returned it."""

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        self.root, self.query = f"{parts.scheme}://{parts.netloc}", parts.query
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        direct = urllib.request.ProxyHandler({})
        self.opener = urllib.request.build_opener(direct, cookies)
        self.opener.open(url, timeout=MOST_S).close()
        first = self.call("/status", [GOOD[0]])
        assert first.complete and GOOD[0] in first.text, f"the studio lets nobody in: {first}"

    def get(self, path: str) -> Answer:
        """Return the answer to a GET of a path that is already escaped."""
        return self._ask(urllib.request.Request(self.root + path))

    def call(self, name: str, values: list[Any]) -> Answer:
        """Call an endpoint for programs, as Gradio's own client does."""
        address = f"{self.root}/gradio_api/call{name}"
        body = json.dumps({"data": values}).encode("utf-8")
        headers = {"Content-Type": "application/json", "Origin": self.root}
        begun = self._ask(urllib.request.Request(address, body, headers))
        if begun.status != 200:
            return begun
        event = json.loads(begun.text)["event_id"]
        ended = self._ask(urllib.request.Request(f"{address}/{event}"))
        kind = [line[7:] for line in ended.text.splitlines() if line.startswith("event: ")]
        data = [line[6:] for line in ended.text.splitlines() if line.startswith("data: ")]
        complete = "complete" in kind
        return Answer(ended.status, data[-1] if data else ended.text, complete)

    def _ask(self, request: urllib.request.Request) -> Answer:
        try:
            with self.opener.open(request, timeout=MOST_S) as answer:
                return Answer(answer.status, answer.read().decode("utf-8", "replace"))
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.read().decode("utf-8", "replace"))
        except (ValueError, http.client.InvalidURL):  # nothing that could be sent
            return Answer(400, "not sent")


_kept = contextlib.ExitStack()


@functools.cache
def opened_studio() -> Studio:
    """Return the studio of this process, started once and closed with it."""
    from blockskip.runs.run import Run
    from blockskip.studio import app, run_state

    folder = Path(_kept.enter_context(tempfile.TemporaryDirectory(prefix="corpus-studio-")))
    data = copy_house(folder).folder.parent.parent
    (data / "secret.txt").write_text(SECRET, encoding="utf-8")
    (data / "runs" / GOOD[0] / "secret.txt").write_text(SECRET, encoding="utf-8")
    _kept.enter_context(opened(data))
    run_state.start = lambda run, card="": None  # no trainings
    assert Run(data / "runs" / GOOD[0]).state() == "done"
    _, url = app.launch(app.free_port(17860), data)
    return Studio(url)
