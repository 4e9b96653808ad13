"""A server of the user's own describes photos: LM Studio, Ollama, or another that speaks OpenAI's
chat completions.

Photos stay on this computer unless the user says otherwise. At every request, the address is looked
up, must be a loopback one, and is what is connected to; nothing is redirected, and proxies are not
asked. Models that a local server itself passes on to others, as Ollama does, are refused.

A photo is sent as a JPEG of its pixels alone. Does not import torch.
"""

from __future__ import annotations

import base64
import io
import ipaddress
import json
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import httpx2
from PIL import Image

from blockskip.core.errors import BadInput, ModelMissing, Unreachable, UserError
from blockskip.core.validation import shortened
from blockskip.data.descriptions import without_thoughts
from blockskip.models.captioners import Answer
from blockskip.models.captioners.jobs import ServerChoice

NEW_TOKENS = 300  # more than for our own: servers' models may add what is cut from answers
MAX_PIXELS = 1_000_000
CONNECT_S = 5.0
ANSWER_S = 300.0  # the first answer waits until the server has loaded its model
_MAX_BYTES = 4 << 20  # of an answer
_MAX_SAID = 300  # characters of its own words
_THOUGHTS = ("reasoning", "reasoning_content", "thinking")  # keys of a message
_USUAL_PATH = "/v1"


class OtherComputer(BadInput):
    """A server's address is not of this computer, and the user has not allowed that."""


@dataclass(frozen=True)
class Server:
    """A server, asked anew for each photo."""

    chosen: ServerChoice

    def models(self) -> list[str]:
        """Return the names of the server's models that do not belong to a cloud. Raises
        UserError."""
        listed = self._json("GET", "/models", None, CONNECT_S)
        rows = listed.get("data") if isinstance(listed, dict) else None
        if not isinstance(rows, list):
            raise self._no_api()
        names = [row["id"] for row in rows if isinstance(row, dict) and _is_text(row.get("id"))]
        remote = self._remote_models()
        return [name for name in names if not (is_cloud(name) or name in remote)]

    def ready(self) -> Server:
        """Return this server with its model checked, or chosen if it has but one. Raises
        UserError."""
        remote = self._remote_models()
        if self.chosen.model:
            if is_cloud(self.chosen.model) or self.chosen.model in remote:
                raise _cloud(self.chosen.model)
            return self  # whether it is there the server knows best: names have aliases
        names = self.models()
        if len(names) == 1:
            return Server(replace(self.chosen, model=names[0]))
        raise ModelMissing(
            f"The server at {self.chosen.address} has {len(names) or 'no'} models of its own.",
            f"Choose one that can see photos: {', '.join(names[:20])}."
            if names
            else "Load one there that can see photos.",
        )

    def describe(self, photo: Image.Image, instruction: str) -> Answer:
        """Describe a photo. Raises UserError."""
        if is_cloud(self.chosen.model):
            raise _cloud(self.chosen.model)
        content = [
            {"type": "text", "text": instruction},
            {"type": "image_url", "image_url": {"url": data_uri(photo)}},
        ]
        body = {
            "model": self.chosen.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": NEW_TOKENS,
            "temperature": 0,
            "stream": False,
        }
        return self._answer(self._json("POST", "/chat/completions", body, ANSWER_S))

    def _answer(self, told: Any) -> Answer:
        choices = told.get("choices") if isinstance(told, dict) else None
        first = choices[0] if isinstance(choices, list) and choices else None
        message = first.get("message") if isinstance(first, dict) else None
        if not (isinstance(first, dict) and isinstance(message, dict)):
            raise self._no_api()
        text = message.get("content")
        if isinstance(text, list):  # of parts
            parts = [part.get("text") for part in text if isinstance(part, dict)]
            text = " ".join(part for part in parts if isinstance(part, str))
        if isinstance(text, str) and without_thoughts(text):
            return Answer(text, cut=first.get("finish_reason") == "length")
        thinks = text or any(message.get(key) for key in _THOUGHTS)
        why = ": it spent its answer on thinking" if thinks else ""
        raise UserError(
            f"The model {self.chosen.model} gave no description{why}.",
            "Choose an “instruct” model that can see, or turn its thinking off in the server.",
        )

    def _remote_models(self) -> set[str]:
        """Return the models that Ollama would pass on to another computer, under whatever name;
        nothing of other servers, which do not know the question."""
        try:
            told = self._json("GET", "/api/tags", None, CONNECT_S, root=True)
        except UserError:
            return set()
        rows = told.get("models") if isinstance(told, dict) else None
        found: set[str] = set()
        for row in rows if isinstance(rows, list) else ():
            if isinstance(row, dict) and (row.get("remote_host") or row.get("remote_model")):
                names = [row[key] for key in ("name", "model") if _is_text(row.get(key))]
                found.update(names, (name.removesuffix(":latest") for name in names))
        return found

    def _json(self, method: str, path: str, body: Any, wait_s: float, root: bool = False) -> Any:
        """Return the JSON of an answer. Raises UserError."""
        status, data = self._request(method, path, body, wait_s, root)
        try:
            told = json.loads(data)
        except (ValueError, RecursionError):
            told = None
        if status in (401, 403):
            raise BadInput(
                f"The server at {self.chosen.address} asks for a key.",
                "Turn its authentication off for this computer, or use another server.",
            )
        if 300 <= status < 400:
            raise BadInput(
                f"The server at {self.chosen.address} points to another address, which is not followed.",
                "Give the address of the model's server itself.",
            )
        problem = _problem(told)
        if problem or status >= 400:
            raise self._refusal(status, problem)
        if told is None:
            raise self._no_api()
        return told

    def _refusal(self, status: int, problem: str) -> UserError:
        if "support image" in problem.lower() or "vision" in problem.lower():
            remedy = "Choose a model that can see photos, such as Qwen3-VL."
        elif status == 404:
            remedy = "Check the model's name, and that the address ends as the server tells (/v1)."
        else:
            remedy = "Look at the server's own messages, or try another model."
        said = f": {problem[:_MAX_SAID].rstrip('.')}" if problem else f" (HTTP {status})"
        return UserError(f"The server at {self.chosen.address} refuses{said}.", remedy)

    def _no_api(self) -> UserError:
        return BadInput(
            f"What answers at {self.chosen.address} is no server of language models.",
            "Give the address that LM Studio (http://127.0.0.1:1234/v1) or Ollama "
            "(http://127.0.0.1:11434/v1) shows.",
        )

    def _request(
        self, method: str, path: str, body: Any, wait_s: float, root: bool
    ) -> tuple[int, bytes]:
        """Return an answer's status and content. Raises UserError."""
        url = url_of(self.chosen.address)
        base = "" if root else url.path.rstrip("/")
        until = time.monotonic() + wait_s
        timeout = httpx2.Timeout(wait_s, connect=CONNECT_S)
        refused: Exception | None = None
        with httpx2.Client(
            trust_env=False, follow_redirects=False, timeout=timeout, verify=_certificates()
        ) as client:
            for place in _places(url, self.chosen.elsewhere):
                request = client.build_request(
                    method,
                    url.copy_with(host=place, path=f"{base}{path}"),
                    json=body,
                    headers={"Host": url.netloc.decode("ascii"), "Accept-Encoding": "identity"},
                    extensions={"sni_hostname": url.host},
                )
                try:
                    response = client.send(request, stream=True)
                    return response.status_code, b"".join(_limited(response, until))
                except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                    refused = error
                except httpx2.TimeoutException as error:
                    raise self._late(wait_s) from error
                except httpx2.HTTPError as error:
                    raise Unreachable(
                        f"The connection to {self.chosen.address} broke off ({type(error).__name__}).",
                        "Look whether the server still runs, then describe the rest.",
                    ) from error
        raise Unreachable(
            f"No server answers at {self.chosen.address}.",
            "Start it: in LM Studio under “Developer”, or Ollama itself. Then try again.",
        ) from refused

    def _late(self, wait_s: float) -> Unreachable:
        return Unreachable(
            f"The server at {self.chosen.address} did not answer within {wait_s:.0f} seconds.",
            "Use a smaller model there, or try again once it has loaded.",
        )


def url_of(address: str) -> httpx2.URL:
    """Return the URL of an address as users write it, with “http://” and “/v1” where they are left
    out. Raises BadInput."""
    text = address.strip()
    try:
        url = httpx2.URL(text if "://" in text else f"http://{text}")
        port = 80 if url.port is None else url.port
        usable = url.scheme in ("http", "https") and bool(url.host) and 0 < port < 65_536
    except (httpx2.InvalidURL, ValueError, UnicodeError):
        usable = False
    if not usable or url.userinfo or url.query or url.fragment:
        raise BadInput(
            f"“{shortened(text)}” is not the address of a server.",
            "Write it as http://127.0.0.1:1234/v1, which is LM Studio's.",
        )
    return url.copy_with(path=_USUAL_PATH) if url.path in ("", "/") else url


def is_cloud(model: str) -> bool:
    """Return whether a model's name is that of one in Ollama's cloud."""
    return model.strip().lower().endswith(("-cloud", ":cloud"))


def data_uri(photo: Image.Image) -> str:
    """Return a photo as a JPEG of at most MAX_PIXELS pixels in a data URI, without metadata."""
    share = (MAX_PIXELS / (photo.width * photo.height)) ** 0.5
    small = photo.convert("RGB")
    if share < 1:
        size = (max(1, int(share * small.width)), max(1, int(share * small.height)))
        small = small.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    file = io.BytesIO()
    # a copy of the pixels, since Pillow saves an image's profile and comment
    Image.frombytes("RGB", small.size, small.tobytes()).save(file, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


@cache
def _certificates() -> ssl.SSLContext:
    return httpx2.create_ssl_context(trust_env=False)  # takes as long as a small request


def _places(url: httpx2.URL, elsewhere: bool) -> list[str]:
    """Return the IP addresses of a URL's host, IPv4 first. Raises UserError if one is not of this
    computer and that is not allowed."""
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unreachable(
            f"There is no computer called “{url.host}”.", "Check the address."
        ) from error
    places = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not elsewhere and not all(map(_is_loopback, places)):
        raise OtherComputer(
            f"“{url.host}” is another computer: your photos would leave this one.",
            "To send them there all the same, allow it (in the terminal: --other-computer).",
        )
    return sorted(places, key=lambda place: ":" in place)


def _is_loopback(place: str) -> bool:
    address = ipaddress.ip_address(place)
    mapped = getattr(address, "ipv4_mapped", None)  # ::ffff:127.0.0.1
    return (mapped or address).is_loopback


def _limited(response: httpx2.Response, until: float) -> Iterator[bytes]:
    """Yield an answer's content, as long as it is short and comes in time."""
    size = 0
    try:
        for piece in response.iter_raw():
            size += len(piece)
            if size > _MAX_BYTES:
                raise httpx2.ReadError("the answer is too long")
            if time.monotonic() > until:
                raise httpx2.ReadTimeout("the answer does not end")
            yield piece
    finally:
        response.close()


def _problem(told: Any) -> str:
    """Return what a server says is wrong, "" for nothing. Some answer errors with status 200."""
    error = told.get("error") if isinstance(told, dict) else None
    if isinstance(error, dict):
        error = error.get("message") or json.dumps(error)
    if isinstance(error, str):
        return error.strip() or "an error without words"
    return "" if error in (None, False) else str(error)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _cloud(model: str) -> UserError:
    return BadInput(
        f"“{shortened(model)}” runs in a cloud: your photos would leave this computer.",
        "Choose a model that is on this computer.",
    )
