"""Export LoRA files and generate pictures from any saved step of a run. Imports torch only then."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from blockskip.core import presets
from blockskip.core.errors import UserError
from blockskip.data.photos import find_photos, open_photo, scale_photo
from blockskip.runs.checkpoints import list_checkpoints, lora_file, newest_checkpoint, saved_steps
from blockskip.runs.run import Run, step_of

if TYPE_CHECKING:
    from PIL import Image

    from blockskip.models.lora.export import ExportedLora

__all__ = [
    "export_run",
    "generate_images",
    "list_checkpoints",
    "newest_checkpoint",
    "saved_steps",
    "step_of",
]


def export_run(
    run: Run, format: str = "comfyui", out: Path | None = None, step: int | None = None
) -> ExportedLora:
    """Write a step's LoRA to a file, then reopen and check the file.

    step: one of `saved_steps`, None for the last. out: by default
    exports/<run>[-format][-stepN].safetensors, with the step if it is not the last. Raises
    UserError.
    """
    from blockskip.models.lora.export import export_lora
    from blockskip.runs.image_session import load_lora

    settings, info = run.settings(), run.info()
    step = step_of(lora_file(run, step))
    suffix = "" if format == "comfyui" else f"-{format}"
    suffix += "" if step == saved_steps(run)[-1] else f"-step{step}"
    return export_lora(
        load_lora(run, step),
        out or run.export_path(suffix),
        format=format,
        settings=settings,
        row=presets.model_row(settings.model),
        started=info["started"],
        num_photos=len(info["photos"]),
        step=step,
        thumbnail=_thumbnail(find_photos([run.photos_dir])),
    )


def _thumbnail(photos: list[Path]) -> Image.Image | None:
    for path in photos:  # the first photo that opens; bad ones were reported when the run started
        try:
            return scale_photo(open_photo(path), 256)
        except UserError:
            continue
    return None


def generate_images(
    run: Run,
    prompts: list[str],
    seeds: list[int],
    steps: int = 0,
    with_lora: bool = True,
    step: int | None = None,
    strength: float = 1.0,
    exact: bool = False,
) -> list[Image.Image]:
    """Sample one picture per prompt, with a step's LoRA or without it for comparison.

    steps: sampling steps, 0 for the run's. step: one of `saved_steps`, None for the last. strength:
    factor of the LoRA, 0 for the untrained model. exact: see ImageSession. The run's budget applies
    here too. Raises UserError.
    """
    from blockskip.runs.image_session import ImageSession

    session = ImageSession(run, exact)
    return session.generate(prompts, seeds, step, strength if with_lora else 0.0, steps)
