"""How long it takes, and how many presses, from opening the page to a LoRA of the demo pet:

PYTHONPATH=.:tests python tests/browser/newcomer.py
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

from helpers.studio_server import serve
from playwright.sync_api import sync_playwright

LONG = 900_000  # milliseconds


def main() -> None:
    found = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        os.environ["BLOCKSKIP_DATA"] = folder
        browser = playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox", "--disable-gpu"]
        )
        with serve(Path(folder)) as server:
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.set_default_timeout(LONG)
            began, presses = time.monotonic(), 0

            def said(what: str) -> None:
                print(f"{what:34} {time.monotonic() - began:6.1f} s, {presses} presses", flush=True)

            page.goto(server.address)
            page.wait_for_selector("#setup", state="visible")
            said("the page is there")
            page.locator("#demo").click()
            presses += 1
            page.wait_for_selector("#photos .tiles li:nth-child(5)")
            said("photos")
            page.locator("#train").click()
            presses += 1
            page.wait_for_selector("#status .running")
            said("training")
            page.wait_for_selector("#lora", state="visible")
            with page.expect_download() as download:
                page.locator("#lora").click()
            presses += 1
            size = Path(download.value.path()).stat().st_size
            said(f"the LoRA, {size} bytes")
        browser.close()


if __name__ == "__main__":
    main()
