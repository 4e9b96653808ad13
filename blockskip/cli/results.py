"""The commands that hand out what a run has learnt: pictures and LoRA files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from blockskip.cli import options
from blockskip.cli.errors import console
from blockskip.core import presets
from blockskip.core.output import Json, print_result
from blockskip.core.settings import ZeroOrMore
from blockskip.runs import checkpoints
from blockskip.runs.control import checked_prompt
from blockskip.runs.run import Run, find_run
from blockskip.studio.run_preferences import pet_name

CheckpointStep = Annotated[
    int | None,
    typer.Option(
        help="Use the LoRA of this step; default: the last.",
        callback=options.checked(ZeroOrMore),
    ),
]


def _say_if_damaged(run: Run, step: int | None) -> None:
    """Say which saved steps are damaged, if an earlier one is used in place of the last."""
    if step is None and (text := checkpoints.damage_note(run)):
        console.print(Text(text, style="yellow"))


def preview(
    run: options.RunName,
    prompt: Annotated[str, typer.Option(help="What the picture should show.")],
    out: Annotated[Path, typer.Option(help="The PNG to write.")],
    seed: options.Seed = 0,
    steps: options.SamplingSteps = 0,
    base: Annotated[bool, typer.Option("--base", help="Without the LoRA.")] = False,
    step: CheckpointStep = None,
    strength: options.Strength = 1.0,
    force: options.Force = False,
) -> None:
    """Sample a picture with a run's LoRA."""
    from blockskip.runs import results

    results.check_picture(out, overwrite=force)
    source, prompts = find_run(run), [checked_prompt(prompt)]
    _say_if_damaged(source, step)
    (image,) = results.generate_images(
        source, prompts, [seed], steps, with_lora=not base, step=step, strength=strength
    )
    results.save_picture(image, out)


def export(
    run: options.RunName,
    format: Annotated[
        str, typer.Option(help="comfyui | diffusers; for some models also kohya | native")
    ] = "comfyui",
    out: Annotated[Path | None, typer.Option(help="The file to write.")] = None,
    step: CheckpointStep = None,
    to_comfyui: Annotated[
        bool, typer.Option("--to-comfyui", help="Also copy it into ComfyUI, with its workflow.")
    ] = False,
    force: options.Force = False,
    as_json: Json = False,
) -> None:
    """Write a run's LoRA to a file, then reopen and check it."""
    from blockskip.models.lora.names import lora_names_of
    from blockskip.runs import into_comfyui, results

    source = find_run(run)
    _say_if_damaged(source, step)
    formats = lora_names_of(presets.model_row(source.settings().model).family).FORMATS
    if format not in formats:
        raise typer.BadParameter(f"--format is one of {', '.join(formats)}")
    if to_comfyui:
        if format != "comfyui":
            raise typer.BadParameter("--to-comfyui is for --format comfyui")
        into_comfyui.check(source)
    if out is not None:
        out = results.checked_export(source, out, overwrite=force)
    exported = results.export_run(source, format, out, step)
    result = {"exported": str(exported.path), "format": format, "keys": exported.keys}
    lines = [f"{exported.path}: {exported.keys} tensors, reopened and checked."]
    if to_comfyui:
        trained = results.step_of(checkpoints.lora_file(source, step))
        copied = into_comfyui.copy_into_comfyui(source, exported.path, trained, pet_name(source))
        result["comfyui"] = copied.to_dict()
        lines.append(str(copied))
    print_result(as_json, result, lines)
