"""Serve the studio: a web page on the loopback address, for this computer only.

Nothing is done at import. `main` sets the environment before Gradio is imported, so that starting
it opens no outside connection. One studio serves a data folder. A second start opens the running
one in the browser.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import sys
import time
import urllib.request
import webbrowser
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING

from blockskip import __version__
from blockskip.core import files, paths
from blockskip.core.errors import from_kind
from blockskip.core.paths import ASSETS
from blockskip.studio import strings

if TYPE_CHECKING:
    import gradio as gr

log = logging.getLogger("blockskip.studio")
HOST = "127.0.0.1"
USUAL_PORT = 7860
HELLO = "/blockskip/hello"
MAX_UPLOAD = "60mb"
ENVIRONMENT = {  # before `import gradio`: no telemetry, no version check, no history in the browser
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_OFFLINE": "1",
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_SHARE": "False",
    "GRADIO_SSR_MODE": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def main(
    port: int = 0,
    browser: bool = True,
    data_dir: str | Path | None = None,
    window: bool = False,
) -> int:
    """Serve the studio until Ctrl-C, or until its window is closed, and return the exit code.

    port: 0 = USUAL_PORT or the next free one. window: use pywebview's, if it is installed. Raises
    UserError if data_dir cannot be created.
    """
    if data_dir is not None:
        os.environ["BLOCKSKIP_DATA"] = str(Path(data_dir).resolve())
    data = paths.data_dir()
    try:
        data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = files.disk_error(data, error)
        if (chosen := paths.location_file()).exists():  # the page cannot be opened to undo this
            problem = from_kind(
                problem.kind, problem.title, strings.DATA_GONE.format(location_file=chosen)
            )
        raise problem from error
    _start_log(data)
    if open_url := running_url(data):
        log.info(strings.ALREADY_OPEN, strings.APP, open_url)
        if not (window and _show_window(open_url)) and browser:
            webbrowser.open(open_url)
        return 0
    page, url = launch(free_port(port or USUAL_PORT), data)
    log.info(strings.OPEN_AT, strings.APP, url)
    try:
        _show_until_closed(url, browser, window)
    except KeyboardInterrupt:
        log.info(strings.CLOSED)
    finally:
        (data / "studio.json").unlink(missing_ok=True)
        with contextlib.redirect_stdout(None):
            page.close()
    return 0


def _show_until_closed(url: str, browser: bool, window: bool) -> None:
    """Show the page and wait until its window is closed. Raises KeyboardInterrupt on Ctrl-C."""
    if window and _show_window(url):
        return
    if browser:
        webbrowser.open(url)
    while True:  # short sleeps, so that Ctrl-C works on Windows too
        time.sleep(1)


def _show_window(url: str) -> bool:
    """Show the page in a window until it is closed. Return False if none can be opened."""
    try:
        import webview
    except ImportError:
        log.info(strings.NO_WINDOW)
        return False
    try:
        webview.create_window(strings.APP, url, width=1280, height=900)
        webview.start()
    except Exception as error:  # the system has no browser engine that it can use
        log.info(strings.NO_WINDOW)
        log.warning("no window: %s", error)
        return False
    return True


def launch(port: int, data: Path) -> tuple[gr.Blocks, str]:
    """Serve the page in a background thread. Return the page and its URL."""
    os.environ.update(ENVIRONMENT | {"GRADIO_TEMP_DIR": str(data / "gradio")})
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    from blockskip.studio import guard, page, pictures, theme

    hello = Route(HELLO, lambda _: JSONResponse(_identity(data)))
    blocks = page.build()
    blocks.launch(
        server_name=HOST,
        server_port=port,
        share=False,
        inbrowser=False,
        quiet=True,
        prevent_thread_lock=True,
        show_error=False,
        allowed_paths=[],
        max_file_size=MAX_UPLOAD,
        enable_monitoring=False,
        run_history=False,
        mcp_server=False,
        ssr_mode=False,
        pwa=False,
        footer_links=[],
        strict_cors=True,
        theme=theme.theme(),
        css=f':root {{ --drop-words: "{strings.PHOTOS_DROP}"; }}',
        css_paths=[ASSETS / "studio.css"],
        head=f"<script>{(ASSETS / 'studio.js').read_text(encoding='utf-8')}</script>",
        favicon_path=ASSETS / "icon.png",
        app_kwargs={
            "middleware": guard.middleware(),
            "routes": [hello, *pictures.routes()],
            **dict.fromkeys(("docs_url", "redoc_url", "openapi_url")),
        },
    )
    files.write_json(data / "studio.json", {"url": f"http://{HOST}:{port}/"})
    return blocks, f"http://{HOST}:{port}/"


def running_url(data: Path) -> str:
    """Return the URL of a studio already serving this data folder, "" if there is none."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        url = files.read_json(data / "studio.json")["url"]
        if not url.startswith(f"http://{HOST}:"):
            return ""
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(url.rstrip("/") + HELLO, timeout=3) as response:
            if json.load(response)["data"] == _identity(data)["data"]:
                return url
    return ""


def free_port(wanted: int) -> int:
    """Return `wanted`, else the next free port of the following 50, else any free port."""
    for port in [*range(wanted, min(wanted + 50, 65536)), 0]:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            if os.name != "nt":  # a port in TIME_WAIT counts as free, as it does for the server
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((HOST, port))
                return probe.getsockname()[1]
    raise OSError("no free port")


def _identity(data: Path) -> dict[str, str]:
    return {
        "app": strings.APP,
        "version": __version__,
        "data": files.fingerprint(str(data.resolve())),
    }


def _start_log(data: Path) -> None:
    """Log our own messages to the terminal, and all warnings to studio.log in the data folder."""
    handler = RotatingFileHandler(
        data / "studio.log", maxBytes=1 << 20, backupCount=1, encoding="utf-8"
    )
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.getLogger().addHandler(handler)
    screen = logging.StreamHandler(sys.stderr)
    screen.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(screen)
    log.setLevel(logging.INFO)
