"""The commands that come before a training: which models are here, and what a plan would take."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from blockskip import config, housekeeping, options, sources
from blockskip.follow import Json, say
from blockskip.memory import planner


def models(
    action: Annotated[
        str, typer.Argument(help="list | check NAME | fetch NAME | use-comfyui DIR … | use NAME …")
    ] = "list",
    words: Annotated[
        list[str] | None, typer.Argument(help="A model, folders, files.", metavar="[NAME|DIR] …")
    ] = None,
    as_json: Json = False,
) -> None:
    """Which models are here; download one, or use the files that ComfyUI already has."""
    words = words or []
    if action == "list" and not words:
        rows = [sources.state(row) for row in config.model_rows().values()]
        lines = [f"{r['model']:10} {r['title']:22} {r['where'] or r['problem']}" for r in rows]
        say(as_json, {"models": rows}, lines)
    elif action == "use-comfyui" and words:
        found = sources.use_comfyui(*map(Path, words))
        said = {"models": [sources.state(source.row) for source in found]}
        notes = [p["note"] for s in found for p in sources.check(s).values() if p["note"]]
        say(as_json, said, [*(f"{s.row.title}: {s.where}" for s in found), *notes])
    elif action in ("check", "fetch") and len(words) == 1:
        row = config.model_row(words[0])
        source = sources.fetch(row) if action == "fetch" else sources.find_model(row)
        _say_model(as_json, source)
    elif action == "use" and len(words) > 1:
        row = config.model_row(words[0])
        _say_model(as_json, sources.use(row, [Path(word) for word in words[1:]]))
    else:
        raise typer.BadParameter(
            "use: models list | models check NAME | models fetch NAME | models use-comfyui DIR … | "
            "models use NAME FILE-OR-FOLDER …"
        )


def _say_model(as_json: bool, source: sources.Source) -> None:
    """Every part of a model, all its weights found, and what its caches are keyed by."""
    parts = sources.check(source)
    with Console(stderr=True).status("Reading every weight once …"):
        fingerprint = source.fingerprint()
    said = {"model": source.row.name, "where": source.where, "parts": parts}
    lines = [f"{p['gib']:8.2f} GiB  {p['precision']:12} {p['files'][0]}" for p in parts.values()]
    lines += [p["note"] for p in parts.values() if p["note"]]
    say(as_json, {**said, "fingerprint": fingerprint}, [*lines, f"fingerprint {fingerprint}"])


def plan(
    model: options.Model = "flux-dev",
    budget: options.Budget = 8.0,
    ram: options.Ram = None,
    disk: options.Disk = None,
    skip: options.Skip = "",
    precision: options.Precision = None,
    patches: options.Patches = None,
    steps: options.Steps = None,
    rank: options.Rank = None,
    targets: options.Targets = None,
    as_json: Json = False,
) -> None:
    """What a training would take of card, RAM and disk, stage by stage, without doing it."""
    from blockskip.memory.show import plan_table

    said = planner.make_plan(
        model=model,
        budget_gib=budget,
        **housekeeping.room(ram, math.inf if disk == 0 else disk),
        skip=skip,
        precision=options.of_model(precision, model),
        patches=patches,
        steps=steps,
        rank=rank,
        targets=targets,
    )
    if not as_json:
        Console().print(plan_table(said))
    say(as_json, said.to_dict(), [*(f"- {r}" for r in said.reasons), f"- {said.one_more_gib}"])
