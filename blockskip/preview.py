"""Adapter → sample images, from the full model with the LoRA as it is now."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path

import torch
from diffusers import FirstBlockCacheConfig
from PIL import Image
from torch import Tensor, nn

from blockskip import coarse, ddit, encode, files, painting
from blockskip.cache import cached, step_cache
from blockskip.config import Settings
from blockskip.events import Image as Shown
from blockskip.events import Note, UserError
from blockskip.families.base import Family, Sampling, Text
from blockskip.flow import generator
from blockskip.memory.ease import eased, ran_out
from blockskip.memory.placement import free, replaced, resident
from blockskip.memory.walk import beside, layerwise
from blockskip.place import adapter_file
from blockskip.report import Reporter
from blockskip.skipping import restore, snapshot

log = logging.getLogger(__name__)
CPU = torch.device("cpu")
TOGETHER = 8  # pictures that are sampled at the same time
TILE_PX = 512


def preview_seeds(settings: Settings, num: int) -> list[int]:
    """Seeds of a run's previews: the same at every step, so that pictures can be compared."""
    source = generator(settings.seed, "preview")
    return [int(torch.randint(0, 2**31, (), generator=source)) for _ in range(num)]


@torch.no_grad()
def sample(
    family: Family,
    pipe: object,
    text: Text,
    negative: Text,
    sampling: Sampling,
    seeds: Sequence[int],
    device: torch.device,
    rows: int = TOGETHER,
    tiled: bool = False,
    cache: object | None = None,
    dynamic: ddit.Dynamic | None = None,
) -> list[Image.Image]:
    """One picture a row of `text` (B, S, ·); negative: one row, used where the model needs it.

    Several pictures are made together; each sampling step brings every block that is not there
    once. rows: of them on `device` at a time, where the others wait in RAM. tiled: the VAE decodes
    them in tiles. cache: see cache.cached; dynamic: chooses the size of patches in every step. Both
    are made of the model as it is.
    """
    images, model = [], pipe.transformer
    waits = device if rows >= TOGETHER else CPU
    with ExitStack() as stack:
        stack.enter_context(replaced(model, layerwise(model, family, rows, device)))
        stack.enter_context(resident(device, model))
        if rows < TOGETHER:
            stack.enter_context(beside(model, rows, device))
        stack.enter_context(decoding(pipe.vae, device, rows, tiled))
        for start in range(0, len(seeds), TOGETHER):
            some = range(start, min(start + TOGETHER, len(seeds)))
            with (
                cached(pipe, family, cache) as resting,
                dynamic.working(resting) if dynamic else nullcontext(),
            ):
                images += family.sample(
                    pipe,
                    text.rows(some).to(waits),
                    negative_rows(negative, len(some), waits),
                    sampling,
                    [seeds[i] for i in some],
                )
    return images


def quickened(settings: Settings, steps: int, kind: Family, model: nn.Module) -> dict[str, object]:
    """`cache` and `dynamic` of `sample`, as a run's preview speed asks for so many steps."""
    cached = {"cache": step_cache(settings.model, settings.preview_speed, steps)}
    try:
        found = settings.preview_speed == "fastest" and ddit.calibrated(settings.model, steps)
        if not found:
            return cached
        schedule, threshold = found
        adapters, _ = coarse.load(adapter_file(settings.model), model, kind)
    except UserError:
        log.exception("pictures are sampled without larger patches")
        return cached
    dynamic = ddit.Dynamic(model, kind, adapters, schedule)
    return {"cache": FirstBlockCacheConfig(threshold), "dynamic": dynamic}


@contextmanager
def decoding(vae: nn.Module, device: torch.device, rows: int, tiled: bool) -> Iterator[None]:
    """Inside, the VAE decodes on `device`: there all the time where there is room for TOGETHER
    pictures, else only while it decodes, one picture after the other."""
    before = tile(vae) if tiled else {}
    try:
        if rows >= TOGETHER:
            with resident(device, vae):
                yield
            return
        whole = vae.decode

        def decode(latents: Tensor, **how: object) -> object:
            with resident(device, vae):
                parts = [
                    whole(one.to(device), return_dict=False)[0].cpu() for one in latents.split(1)
                ]
            return (torch.cat(parts),)

        vae.decode = decode
        try:
            yield
        finally:
            del vae.decode
    finally:
        for name, value in before.items():
            setattr(vae, name, value)


def tile(vae: nn.Module) -> dict[str, int]:
    """Let the VAE work in tiles of TILE_PX; gives what was set before. Every class of VAE has its
    own names for the sizes of tiles."""
    names = ("use_tiling", "tile_sample_", "tile_latent_")
    before = {name: value for name, value in vars(vae).items() if name.startswith(names)}
    side = next(value for name, value in before.items() if name.startswith("tile_sample_min"))
    for name, value in before.items():
        setattr(vae, name, True if name == "use_tiling" else value * TILE_PX // side)
    return before


def negative_rows(negative: Text, rows: int, device: torch.device) -> Text:
    """The one row of `negative` repeated."""
    return negative.rows([0] * rows).to(device)


def write_previews(
    images: Sequence[Image.Image], prompts: Sequence[str], seeds: Sequence[int], folder: Path
) -> Iterator[tuple[Path, str]]:
    """Save pictures as NN.png with prompt and seed inside; gives (path, prompt) of each."""
    for index, (image, prompt, seed) in enumerate(zip(images, prompts, seeds, strict=True)):
        path = folder / f"{index:02d}.png"
        files.write_bytes(path, painting.png(image, prompt, seed))
        yield path, prompt


class Previewer:
    """Sample pictures of a run while it trains; whatever goes wrong is said and never stops it.

    text: of the run's preview prompts, the empty prompt last.
    """

    def __init__(
        self, report: Reporter, kind: Family, pipe: object, text: Text, device: torch.device
    ) -> None:
        self.report, self.run, self.settings = report, report.run, report.run.settings()
        self.kind, self.pipe, self.text, self.device = kind, pipe, text, device

    def folder(self, step: int) -> Path:
        """Where the pictures of a step are."""
        return self.run.previews_dir / f"step-{step:05d}"

    def make(self, step: int) -> None:
        """The pictures of a step."""
        self._attempt(step, lambda: self._make(step))

    def own(self, step: int, prompts: Sequence[str], lora: dict, untrained: dict) -> None:
        """Pairs of pictures of people's own prompts (painting.py), with the seeds of the run's
        previews. lora: the model's parameters as they are now; untrained: what they began as."""
        requests: list[painting.Picture] = []

        def work() -> None:
            if not requests:
                seeds = preview_seeds(self.settings, len(prompts))
                for prompt, seed in zip(prompts, seeds, strict=True):
                    requests.append(painting.write(self.run, prompt, seed, 1.0, step))
            self._own(requests, lora, untrained)

        self._attempt(step, work)
        why = UserError("The picture could not be made.", "Training goes on; ask for it again.")
        with suppress(UserError):  # a full disk
            painting.fail(self.run, requests, why)

    def _attempt(self, step: int, work: Callable[[], None]) -> None:
        """Whatever goes wrong is said. If the card is too small, again in the next smaller way."""
        smaller = None
        try:
            work()
        except Exception as error:
            log.exception("preview at step %d", step)
            if not ran_out(error):
                self._say(step, type(error).__name__)
            elif (smaller := eased(self.settings, "preview")) is None:
                self._say(step, "the card has too little memory")
        free()
        self.report.broken_in = ""  # it is said or mended, and over
        if smaller is not None:  # out here, where what failed is let go
            self.settings, words = smaller
            self.run.ease(self.settings)
            text = f"Graphics memory ran out while sampling pictures. From now on {words}."
            self.report.say(Note(level="warning", text=text))
            self._attempt(step, work)

    def _say(self, step: int, why: str) -> None:
        text = f"No preview at step {step} ({why}); training goes on."
        self.report.say(Note(level="warning", text=text))

    def _make(self, step: int) -> None:
        s = self.settings
        texts = [p for p in s.preview_prompts for _ in range(s.preview_images)]
        if not texts:
            return
        seeds = preview_seeds(s, len(texts))
        with self.report.stage("preview"):
            self.report.progress("preview", 0, len(texts))
            rows = self.text.rows(range(len(seeds)))
            images = self._sample(rows, self.text.rows([len(seeds)]), seeds)
            written = write_previews(images, texts, seeds, self.folder(step))
            for index, (path, prompt) in enumerate(written):
                relative = path.relative_to(self.run.folder).as_posix()
                self.report.say(Shown(step=step, prompt=prompt, index=index, path=relative))
            self.report.progress("preview", len(texts), len(texts))

    def _own(self, requests: Sequence[painting.Picture], lora: dict, untrained: dict) -> None:
        num, now = len(requests), snapshot(lora)

        def paint(prompts: list[str], seeds: list[int], _: int, strength: float) -> list:
            restore(lora, now if strength else untrained)
            tokens = self.settings.text_tokens
            text = encode.encode_captions(self.kind, self.pipe, [*prompts, ""], tokens, self.device)
            return self._sample(text.rows(range(len(prompts))), text.rows([len(prompts)]), seeds)

        with self.report.stage("preview"):
            self.report.progress("preview", 0, num)
            try:
                painting.fulfil(self.run, requests, paint)
            finally:
                restore(lora, now)
            self.report.progress("preview", num, num)

    def _sample(self, text: Text, negative: Text, seeds: Sequence[int]) -> list[Image.Image]:
        s = self.settings
        return sample(
            self.kind,
            self.pipe,
            text,
            negative,
            Sampling(s.preview_px, s.preview_steps, s.preview_guidance),
            seeds,
            self.device,
            s.preview_batch,
            s.preview_tiled,
            **quickened(s, s.preview_steps, self.kind, self.pipe.transformer),
        )
