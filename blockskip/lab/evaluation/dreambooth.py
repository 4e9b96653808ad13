"""Evaluate a run on a real model by DreamBooth's protocol (docs/method.md §4): 25 prompts × 4
pictures.

DINO and CLIP-I are the mean cosine between each picture and each photo. CLIP-T is the cosine
between each picture and its prompt without the trigger word. Prompts are those of the DreamBooth
dataset for living subjects (Ruiz et al., arXiv 2208.12242; dataset CC-BY-4.0). Each picture is
saved at once, so a stopped evaluation resumes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PIL import Image
from torch import Tensor

from blockskip.core import files
from blockskip.core.errors import WrongState
from blockskip.core.settings import Settings
from blockskip.data.photos import find_photos, open_photo
from blockskip.lab.evaluation.embedders import CLIP, DINO, Clip, Dino
from blockskip.lab.measuring.confidence import bootstrap
from blockskip.lab.measuring.sheets import contact_sheet, save_sheet
from blockskip.runs import image_requests
from blockskip.runs.checkpoints import saved_steps
from blockskip.runs.image_session import ImageSession
from blockskip.runs.run import Run

PROMPTS = (  # {} is the trigger word and the class word
    *("a {} in the jungle", "a {} in the snow", "a {} on the beach"),
    *("a {} on a cobblestone street", "a {} on top of pink fabric"),
    *("a {} on top of a wooden floor", "a {} with a city in the background"),
    *("a {} with a mountain in the background", "a {} with a blue house in the background"),
    *("a {} on top of a purple rug in a forest", "a {} wearing a red hat"),
    *("a {} wearing a santa hat", "a {} wearing a rainbow scarf"),
    *("a {} wearing a black top hat and a monocle", "a {} in a chef outfit"),
    *("a {} in a firefighter outfit", "a {} in a police outfit", "a {} wearing pink glasses"),
    *("a {} wearing a yellow shirt", "a {} in a purple wizard outfit"),
    *("a red {}", "a purple {}", "a shiny {}", "a wet {}", "a cube shaped {}"),
)
FIRST_SEED = 1000  # of the pictures' noise


def evaluate_real(
    run: Run,
    images: int = 4,
    dino: str = DINO,
    clip: str = CLIP,
    prompts: int = len(PROMPTS),
    say: Callable[[str], None] = lambda line: None,
) -> dict:
    """Evaluate a run's last step. Writes pictures, sheet.webp and report.json to its evaluation/.

    images: per prompt. prompts: how many, from the first. dino, clip: see embedders.py. Returns the
    report, JSON-ready, with 95 % intervals over pictures. Raises UserError.
    """
    dino_net, clip_net = Dino(dino), Clip(clip)  # a missing one fails before hours of sampling
    photos = [open_photo(path) for path in find_photos([run.photos_dir])]
    settings, step = run.settings(), saved_steps(run)[-1:]
    if not step:
        raise WrongState(f"Run “{run.name}” has learnt nothing yet.", "Train it first.")
    texts, folder = PROMPTS[:prompts], run.folder / "evaluation"
    rows = _sample_images(
        run, step[0], [_prompt_for(text, settings) for text in texts], images, say
    )
    plain = [text.format(settings.class_name) for text in texts]
    each = _score_images(dino_net, clip_net, [x for row in rows for x in row], photos, plain)
    report = {
        "run": run.name,
        "protocol": "DreamBooth",
        "step": step[0],
        "prompts": len(texts),
        "images_per_prompt": images,
        "photos": len(photos),
        "side_px": settings.preview_px,
        "networks": {"dino": dino_net.name, "clip": clip_net.name},
        **_summary(each, texts, images),
        "sheet": str(folder / "sheet.webp"),
    }
    shown = [("photos", photos[:images]), *zip(plain, rows, strict=True)]
    save_sheet(contact_sheet(shown), folder / "sheet.webp")
    files.write_json(folder / "report.json", report)
    return report


def _score_images(
    dino: Dino,
    clip: Clip,
    pictures: Sequence[Image.Image],
    photos: Sequence[Image.Image],
    prompts: Sequence[str],
) -> dict[str, Tensor]:
    """Return each figure (n,) of n pictures, equally many for each prompt."""
    embeddings = clip.embed(pictures)
    texts = clip.embed_text(prompts).repeat_interleave(len(pictures) // len(prompts), 0)
    return {
        "dino": (dino.embed(pictures) @ dino.embed(photos).T).mean(1),
        "clip_i": (embeddings @ clip.embed(photos).T).mean(1),
        "clip_t": (embeddings * texts).sum(1),
    }


def _summary(each: dict[str, Tensor], texts: Sequence[str], images: int) -> dict:
    """Return means with 95 % intervals, and means by prompt."""
    summary = {}
    for name, figure in each.items():
        summary[name] = round(float(figure.mean()), 4)
        summary[f"{name}_95"] = bootstrap(figure.double())
    by_prompt = {name: figure.view(-1, images).mean(1).tolist() for name, figure in each.items()}
    summary["by_prompt"] = [
        {"prompt": text} | {name: round(means[k], 4) for name, means in by_prompt.items()}
        for k, text in enumerate(texts)
    ]
    return summary


def _prompt_for(text: str, settings: Settings) -> str:
    return text.format(f"{settings.trigger} {settings.class_name}")


def _sample_images(
    run: Run, step: int, prompts: list[str], images: int, say: Callable[[str], None]
) -> list[list[Image.Image]]:
    """Return `images` pictures of each prompt. Existing ones are not generated again."""
    folder, session, rows = run.folder / "evaluation" / f"step-{step:05d}", None, []
    seeds = [FIRST_SEED + k for k in range(images)]
    for number, prompt in enumerate(prompts):
        paths = [folder / f"{number:02d}-{k}.png" for k in range(images)]
        if not all(path.exists() for path in paths):  # files are written atomically
            session = session or ImageSession(run, exact=True)
            generated = session.generate([prompt] * images, seeds, step)
            for path, image, seed in zip(paths, generated, seeds, strict=True):
                files.write_bytes(path, image_requests.png_bytes(image, prompt, seed))
            say(f"{number + 1}/{len(prompts)} {prompt}")
        rows.append([open_photo(path) for path in paths])
    return rows
