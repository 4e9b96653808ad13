"""Preview pictures of a run, during training and afterwards."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from PIL import Image

from blockskip.core import files, shortage, stages
from blockskip.core.errors import Unexpected, UserError
from blockskip.core.events import Image as Shown
from blockskip.core.events import Note
from blockskip.core.flow_matching import generator
from blockskip.core.presets import model_row
from blockskip.core.settings import Settings
from blockskip.memory.placement import free_memory
from blockskip.memory.planning.oom_fallback import is_out_of_memory, least_ram, next_fallback
from blockskip.memory.planning.preset_settings import on_trained_model
from blockskip.memory.vram_cap import available_gib, room_gib
from blockskip.models import sources
from blockskip.runs import image_requests, ram_figures
from blockskip.runs.reporter import Reporter
from blockskip.sampling.loaded_model import LoadedModel
from blockskip.training.lora import restore, snapshot

log = logging.getLogger(__name__)


def preview_seeds(settings: Settings, num: int) -> list[int]:
    """Return the seeds of a run's previews, equal at every step so that pictures can be
    compared."""
    rng = generator(settings.seed, "preview")
    return [int(torch.randint(0, 2**31, (), generator=rng)) for _ in range(num)]


def with_pictures(settings: Settings) -> tuple[Settings, str]:
    """Return the settings, and a warning if the sibling that was planned for pictures is gone: they
    are then made with the trained model."""
    if not settings.preview_model:
        return settings, ""
    try:
        sources.find_model(model_row(settings.preview_model))
        return settings, ""
    except UserError as error:
        own = on_trained_model(settings)
        title = model_row(settings.model).title
        return own, f"{error.title} Pictures are made on {title} instead, which takes longer."


def write_previews(
    images: Sequence[Image.Image], prompts: Sequence[str], seeds: Sequence[int], folder: Path
) -> Iterator[tuple[Path, str]]:
    """Save pictures as NN.png with prompt and seed as metadata, yielding (path, prompt) of each."""
    for index, (image, prompt, seed) in enumerate(zip(images, prompts, seeds, strict=True)):
        path = folder / f"{index:02d}.png"
        files.write_bytes(path, image_requests.png_bytes(image, prompt, seed))
        yield path, prompt


class Previewer:
    """Sampler of pictures during training. It reports failures as warnings, and never raises."""

    def __init__(self, reporter: Reporter, model: LoadedModel) -> None:
        self.reporter, self.run, self.model = reporter, reporter.run, model

    def folder(self, step: int, large: bool = False) -> Path:
        """Return the folder of a step's pictures. large: of those in full size."""
        return self.run.previews_dir / f"{'large' if large else 'step'}-{step:05d}"

    def has_previews(self, step: int, large: bool = False) -> bool:
        """Return whether all previews of a step were written and are in the log, which shows them."""
        s = self.model.settings
        last = len(s.preview_prompts) * s.preview_images - 1
        written = last < 0 or (self.folder(step, large) / f"{last:02d}.png").exists()
        shown = {(e.step, e.large, e.index) for e in self.run.events()[0] if isinstance(e, Shown)}
        return written and shown >= {(step, large, index) for index in range(last + 1)}

    def sample_previews(self, step: int, large: bool = False) -> None:
        """Sample the previews of a step. large: in full size, for themselves: the same noise gives
        another picture at another size, so they are not compared with those of other steps."""
        self._run_with_fallback(step, lambda: self._sample_previews(step, large))

    def sample_user_prompts(
        self, step: int, prompts: Sequence[str], lora: dict, untrained: dict
    ) -> None:
        """Sample picture pairs of users' prompts (runs/image_requests.py), with the seeds of the
        run's previews. lora: the model's current parameters. untrained: their initial values."""
        requests: list[image_requests.ImageRequest] = []

        def work() -> None:
            if not requests:
                seeds = preview_seeds(self.model.settings, len(prompts))
                for prompt, seed in zip(prompts, seeds, strict=True):
                    requests.append(image_requests.enqueue(self.run, prompt, seed, 1.0, step))
            self._sample_requests(requests, lora, untrained)

        self._run_with_fallback(step, work)
        error = Unexpected("The picture could not be made.", "Training goes on; ask for it again.")
        with suppress(UserError):  # a full disk
            image_requests.mark_failed(self.run, requests, error)

    def _run_with_fallback(self, step: int, work: Callable[[], None]) -> None:
        """Report failures as warnings. On out-of-memory, retry with the next fallback."""
        short = ""
        try:
            work()
        except Exception as error:
            log.exception("preview at step %d", step)
            if is_out_of_memory(error, room_gib):
                short = "Graphics memory"
            elif shortage.is_ram_short(error):
                short = "RAM"
            else:
                self._warn_skipped(step, type(error).__name__)
        free_memory()
        self.reporter.failed_stage = ""  # the failure is handled
        if short:  # after `except`, where the failed attempt's tensors are freed
            self._fall_back(step, work, short)

    def _fall_back(self, step: int, work: Callable[[], None], short: str) -> None:
        """Retry with less memory, if that is possible. short: Graphics memory | RAM."""
        device, settings = self.model.device, self.model.settings
        if short == "RAM":
            planned = self.run.settings(original=True)
            shared = device.type in ram_figures.SHARED
            smaller = least_ram(settings, stages.PREVIEW, shared, planned)
        else:
            smaller = next_fallback(settings, stages.PREVIEW, available_gib(device))
        if smaller is None:
            what = "there is too little RAM" if short == "RAM" else "the card has too little memory"
            self._warn_skipped(step, what)
        else:
            self.model.settings, words = smaller
            self.run.apply_fallback(self.model.settings)
            text = f"{short} ran out while sampling pictures. From now on {words}."
            self.reporter.write(Note(level="warning", text=text))
            self._run_with_fallback(step, work)

    def _warn_skipped(self, step: int, reason: str) -> None:
        text = f"No preview at step {step} ({reason}); training goes on."
        self.reporter.write(Note(level="warning", text=text))

    def _sample_previews(self, step: int, large: bool) -> None:
        s = self.model.settings
        px = s.preview_px if large else s.progress_px
        texts = [p for p in s.preview_prompts for _ in range(s.preview_images)]
        if not texts:
            return
        seeds = preview_seeds(s, len(texts))
        with self.reporter.stage(stages.PREVIEW):
            self.reporter.progress(stages.PREVIEW, 0, len(texts))
            images = self.model.sample_prompts(texts, seeds, px=px)
            written = write_previews(images, texts, seeds, self.folder(step, large))
            for index, (path, prompt) in enumerate(written):
                relative = path.relative_to(self.run.folder).as_posix()
                self.reporter.write(
                    Shown(step=step, prompt=prompt, index=index, path=relative, large=large)
                )
            self.reporter.progress(stages.PREVIEW, len(texts), len(texts))

    def _sample_requests(
        self, requests: Sequence[image_requests.ImageRequest], lora: dict, untrained: dict
    ) -> None:
        num, now = len(requests), snapshot(lora)

        def generate(prompts: list[str], seeds: list[int], _: int, strength: float) -> list:
            restore(lora, now if strength else untrained)
            return self.model.sample_prompts(prompts, seeds)

        with self.reporter.stage(stages.PREVIEW):
            self.reporter.progress(stages.PREVIEW, 0, num)
            try:
                image_requests.process(self.run, requests, generate)
            finally:
                restore(lora, now)
            self.reporter.progress(stages.PREVIEW, num, num)
