"""How long the page's answers take while many photos are uploaded, beside its idle time before.

PYTHONPATH=.:tests python tests/browser/many_photos.py 60 200

Drops so many photos of 12 megapixels on a new studio, each time in a new folder.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from helpers.browser_steps import MINUTE, drop
from helpers.large_photos import make_large_photos
from helpers.studio_server import serve
from playwright.sync_api import Page, sync_playwright

IDLE_MS = 20_000


class Answers:
    """Milliseconds from question to answer of a page's ticks."""

    def __init__(self, page: Page) -> None:
        self.ms: list[float] = []
        page.on("requestfinished", self._note)

    def _note(self, request) -> None:
        if "/run/" in request.url or "/api/" in request.url:
            timing = request.timing
            self.ms.append(timing["responseEnd"] - timing["requestStart"])

    def take(self) -> list[float]:
        taken, self.ms = self.ms, []
        return taken


def main(counts: list[int]) -> None:
    found = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        photos = make_large_photos(Path(folder) / "phone", max(counts))
        browser = playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox", "--disable-gpu"]
        )
        for number, count in enumerate(counts):
            os.environ["BLOCKSKIP_DATA"] = data = str(Path(folder) / f"data {number}")
            with serve(Path(data)) as server:
                page = browser.new_page(viewport={"width": 1280, "height": 900})
                page.set_default_timeout(10 * MINUTE)
                page.goto(server.address)
                page.wait_for_selector("#drop", state="visible")
                print(f"{count} photos: {measured(page, photos[:count])}", flush=True)
                page.close()
        browser.close()


def measured(page: Page, photos: list[Path]) -> str:
    """Return what dropping these photos took."""
    answers = Answers(page)
    page.wait_for_timeout(IDLE_MS)
    idle = answers.take()
    began = time.monotonic()
    drop(page, photos)
    seen = "n => document.querySelectorAll('#coming li canvas, #photos .tiles li').length >= n"
    page.wait_for_function(seen, arg=len(photos))
    seen_s = time.monotonic() - began
    still = page.locator("#coming li").count()
    page.wait_for_function(
        "n => document.querySelectorAll('#photos .tiles li').length === n", arg=len(photos)
    )
    page.wait_for_function("!document.querySelector('#coming li, #drop progress')")
    uploaded_s, meanwhile = time.monotonic() - began, answers.take()
    page.wait_for_timeout(IDLE_MS)
    after = answers.take()
    return (
        f"all seen after {seen_s:.1f} s ({still} still to be uploaded), uploaded after {uploaded_s:.1f} s; "
        f"answers idle before {_words(idle)}, meanwhile {_words(meanwhile)}, idle after {_words(after)}; "
        f"{statistics.median(meanwhile) / statistics.median(idle):.2f} times"
    )


def _words(ms: list[float]) -> str:
    return f"{statistics.median(ms):.0f} ms (of {len(ms)}, most {max(ms):.0f})"


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or [60, 200])
