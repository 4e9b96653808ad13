"""User actions on the page, and queries of what it shows."""

from __future__ import annotations

import json
import struct
from pathlib import Path

MINUTE = 60_000  # ms


class Held:
    """Requests of a page that are held back until the test lets them go to the studio."""

    def __init__(self, page, pattern: str, count: int) -> None:
        self.page, self.count, self.routes = page, count, []
        page.route(pattern, self._take)

    def _take(self, route) -> None:
        if len(self.routes) < self.count:
            self.routes.append(route)
        else:
            route.continue_()

    def wait(self, count: int) -> None:
        for _ in range(1500):
            if len(self.routes) >= count:
                return
            self.page.wait_for_timeout(20)
        raise AssertionError(f"the page sent {len(self.routes)} requests, not {count}")

    def release(self, index: int) -> None:
        """Let one request go, and wait for its answer."""
        request = self.routes[index].request
        with self.page.expect_event("requestfinished", lambda done: done == request):
            self.routes[index].continue_()


def drop(page, paths) -> None:
    """Drop files on the photo area."""
    page.locator("#drop input[type=file]").set_input_files([str(path) for path in paths])


def wait_for_text(page, selector: str, text: str, timeout: float = MINUTE) -> None:
    """Wait until an element shows the text. Raises AssertionError with the page's actual text."""
    from playwright.sync_api import TimeoutError  # may be missing where these tests are skipped

    try:
        page.locator(selector).filter(has_text=text).first.wait_for(
            state="visible", timeout=timeout
        )
    except TimeoutError as error:
        shown = page.locator(selector).all_inner_texts()
        page_text = page.locator("body").inner_text()[:1500]
        raise AssertionError(
            f"{selector} shows {shown}, not “{text}”; the page: {page_text}"
        ) from error


def wait_for_tiles(page, count: int) -> None:
    """Wait until that many photos are shown."""
    page.wait_for_function(
        "count => document.querySelectorAll('#photos .tiles li').length === count", arg=count
    )


def wait_for(page, condition: str, arg: object = None) -> None:
    """Wait until a JavaScript expression is true."""
    page.wait_for_function(condition, arg=arg)


def horizontal_overflow(page) -> int:
    """Return the pixels by which the page is wider than the window."""
    return page.evaluate("document.documentElement.scrollWidth - window.innerWidth")


def focused(page) -> str:
    """Return the id and text of the element with keyboard focus, or ""."""
    return page.evaluate("""() => {
        const one = document.activeElement;
        if (!one || one === document.body) return "";
        const part = one.closest('[id]');
        return `${part ? part.id : ''} ${one.ariaLabel || one.innerText || one.name || one.tagName}`;
    }""")


def wait_for_ticks(page, count: int = 3) -> None:
    """Wait until the page has received that many updates."""
    for _ in range(count):
        with page.expect_response(lambda answer: "/run/" in answer.url or "/api/" in answer.url):
            pass


def assert_lora(path: str | Path) -> dict:
    """Check that a safetensors file contains tensors, and return its header."""
    data = Path(path).read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    assert len(header) > 10 and len(data) > 10_000
    return header
