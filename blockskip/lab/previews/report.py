"""What tradeoff.py measured → tables, plots and contact sheets, and one page that shows them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from blockskip.core import files
from blockskip.core.presets import model_row
from blockskip.lab.bench.report import machine
from blockskip.lab.measuring import plots
from blockskip.lab.measuring.confidence import bootstrap
from blockskip.lab.measuring.pages import markdown_table, write_below_marker
from blockskip.lab.measuring.sheets import contact_sheet, save_sheet
from blockskip.lab.previews import costs as preview_costs
from blockskip.lab.previews.sampling_methods import EXACT, SamplingMethod
from blockskip.lab.previews.tradeoff import Plan, Sampler, measurements, pictures
from blockskip.sampling.sample import SAMPLE_BATCH

HEAD = (
    "way|operations, times fewer|share of the ceiling|seconds, times fewer|pixels off, of 255"
    "|{judged}|difference|steps p / 2p / 4p"
)
FULL_SIZE = "flux-dev"
PRECISION = "nf4"
SIZES_HEAD = "a pass|image tokens|TFLOP|times fewer|TFLOP with all blocks resting but the first"
WAYS_HEAD = "way|operations, times fewer|GB over the bus in bf16|in {precision}|times fewer"


def method_lines(plan: Plan, sampler: Sampler, steps: int) -> list[dict]:
    """A line a way: how much quicker than exact, and how far from it. pixels_off: mean absolute
    difference, of 255. judged: what the sampler's judge tells of pictures, if it has one; difference: from
    the exact sampler's, picture by picture, with its 95 % interval."""
    whole = [np.asarray(image, np.float32) for image in pictures(plan, EXACT, steps)]
    exact, seen = measurements(plan, EXACT, steps), sampler.judge(pictures(plan, EXACT, steps))
    found = []
    for way in sampler.methods(steps):
        measured = measurements(plan, way, steps)
        off = [
            float(np.abs(np.asarray(image, np.float32) - right).mean())
            for image, right in zip(pictures(plan, way, steps), whole, strict=True)
        ]
        sizes = [factor for batch in measured for factor in batch["factors"]]
        line = {
            "way": way.name,
            "kind": way.group,
            "quicker_flops": round(exact[0]["flops"] / measured[0]["flops"], 3),
            "quicker_seconds": round(_seconds(exact) / _seconds(measured), 3),
            "seconds_per_image": round(_seconds(measured) / len(whole), 4),
            "pixels_off": round(float(np.mean(off)), 3),
            "pixels_off_95": bootstrap(np.float32(off)),
            "steps_by_size": {size: round(sizes.count(size) / len(sizes), 4) for size in (1, 2, 4)},
        }
        if way.schedule and not way.first_block_threshold:
            line["ceiling"] = round(speedup_ceiling(sampler, way, steps), 3)
        if seen is not None:
            now = sampler.judge(pictures(plan, way, steps))
            line["judged"] = round(float(now.mean()), 4)
            line["difference"] = round(float((now - seen).mean()), 4)
            line["difference_95"] = bootstrap(now - seen)
        found.append(line)
    return found


def speedup_ceiling(sampler: Sampler, way: SamplingMethod, steps: int) -> float:
    """Of a schedule: three fine steps, all others of its largest patches; tokens of image and text are
    all that counts."""
    side = sampler.row.native_px // sampler.family.pixel_multiple
    image, text = side**2, sampler.settings.plan.text_tokens
    return steps / (3 + (steps - 3) * (image // way.largest_patches**2 + text) / (image + text))


def _seconds(batches: Sequence[dict]) -> float:
    return sum(batch["seconds"] for batch in batches)


def plot(steps: int, found: Sequence[dict]) -> str:
    """The frontier: operations saved against pixels off."""
    series = []
    for kind in dict.fromkeys(line["kind"] for line in found if line["way"] != EXACT.name):
        points = sorted(
            (line["quicker_flops"], line["pixels_off"], *line["pixels_off_95"])
            for line in found
            if line["kind"] == kind
        )
        series.append(plots.Series(kind, points))
    title = f"{steps} sampling steps: speed against loss (95 % intervals)"
    return plots.lines(title, "times fewer operations", "pixels off, of 255", series)


def write(plan: Plan, sampler: Sampler, out: Path) -> list[Path]:
    """A JSON file, and for each number of steps a plot and a contact sheet; a page shows them. Their
    names begin with `previews`, of a run `previews-of-a-pet`."""
    stem = "previews-of-a-pet" if plan.run else "previews"
    measured = {steps: method_lines(plan, sampler, steps) for steps in plan.steps}
    said = {
        "model": plan.model,
        "run": plan.run and plan.run.name,
        "judged": sampler.judge_metric,
        "prompts": len(sampler.prompts),
        "together": SAMPLE_BATCH,
        "machine": machine(),
        "steps": measured,
    }
    path = out / f"{stem}.md"
    files.write_json(path.with_suffix(".json"), said)
    written = [path, path.with_suffix(".json")]
    for steps, found in measured.items():
        plotted, sheet = out / f"{stem}-{steps}.svg", out / f"{stem}-{steps}.webp"
        files.write_text(plotted, plot(steps, found))
        rows = [
            (_ascii(way.name), pictures(plan, way, steps)[:12]) for way in sampler.methods(steps)
        ]
        save_sheet(contact_sheet(rows, 64), sheet)
        written += [plotted, sheet]
    rest = "" if plan.run else f"\n{full_size(plan, sampler)}"
    write_below_marker(
        path, "Previews: speed against what it costs", markdown_page(said, stem) + rest
    )
    return written


def _ascii(name: str) -> str:
    """In letters that the sheet's font has."""
    return name.replace("τ", "tau").replace("ρ", "rho")


def markdown_page(said: dict, stem: str) -> str:
    """The page's tables; what follows from them is written by hand above them."""
    of = f" with the LoRA of run “{said['run']}”" if said["run"] else ""
    parts = [
        f"Model {said['model']}{of}, {said['prompts']} prompts, {said['together']} pictures together; "
        f"{_machine(said['machine'])}.\n"
    ]
    for steps, found in said["steps"].items():
        told = markdown_table(HEAD.format(judged=said["judged"]), map(_row, found))
        parts += [f"## {steps} sampling steps\n", *told, "\n"]
        parts.append(f"![speed against loss]({stem}-{steps}.svg)\n")
        parts.append(f"![the same twelve prompts by every way]({stem}-{steps}.webp)\n")
    return "\n".join(parts)


def _row(line: dict) -> list[str]:
    share, most = "", line.get("ceiling")
    if most:
        share = f"{100 * line['quicker_flops'] / most:.0f} % of {most:.2f}"
    low, high = line.get("difference_95", (0.0, 0.0))
    return [
        line["way"],
        f"{line['quicker_flops']:.2f}",
        share,
        f"{line['quicker_seconds']:.2f}",
        f"{line['pixels_off']:.2f}",
        f"{line.get('judged', float('nan')):.3f}",
        f"{line.get('difference', float('nan')):+.3f} [{low:+.3f}, {high:+.3f}]",
        " / ".join(f"{100 * part:.0f} %" for part in line["steps_by_size"].values()),
    ]


def full_size(plan: Plan, sampler: Sampler) -> str:
    """What the steps that were measured would take at FLUX's size: operations, and bytes that cross the
    bus where every block is streamed."""
    costs, row, steps = preview_costs.pass_costs(FULL_SIZE), model_row(FULL_SIZE), plan.steps[0]
    sizes = [
        [
            f"{'' if factor == 1 else factor}p",
            one.tokens,
            f"{one.flops / 1e12:.1f}",
            f"{costs[1].flops / one.flops:.2f}",
            f"{one.cached_flops / 1e12:.2f}",
        ]
        for factor, one in costs.items()
    ]
    plain, ways = preview_costs.bus_bytes(FULL_SIZE, "full", [1] * steps), []
    for way in sampler.methods(steps):
        measured = measurements(plan, way, steps)[0]
        whole, small = (
            preview_costs.bus_bytes(FULL_SIZE, precision, measured["passes"])
            for precision in ("full", PRECISION)
        )
        quicker = preview_costs.speedup(costs, measured["factors"], measured["passes"])
        ways.append([way.name, f"{quicker:.2f}", f"{whole / 1e9:.0f}", f"{small / 1e9:.0f}"])
        ways[-1].append(f"{plain / whole:.2f}")
    lines = [
        f"## {row.title} at {row.native_px} px, counted on its shapes\n",
        *markdown_table(SIZES_HEAD, sizes),
        f"\nWith the sizes and rests that the first batch of {plan.model} had in {steps} steps:\n",
        *markdown_table(WAYS_HEAD.format(precision=PRECISION), ways),
    ]
    return "\n".join(lines) + "\n"


def _machine(known: dict) -> str:
    return (
        f"{known['processor']}, {known['cores']} cores, torch {known['torch']}, diffusers "
        f"{known['diffusers']}, {known['date']}"
    )
