"""A run on a real model, judged by the protocol of DreamBooth (docs/method.md §4): 25 prompts × 4 pictures.

DINO and CLIP-I: mean cosine between each picture and each photo. CLIP-T: cosine between each picture
and its prompt without the trigger word. Prompts: those of the DreamBooth dataset for living subjects
(Ruiz et al., arXiv 2208.12242; dataset CC-BY-4.0). Pictures are kept as they are made: stopped at any
time, it goes on.
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
FIRST_SEED = 1000  # of the noise of pictures


def evaluate_real(
    run: Run,
    images: int = 4,
    dino: str = DINO,
    clip: str = CLIP,
    prompts: int = len(PROMPTS),
    say: Callable[[str], None] = lambda line: None,
) -> dict:
    """Judge a run's last step; pictures, sheet.webp and report.json lie in its folder evaluation/.

    images: a prompt. prompts: the first so many. dino, clip: see embedders.py. JSON-ready, figures
    with 95 % intervals over pictures. Raises UserError.
    """
    looks, reads = Dino(dino), Clip(clip)  # what is missing is said before hours of painting
    photos = [open_photo(path) for path in find_photos([run.photos_dir])]
    settings, step = run.settings(), saved_steps(run)[-1:]
    if not step:
        raise WrongState(f"Run “{run.name}” has learnt nothing yet.", "Train it first.")
    texts, folder = PROMPTS[:prompts], run.folder / "evaluation"
    rows = _sample_images(
        run, step[0], [_prompt_for(text, settings) for text in texts], images, say
    )
    plain = [text.format(settings.class_name) for text in texts]
    each = _score_images(looks, reads, [image for row in rows for image in row], photos, plain)
    report = {
        "run": run.name,
        "protocol": "DreamBooth",
        "step": step[0],
        "prompts": len(texts),
        "images_per_prompt": images,
        "photos": len(photos),
        "side_px": settings.preview_px,
        "networks": {"dino": looks.name, "clip": reads.name},
        **_summary(each, texts, images),
        "sheet": str(folder / "sheet.webp"),
    }
    shown = [("photos", photos[:images]), *zip(plain, rows, strict=True)]
    save_sheet(contact_sheet(shown), folder / "sheet.webp")
    files.write_json(folder / "report.json", report)
    return report


def _score_images(
    looks: Dino,
    reads: Clip,
    pictures: Sequence[Image.Image],
    photos: Sequence[Image.Image],
    prompts: Sequence[str],
) -> dict[str, Tensor]:
    """(n,) of every figure, n pictures, as many of each prompt."""
    seen = reads.embed(pictures)
    texts = reads.embed_text(prompts).repeat_interleave(len(pictures) // len(prompts), 0)
    return {
        "dino": (looks.embed(pictures) @ looks.embed(photos).T).mean(1),
        "clip_i": (seen @ reads.embed(photos).T).mean(1),
        "clip_t": (seen * texts).sum(1),
    }


def _summary(each: dict[str, Tensor], texts: Sequence[str], images: int) -> dict:
    """Means with their intervals, and by prompt."""
    told = {}
    for name, figure in each.items():
        told[name] = round(float(figure.mean()), 4)
        told[f"{name}_95"] = bootstrap(figure.double())
    by_prompt = {name: figure.view(-1, images).mean(1).tolist() for name, figure in each.items()}
    told["by_prompt"] = [
        {"prompt": text} | {name: round(means[k], 4) for name, means in by_prompt.items()}
        for k, text in enumerate(texts)
    ]
    return told


def _prompt_for(text: str, settings: Settings) -> str:
    return text.format(f"{settings.trigger} {settings.class_name}")


def _sample_images(
    run: Run, step: int, prompts: list[str], images: int, say: Callable[[str], None]
) -> list[list[Image.Image]]:
    """`images` pictures of each prompt; those that are there already are not made again."""
    folder, session, rows = run.folder / "evaluation" / f"step-{step:05d}", None, []
    seeds = [FIRST_SEED + k for k in range(images)]
    for number, prompt in enumerate(prompts):
        paths = [folder / f"{number:02d}-{k}.png" for k in range(images)]
        if not all(path.exists() for path in paths):  # each is written in one go
            session = session or ImageSession(run, exact=True)
            made = session.generate([prompt] * images, seeds, step)
            for path, image, seed in zip(paths, made, seeds, strict=True):
                files.write_bytes(path, image_requests.png_bytes(image, prompt, seed))
            say(f"{number + 1}/{len(prompts)} {prompt}")
        rows.append([open_photo(path) for path in paths])
    return rows
