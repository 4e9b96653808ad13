"""Measure how the cost of a training grows, and count what a thousand pets would take.

`python -m blockskip.lab.bench.growth FOLDER` trains the demo model on one core, short, each time with
one thing changed, three times over in turn, and prints a page. What a thousand LoRAs of a real model
take is arithmetic from lab/gpu/predict.py.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

from blockskip.core import files, idle_worker, stages
from blockskip.core.events import Done
from blockskip.core.paths import ASSETS
from blockskip.core.presets import model_row
from blockskip.core.units import GIB
from blockskip.data.photos import find_photos
from blockskip.lab.gpu import predict
from blockskip.memory.planning.host_requirements import disk_bytes
from blockskip.memory.planning.planner import choose_settings, make_plan
from blockskip.runs.run import create_run

PETS = sorted((ASSETS / "demo-photos").glob("*/"))
USUAL = {"photos": 5, "steps": 60, "rank": 16, "batch": 4, "side_px": 64}
CHANGES: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("photos", (5, 10, 20)),
    ("steps", (30, 60, 120)),
    ("batch", (2, 4, 8)),
    ("side_px", (32, 64)),
    ("rank", (4, 16, 64)),
)
ROUNDS = 3
MODEL, CARD, CARDS, THOUSAND = "flux2-klein-4b", "RTX 4090 24 GB", 8, 1000
MIB = 1 << 20


def train(case: dict[str, int], name: str) -> dict[str, float]:
    """Train a pet in a process of its own. Return seconds by stage, and bytes."""
    given = find_photos([PETS[0]])
    photos = [given[number % len(given)] for number in range(case["photos"])]
    settings = choose_settings(
        steps=case["steps"],
        rank=case["rank"],
        batch=case["batch"],
        s_min_px=case["side_px"],
        s_max_px=case["side_px"],
        preview_every=0,
        preview_steps=4,
        preview_prompts=("a photo of sks cat",),
        device="cpu",
    )
    run = create_run(settings, photos, name)
    started = run.start()
    assert started is not None
    started.wait()
    end = run.events()[0][-1]
    if not isinstance(end, Done):
        sys.exit(f"{name}: {end}")
    found = dict.fromkeys(stages.STAGES, 0.0) | end.stages
    found |= {"all": end.seconds, "folder": float(files.folder_size(run.folder))}
    return found | {"lora": float(run.export_path().stat().st_size), "ram": end.peak_rss_gib * GIB}


def measure() -> list[tuple[str, int, dict[str, float]]]:
    """Return (what was changed, to what, medians) of every case."""
    cases = [(what, value) for what, values in CHANGES for value in values]
    found: dict[tuple[str, int], list[dict[str, float]]] = {case: [] for case in cases}
    for number in range(ROUNDS):
        for what, value in cases:
            found[what, value].append(train(USUAL | {what: value}, f"{what} {value} {number}"))
    return [
        (what, value, {key: statistics.median(one[key] for one in made) for key in made[0]})
        for (what, value), made in found.items()
    ]


def thousand() -> list[str]:
    """Return what THOUSAND LoRAs of a real model take on CARDS cards, as lines of a page."""
    (row,) = (
        row
        for row in predict.work(MODEL)["rows"]
        if (row["card"], row["way"]) == (CARD, "as planned")
    )
    minutes = {share: parts["all"] for share, parts in row["minutes"].items()}
    bus = sum(value for key, value in row.items() if key.endswith("_bus_gb"))
    plan = make_plan(model=MODEL, budget_gib=row["gib"], system="Linux", free_gib=row["gib"])
    written = disk_bytes(model_row(MODEL), plan.settings)
    left = sum(written[part] for part in (stages.LATENTS, stages.TRAIN, stages.PREVIEW)) / 1e9
    hours = [THOUSAND * value / 60 / CARDS for value in minutes.values()]
    return [
        f"One LoRA of {MODEL} on an {CARD.removesuffix(' 24 GB')} takes "
        f"{' to '.join(f'{value:.0f}' for value in minutes.values())} minutes as planned, at "
        f"{' to '.join(minutes)} of the published rate, and {bus:.0f} GB cross its bus.",
        f"A thousand on {CARDS} such cards: {' to '.join(f'{value:.0f}' for value in hours)} hours, "
        f"{THOUSAND * bus / 1000 / CARDS:.1f} TB over each card's bus.",
        f"While it trains, a run takes {plan.disk_gib:.1f} GiB of the disk; of that stay {left:.2f} GB, "
        f"{THOUSAND * left / 1000:.2f} TB of a thousand.",
    ]


def page(rows: list[tuple[str, int, dict[str, float]]]) -> Iterator[str]:
    """Yield the lines of the page."""
    parts = (stages.LATENTS, stages.RESIDUALS, stages.TRAIN)
    yield f"| changed | to | {' | '.join(f'{part}, s' for part in parts)} | folder, MiB | LoRA, MiB | RAM, MiB |"
    yield "|---" * (len(parts) + 5) + "|"
    for what, value, found in rows:
        seconds = " | ".join(f"{found[part]:.2f}" for part in parts)
        sizes = " | ".join(f"{found[key] / MIB:.1f}" for key in ("folder", "lora", "ram"))
        yield f"| {what} | {value} | {seconds} | {sizes} |"
    yield ""
    yield from thousand()


def main(folder: str) -> None:
    """Measure in a folder, and print the page."""
    data = Path(folder).absolute() / "data"
    shutil.rmtree(data, ignore_errors=True)
    os.environ |= {"BLOCKSKIP_DATA": str(data), "OMP_NUM_THREADS": "1"}
    idle_worker.free()
    print("\n".join(page(measure())))


if __name__ == "__main__":
    main(sys.argv[1])
