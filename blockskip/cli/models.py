"""The commands before training: manage models, and plan memory."""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from blockskip.cli import options
from blockskip.core import presets, repositories
from blockskip.core.errors import ModelMissing, UserError, command, from_kind
from blockskip.core.output import Json, print_result
from blockskip.core.paths import ROOT
from blockskip.core.units import duration
from blockskip.memory.card_programs import CardPrograms, card_programs
from blockskip.memory.planning import planner
from blockskip.models import sources
from blockskip.models.sources import download_process, tools
from blockskip.runs import storage
from blockskip.runs.expected_time import expected_dict


def models(
    action: Annotated[
        str, typer.Argument(help="list | check NAME | fetch NAME | use-comfyui DIR … | use NAME …")
    ] = "list",
    words: Annotated[
        list[str] | None, typer.Argument(help="A model, folders, files.", metavar="[NAME|DIR] …")
    ] = None,
    as_json: Json = False,
) -> None:
    """List, check and download models, or use the files that ComfyUI already has."""
    words = words or []
    if action == "list" and not words:
        rows = [sources.status_dict(row) for row in presets.model_rows().values()]
        helpers = [asdict(tools.tool_status(name)) for name in repositories.tool_names()]
        lines = [*map(_offer_line, rows), "", *map(_tool_line, helpers), *_download_hints(rows)]
        print_result(as_json, {"models": rows, "tools": helpers}, lines)
    elif action == "use-comfyui" and words:
        problems: list[UserError] = []
        selected = sources.select_comfyui(*map(Path, words), missing=problems.append)
        incomplete = list(dict.fromkeys(map(str, problems)))
        unreadable = sources.unreadable_beside(*selected)
        data = {
            "models": [sources.status_dict(source.row) for source in selected],
            "files": {
                source.row.name: {part: str(path) for part, path in source.files.items()}
                for source in selected
            },
            "unreadable": unreadable,
            "incomplete": incomplete,
        }
        lines = [line for source in selected for line in _chosen_files(source)]
        print_result(as_json, data, [*lines, *unreadable, *incomplete])
    elif action == "check" and len(words) == 1:
        _print_model(as_json, sources.find_model(presets.model_row(words[0])))
    elif action == "fetch" and len(words) == 1:
        _fetch(repositories.repository(words[0]), as_json)
    elif action == "use" and len(words) > 1:
        row = presets.model_row(words[0])
        _print_model(as_json, sources.select_model(row, [Path(word) for word in words[1:]]))
    else:
        raise typer.BadParameter(
            "use: models list | models check NAME | models fetch NAME | models use-comfyui DIR … | "
            "models use NAME FILE-OR-FOLDER …"
        )


def _chosen_files(source: sources.Source) -> list[str]:
    """Return the lines on a selected model: its title, the file of each part with its precision,
    and what follows from that."""
    if source.row.files:
        return [f"{source.row.title}: {source.location}"]
    parts = sources.check_model(source)
    files = [f"{p['bits']:6.1f} bits a weight  {p['files'][0]}" for p in parts.values()]
    return [f"{source.row.title}:", *files, *(p["note"] for p in parts.values() if p["note"])]


def _offer_line(row: dict) -> str:
    size = f"{row['download_gib']:.1f} GiB download" if row["download_gib"] else ""
    line = f"{row['model']:14} {row['state']:8} {size:17} {row['licence']}"
    # the remedy for missing models is the same for all, so `_download_hints` prints it once
    detail = "" if row["state"] == "missing" else row["where"] or row["problem"]
    lines = [line, *([f"{'':14} {detail}"] if detail else [])]
    if sibling := row["sibling"]:
        passes = f"{sibling['passes']} instead of {row['passes']} passes a sample picture"
        lines.append(f"{'':14} {sibling['model']} ({sibling['state']}): {passes}")
    return "\n".join(lines)


def _tool_line(tool: dict) -> str:
    size = f"{tool['download_gib']:.2f} GiB download" if tool["state"] != "ready" else ""
    return f"{tool['name']:14} {tool['state']:8} {size:17} {tool['licence']:12} {tool['about']}"


def _download_hints(rows: list[dict]) -> list[str]:
    missing = [row for row in rows if row["state"] == "missing"]
    if not missing:
        return []
    pages = [f"{row['model']:14} {row['page']}" for row in missing if row["page"]]
    return [
        "",
        f"Download one: {command('models fetch')} NAME",
        f"{_from_comfyui(missing)}, the files that ComfyUI has also work: "
        f"{command('models use-comfyui')} FOLDER",
        *(
            ["The licences of these must be accepted first, on their pages:", *pages]
            if pages
            else []
        ),
    ]


def _from_comfyui(missing: list[dict]) -> str:
    """Return which of these models are read from ComfyUI's files."""
    rows = [presets.model_row(row["model"]) for row in missing]
    others = [row.name for row in rows if not sources.is_read_from_files(row)]
    return f"For all but {', '.join(others)}" if others else "For all of them"


def _fetch(row: repositories.Repository, as_json: bool) -> None:
    """Download in another process and show the progress. Ctrl-C stops it, keeping partial files."""
    if not (ROOT / row.source).exists():
        download_process.start(row)
        try:
            now: download_process.Download | None = _show_download(
                row, Console(stderr=True, quiet=as_json)
            )
        except KeyboardInterrupt:
            download_process.stop(row)
            now = download_process.progress(row)
        if now and now.state == "failed":
            raise from_kind(now.kind, now.title, now.remedy)
        if now is None or now.state == "stopped":
            error = ModelMissing(
                f"The download of {row.title} was stopped; partial files are kept.",
                f"Continue with: {command('models fetch')} {row.name}",
            )
            print_result(as_json, error.to_dict(), [str(error)])
            raise typer.Exit(130)
    if isinstance(row, repositories.ToolRow):
        status = tools.tool_status(row.name)
        print_result(as_json, asdict(status), [f"{row.title}: {tools.find_tool(row.name)}"])
    else:
        _print_model(as_json, sources.find_model(row))


def _show_download(row: repositories.Repository, console: Console) -> download_process.Download:
    """Show a download until it ends."""
    columns = BarColumn(28), DownloadColumn(True), TextColumn("{task.description}")
    with Progress(*columns, console=console, disable=console.quiet) as bars:
        bar = bars.add_task("", total=None)
        while (now := download_process.progress(row)) is None or now.state == "running":
            if now:
                total = now.bytes_total or None
                bars.update(
                    bar, completed=now.bytes_done, total=total, description=_speed_text(now)
                )
            time.sleep(0.3)
    return now


def _speed_text(now: download_process.Download) -> str:
    left = f"{int(now.eta_s) // 60}:{int(now.eta_s) % 60:02d} left" if now.eta_s >= 0 else ""
    return f"{now.bytes_per_s / 2**20:.1f} MiB/s  {left}  {now.file}"


def _print_model(as_json: bool, source: sources.Source) -> None:
    """Print every part of a model, after checking all weights, files of it in ComfyUI's folders
    that cannot be read, and the key of its caches."""
    parts, unreadable = sources.check_model(source), sources.unreadable_beside(source)
    with Console(stderr=True).status("Reading every weight once …"):
        fingerprint = source.fingerprint()
    data = {"model": source.row.name, "where": source.location, "parts": parts}
    data["unreadable"] = unreadable
    lines = [f"{p['gib']:8.2f} GiB  {p['precision']:12} {p['files'][0]}" for p in parts.values()]
    lines += [p["note"] for p in parts.values() if p["note"]] + unreadable
    print_result(
        as_json, {**data, "fingerprint": fingerprint}, [*lines, f"fingerprint {fingerprint}"]
    )


def plan(
    model: options.Model = "flux-dev",
    budget: options.Budget = 8.0,
    ram: options.Ram = None,
    disk: options.Disk = None,
    skip: options.Skip = "",
    precision: options.Precision = None,
    arithmetic: options.Arithmetic = None,
    patches: options.Patches = None,
    steps: options.Steps = None,
    rank: options.Rank = None,
    targets: options.Targets = None,
    preview_speed: options.PreviewSpeed = None,
    pictures: options.Pictures = "auto",
    adapter: options.Adapter = "auto",
    as_json: Json = False,
) -> None:
    """Show the memory and disk space that a training would need, stage by stage."""
    from blockskip.memory.planning.plan_table import plan_table

    on_card = card_programs()
    result = planner.make_plan(
        model=model,
        budget_gib=budget,
        **storage.available_memory(ram, math.inf if disk == 0 else disk),
        freeable_gib=on_card.freeable_gib,
        skip=skip,
        precision=options.of_model(precision, model),
        arithmetic=arithmetic,
        patches=patches,
        steps=steps,
        rank=rank,
        targets=targets,
        preview_speed=preview_speed,
        preview_model=sources.picture_model(presets.model_row(model), pictures),
        training_adapter="" if adapter == "none" else None,
    )
    if not as_json:
        Console().print(plan_table(result))
    expected = expected_dict(result.settings)
    contract = result.to_dict() | expected
    last = (contract[key] for key in ("one_more_gib", "commit_short", "when_freed"))
    others = (_holders(on_card), _minutes(**expected))
    sentences = [*contract["reasons"], *filter(None, last), *filter(None, others)]
    print_result(as_json, contract, [f"- {sentence}" for sentence in sentences])


_BASIS = {
    "history": "judging by earlier trainings on this computer",
    "measured": "counted from a measurement of this computer, give or take a third",
    "common": (
        "counted for a common PC (an RTX 3060 at half of its published speed, an NVMe drive); "
        f"{command('doctor --measure')} measures this one"
    ),
}


def _minutes(expected_minutes: float | None, minutes_from: str | None) -> str:
    """Return how long the run will take, and whose these minutes are."""
    if expected_minutes is None or minutes_from is None:
        return f"How long it will take is not known: {command('doctor --measure')} measures this computer."
    return f"It will take about {duration(60 * expected_minutes)}, {_BASIS[minutes_from]}."


def _holders(on_card: CardPrograms) -> str:
    """Return who holds the card's memory, "" for nobody."""
    if not on_card.names:
        return ""
    named = [f"{name} {gib:.1f} GiB" if gib >= 0 else name for name, gib in on_card.names.items()]
    untold = any(gib < 0 for gib in on_card.names.values())
    after = "; the system does not tell how much each holds" if untold else ""
    return f"Other programs on the card: {', '.join(named)}{after}."
