"""Which blocks can be skipped: the masking probe of the paper, once a model (METHOD.md §1.7).

Whole LoRA is trained on some pets; then pictures of fixed prompts and noise are made with the text
hidden from the image in a span of blocks, and compared with those of the whole model: D = 1 - cosine
of their embeddings. From D of the first n and of the last m blocks follow the spans of every ratio:

    (n*, m*) = argmin over n + m = k of D_front(n) + D_back(m)

Every measurement is a line in `work`/probe.jsonl; a probe that was stopped goes on. Only the demo
model is measured here, by its own judge, whose embedding is of the pet and not of the place.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import torch
from PIL import Image

from blockskip import config, files
from blockskip.config import Settings
from blockskip.events import UserError
from blockskip.lab import plots, rows
from blockskip.lab.ablate import STEPS, append, lines
from blockskip.lab.baselines import WholeTrainer
from blockskip.lab.cells import CPU, Cell, Kitchen
from blockskip.lab.demo_world.subjects import Subject
from blockskip.lab.evaluate import PLACES, bootstrap
from blockskip.lab.masking import text_hidden

RATIOS = (0.3, 0.4, 0.5)
SLIDING_SHARE = 14 / 57  # of the blocks: the paper's 14 consecutive ones of FLUX's 57


@dataclass(frozen=True, kw_only=True)
class Plan:
    """subjects: pets to tune on, those that settings are chosen on. images: of each of the three
    prompts. minutes: stop after so many, to go on another time; 0: work through."""

    work: Path
    subjects: int = 4
    images: int = 4
    steps: int = STEPS
    minutes: float = 0.0


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
    kitchen, began = Kitchen(plan.work, plan.images), time.perf_counter()
    path = plan.work / "probe.jsonl"
    for subject in rows.subjects(plan.subjects, chosen_on=True):
        known = {line["span"] for line in lines(path) if _same(line, subject, plan, kitchen)}
        for span, each in _measured(kitchen, plan, subject, known, say):
            append(
                path,
                {
                    "subject": subject.key,
                    "span": span,
                    "steps": plan.steps,
                    "images": plan.images,
                    "model": kitchen.mark,
                    "distance": round(mean(each), 5),
                    "each": [round(x, 4) for x in each],
                },
            )
            say(f"{subject.key} {span}: {mean(each):.3f}")
            if plan.minutes and time.perf_counter() - began > plan.minutes * 60:
                return False
    return True


def _same(line: dict, subject: Subject, plan: Plan, kitchen: Kitchen) -> bool:
    told = [line[name] for name in ("subject", "steps", "images", "model")]
    return told == [subject.key, plan.steps, plan.images, kitchen.mark]


def _measured(
    kitchen: Kitchen, plan: Plan, subject: Subject, known: set[str], say: Callable[[str], None]
) -> Iterator[tuple[str, list[float]]]:
    spans = [(n, s) for n, s in probe_spans(kitchen.model.num_blocks) if n not in known]
    if not spans:
        return
    settings = Cell(rows.pick(rows.tables()["B"], ["lora"])[0], subject, 0, plan.steps).settings()
    pipe = _tuned(kitchen, plan, subject, settings, say)
    blocks = kitchen.kind.blocks(pipe.transformer)

    def embedded(span: range) -> torch.Tensor:
        with text_hidden(blocks, span, settings.text_tokens):
            return kitchen.judge.embed(_pictures(kitchen, settings, pipe))

    whole = embedded(range(0))
    for name, span in spans:
        yield name, (1 - (embedded(span) * whole).sum(1)).tolist()


def _tuned(
    kitchen: Kitchen,
    plan: Plan,
    subject: Subject,
    settings: Settings,
    say: Callable[[str], None],
) -> object:
    """The pipeline with whole LoRA trained on a pet, kept as a checkpoint in `work`."""
    torch.set_num_threads(settings.threads or 1)
    photos = kitchen.photos(subject)
    data = kitchen.data(settings, photos)
    stamp = files.fingerprint(subject.key, plan.steps, kitchen.mark)
    path = plan.work / f"tuned-{stamp}.safetensors"
    pipe, folder = kitchen.open(settings), kitchen.empty("window")
    trainer = WholeTrainer(pipe.transformer, kitchen.kind, settings, data, CPU, folder, stamp)
    if path.exists():
        trainer.load(path)
        return pipe
    for event in trainer.run():
        if event.step % 50 == 0:
            say(f"{subject.key}: step {event.step} of {plan.steps}")
    trainer.save(path)
    return pipe


def _pictures(kitchen: Kitchen, settings: Settings, pipe: object) -> list[Image.Image]:
    """The same prompts and noise each time."""
    subject = settings.subject_caption
    prompts = [subject, *(f"{subject} {words}" for words in PLACES.values())]
    found = kitchen.pictures(settings, pipe, {str(i): text for i, text in enumerate(prompts)})
    return [image for images in found.values() for image in images]


def summary(plan: Plan) -> dict:
    """What the measurements say, JSON-ready: D of every span with its 95 % interval over pictures,
    and the spans of each ratio beside the preset's. Raises UserError while nothing is complete."""
    row = config.model_row("demo")
    names = [name for name, _ in probe_spans(row.num_blocks)]
    by_pet: dict[str, dict[str, dict]] = {}
    for line in lines(plan.work / "probe.jsonl"):
        if line["steps"] == plan.steps and line["images"] == plan.images:
            by_pet.setdefault(line["subject"], {})[line["span"]] = line
    whole = {pet: told for pet, told in by_pet.items() if told.keys() >= set(names)}
    if not whole:
        raise UserError("No pet is measured yet.", "Run `blockskip lab select` again.")
    each = {n: [x for told in whole.values() for x in told[n]["each"]] for n in names}
    distance = {name: mean(told[name]["distance"] for told in whole.values()) for name in names}
    return {
        "model": "demo",
        "fingerprint": next(iter(whole.values()))[names[0]]["model"],
        "judge": "demo world judge",
        "subjects": sorted(whole),
        "steps": plan.steps,
        "images": 3 * plan.images,
        "blocks": row.num_blocks,
        "distance": {name: round(value, 4) for name, value in distance.items()},
        "distance_95": {name: bootstrap(torch.tensor(values)) for name, values in each.items()},
        "spans": {f"{r:g}": choose(distance, row.num_blocks, r) for r in RATIOS},
        "by_subject": {
            pet: {
                f"{r:g}": choose({n: told[n]["distance"] for n in names}, row.num_blocks, r)
                for r in RATIOS
            }
            for pet, told in sorted(whole.items())
        },
        "preset": {key: list(pair) for key, pair in row.spans.items()},
    }


def preset_row(said: dict) -> str:
    """Lines for presets/models.toml."""
    pets = ", ".join(said["subjects"])
    spans = "\n".join(f'"{key}" = [{n}, {m}]' for key, (n, m) in said["spans"].items())
    about = f"blockskip lab select: model {said['fingerprint'][:12]}, {pets}, seed 0, {said['steps']} steps"
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
        "1 - cosine (demo world judge)",
        [
            line("front", "the first n"),
            line("back", "the last m"),
            line("sliding", f"{wide} in a row, from block"),
        ],
    )
