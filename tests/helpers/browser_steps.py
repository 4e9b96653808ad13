"""What people do on the page, and what can be seen there."""

from __future__ import annotations

import json
import struct
from pathlib import Path

MINUTE = 60_000  # ms


def drop(page, paths) -> None:
    """Drop files on the place for photos."""
    page.locator("#drop input[type=file]").set_input_files([str(path) for path in paths])


def wait_for_text(page, selector: str, text: str, timeout: float = MINUTE) -> None:
    """Wait until that part shows that text. Raises AssertionError with what the page shows
    instead."""
    from playwright.sync_api import TimeoutError  # may be missing where these tests are skipped

    try:
        page.locator(selector).filter(has_text=text).first.wait_for(
            state="visible", timeout=timeout
        )
    except TimeoutError as error:
        there = page.locator(selector).all_inner_texts()
        whole = page.locator("body").inner_text()[:1500]
        raise AssertionError(
            f"{selector} shows {there}, not “{text}”; the page: {whole}"
        ) from error


def wait_for_tiles(page, count: int) -> None:
    """Wait until so many photos are there."""
    page.wait_for_function(
        "count => document.querySelectorAll('#photos .tiles li').length === count", arg=count
    )


def wait_for(page, condition: str, arg: object = None) -> None:
    """Wait until a JavaScript expression is true."""
    page.wait_for_function(condition, arg=arg)


def horizontal_overflow(page) -> int:
    """Pixels by which the page is wider than the window."""
    return page.evaluate("document.documentElement.scrollWidth - window.innerWidth")


def focused(page) -> str:
    """What has the keyboard: the id of its part, and its words. "" = nothing has."""
    return page.evaluate("""() => {
        const one = document.activeElement;
        if (!one || one === document.body) return "";
        const part = one.closest('[id]');
        return `${part ? part.id : ''} ${one.ariaLabel || one.innerText || one.name || one.tagName}`;
    }""")


def wait_for_ticks(page, count: int = 3) -> None:
    """Wait until the page has been sent what is new so many times."""
    for _ in range(count):
        with page.expect_response(lambda answer: "/run/" in answer.url or "/api/" in answer.url):
            pass


def assert_lora(path: str | Path) -> dict:
    """A safetensors file with tensors in it; gives its header."""
    data = Path(path).read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    assert len(header) > 10 and len(data) > 10_000
    return header
