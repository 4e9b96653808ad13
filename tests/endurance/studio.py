"""One studio for a long time: fifty trainings one after the other, and the ticks of eight tabs."""

from __future__ import annotations

import json
import os
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from endurance import meters
from helpers import fake_feed, studio_server

from blockskip.core import processes
from blockskip.core.paths import ASSETS
from blockskip.core.settings import Settings
from blockskip.memory.planning.planner import choose_settings
from blockskip.runs.run import Run, create_run, find_run

PET = sorted((ASSETS / "demo-photos").glob("*/"))[0]
TABS = 8
STEPS = 10  # of a training that begins with an upload; the fewest that the page offers
UPLOADED = 17  # every so many trainings one begins so; the others are resumed, and shorter
LONGEST_S = 300.0


@dataclass
class Tab:
    """A tab of the page as the studio sees it. view: as screen.page_updates."""

    server: studio_server.Server
    function: int  # Gradio's number of the tick
    name: str
    view: str
    tokens: str = ""
    number: int = 0

    def tick(self) -> None:
        """Ask for what changed, and remember what is shown now."""
        self.number += 1
        body = {
            "data": [self.view, self.tokens, str(self.number)],
            "fn_index": self.function,
            "session_hash": self.name,
        }
        status, text = self.server.get(
            "/gradio_api/run/predict",
            json.dumps(body).encode(),
            Content_Type="application/json",
            Origin=self.server.url,
        )
        assert status == 200, text
        *_, tokens, answered = json.loads(text)["data"]
        assert answered == str(self.number), answered
        self.tokens = tokens if isinstance(tokens, str) else self.tokens


@contextmanager
def opened(data: Path) -> Iterator[tuple[studio_server.Server, psutil.Process]]:
    """Context manager: a studio of its own for this data folder."""
    os.environ |= {"BLOCKSKIP_DATA": str(data), "OMP_NUM_THREADS": "1"}
    with studio_server.serve(data) as server:
        yield server, psutil.Process(server.process.pid)


def tick_number(server: studio_server.Server) -> int:
    """Return Gradio's number of the page's tick."""
    found = [d["id"] for d in server.config()["dependencies"] if d.get("api_name") == "tick"]
    assert found, "the page has no tick"
    return found[0]


def upload(server: studio_server.Server, photos: list[Path]) -> list[dict]:
    """Upload photos as a browser does. Returns what the page sends of them."""
    sign = "endurance"
    parts = b"".join(
        f'--{sign}\r\nContent-Disposition: form-data; name="files"; filename="{photo.name}"\r\n'
        f"Content-Type: image/jpeg\r\n\r\n".encode()
        + photo.read_bytes()
        + b"\r\n"
        for photo in photos
    )
    kind = f"multipart/form-data; boundary={sign}"
    status, text = server.get(
        "/gradio_api/upload",
        parts + f"--{sign}--\r\n".encode(),
        Content_Type=kind,
        Origin=server.url,
    )
    assert status == 200, text
    return [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in json.loads(text)]


def call(server: studio_server.Server, name: str, *values: object) -> object:
    """Call an endpoint for programs."""
    place = f"/gradio_api/call/{name}"
    body = json.dumps({"data": values}).encode()
    json_headers = {"Content_Type": "application/json", "Origin": server.url}
    status, text = server.get(place, body, **json_headers)
    assert status == 200, text
    address = f"{server.url}{place}/{json.loads(text)['event_id']}"
    request = urllib.request.Request(address, headers=server.headers)
    with urllib.request.urlopen(request, timeout=LONGEST_S) as answer:
        said = answer.read().decode("utf-8")
    assert "event: complete" in said, said
    return json.loads(said.rpartition("data: ")[2])[0]


def train_once(server: studio_server.Server, number: int) -> Run:
    """Let the studio train the demo model, and return the run when it is done."""
    if number % UPLOADED == 0:
        photos = upload(server, sorted(PET.glob("*.jpg"))[:4])
        answers = ("cat", "Momo", "demo", 8, STEPS, number, 4, "fastest", True)
        run = find_run(str(call(server, "train", photos, *answers)))
    else:
        run = create_run(_short(number), sorted(PET.glob("*.jpg"))[:2], f"short {number}")
        call(server, "resume", run.name)
    tab = Tab(server, tick_number(server), f"watching-{number}", run.name)
    until = time.monotonic() + LONGEST_S
    while run.state() in ("new", "running") and time.monotonic() < until:
        tab.tick()
        time.sleep(0.5)
    assert run.state() == "done", run.state()
    if number % UPLOADED == 0:
        tab.tick()  # the results, which begin to measure the likeness
    return run


def _short(number: int) -> Settings:
    return choose_settings(
        steps=2, batch=1, preview_every=0, preview_steps=1, preview_prompts=("a cat",), seed=number
    )


def many_runs(data: Path, count: int, tell: Callable[[int], None]) -> dict:
    """Train `count` times in one studio. Returns samples, one a run, and the sizes of its files."""
    samples, grown = [], []
    with opened(data) as (server, process):
        tabs: list[Tab] = []
        for number in range(count):
            run = train_once(server, number)
            if not tabs:  # not the list, which has one row more each time, up to 60
                ticks = tick_number(server)
                tabs = [Tab(server, ticks, f"run-tab-{view}", view) for view in ("", run.name)]
            _wait_for_helpers(process)
            before = meters.processor_ms(process)
            for tab in tabs * 10:
                tab.tick()
            answer = (meters.processor_ms(process) - before) / (10 * len(tabs))
            held = meters.of_process(process)
            held["temporary files"] = meters.temporary_files(data)
            held[meters.KEPT] = sum(
                meters.of_process(child)[meters.OWN] for child in _workers(process)
            )
            samples.append(held | {meters.ANSWER: answer})
            grown.append(meters.sizes(data))
            tell(number + 1)
    return {"samples": samples, "sizes": grown}


def _wait_for_helpers(process: psutil.Process) -> None:
    """Wait until what the results page has begun is over, such as a measurement. The worker stays
    for the next training."""
    until = time.monotonic() + LONGEST_S
    while time.monotonic() < until:
        others = set(process.children()) - set(_workers(process))
        if not any(_works(child) for child in others):
            break
        time.sleep(0.2)


def _workers(process: psutil.Process) -> list[psutil.Process]:
    """Return the processes that train, or keep a model open for the next training."""
    return [
        child
        for child in process.children()
        if _works(child) and "blockskip.runs.worker_entry" in child.cmdline()
    ]


def _works(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def many_ticks(data: Path, rounds: int, every: int, tell: Callable[[int], None]) -> dict:
    """Let eight tabs tick `rounds` times each, all at one studio, while a run goes on. Every
    `every` rounds is a sample. Nothing is shared among tabs but what the studio itself shares."""
    samples: list[dict[str, float]] = []
    with opened(data) as (server, process):
        photos = fake_feed.make_photos(data.parent / "photos")
        done = [fake_feed.make_run(photos, 12, f"done {n}") for n in range(4)]
        for each in done:
            fake_feed.feed(each, 12)
            each.append(fake_feed.done(each))
        busy = fake_feed.make_run(photos, 4 * rounds, "busy")
        views = ["", "*", busy.name, busy.name, *(each.name for each in done)]
        number = tick_number(server)
        tabs = [Tab(server, number, f"tab-{n}", view) for n, view in enumerate(views[:TABS])]
        with processes.held(busy.lock_path):
            fake_feed.feed(busy, 1)
            before = meters.processor_ms(process)
            for round_ in range(rounds):
                if round_ % 50 == 0:
                    fake_feed.learn(busy, round_ // 50 + 1, round_ // 50 + 1, 1.8e9 + round_)
                for tab in tabs:
                    tab.tick()
                if (round_ + 1) % every == 0:
                    now = meters.processor_ms(process)
                    held = meters.of_process(process)
                    held["temporary files"] = meters.temporary_files(data)
                    samples.append(held | {meters.ANSWER: (now - before) / (every * len(tabs))})
                    before = now
                    tell(round_ + 1)
    count = f"{rounds * len(tabs):,}"
    return {"samples": samples, "sizes": [meters.sizes(data)], "count": count}
