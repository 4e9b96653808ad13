"""What a run has learnt so far → LoRA files and pictures; used while it works and long after."""

from __future__ import annotations

from pathlib import Path

import torch

from blockskip import config, encode, export, preview, sources
from blockskip.events import UserError, command
from blockskip.families.base import Sampling, family
from blockskip.memory.cap import cap
from blockskip.memory.placement import pick_device
from blockskip.opening import open_model
from blockskip.photos import find_photos, open_photo, scale_photo
from blockskip.residuals import Span
from blockskip.runs import Run
from blockskip.skipping import add_lora, restore
from blockskip.train import checkpoint_lora


def step_of(checkpoint: Path) -> int:
    """The optimiser step in a checkpoint's name."""
    return int(checkpoint.stem.split("-")[1])


def checkpoints(run: Run) -> list[Path]:
    """The checkpoints kept, oldest first."""
    return sorted(run.checkpoints_dir.glob("step-*.safetensors"), key=step_of)


def newest_checkpoint(run: Run) -> Path:
    """Raises UserError when nothing has been learnt yet."""
    found = checkpoints(run)
    if not found:
        raise UserError(
            f"Run “{run.name}” has no checkpoint yet.",
            f"Let it train first: {command('resume')} {run.name}",
        )
    return found[-1]


def export_run(run: Run, format: str = "comfyui", out: Path | None = None) -> export.Exported:
    """Write the newest checkpoint's LoRA as a file; it is reopened and checked before this returns.

    out: default exports/<run>[-format].safetensors. Raises UserError.
    """
    settings, info, checkpoint = run.settings(), run.info(), newest_checkpoint(run)
    photos = find_photos([run.photos_dir])
    suffix = "" if format == "comfyui" else f"-{format}"
    return export.export_lora(
        checkpoint_lora(checkpoint),
        out or run.exports_dir / f"{run.name}{suffix}.safetensors",
        format=format,
        settings=settings,
        row=config.model_row(settings.model),
        started=info["started"],
        num_photos=len(info["photos"]),
        step=step_of(checkpoint),
        thumbnail=_thumbnail(photos),
    )


def _thumbnail(photos: list[Path]) -> object:
    for path in photos:  # the first photo that opens; a bad one was named when the run began
        try:
            return scale_photo(open_photo(path), 256)
        except UserError:
            continue
    return None


def pictures(
    run: Run, prompts: list[str], seeds: list[int], steps: int = 0, with_lora: bool = True
) -> list:
    """Sample prompts with the run's newest LoRA (or without, for comparison), one picture each.

    steps: sampling steps, 0 = the model row's. Returns PIL images. The run's budget holds here too.
    Raises UserError.
    """
    try:
        return _pictures(run, prompts, seeds, steps, with_lora)
    except torch.OutOfMemoryError as error:
        raise UserError(
            "The graphics card has too little free memory for a picture.",
            "Close other programs that use the card, then try again.",
        ) from error


@torch.no_grad()
def _pictures(run: Run, prompts: list[str], seeds: list[int], steps: int, with_lora: bool) -> list:
    settings = run.settings()
    row = config.model_row(settings.model)
    device, kind = pick_device(settings.device), family(row.family)
    cap(device, settings.budget_gib)
    pipe = open_model(kind, row, sources.find_model(row), settings, device)
    if with_lora:
        lora = add_lora(
            pipe.transformer,
            kind,
            Span(settings.front, settings.back),
            settings.rank,
            settings.targets,
            settings.seed,
        )
        restore(lora, checkpoint_lora(newest_checkpoint(run)))
    text = encode.encode_captions(kind, pipe, [*prompts, ""], settings.text_tokens, device)
    sampling = Sampling(
        settings.preview_px, steps or settings.preview_steps, settings.preview_guidance
    )
    return preview.sample(
        kind,
        pipe,
        text.rows(range(len(prompts))),
        text.rows([len(prompts)]),
        sampling,
        seeds,
        device,
        settings.preview_batch,
        settings.preview_tiled,
    )
