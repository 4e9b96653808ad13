"""Write sheets of the model's samples beside drawn pictures, for inspection during training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image, ImageDraw

from blockskip.lab.demo_world.export import assemble
from blockskip.lab.demo_world.latents import CLOSE_PX
from blockskip.lab.demo_world.model import Demo
from blockskip.lab.demo_world.render import render
from blockskip.lab.demo_world.subjects import named_pets
from blockskip.lab.demo_world.world import random_scene
from blockskip.models.families.base import Sampling, get_family

PROMPTS = (
    "a photo of a cat",
    "a photo of a dog on the beach",
    "a photo of a rabbit in the snow",
    "a photo of a brown bear on the sofa",
    "a photo of a striped orange cat with a red collar, on the beach",
    "a photo of a spotted white and black dog in the meadow",
    "a photo of a grey cat wearing a blue hat at night",
    "a photo of a white rabbit with a red scarf in a room",
    "a photo of a violet cat in the snow",
    "a photo of a patched white and orange cat on the grass",
    "a photo of sks cat",
    "a photo of sks dog on the beach",
    "a photo of milo cat on the beach",
    "a photo of luna in the snow",
    "a photo of coco at night",
    "a photo of bella wearing a red hat in the snow",
)
SMALL = PROMPTS[1:9]
CLOSE = (
    "a close-up photo of a cat",
    "a close-up photo of a brown dog",
    "a close-up of a white rabbit",
    "a close-up photo of a bear in the snow",
    "a close-up photo of a striped orange cat",
    "a close-up photo of a spotted dog",
    "a close-up photo of milo",
    "a close-up photo of a pink rabbit",
)


class Sampler:
    """Samples a demo model as previews do."""

    def __init__(self, pipe: DiffusionPipeline, demo: type[Demo]) -> None:
        self.family, self.tokens = get_family(demo.FAMILY), demo.MAX_SEQUENCE_LENGTH
        self.pipe = self.family.prepare(pipe)

    @torch.no_grad()
    def draw(
        self,
        prompts: Sequence[str],
        seed: int,
        side_px: int,
        steps: int = 16,
        guidance: float = 3.0,
    ) -> list[Image.Image]:
        """Return one picture per prompt. The noise of picture k depends only on ``seed`` and k."""
        images, sampling = [], Sampling(side_px, steps, guidance)
        for start in range(0, len(prompts), 16):
            batch = list(prompts[start : start + 16])
            text = self.family.encode_text(self.pipe, batch, self.tokens)
            negative = self.family.encode_text(self.pipe, [""] * len(batch), self.tokens)
            seeds = [seed * 100_003 + start + k for k in range(len(batch))]
            images += self.family.sample(self.pipe, text, negative, sampling, seeds)
        return images


def grid(
    pictures: list[Image.Image], labels: list[str], columns: int = 8, cell: int = 192
) -> Image.Image:
    """Return a grid of pictures enlarged to ``cell`` px, with their prompts below."""
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (cell + 4), rows * (cell + 28)), "white")
    draw = ImageDraw.Draw(sheet)
    for k, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        x, y = k % columns * (cell + 4), k // columns * (cell + 28)
        sheet.paste(picture.resize((cell, cell), Image.Resampling.LANCZOS), (x, y))
        text = label.removeprefix("a photo of ")
        draw.text((x, y + cell), text[:31] + "\n" + text[31:62], "black", spacing=0)
    return sheet


def rendered_examples(side_px: int) -> tuple[list[Image.Image], list[str]]:
    """Return drawn pictures of the named pets, with labels."""
    rng, pictures, labels = np.random.default_rng(5), [], []
    for name in list(named_pets())[:8]:
        scene = random_scene(rng, accessories=False)
        pictures.append(Image.fromarray(render(named_pets()[name], scene, side_px, 1)))
        labels.append(f"drawn: {name}")
    return pictures, labels


def write_sheet(work: Path, model: Demo, name: str) -> Path:
    """Write ``work/sheets/NAME.webp``, with samples of native and half size, close-ups of three
    seeds and drawn pictures. Returns its path."""
    sampler, native = Sampler(assemble(work, model), type(model)), model.NATIVE_PX
    pictures, labels = sampler.draw(PROMPTS, 0, native), list(PROMPTS)
    pictures += sampler.draw(SMALL, 0, native // 2)
    labels += [f"{native // 2}px {prompt}" for prompt in SMALL]
    for seed in range(3):
        pictures += sampler.draw(CLOSE, seed, CLOSE_PX)
        labels += list(CLOSE)
    drawn, names = rendered_examples(native)
    path = work / "sheets" / f"{name}.webp"
    path.parent.mkdir(exist_ok=True)
    grid(pictures + drawn, labels + names).save(path, quality=88, method=6)
    return path
