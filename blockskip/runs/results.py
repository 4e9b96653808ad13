"""Export LoRA files and generate pictures from any saved step of a run. Imports torch only then."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from blockskip.core import files, presets
from blockskip.core.errors import UserError
from blockskip.core.output_files import check_output
from blockskip.core.safetensors_files import read_metadata
from blockskip.data.photos import find_photos, open_photo, scale_photo
from blockskip.models.lora.names import output_path
from blockskip.runs import checkpoints
from blockskip.runs.checkpoints import list_checkpoints, lora_file, newest_checkpoint, saved_steps
from blockskip.runs.folders import step_of
from blockskip.runs.run import Run

if TYPE_CHECKING:
    from blockskip.models.lora.export import ExportedLora

PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
_SOFTWARE = "BlockSkip Studio"
_SOFTWARE_TAG = 305  # EXIF

__all__ = [
    "export_run",
    "generate_images",
    "check_picture",
    "checked_export",
    "list_checkpoints",
    "newest_checkpoint",
    "save_picture",
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

    settings, info = run.settings(), run.info()
    step = step_of(lora_file(run, step))  # an earlier one if the last is damaged
    suffix = "" if format == "comfyui" else f"-{format}"
    suffix += "" if step == saved_steps(run)[-1] else f"-step{step}"
    return export_lora(
        checkpoints.load_lora(run, step),
        out or run.export_path(suffix),
        format=format,
        settings=settings,
        row=presets.model_row(settings.model),
        started=info.get("started", ""),
        num_photos=len(info.get("photos", ())),
        step=step,
        thumbnail=_thumbnail(find_photos([run.photos_dir])),
    )


def checked_export(run: Run, out: Path, *, overwrite: bool = False) -> Path:
    """Return the file that an export to `out`, a file or a folder, would write.

    Raises BadInput if it is a file that no export made, unless `overwrite`.
    """
    path = output_path(out, run.settings())
    check_output(path, made_here=_is_export, overwrite=overwrite)
    workflow = path.with_name(f"{path.stem}.workflow.json")
    if not path.exists():
        check_output(workflow, overwrite=overwrite)
    return path


def _is_export(path: Path) -> bool:
    made_by = read_metadata(path).get("ss_training_comment", "")
    return made_by.startswith(_SOFTWARE)


def check_picture(out: Path, *, overwrite: bool = False) -> None:
    """Raise BadInput if no picture can be written to `out`, or it is a file that `save_picture`
    did not write, unless `overwrite`."""
    check_output(out, made_here=_is_picture, overwrite=overwrite, endings=PICTURE_ENDINGS)


def save_picture(image: Image.Image, out: Path) -> None:
    """Write a picture in the format of its ending. Raises UserError if it cannot be written."""
    data, exif = io.BytesIO(), Image.Exif()
    exif[_SOFTWARE_TAG] = _SOFTWARE
    image.save(data, Image.registered_extensions()[out.suffix.lower()], exif=exif)
    files.write_bytes(out, data.getvalue())


def _is_picture(path: Path) -> bool:
    with Image.open(path) as image:
        return image.getexif().get(_SOFTWARE_TAG) == _SOFTWARE


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
