"""Run a cell of the ablation: train one row on one pet with one seed, generate pictures, judge
them.

All cells run in one process, since importing torch and diffusers takes longer than a tenth of a
cell. Each opens the model afresh, which takes 0.1 s. Photos, and the latents of draws that several
rows share, are made once.

Time is CPU time (`seconds_per_draw`), so that other work on the machine does not count. Memory is
counted by storage (lab/measuring/peak_memory.py), so that it is the same on every machine.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from blockskip.core import files, presets
from blockskip.core.errors import UserError
from blockskip.core.settings import Settings, settings_to_dict
from blockskip.data.photos import Photo, find_photos, open_photo, read_photos
from blockskip.data.schedule import build_schedule
from blockskip.data.subject_boxes import propose_box
from blockskip.lab.ablation.baselines import ClassImagesTrainer
from blockskip.lab.ablation.subjects import PET_ATTRIBUTES
from blockskip.lab.ablation.variants import Variant
from blockskip.lab.demo_world.judge_report import true_attributes
from blockskip.lab.demo_world.subjects import Subject, demo_photos
from blockskip.lab.demo_world.world import Pet, Scene
from blockskip.lab.evaluation.demo_judge import PLACES, photo_likeness
from blockskip.lab.measuring.peak_memory import PeakMeter
from blockskip.memory.planning.planner import choose_settings
from blockskip.models import sources
from blockskip.runs.demo_judge import load_judge
from blockskip.sampling.loaded_model import LoadedModel
from blockskip.training.draws import TrainingData
from blockskip.training.trainer import Trainer

NUM_PHOTOS = 5
RECIPE: dict[str, Any] = {"lr": 3e-3, "reuse": 1, "threads": 1}
NUM_CLASS_IMAGES, CLASS_SEED = 24, 5000  # no judged picture has noise of CLASS_SEED
FIRST_SEED = 1000  # for the noise of judged pictures, the same in every cell
MAX_CACHED_LATENTS = 4  # sets of draws


@dataclass(frozen=True)
class Experiment:
    """A cell: a row, a pet, a seed and the number of training steps."""

    variant: Variant
    subject: Subject
    seed: int
    steps: int

    @property
    def name(self) -> str:
        """The pet and seed, without the row. Seeds what is random in a row, such as its split."""
        return f"{self.subject.key}-{self.seed}"

    def settings(self) -> Settings:
        """Return the demo model's defaults with the row's override applied, and with the recipe of
        the first cells where the row does not say otherwise."""
        default = choose_settings(
            model=self.variant.model,
            class_name=self.subject.pet.species,
            seed=self.seed,
            steps=self.steps,
            **RECIPE,
        )
        return self.variant.override(default, self.name)


class ExperimentRunner:
    """Runs the cells of one model. work: the folder for photos and windows. images: pictures per
    prompt."""

    def __init__(self, work: Path, images: int = 8, model: str = "demo") -> None:
        self.work, self.images = work, images
        self.source = sources.find_model(presets.model_row(model))
        self.judge = load_judge()
        self.model_hash = self.source.fingerprint()
        self._latents: dict[str, Tensor] = {}
        self._peaks: dict[str, dict] = {}

    def config_hash(self, experiment: Experiment) -> str:
        """Return a fingerprint of everything that a cell's figures depend on, except the code."""
        trainer = experiment.variant.trainer.__name__ if experiment.variant.trainer else "none"
        boxed = ("framed",) if experiment.variant.framed else ()
        shift = experiment.variant.sampler_shift
        shifted = (shift,) if shift != 1.0 else ()
        settings, images = settings_to_dict(experiment.settings()), self.images
        return files.fingerprint(
            settings, trainer, self.model_hash, repr(experiment.subject), images, *boxed, *shifted
        )

    def run(self, experiment: Experiment) -> dict:
        """Return the figures of a cell, JSON-ready. A training that fails is a result with
        `failed`."""
        settings, began = experiment.settings(), time.perf_counter()
        torch.set_num_threads(settings.threads or 1)
        figures = {
            "row": experiment.variant.key,
            "subject": experiment.subject.key,
            "seed": experiment.seed,
            "steps": settings.steps if experiment.variant.trainer else 0,
            "front": settings.plan.front,
            "back": settings.plan.back,
            "recipe": self.config_hash(experiment),
        }
        photos = self.photos(experiment.subject)
        if experiment.variant.framed:
            photos = [replace(photo, box=propose_box(open_photo(photo.path))) for photo in photos]
        try:
            model, costs = self._train(experiment, settings, photos)
        except UserError as error:
            return figures | {"failed": error.title}
        figures |= costs | self._judge(experiment, settings, photos, model)
        return figures | {"wall_seconds": round(time.perf_counter() - began, 1)}

    def _train(
        self, experiment: Experiment, settings: Settings, photos: Sequence[Photo]
    ) -> tuple[LoadedModel, dict]:
        """Return the trained model and the cost of training it. Raises UserError if training
        fails."""
        if experiment.variant.trainer is None:
            return self.open_model(settings), {"seconds_per_draw": 0.0, "peak_bytes": 0}
        data = self.training_data(settings, photos)
        if issubclass(experiment.variant.trainer, ClassImagesTrainer):
            data = self._with_class_images(settings, data)
        if experiment.variant.key not in self._peaks:
            self._peaks[experiment.variant.key] = self._peak_memory(experiment, settings, data)
        model, folder = self.open_model(settings), self.cleared_folder("window")
        began, losses = time.process_time(), []
        trainer = self._trainer(experiment, settings, data, model, folder)
        losses = [event.loss for event in trainer.run()]
        seconds = time.process_time() - began
        uses = settings.steps * settings.plan.draws_per_step
        return model, {
            "seconds_per_draw": round(seconds / uses, 5),
            **self._peaks[experiment.variant.key],
            "final_loss": round(sum(losses[-50:]) / len(losses[-50:]), 5),
        }

    def open_model(self, settings: Settings) -> LoadedModel:
        """Return a freshly opened model on the CPU."""
        return LoadedModel(settings.changed(device="cpu"), self.source)

    def _trainer(
        self,
        experiment: Experiment,
        settings: Settings,
        data: TrainingData,
        model: LoadedModel,
        folder: Path,
    ) -> Trainer:
        transformer, device = model.transformer, model.device
        return experiment.variant.trainer(
            transformer, model.family, settings, data, device, folder, "cell"
        )

    def _peak_memory(self, experiment: Experiment, settings: Settings, data: TrainingData) -> dict:
        """Return the peak bytes of one training step, weights included, and of computing one
        window. Weights that are not in use stay in their memory-mapped file."""
        settings = settings.changed(ram_weights_gib=0)
        model, folder = self.open_model(settings), self.cleared_folder("peak")
        with PeakMeter() as meter:
            trainer = self._trainer(experiment, settings, data, model, folder)
            meter.restart()
            trainer.make_window(0)
            window = meter.peak_bytes
            meter.restart()
            next(iter(trainer.run()))
        return {"peak_bytes": meter.peak_bytes, "window_peak_bytes": window}

    def _judge(
        self,
        experiment: Experiment,
        settings: Settings,
        photos: Sequence[Photo],
        model: LoadedModel,
    ) -> dict:
        """Generate pictures for each prompt and return the judge's likeness, attributes and
        places."""
        model.pipe.scheduler.set_shift(experiment.variant.sampler_shift)
        subject, pet = settings.subject_caption, experiment.subject.pet
        prompts = {"tuned": subject} | {k: f"{subject} {words}" for k, words in PLACES.items()}
        pictures = self.sample_prompts(model, prompts | {"class_word": settings.class_caption})
        self._save_strip(experiment, [image for name in pictures for image in pictures[name][:4]])
        real = [open_photo(photo.path) for photo in photos]
        each = {
            name: [round(float(x), 4) for x in self.judge.identity(images, real)]
            for name, images in pictures.items()
        }
        answers = {name: self.judge.attributes(images) for name, images in pictures.items()}
        asked = [x for name in prompts for x in each[name]]
        places = [answer["background"] == place for place in PLACES for answer in answers[place]]
        return {
            "identity": round(sum(asked) / len(asked), 4),
            "attributes": _mean(
                [_attribute_accuracy(pet, answer) for name in prompts for answer in answers[name]]
            ),
            "places_obeyed": _mean(places),
            "class_word": _mean(each["class_word"]),
            "photos_identity": photo_likeness(self.judge, real),
            "each": each,
        }

    def _save_strip(self, experiment: Experiment, images: Sequence[Image.Image]) -> None:
        """Save the first pictures of each prompt side by side."""
        side = images[0].width
        strip = Image.new("RGB", (side * len(images), side))
        for k, image in enumerate(images):
            strip.paste(image, (side * k, 0))
        path = (
            self.work
            / "pictures"
            / f"{experiment.variant.key} {experiment.name} {experiment.steps}.png"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        strip.save(path)

    def sample_prompts(
        self, model: LoadedModel, prompts: dict[str, str], first_seed: int = FIRST_SEED
    ) -> dict[str, list[Image.Image]]:
        """Return pictures of each prompt, from the same noise in every cell."""
        text = model.encode([*prompts.values(), ""])
        rows = [i for i in range(len(prompts)) for _ in range(self.images)]
        seeds = [first_seed + k for k in range(self.images)] * len(prompts)
        images = model.sample(text.rows(rows), text.rows([len(prompts)]), seeds)
        n = self.images
        return {name: images[i * n : (i + 1) * n] for i, name in enumerate(prompts)}

    def training_data(self, settings: Settings, photos: Sequence[Photo]) -> TrainingData:
        """Return the draws with their encoded text and latents."""
        model = self.open_model(settings)
        text = model.encode([settings.subject_caption, settings.class_caption, ""])
        draws = build_schedule(photos, settings, model.family.pixel_multiple)
        crops = [(d.photo, d.flip, d.left, d.top, d.side) for d in draws]
        shas = [photo.sha for photo in photos]
        key = files.fingerprint(shas, crops, settings.plan.side_px, settings.plan.s_max_px)
        if key not in self._latents:
            while len(self._latents) >= MAX_CACHED_LATENTS:
                del self._latents[next(iter(self._latents))]
            self._latents[key] = model.encode_draws(photos, draws)
        return TrainingData(draws, self._latents[key], text, [0] * len(photos), 1, 2)

    def _with_class_images(self, settings: Settings, data: TrainingData) -> TrainingData:
        """Replace the latents of bare-class-word draws by those of the untrained model's
        pictures."""
        folder = self.work / "class-images" / settings.model / settings.class_name
        if not folder.exists():
            self._save_class_images(settings, folder)
        photos, _ = read_photos(find_photos([folder]), settings.class_caption)
        model = self.open_model(settings)
        draws = build_schedule(photos, settings, model.family.pixel_multiple)
        rows = [draw.index for draw in data.draws if draw.prior]
        class_draws = [draws[i] for i in rows]
        latents = data.latents.clone()
        latents[rows] = model.encode_draws(photos, class_draws)
        return replace(data, latents=latents)

    def _save_class_images(self, settings: Settings, folder: Path) -> None:
        partial, model = self.cleared_folder("class-images-partial"), self.open_model(settings)
        partial.mkdir(parents=True)
        for start in range(0, NUM_CLASS_IMAGES, self.images):
            prompts = {"class": settings.class_caption}
            images = self.sample_prompts(model, prompts, CLASS_SEED + start)["class"]
            for k, image in enumerate(images, start):
                image.save(partial / f"{k:02}.png")
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial.rename(folder)

    def photos(self, subject: Subject) -> list[Photo]:
        """Return NUM_PHOTOS photos of a pet, as files."""
        folder = save_photos(subject, self.work)
        good, _ = read_photos(find_photos([folder]), f"a photo of sks {subject.pet.species}")
        return good

    def cleared_folder(self, name: str) -> Path:
        """Delete the folder of that name if it exists, and return its path."""
        folder = self.work / name
        shutil.rmtree(folder, ignore_errors=True)
        return folder


def save_photos(subject: Subject, work: Path) -> Path:
    """Return a folder with NUM_PHOTOS photos of a pet, made if it does not exist."""
    folder = work / "photos" / subject.key
    if not folder.exists():
        partial = folder.with_name(f"{subject.key}-partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for k, photo in enumerate(demo_photos(subject, NUM_PHOTOS)):
            Image.fromarray(photo).save(partial / f"{k}.png")
        partial.rename(folder)
    return folder


def _attribute_accuracy(pet: Pet, answers: dict[str, str]) -> float:
    """Return the share of the pet's attributes in the judge's answers, for the better mirroring."""
    return max(
        sum(answers[name] == true[name] for name in PET_ATTRIBUTES) / len(PET_ATTRIBUTES)
        for true in (
            true_attributes(pet, Scene("meadow", mirror=mirror)) for mirror in (False, True)
        )
    )


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4)
