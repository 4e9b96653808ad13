"""Screenshots of every state of the studio, from a real server and real trainings of the demo model:

    PYTHONPATH=.:tests python tests/browser/screenshots.py DIR assets/evidence/studio [LANGUAGE]

Each state is taken at 1440 and 390 pixels, by day and by night, from four tabs of one server, and left
in DIR as PNG; the second folder gets what the README shows. LANGUAGE: “en” or “de”.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from helpers.browser_steps import wait_for_text
from helpers.studio_server import Server, serve
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from blockskip.core import stages
from blockskip.core.paths import ASSETS, data_dir
from blockskip.runs.run import list_runs
from blockskip.studio import strings

SWITCHES = "--no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars".split()
LOOKS = [(width, theme) for width in (1440, 390) for theme in ("light", "dark")]
LONG = 600_000  # milliseconds
IN_PLACE = "#train, .undo { position: static !important; }"
PAGE_PX = 1012  # a README is shown no wider


class Camera:
    """Four tabs; the first one is pressed, all are photographed."""

    def __init__(self, browser: object, server: Server, out: Path) -> None:
        self.out, self.tabs = out, []
        for width, theme in LOOKS:
            context = browser.new_context(
                viewport={"width": width, "height": 900}, locale=strings.tag()
            )
            page = context.new_page()
            page.set_default_timeout(LONG)
            page.goto(server.address)
            page.goto(f"{server.url}/?__theme={theme}")
            page.wait_for_selector("[data-section=setup] #setup, [data-section=run] #run")
            self.tabs.append((page, width, theme))

    @property
    def page(self) -> Page:
        return self.tabs[0][0]

    def everywhere(self, do: object) -> None:
        """Something that only changes what a tab shows."""
        for page, _, _ in self.tabs:
            do(page)

    def take(self, state: str, whole: bool = True, wait_ms: int = 2500) -> None:
        """state: of the file's name. whole: the whole page, not only what is in sight."""
        self.page.wait_for_timeout(wait_ms)
        for page, width, theme in self.tabs:
            if whole:  # pictures further down are fetched when they come into sight
                page.evaluate("document.querySelectorAll('img').forEach(i => i.loading = 'eager')")
                page.wait_for_timeout(400)
            # a bar that keeps in sight would lie across the middle of a whole page
            style = IN_PLACE if whole else None
            path = self.out / f"{state}-{width}-{theme}.png"
            page.screenshot(path=path, full_page=whole, style=style)
        print(state, flush=True)


def show(page: Page, run: str) -> None:
    """A training, by way of the list."""
    page.locator("[data-do=list]").first.click()
    page.locator(f"#list [data-do=open][data-run='{run}']").click()
    page.wait_for_selector("#status h2")


def setting_up(camera: Camera, pet: Path) -> None:
    camera.take("empty")
    photos = [str(path) for path in sorted(pet.iterdir())]
    bad = Path(tempfile.mkdtemp(), "holiday film.jpg")
    bad.write_text("<html>not a photo</html>", encoding="utf-8")
    camera.page.locator("#drop input[type=file]").set_input_files([*photos, str(bad)])
    camera.page.wait_for_selector("#photos .tiles li:nth-child(5)")
    camera.page.locator("#kind input").fill("cat")
    camera.page.locator("#kind input").press("Enter")
    camera.page.locator("#name input").press_sequentially("Violet")
    camera.page.locator("#photos [data-do=mark_all]").click()
    camera.take("photos")
    camera.everywhere(lambda page: page.locator("#photos .open").nth(1).click())
    camera.take("photo", whole=False)
    camera.everywhere(lambda page: page.keyboard.press("Escape"))
    camera.page.locator("[data-do=model][data-model=flux-dev]").first.click()
    camera.take("plan")
    camera.page.locator("#budget input[type=number]").fill("2")
    camera.page.locator("#budget input[type=number]").press("Enter")
    camera.take("refused")
    camera.page.locator("#plan [data-budget]").click()
    camera.page.locator("#photos [data-do=clear]").click()


def training(camera: Camera) -> None:
    page = camera.page
    page.locator("#demo").click()
    page.wait_for_selector("#photos .tiles li:nth-child(5)")
    page.wait_for_timeout(1000)
    page.locator("#train").click()
    page.wait_for_selector("#status .status.running")
    run = list_runs()[0].name
    for other, _, _ in camera.tabs[1:]:
        show(other, run)
    camera.take("starting", wait_ms=300)
    wait_for_text(page, ".doing", strings.STAGES[stages.RESIDUALS], LONG)
    camera.take("skipped-blocks", wait_ms=0)
    page.wait_for_function("document.querySelectorAll('#previews td img').length >= 12")
    camera.take("learning")
    page.locator("#pause").click()
    page.wait_for_selector("#messages .note")
    camera.take("paused")
    page.locator("#resume").click()
    page.wait_for_selector("#results", state="visible")
    page.wait_for_selector(".figures")
    page.locator("#prompt textarea").fill(
        page.locator("#prompt textarea").input_value() + " asleep"
    )
    page.locator("#paint").click()
    page.wait_for_selector("#pictures .pair img")
    camera.take("results")


def others(camera: Camera) -> None:
    """A training that fails, and the list."""
    page = camera.page
    page.locator("#again").click()
    page.wait_for_selector("#photos .tiles li:nth-child(5)")
    page.locator("#train").click()
    page.wait_for_selector("#status .status.running")
    page.wait_for_function("/\\d/.test(document.querySelector('.doing').innerText)")
    page.locator("#pause").click()
    page.wait_for_selector("#messages .note")
    second = list_runs()[0]
    photo = sorted(second.photos_dir.glob("*.[jp][pn]g"))[0]
    Image.open(photo).rotate(180).save(photo)  # changed meanwhile
    page.locator("#resume").click()
    page.wait_for_selector("#messages .note.error")
    for other, _, _ in camera.tabs[1:]:
        show(other, second.name)
    camera.take("failed")
    camera.everywhere(lambda tab: tab.locator("[data-do=list]").first.click())
    camera.take("trainings")


def for_readme(states: Path, out: Path) -> None:
    """The upper part of some of them, as the README shows it: no wider than a page on GitHub."""
    out.mkdir(parents=True, exist_ok=True)
    for name, state, bottom in (
        ("photos", "photos-1440-light", 0.51),
        ("plan", "plan-1440-light", 1.0),
        ("training", "learning-1440-dark", 1.0),
        ("results", "results-1440-light", 0.56),
        ("phone", "results-390-light", 0.36),
    ):
        shot = Image.open(states / f"{state}.png").convert("RGB")
        top = 0.515 if name == "plan" else 0.0
        part = shot.crop((0, int(top * shot.height), shot.width, int(bottom * shot.height)))
        part.thumbnail((PAGE_PX, part.height), Image.Resampling.LANCZOS)
        part.save(out / f"readme-{name}.webp", quality=80, method=6)


def main(out: Path, readme: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    found = shutil.which("chromium") or shutil.which("google-chrome")
    pets = sorted(path for path in (ASSETS / "demo-photos").iterdir() if path.is_dir())
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        os.environ["BLOCKSKIP_DATA"] = str(Path(folder, "data"))
        browser = playwright.chromium.launch(executable_path=found, args=SWITCHES)
        with serve(data_dir()) as server:
            camera = Camera(browser, server, out)
            setting_up(camera, pets[-1])
            training(camera)
            others(camera)
        browser.close()
    for_readme(out, readme)


if __name__ == "__main__":
    with strings.language(sys.argv[3] if len(sys.argv) > 3 else strings.tag()):
        main(Path(sys.argv[1]), Path(sys.argv[2]))
