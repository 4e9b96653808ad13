"""Evaluate the demo model, and runs on it, by the demo world's judge (docs/method.md §4).

Subject fidelity is the judge's mean cosine between a picture and the photos. Prompt fidelity is the
share of pictures in which the judge sees what the prompt asked for. These are not DINO or CLIP
scores. The judge cannot evaluate real photos, or models of real pictures.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from blockskip.core import files, presets
from blockskip.lab.demo_world.captions import fresh_captions
from blockskip.lab.demo_world.pretrain import demo_class_of
from blockskip.lab.demo_world.render import render
from blockskip.lab.demo_world.sheets import Sampler
from blockskip.lab.demo_world.vae import held_out_pictures, psnr
from blockskip.lab.demo_world.world import Pet, Scene
from blockskip.lab.measuring.confidence import bootstrap
from blockskip.lab.measuring.sheets import contact_sheet, save_sheet, square
from blockskip.memory.open_model import disable_progress_bars
from blockskip.models.families.base import get_family
from blockskip.runs import checkpoints, results
from blockskip.runs.demo_judge import Judge, judge_and_photos, load_judge
from blockskip.runs.folders import step_of
from blockskip.runs.run import Run

PLACES = {"beach": "on the beach", "snow": "in the snow"}


def identity_report(
    judge: Judge, images: Sequence[Image.Image], photos: Sequence[Image.Image]
) -> dict:
    """Return the likeness of pictures to the photos: mean, 95 % interval and each picture's
    value."""
    like = judge.identity(images, photos)
    return {
        "identity": round(float(like.mean()), 4),
        "identity_95": bootstrap(like),
        "each": [round(float(x), 4) for x in like],
    }


def photo_likeness(judge: Judge, photos: Sequence[Image.Image]) -> float:
    """Return the mean cosine between different photos of the pet, the likeness of a perfect
    picture."""
    like = judge.embed(photos) @ judge.embed(photos).T
    n = len(photos)
    return round(float((like.sum() - n) / (n * (n - 1))), 4) if n > 1 else 1.0


def _sample_run(run: Run, n: int) -> dict[str, list[Image.Image]]:
    """Return ``n`` pictures of every prompt, with the same seeds for each. Loads the model
    twice."""
    settings = run.settings()
    subject, bare = settings.subject_caption, f"a photo of a {settings.class_name}"
    with_lora = {
        "tuned": subject,
        **{k: f"{subject} {words}" for k, words in PLACES.items()},
        "class_word": bare,
    }
    without = {"base": subject, "base_class_word": bare}
    pictures = {}
    for prompts, lora in ((without, False), (with_lora, True)):
        texts = [text for text in prompts.values() for _ in range(n)]
        seeds = list(range(1000, 1000 + n)) * len(prompts)
        images = results.generate_images(run, texts, seeds, with_lora=lora, exact=True)
        pictures |= {key: images[k * n : (k + 1) * n] for k, key in enumerate(prompts)}
    return pictures


def evaluate_run(run: Run, images_per_prompt: int = 8) -> dict:
    """Judge a run on the demo model: whether pictures show the pet, also in other places, and
    whether the bare class word is unaffected.

    Writes evaluation/sheet.webp and evaluation/report.json into the run's folder. JSON-ready.
    Raises UserError.
    """
    judge, photos = judge_and_photos(run)
    pictures = _sample_run(run, images_per_prompt)
    report = {
        "run": run.name,
        "judge": "demo world judge",
        "images_per_prompt": images_per_prompt,
        "step": step_of(checkpoints.newest_checkpoint(run)),
        "photos": len(photos),
        "photos_identity": photo_likeness(judge, photos),
    }
    for key, images in pictures.items():
        report[key] = identity_report(judge, images, photos)
    for place in PLACES:
        places = [answers["background"] for answers in judge.attributes(pictures[place])]
        report[place] |= {
            "place_obeyed": round(places.count(place) / len(places), 4),
            "places": places,
        }
    labels = {
        "base": "before",
        "tuned": "tuned",
        "beach": "on the beach",
        "snow": "in the snow",
        "class_word": "class word only",
    }
    rows = [("photos", photos[:images_per_prompt])]
    rows += [
        (f"{words} {report[key]['identity']:.2f}", pictures[key]) for key, words in labels.items()
    ]
    report["sheet"] = str(run.folder / "evaluation" / "sheet.webp")
    save_sheet(contact_sheet(rows), Path(report["sheet"]))
    files.write_json(run.folder / "evaluation" / "report.json", report)
    return report


def named_attributes(text: str, pet: Pet, scene: Scene) -> dict[str, str]:
    """Return the attributes that a picture of that caption should show, by name. Pattern and
    accessory are included only if the caption names them."""
    asked = {"species": pet.species, "coat": pet.coat, "background": scene.background}
    words = text.replace(",", "").split()
    if pet.pattern in words:
        asked["pattern"] = pet.pattern
    if scene.accessory in words:
        asked |= {"accessory": scene.accessory, "wear": scene.wear}
    return asked


def prompt_accuracy(
    judge: Judge, images: Sequence[Image.Image], wanted: Sequence[tuple[str, Pet, Scene]]
) -> dict[str, float]:
    """Return, by attribute, the share of pictures in which the judge sees what the caption names.
    `all`: the share with every attribute right."""
    hits: dict[str, list[bool]] = {}
    for answers, caption in zip(judge.attributes(images), wanted, strict=True):
        asked = named_attributes(*caption)
        for name, value in asked.items():
            hits.setdefault(name, []).append(answers[name] == value)
        hits.setdefault("all", []).append(
            all(answers[name] == value for name, value in asked.items())
        )
    return {name: round(sum(right) / len(right), 4) for name, right in hits.items()}


def evaluate_base(
    folder: Path,
    num: int = 48,
    seed: int = 0,
    seen: Collection[str] = (),
    sheet: Path | None = None,
) -> dict:
    """Judge whether a demo model follows captions, at full and at half resolution.

    ``seen``: training captions to leave out (pretraining's captions.json). ``sheet``: the picture
    to write, by default ``folder``-evaluation.webp beside the folder. "drawn" is the judge's
    accuracy on the renderer's pictures of the same captions, the ceiling. JSON-ready.
    """
    disable_progress_bars()
    judge, row, demo = load_judge(), presets.model_row("demo"), demo_class_of(folder)
    pipe = get_family(demo.FAMILY).load(folder, torch.float32)
    sampler, sampling_options = Sampler(pipe, demo), (row.preview_steps, row.preview_guidance)
    facts = files.read_json(folder / "demo_model.json")
    wanted, px = fresh_captions(num, seed, seen), facts.get("native_px", row.native_px)
    texts = [text for text, _, _ in wanted]
    full, half = (sampler.draw(texts, seed, side, *sampling_options) for side in (px, px // 2))
    drawn = [Image.fromarray(render(*asked, px, k)) for k, (_, *asked) in enumerate(wanted)]
    target = sheet or folder.with_name(f"{folder.name}-evaluation.webp")
    save_sheet(_pair_sheet(texts, full, drawn, half), target)
    return {
        "model": str(folder),
        "judge": "demo world judge",
        "captions": num,
        "seed": seed,
        "seen_captions_left_out": len(seen),
        "steps": row.preview_steps,
        "guidance": row.preview_guidance,
        "full": prompt_accuracy(judge, full, wanted),
        "half": prompt_accuracy(judge, half, wanted),
        "drawn": prompt_accuracy(judge, drawn, wanted),
        "vae_psnr_db": round(psnr(pipe.vae, demo, held_out_pictures(96, px)), 2),
        "sheet": str(target),
    }


def _pair_sheet(
    texts: Sequence[str],
    full: Sequence[Image.Image],
    drawn: Sequence[Image.Image],
    half: Sequence[Image.Image],
    columns: int = 5,
    cell: int = 128,
) -> Image.Image:
    """Return a sheet with, for each caption, the model's picture, the renderer's, and the model's
    at half resolution."""
    cell_width, cell_height = 3 * cell + 12, cell + 30
    lines = -(-len(texts) // columns)
    sheet = Image.new("RGB", (columns * cell_width, lines * cell_height), "white")
    draw = ImageDraw.Draw(sheet)
    for k, text in enumerate(texts):
        x, y = k % columns * cell_width, k // columns * cell_height
        for j, image in enumerate((full[k], drawn[k], half[k])):
            sheet.paste(square(image, cell), (x + j * (cell + 2), y + 28))
        short = text.removeprefix("a photo of ")
        draw.text((x, y + 1), short[:60] + "\n" + short[60:120], "black", spacing=0)
    return sheet
