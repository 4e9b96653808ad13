"""Seeded random clicks in several tabs, and whether each shows the place of its address.

PYTHONPATH=.:tests python tests/browser/random_clicks.py --tabs 8 --minutes 60 --load 10 --seed 1

Trainings go on meanwhile, and processes that compute keep the machine busy. After each click the
tab is looked at until its place is shown, and in each frame the place drawn is compared with the
address. The command prints what was seen and ends with 1 if any tab showed another place.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

MIN_MOVES_S = 90.0  # that a place may take to be opened

# Looks at each frame: the section that is seen, and the training that is drawn in it.
WATCH = """() => {
    window.wrong = [];
    const look = () => {
        const [, kind, name] = location.hash.split('/');
        const seen = ['setup', 'run', 'list'].filter(id => document.getElementById(id)?.checkVisibility());
        const drawn = document.querySelector('#status [data-run]')?.dataset.run;
        const due = {setup: 'setup', trainings: 'list', training: 'run'}[kind];
        const other = seen.some(id => id !== due) || seen.includes('run') && drawn !== decodeURIComponent(name);
        if (kind && other) window.wrong.push(`${location.hash} shows ${seen} ${drawn}`);
        requestAnimationFrame(look);
    };
    look();
}"""
SHOWN = (
    """() => ['setup', 'run', 'list'].some(id => document.getElementById(id)?.checkVisibility())"""
)
LINKS = "#nav a, #list [data-do=open], #busy [data-do=open]"


class Tabs:
    """Open tabs of one studio, clicked at random. moves: places gone to. wrong: what a tab showed
    that is not at its address."""

    def __init__(self, pages: list, seed: int) -> None:
        self.pages, self.chance = pages, random.Random(seed)
        self.moves, self.slowest_s, self.wrong = 0, 0.0, []
        for page in pages:
            page.evaluate(WATCH)

    def click(self, count: int = 1) -> None:
        """Click so many times, each in some tab."""
        for _ in range(count):
            page = self.chance.choice(self.pages)
            way = self.chance.choices(
                ("link", "back", "forward", "reload", "type", "wait"), (10, 3, 2, 1, 2, 1)
            )[0]
            before = page.evaluate("location.hash")
            getattr(self, f"_{way}")(page)
            self._look(page)
            self.moves += page.evaluate("location.hash") != before

    def _look(self, page) -> None:
        """Wait until the tab shows something, and note what was wrong meanwhile."""
        began = time.monotonic()
        page.wait_for_function(SHOWN, timeout=1000 * MIN_MOVES_S)
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        self.wrong += page.evaluate("window.wrong.splice(0)")

    def _link(self, page) -> None:
        found = [one for one in page.locator(LINKS).all() if one.is_visible()]
        # by a script, since a redraw may take the element away before the mouse is there
        self.chance.choice(found).evaluate("one => one.click()")

    def _back(self, page) -> None:
        if page.evaluate("navigation.currentEntry.index") > 0:  # before it there was another page
            page.evaluate("history.back()")

    def _forward(self, page) -> None:
        page.evaluate("history.forward()")

    def _reload(self, page) -> None:
        self.wrong += page.evaluate("window.wrong.splice(0)")
        page.reload()
        page.wait_for_function(SHOWN, timeout=1000 * MIN_MOVES_S)
        page.evaluate(WATCH)

    def _type(self, page) -> None:
        page.evaluate("() => document.querySelector('#nav [data-do=list]')?.click()")
        page.evaluate("() => { location.hash = '#/setup' }")

    def _wait(self, page) -> None:
        page.wait_for_timeout(self.chance.choice((50, 400, 1500)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tabs", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--load", type=int, default=10, help="processes that compute meanwhile")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BLOCKSKIP_DATA"] = folder
        return _clicked(Path(folder), args)


@contextlib.contextmanager
def _busy(count: int) -> Iterator[None]:
    """Context manager: so many processes that compute."""
    words = [sys.executable, "-c", "while True: sum(range(10**6))"]
    processes = [subprocess.Popen(words) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _clicked(data: Path, args: argparse.Namespace) -> int:
    from helpers import fake_feed
    from helpers.studio_server import serve
    from playwright.sync_api import sync_playwright

    photos = fake_feed.make_photos(data / "pet")
    runs = [fake_feed.make_run(photos, 100_000, f"run {n}") for n in range(4)]
    for run in runs:
        fake_feed.feed(run, 20)
    fake_feed.seem_alive(runs[0])
    found = shutil.which("chromium") or shutil.which("google-chrome")
    with serve(data) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox", "--disable-gpu"]
        )
        context, pages = browser.new_context(), []
        for _ in range(args.tabs):
            pages.append(context.new_page())
            pages[-1].goto(server.address)
            pages[-1].wait_for_function(SHOWN, timeout=1000 * MIN_MOVES_S)
        tabs, step, clicks = Tabs(pages, args.seed), 20, 0
        until = time.monotonic() + 60 * args.minutes
        with _busy(args.load):
            while time.monotonic() < until:
                tabs.click()
                step, clicks = step + 1, clicks + 1
                fake_feed.learn(runs[0], step, step, 1.8e9 + step)
        print(f"{clicks} clicks, {tabs.moves} moves, slowest {tabs.slowest_s:.1f} s")
        print("\n".join(tabs.wrong) or "no tab showed another place than its address", flush=True)
        browser.close()
    return int(bool(tabs.wrong))


if __name__ == "__main__":
    sys.exit(main())
