"""Probe which blocks of a model can be skipped, once per model (docs/method.md §1.7).

LoRA is trained on every block for several pets, each a run that skips nothing. Then pictures of
fixed prompts and noise are generated with a span of blocks ablated, and compared with those of the
intact model: D = 1 - cosine of their embeddings. There are two ablations:

    text   hide the text from the image (the paper's probe: where the prompt is read)
    lora   disable the LoRA (ours: where the pet is learnt)

D of the first n and of the last m blocks gives the spans of every ratio:

    (n*, m*) = argmin over n + m = k of D_front(n) + D_back(m)

Presets use the spans of `lora`, since the text is read in other blocks than the pet is learnt in.

Every measurement is a line in `work`/probe.jsonl and every training a run in `work`/runs, so a
stopped probe resumes. The demo model is trained on the demo world's pets and compared by its judge,
which embeds the pet and not the place. Other models are trained on photos and compared by DINO.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Protocol

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from PIL import Image
from torch import nn

from blockskip.core import presets
from blockskip.core.errors import BadInput, WrongState
from blockskip.data.photos import find_photos
from blockskip.lab.ablation.experiment import save_photos
from blockskip.lab.ablation.subjects import subjects
from blockskip.lab.evaluation.demo_judge import PLACES
from blockskip.lab.evaluation.embedders import DINO, Dino
from blockskip.lab.measuring.json_lines import append_line, read_lines
from blockskip.lab.selection.text_masking import text_hidden
from blockskip.memory.planning.planner import choose_settings
from blockskip.runs.image_session import ImageSession
from blockskip.runs.run import Run, create_run

SLIDING_SHARE = 14 / 57  # of the blocks; the paper slides 14 of FLUX's 57
FIRST_SEED = 1000  # of the pictures' noise
PROBES = ("lora", "text")


class ImageEmbedder(Protocol):
    """An embedder of pictures, for comparing them."""

    def embed(self, images: list[Image.Image]) -> torch.Tensor:
        """Return embeddings (n, D) of length 1."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The options of `lab select`. photos: a folder with one folder per pet, named after its class
    word (cat-mia); None for the demo world's tuning pets. subjects: number of pets. images: per
    prompt, of three. steps: per training, 0 for the model's preset. minutes: time limit, 0 for
    none. dino: see embedders.py. train: starts or follows a run to its end and returns the exit
    code."""

    work: Path
    train: Callable[[Run], int]
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
    """A pet that the model is trained on."""

    key: str
    class_name: str
    photos: Path


def sliding_width(num_blocks: int) -> int:
    """Return the number of blocks in a sliding span."""
    return max(1, round(SLIDING_SHARE * num_blocks))


def probe_spans(num_blocks: int) -> list[tuple[str, range]]:
    """Return all spans to ablate, by name: the first n, the last m, and the sliding ones. The whole
    model occurs once, as the longest front."""
    width = sliding_width(num_blocks)
    front = [(f"front-{n}", range(n)) for n in range(1, num_blocks + 1)]
    back = [(f"back-{m}", range(num_blocks - m, num_blocks)) for m in range(1, num_blocks)]
    sliding = [(f"sliding-{i}", range(i, i + width)) for i in range(num_blocks - width + 1)]
    return front + back + sliding


def probe(plan: Plan, say: Callable[[str], None]) -> bool:
    """Run the missing measurements and return whether all are done. Raises UserError."""
    began, path = time.perf_counter(), plan.work / "probe.jsonl"
    spans = probe_spans(presets.model_row(plan.model).num_blocks)
    embedder = _open_embedder(plan)

    def late() -> bool:
        return bool(plan.minutes) and time.perf_counter() - began > plan.minutes * 60

    for pet in _pets(plan):
        run = tuned_run(plan, pet)
        stamp = {"tuned": run.fingerprint(), "images": plan.images, "eyes": embedder_name(plan)}
        known = {probe_key(line) for line in read_lines(path) if stamp.items() <= line.items()}
        missing = [(p, *entry) for p in PROBES for entry in spans if (p, entry[0]) not in known]
        if not missing:
            continue
        session = ImageSession(run, exact=True)
        intact = embedder.embed(_pictures(plan, session))
        for number, (probe_name, name, span) in enumerate(missing, 1):
            with _span_ablated(probe_name, session, span):
                ablated = embedder.embed(_pictures(plan, session))
            each = (1 - (ablated * intact).sum(1)).tolist()
            distances = {"distance": round(mean(each), 5), "each": [round(x, 4) for x in each]}
            append_line(
                path, {"subject": pet.key, "probe": probe_name, "span": name} | stamp | distances
            )
            say(f"{pet.key} {probe_name} {name}: {mean(each):.3f} ({number}/{len(missing)})")
            if late():
                return False
    return True


def probe_key(line: dict) -> tuple[str, str]:
    """Return the key of a measurement: its probe and span."""
    return line["probe"], line["span"]


def _span_ablated(probe_name: str, session: ImageSession, span: range) -> AbstractContextManager:
    """Return a context in which the blocks of `span` lack the LoRA, or their text for the image."""
    blocks = session.family.blocks(session.transformer)
    if probe_name == "lora":
        return lora_disabled([blocks[i][1] for i in span])
    image = (session.settings.preview_px // session.family.token_px) ** 2
    return text_hidden(session.family, blocks, span, image)


@contextmanager
def lora_disabled(blocks: Sequence[nn.Module]) -> Iterator[None]:
    """Context manager in which these blocks run without their LoRA."""
    layers = [m for block in blocks for m in block.modules() if isinstance(m, BaseTunerLayer)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def _open_embedder(plan: Plan) -> ImageEmbedder:
    if presets.model_row(plan.model).demo:
        from blockskip.runs.demo_judge import load_judge

        return load_judge()
    return Dino(plan.dino)


def embedder_name(plan: Plan) -> str:
    """Return the name of the embedder."""
    return "demo world judge" if presets.model_row(plan.model).demo else plan.dino


def _pets(plan: Plan) -> list[Pet]:
    if plan.photos is None:
        if not presets.model_row(plan.model).demo:
            raise BadInput(
                f"{plan.model} must be tuned on photos of several pets.",
                "Name a folder with a folder a pet, such as cat-mia: --photos FOLDER",
            )
        chosen = subjects(plan.subjects, for_tuning=True)
        return [Pet(s.key, s.pet.species, save_photos(s, plan.work)) for s in chosen]
    folders = sorted(folder for folder in plan.photos.iterdir() if folder.is_dir())
    named = [(folder, re.match(r"[^\W\d_]+", folder.name)) for folder in folders]
    pets = [Pet(folder.name, word[0], folder) for folder, word in named if word]
    if not pets:
        raise BadInput(
            f"“{plan.photos}” holds no folder that begins with a class word.",
            "Give it a folder a pet, such as cat-mia, with the pet's photos in it.",
        )
    return pets[: plan.subjects]


def tuned_run(plan: Plan, pet: Pet) -> Run:
    """Return the pet's finished run without skipping. Raises UserError if it was stopped or
    failed."""
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
        run = create_run(settings, find_photos([pet.photos]), str(folder.resolve()))
    if run.state() != "done" and plan.train(run):
        raise WrongState(
            f"Tuning on {pet.key} did not come to its end.", "Run the same command to go on."
        )
    return run


def _pictures(plan: Plan, session: ImageSession) -> list[Image.Image]:
    """Generate the pictures, always from the same prompts and noise."""
    subject = session.settings.subject_caption
    prompts = [subject, *(f"{subject} {words}" for words in PLACES.values())]
    seeds = [FIRST_SEED + k for k in range(plan.images)]
    return session.generate([prompt for prompt in prompts for _ in seeds], seeds * len(prompts))
