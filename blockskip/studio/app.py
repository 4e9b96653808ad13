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
import subprocess
import sys
import time
import urllib.request
import webbrowser
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from blockskip.core import environment, files, idle_worker, paths, processes
from blockskip.core.errors import UserError, WrongState, from_kind
from blockskip.core.names import shown_name
from blockskip.core.paths import ASSETS
from blockskip.memory import monitor
from blockskip.studio import access, measuring, queue_screen, strings
from blockskip.studio.guard import HELLO

if TYPE_CHECKING:
    import gradio as gr

log = logging.getLogger("blockskip.studio")
HOST = "127.0.0.1"
USUAL_PORT = 7860
LOCK = "studio.lock"  # in the data folder, held by its studio
OPENING_S = 60.0  # seconds to wait for a studio that is being opened
MAX_UPLOAD = "60mb"
TABS = 32  # whose parts Gradio keeps, 0.3 MB each; a tab beyond them is drawn anew
SCRIPTS = ("studio.js", "photos.js", "places.js", "notices.js")
ENVIRONMENT = {  # before `import gradio`: no version check, no history in the browser
    "HF_HUB_OFFLINE": "1",
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_SHARE": "False",
    "GRADIO_SSR_MODE": "False",
    "FORWARDED_ALLOW_IPS": "",  # uvicorn takes no word of a client about where it comes from
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
    environment.isolate()
    monitor.pin_card()
    if data_dir is not None:
        os.environ["BLOCKSKIP_DATA"] = str(Path(data_dir).resolve())
    data = _make_data_dir()
    _start_log(data)
    while True:
        with processes.held(data / LOCK) as ours:
            open_url = running_url(data)
            if ours and "?key=" in open_url:  # left behind; what answers now is another program
                open_url = ""
            if ours and not open_url:  # an earlier version holds no lock
                return _serve(port or USUAL_PORT, data, browser, window)
        if open_url or (open_url := _wait_for_url(data)):
            log.info(strings.ALREADY_OPEN, strings.APP, open_url)
            if not (window and _show_window(open_url)) and browser:
                _open_browser(open_url)
            return 0


def _make_data_dir() -> Path:
    try:
        return paths.make_data_dir()
    except UserError as error:
        if not (chosen := paths.location_file()).exists():
            raise
        remedy = strings.DATA_GONE.format(location_file=chosen)
        raise from_kind(error.kind, error.title, remedy) from error  # the page cannot undo this


def _serve(port: int, data: Path, browser: bool, window: bool) -> int:
    (data / "studio.json").unlink(missing_ok=True)
    page, url = launch(port, data)
    log.info(strings.OPEN_AT, strings.APP, url)
    measuring.begin()
    queue_screen.keep_going()
    try:
        _show_until_closed(url, browser, window)
    except KeyboardInterrupt:
        log.info(strings.CLOSED)
    finally:
        (data / "studio.json").unlink(missing_ok=True)
        with contextlib.suppress(UserError):
            idle_worker.free()
        with contextlib.redirect_stdout(None):
            page.close()
    return 0


def _wait_for_url(data: Path) -> str:
    """Return the URL of the studio that another process is opening, "" if that one has ended.

    Raises WrongState if it takes too long.
    """
    until = time.monotonic() + OPENING_S
    while time.monotonic() < until:
        if url := running_url(data):
            return url
        if not processes.is_locked(data / LOCK):
            return ""
        time.sleep(0.2)
    raise WrongState(strings.OPENING, strings.OPENING_REMEDY)


def _open_browser(url: str) -> None:
    """Open the user's browser, which keeps the proxies that the studio must not have."""
    if inherited := environment.set_aside():
        words = [sys.executable, "-m", "webbrowser", url]
        subprocess.Popen(words, env={**os.environ, **inherited}, stdout=subprocess.DEVNULL)
    else:
        webbrowser.open(url)


def _show_until_closed(url: str, browser: bool, window: bool) -> None:
    """Show the page and wait until its window is closed. Raises KeyboardInterrupt on Ctrl-C."""
    if window and _show_window(url):
        return
    if browser:
        _open_browser(url)
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
    """Serve the page in a background thread, on `port` or the next free one. Return the page and
    its URL with this launch's key."""
    os.environ.update(ENVIRONMENT | {"GRADIO_TEMP_DIR": str(data / "gradio")})
    secrets = access.create(data)
    while True:
        port = free_port(port)
        try:
            blocks = _launch_page(port, data, secrets)
            break
        except Exception:
            if free_port(port) == port:  # not because another program has taken it just now
                raise
    secrets.opening = False
    url = f"http://{HOST}:{port}/?key={secrets.key}"
    files.write_private(data / "studio.json", json.dumps({"url": url}) + "\n")
    return blocks, url


def _launch_page(port: int, data: Path, secrets: access.Access) -> gr.Blocks:
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    from blockskip.studio import contact_sheets, guard, page, photo_uploads, pictures, theme

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
        state_session_capacity=TABS,
        enable_monitoring=False,
        run_history=False,
        mcp_server=False,
        ssr_mode=False,
        pwa=False,
        footer_links=[],
        strict_cors=True,
        theme=theme.theme(),
        css_paths=[ASSETS / "studio.css"],
        head="".join(
            f"<script>{(ASSETS / name).read_text(encoding='utf-8')}</script>" for name in SCRIPTS
        ),
        favicon_path=ASSETS / "icon.png",
        app_kwargs={
            "middleware": guard.middleware(secrets, lambda: files.free_bytes(data)),
            "routes": [hello, photo_uploads.route(), contact_sheets.route(), *pictures.routes()],
            **dict.fromkeys(("docs_url", "redoc_url", "openapi_url")),
        },
    )
    return blocks


def running_url(data: Path) -> str:
    """Return the URL of a studio already serving this data folder, "" if there is none."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        url = files.read_json(data / "studio.json")["url"]
        if not url.startswith(f"http://{HOST}:"):
            return ""
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(urljoin(url, HELLO), timeout=3) as response:
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
    screen.setFormatter(_ShownNames("%(message)s"))
    log.addHandler(screen)
    log.setLevel(logging.INFO)


class _ShownNames(logging.Formatter):
    """Makes names in messages fit to be shown in a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return shown_name(super().format(record))
