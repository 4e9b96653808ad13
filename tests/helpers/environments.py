"""Environments that are not ours, each with what makes it hard.

`PYTHONPATH=.:tests python -m helpers.environments` opens the studio in each of them and trains the
demo pet for two steps. It prints the training's state and what a living proxy was asked for.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from helpers.studio_server import serve

DEAD = "http://127.0.0.1:9"
NO_PROXY = "localhost,127.0.0.0/8,[::1]"
PROXIES: dict[str, dict[str, str | None]] = {
    "none": {},
    "http dead": {"http_proxy": DEAD},
    "http alive": {"http_proxy": "ALIVE", "HTTP_PROXY": "ALIVE"},
    "https": {"HTTPS_PROXY": DEAD, "https_proxy": DEAD},
    "socks": {"ALL_PROXY": "socks5://127.0.0.1:9", "all_proxy": "socks5h://127.0.0.1:9"},
    "no_proxy": {"http_proxy": DEAD, "no_proxy": NO_PROXY, "NO_PROXY": NO_PROXY},
    "nonsense": {"http_proxy": "::not a url::", "ALL_PROXY": "foo://x", "no_proxy": "*,,["},
    "mixed": {"HTTP_PROXY": DEAD, "all_proxy": "socks4://x:1", "https_proxy": "ALIVE", "NO_PROXY": NO_PROXY},
}  # fmt: skip
OTHERS: dict[str, dict[str, str | None]] = {
    "gradio": {
        "GRADIO_SERVER_PORT": "abc",
        "GRADIO_SERVER_NAME": "0.0.0.0",
        "GRADIO_ROOT_PATH": "/elsewhere",
        "GRADIO_SHARE": "True",
        "GRADIO_ALLOWED_PATHS": "/",
        "GRADIO_NUM_PORTS": "x",
        "GRADIO_MCP_SERVER": "True",
        "GRADIO_ANALYTICS_ENABLED": "True",
        "GRADIO_DEBUG": "1",
        "GRADIO_TEMP_DIR": "/proc/nowhere",
    },
    "certificates": {"SSL_CERT_FILE": "/nowhere.pem", "REQUESTS_CA_BUNDLE": "/nowhere.pem"},
    "temporary": {"TMPDIR": "/nowhere", "TEMP": "/proc", "TMP": ""},
    "homeless": {"HOME": None, "XDG_DATA_HOME": "relative"},
    "language": {"LANG": "C", "LC_ALL": "POSIX", "PYTHONUTF8": None, "PYTHONIOENCODING": "ascii"},
    "hub": {"HF_HOME": "/proc/nowhere", "HF_TOKEN": "a\nb", "HF_ENDPOINT": "nonsense"},
    "threads": {"OMP_NUM_THREADS": "abc", "MKL_NUM_THREADS": "-3", "CUDA_VISIBLE_DEVICES": "-1"},
    "python": {"PYTHONSTARTUP": "/nowhere.py", "PYTHONWARNINGS": "error", "PYTHONOPTIMIZE": "2"},
}


@contextlib.contextmanager
def proxy() -> Iterator[tuple[str, list[str]]]:
    """Context manager that yields the address of a proxy and what it is asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            asked.append(f"{self.command} {self.path}")
            self.send_error(502)

        do_GET = do_HEAD = do_POST = do_CONNECT = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def demo_training(data: Path, variables: dict[str, str | None]) -> tuple[dict, list[str]]:
    """Open the studio in an environment and train for two steps. Return the training's last status
    and what the living proxy was asked for."""
    from gradio_client import Client, handle_file

    from blockskip.data.demo_photos import demo_pet
    from blockskip.data.photos import find_photos

    photos = [handle_file(str(path)) for path in find_photos([demo_pet()[0]])]
    with proxy() as (address, asked):
        chosen = {name: address if text == "ALIVE" else text for name, text in variables.items()}
        with serve(data, variables=chosen) as server:
            client = Client(
                server.url,
                headers=server.headers,
                verbose=False,
                httpx_kwargs={"trust_env": False},
            )
            words = (photos, "cat", "Momo", "demo", 8, 2, 0, 4, "fastest", True)
            run = client.predict(*words, api_name="/train")
            while (now := client.predict(run, api_name="/status"))["state"] == "running":
                threading.Event().wait(0.3)
            return now, asked


def main(names: list[str]) -> None:
    for name, variables in (PROXIES | OTHERS).items():
        if names and name not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            now, asked = demo_training(Path(folder) / "data", variables)
        print(json.dumps({"environment": name, "state": now["state"], "asked": asked}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
