"""Turn the measurements of probe.py into the spans of every ratio, a preset's row and plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean

import numpy as np

from blockskip.core import presets
from blockskip.core.errors import WrongState, command
from blockskip.lab.measuring import plots
from blockskip.lab.measuring.confidence import bootstrap
from blockskip.lab.measuring.json_lines import read_lines
from blockskip.lab.selection.probe import (
    PROBES,
    Plan,
    embedder_name,
    probe_key,
    probe_spans,
    sliding_width,
)
from blockskip.runs.run import Run

RATIOS = (0.3, 0.4, 0.5)


def choose_spans(distance: Mapping[str, float], num_blocks: int, ratio: float) -> tuple[int, int]:
    """Return (n*, m*) for a ratio of skipped blocks. Ties go to more at the front, since its
    residual is exact. distance: D by the names of `probe_spans`."""
    num = round(ratio * num_blocks)
    every = distance | {"front-0": 0.0, "back-0": 0.0}
    return min(
        ((n, num - n) for n in range(num, -1, -1)),
        key=lambda pair: round(every[f"front-{pair[0]}"] + every[f"back-{pair[1]}"], 9),
    )


def summary(plan: Plan) -> dict:
    """Return the results, JSON-ready: for each probe, D of every span with its 95 % interval over
    pictures, and the spans of each ratio. The preset's spans are included. Raises UserError if no
    pet is measured completely."""
    row = presets.model_row(plan.model)
    names = [name for name, _ in probe_spans(row.num_blocks)]
    by_pet: dict[str, dict[tuple[str, str], dict]] = {}
    for line in read_lines(plan.work / "probe.jsonl"):
        if (line["images"], line["eyes"]) == (plan.images, embedder_name(plan)):
            by_pet.setdefault(line["subject"], {})[probe_key(line)] = line
    wanted = {(probe, name) for probe in PROBES for name in names}
    complete = {pet: lines for pet, lines in by_pet.items() if lines.keys() >= wanted}
    if not complete:
        raise WrongState("No pet is measured yet.", f"Go on: {command('lab select')}")
    run = Run(plan.work / "runs" / next(iter(complete)))
    settings = run.settings()
    return {
        "model": plan.model,
        "fingerprint": run.info()["model_fingerprint"],
        "eyes": embedder_name(plan),
        "subjects": sorted(complete),
        "seed": settings.seed,
        "steps": settings.steps,
        "rank": settings.rank,
        "targets": settings.targets,
        "images": 3 * plan.images,
        "blocks": row.num_blocks,
        "preset": {key: list(pair) for key, pair in row.spans.items()},
        "probes": {
            probe: _probe_summary(complete, probe, names, row.num_blocks) for probe in PROBES
        },
    }


def _probe_summary(
    complete: Mapping[str, dict], probe: str, names: Sequence[str], num_blocks: int
) -> dict:
    """Return a probe's D with intervals, and the spans for all pets together and for each."""

    def spans(measured: Mapping[str, float]) -> dict[str, tuple[int, int]]:
        return {f"{r:g}": choose_spans(measured, num_blocks, r) for r in RATIOS}

    def of(pet: str) -> dict[str, float]:
        return {name: complete[pet][probe, name]["distance"] for name in names}

    every = {n: [x for lines in complete.values() for x in lines[probe, n]["each"]] for n in names}
    distance = {name: mean(of(pet)[name] for pet in complete) for name in names}
    return {
        "distance": {name: round(value, 4) for name, value in distance.items()},
        "distance_95": {name: bootstrap(np.float32(values)) for name, values in every.items()},
        "spans": spans(distance),
        "by_subject": {pet: spans(of(pet)) for pet in sorted(complete)},
    }


def preset_row(results: dict) -> str:
    """Return the lines for presets/models.toml."""
    pets = ", ".join(results["subjects"])
    spans = "\n".join(
        f'"{key}" = [{n}, {m}]' for key, (n, m) in results["probes"]["lora"]["spans"].items()
    )
    about = (
        f"lab select: model {results['fingerprint'][:12]}, {results['eyes']}, {pets}, "
        f"seed {results['seed']}, {results['steps']} steps"
    )
    return f'provenance = "{about}"\n\n[{results["model"]}.spans]\n{spans}\n'


def profile(results: dict, probe: str) -> str:
    """Return a probe's plot (SVG): D of the first n, the last m, and the sliding span by its first
    block."""
    measured, width = results["probes"][probe], sliding_width(results["blocks"])

    def line(kind: str, name: str) -> plots.Series:
        keys = [key for key in measured["distance"] if key.startswith(f"{kind}-")]
        points = [
            (int(key.split("-")[1]), measured["distance"][key], *measured["distance_95"][key])
            for key in keys
        ]
        return plots.Series(name, tuple(points))

    return plots.lines(
        {
            "lora": "How much a picture changes when blocks have no LoRA",
            "text": "How much a picture changes when blocks do not see the text",
        }[probe],
        "number of blocks n, m; of the sliding span: its first block",
        f"1 - cosine ({results['eyes']})",
        [
            line("front", "the first n"),
            line("back", "the last m"),
            line("sliding", f"{width} in a row, from block"),
        ],
    )
