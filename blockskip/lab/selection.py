"""Which blocks can be skipped: the masking probe of the paper, once a model (METHOD.md §1.7).

LoRA is trained on every block for some pets, each a run that skips nothing; then pictures of fixed
prompts and noise are made with the text hidden from the image in a span of blocks, and compared with
those of the whole model: D = 1 - cosine of their embeddings. From D of the first n and of the last m
blocks follow the spans of every ratio:

    (n*, m*) = argmin over n + m = k of D_front(n) + D_back(m)

Every measurement is a line in `work`/probe.jsonl, every tuning a run in `work`/runs: a probe that was
stopped goes on. The demo model is tuned on the demo world's pets and looked at by its judge, whose
embedding is of the pet and not of the place; other models on photos, and looked at by DINO.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Protocol

import torch
from PIL import Image

from blockskip import config, runs
from blockskip.easel import Easel
from blockskip.events import UserError
from blockskip.follow import follow
from blockskip.lab import plots, rows
from blockskip.lab.ablate import append, lines
from blockskip.lab.cells import save_photos
from blockskip.lab.embedders import DINO, Dino
from blockskip.lab.evaluate import PLACES, bootstrap
from blockskip.lab.masking import text_hidden
from blockskip.memory.planner import choose_settings
from blockskip.photos import find_photos
from blockskip.runs import Run

RATIOS = (0.3, 0.4, 0.5)
SLIDING_SHARE = 14 / 57  # of the blocks: the paper's 14 consecutive ones of FLUX's 57
FIRST_SEED = 1000  # of the noise of pictures


class Eyes(Protocol):
    """What compares pictures."""

    def embed(self, images: list[Image.Image]) -> torch.Tensor:
        """(n, D), of length 1."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """photos: a folder with a folder a pet, whose name begins with its class word (cat-mia); None:
    the demo world's pets that settings are chosen on. subjects: of them. images: of each of the three
    prompts. steps: of a tuning, 0: the model's preset. minutes: stop after so many, to go on
    another time; 0: work through. dino: see embedders.py."""

    work: Path
    model: str = "demo"
    photos: Path | None = None
    subjects: int = 4
    images: int = 4
    steps: int = 0
    budget_gib: float = 24.0
    minutes: float = 0.0
    dino: str = DINO


@dataclass(frozen=True)
class Pet:
    """Whom the model is tuned on."""

    key: str
    class_name: str
    photos: Path


def probe_spans(num_blocks: int) -> list[tuple[str, range]]:
    """All spans that are masked, by name: the first n, the last m, and the sliding ones. The whole
    is there once, as the longest front."""
    wide = max(1, round(SLIDING_SHARE * num_blocks))
    front = [(f"front-{n}", range(n)) for n in range(1, num_blocks + 1)]
    back = [(f"back-{m}", range(num_blocks - m, num_blocks)) for m in range(1, num_blocks)]
    sliding = [(f"sliding-{i}", range(i, i + wide)) for i in range(num_blocks - wide + 1)]
    return front + back + sliding


def choose(distance: Mapping[str, float], num_blocks: int, ratio: float) -> tuple[int, int]:
    """(n*, m*) for a ratio of skipped blocks; of equals the one that skips more at the front,
    whose residual is exact. distance: D by the names of `probe_spans`."""
    num = round(ratio * num_blocks)
    every = distance | {"front-0": 0.0, "back-0": 0.0}
    return min(
        ((n, num - n) for n in range(num, -1, -1)),
        key=lambda pair: round(every[f"front-{pair[0]}"] + every[f"back-{pair[1]}"], 9),
    )


def probe(plan: Plan, say: Callable[[str], None]) -> bool:
    """Measure what is missing; whether all is there. Raises UserError."""
    began, path = time.perf_counter(), plan.work / "probe.jsonl"
    spans = probe_spans(config.model_row(plan.model).num_blocks)
    eyes = _eyes(plan)

    def late() -> bool:
        return bool(plan.minutes) and time.perf_counter() - began > plan.minutes * 60

    for pet in _pets(plan):
        run = tuned(plan, pet)
        stamp = {"tuned": run.fingerprint(), "images": plan.images, "eyes": _eyes_name(plan)}
        known = {line["span"] for line in lines(path) if stamp.items() <= line.items()}
        missing = [(name, span) for name, span in spans if name not in known]
        if not missing:
            continue
        easel = Easel(run)
        whole = eyes.embed(_pictures(plan, easel, range(0)))
        for number, (name, span) in enumerate(missing, 1):
            each = (1 - (eyes.embed(_pictures(plan, easel, span)) * whole).sum(1)).tolist()
            told = {"distance": round(mean(each), 5), "each": [round(x, 4) for x in each]}
            append(path, {"subject": pet.key, "span": name} | stamp | told)
            say(f"{pet.key} {name}: {mean(each):.3f} ({number}/{len(missing)})")
            if late():
                return False
    return True


def _eyes(plan: Plan) -> Eyes:
    if plan.model == "demo":
        from blockskip.lab.demo_world.judge import load_judge

        return load_judge()
    return Dino(plan.dino)


def _eyes_name(plan: Plan) -> str:
    return "demo world judge" if plan.model == "demo" else plan.dino


def _pets(plan: Plan) -> list[Pet]:
    if plan.photos is None:
        if plan.model != "demo":
            raise UserError(
                f"{plan.model} must be tuned on photos of several pets.",
                "Name a folder with a folder a pet, such as cat-mia: --photos FOLDER",
            )
        chosen = rows.subjects(plan.subjects, chosen_on=True)
        return [Pet(s.key, s.pet.species, save_photos(s, plan.work)) for s in chosen]
    folders = sorted(folder for folder in plan.photos.iterdir() if folder.is_dir())
    named = [(folder, re.match(r"[^\W\d_]+", folder.name)) for folder in folders]
    pets = [Pet(folder.name, word[0], folder) for folder, word in named if word]
    if not pets:
        raise UserError(
            f"“{plan.photos}” holds no folder that begins with a class word.",
            "Give it a folder a pet, such as cat-mia, with the pet's photos in it.",
        )
    return pets[: plan.subjects]


def tuned(plan: Plan, pet: Pet) -> Run:
    """The pet's run that skips nothing, done. Raises UserError when it was stopped or failed."""
    folder = plan.work / "runs" / pet.key
    if (folder / "run.toml").exists():
        run = Run(folder)
    else:
        settings = choose_settings(
            model=plan.model,
            class_name=pet.class_name,
            budget_gib=plan.budget_gib,
            skip="0,0",
            steps=plan.steps or None,
            preview_every=0,
        )
        run = runs.create(settings, find_photos([pet.photos]), str(folder.resolve()))
    if run.state() != "done" and follow(run, start=run.worker() is None):
        raise UserError(
            f"Tuning on {pet.key} did not come to its end.", "Run the same command to go on."
        )
    return run


def _pictures(plan: Plan, easel: Easel, span: range) -> list[Image.Image]:
    """The same prompts and noise each time, the text hidden in the blocks of `span`."""
    subject = easel.settings.subject_caption
    prompts = [subject, *(f"{subject} {words}" for words in PLACES.values())]
    seeds = [FIRST_SEED + k for k in range(plan.images)]
    kind, blocks = easel.kind, easel.kind.blocks(easel.pipe.transformer)
    tokens = (easel.settings.preview_px // kind.pixel_multiple) ** 2
    with text_hidden(kind, blocks, span, tokens):
        asked = [prompt for prompt in prompts for _ in seeds]
        return easel.paint(asked, seeds * len(prompts))


def summary(plan: Plan) -> dict:
    """What the measurements say, JSON-ready: D of every span with its 95 % interval over pictures,
    and the spans of each ratio beside the preset's. Raises UserError while nothing is complete."""
    row = config.model_row(plan.model)
    names = [name for name, _ in probe_spans(row.num_blocks)]
    by_pet: dict[str, dict[str, dict]] = {}
    for line in lines(plan.work / "probe.jsonl"):
        if (line["images"], line["eyes"]) == (plan.images, _eyes_name(plan)):
            by_pet.setdefault(line["subject"], {})[line["span"]] = line
    whole = {pet: told for pet, told in by_pet.items() if told.keys() >= set(names)}
    if not whole:
        raise UserError("No pet is measured yet.", "Run `blockskip lab select` again.")
    run = Run(plan.work / "runs" / next(iter(whole)))
    settings, each = run.settings(), {}
    for name in names:
        each[name] = [x for told in whole.values() for x in told[name]["each"]]
    distance = {name: mean(told[name]["distance"] for told in whole.values()) for name in names}

    def spans(measured: Mapping[str, float]) -> dict[str, tuple[int, int]]:
        return {f"{r:g}": choose(measured, row.num_blocks, r) for r in RATIOS}

    return {
        "model": plan.model,
        "fingerprint": run.info()["model_fingerprint"],
        "eyes": _eyes_name(plan),
        "subjects": sorted(whole),
        "seed": settings.seed,
        "steps": settings.steps,
        "rank": settings.rank,
        "targets": settings.targets,
        "images": 3 * plan.images,
        "blocks": row.num_blocks,
        "distance": {name: round(value, 4) for name, value in distance.items()},
        "distance_95": {name: bootstrap(torch.tensor(values)) for name, values in each.items()},
        "spans": spans(distance),
        "by_subject": {
            pet: spans({name: told[name]["distance"] for name in names})
            for pet, told in sorted(whole.items())
        },
        "preset": {key: list(pair) for key, pair in row.spans.items()},
    }


def preset_row(said: dict) -> str:
    """Lines for presets/models.toml."""
    pets = ", ".join(said["subjects"])
    spans = "\n".join(f'"{key}" = [{n}, {m}]' for key, (n, m) in said["spans"].items())
    about = (
        f"blockskip lab select: model {said['fingerprint'][:12]}, {said['eyes']}, {pets}, "
        f"seed {said['seed']}, {said['steps']} steps"
    )
    return f'provenance = "{about}"\n\n[{said["model"]}.spans]\n{spans}\n'


def profile(said: dict) -> str:
    """The plot (SVG): D of the first n, the last m, and of the sliding span by its first block."""

    def line(kind: str, name: str) -> plots.Series:
        found = [key for key in said["distance"] if key.startswith(f"{kind}-")]
        points = [
            (int(key.split("-")[1]), said["distance"][key], *said["distance_95"][key])
            for key in found
        ]
        return plots.Series(name, tuple(points))

    wide = max(1, round(SLIDING_SHARE * said["blocks"]))
    return plots.lines(
        "How much a picture changes when blocks do not see the text",
        "number of blocks n, m; of the sliding span: its first block",
        f"1 - cosine ({said['eyes']})",
        [
            line("front", "the first n"),
            line("back", "the last m"),
            line("sliding", f"{wide} in a row, from block"),
        ],
    )
