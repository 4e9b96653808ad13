"""Write tradeoff.py's measurements as tables, plots and contact sheets, on one page."""

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
    """Return a line per method: its speed-up over exact sampling and its distance from it.
    pixels_off: mean absolute difference, of 255. judged: the mean score of the sampler's judge, if
    it has one. difference: from the exact sampler's score, paired by picture, with its 95 %
    interval."""
    exact_images = [np.asarray(image, np.float32) for image in pictures(plan, EXACT, steps)]
    exact, exact_scores = (
        measurements(plan, EXACT, steps),
        sampler.judge(pictures(plan, EXACT, steps)),
    )
    lines = []
    for method in sampler.methods(steps):
        measured = measurements(plan, method, steps)
        off = [
            float(np.abs(np.asarray(image, np.float32) - reference).mean())
            for image, reference in zip(pictures(plan, method, steps), exact_images, strict=True)
        ]
        sizes = [factor for batch in measured for factor in batch["factors"]]
        line = {
            "way": method.name,
            "kind": method.group,
            "quicker_flops": round(exact[0]["flops"] / measured[0]["flops"], 3),
            "quicker_seconds": round(_seconds(exact) / _seconds(measured), 3),
            "seconds_per_image": round(_seconds(measured) / len(exact_images), 4),
            "pixels_off": round(float(np.mean(off)), 3),
            "pixels_off_95": bootstrap(np.float32(off)),
            "steps_by_size": {size: round(sizes.count(size) / len(sizes), 4) for size in (1, 2, 4)},
        }
        if method.schedule and not method.first_block_threshold:
            line["ceiling"] = round(speedup_ceiling(sampler, method, steps), 3)
        if exact_scores is not None:
            scores = sampler.judge(pictures(plan, method, steps))
            line["judged"] = round(float(scores.mean()), 4)
            line["difference"] = round(float((scores - exact_scores).mean()), 4)
            line["difference_95"] = bootstrap(scores - exact_scores)
        lines.append(line)
    return lines


def speedup_ceiling(sampler: Sampler, method: SamplingMethod, steps: int) -> float:
    """Return the highest speed-up a schedule could have: three fine steps and the rest with its
    largest patches, at a cost proportional to image and text tokens."""
    side = sampler.row.native_px // sampler.family.token_px
    image, text = side**2, sampler.settings.plan.text_tokens
    return steps / (3 + (steps - 3) * (image // method.largest_patches**2 + text) / (image + text))


def _seconds(batches: Sequence[dict]) -> float:
    return sum(batch["seconds"] for batch in batches)


def plot(steps: int, lines: Sequence[dict]) -> str:
    """Plot the trade-off of operations saved against pixels off."""
    series = []
    for kind in dict.fromkeys(line["kind"] for line in lines if line["way"] != EXACT.name):
        points = sorted(
            (line["quicker_flops"], line["pixels_off"], *line["pixels_off_95"])
            for line in lines
            if line["kind"] == kind
        )
        series.append(plots.Series(kind, points))
    title = f"{steps} sampling steps: speed against loss (95 % intervals)"
    return plots.lines(title, "times fewer operations", "pixels off, of 255", series)


def write(plan: Plan, sampler: Sampler, out: Path) -> list[Path]:
    """Write a JSON file, a plot and a contact sheet per number of steps, and the page that shows
    them. Returns their paths. Names begin with `previews`, or `previews-of-a-pet` for a run."""
    stem = "previews-of-a-pet" if plan.run else "previews"
    measured = {steps: method_lines(plan, sampler, steps) for steps in plan.steps}
    report = {
        "model": plan.model,
        "run": plan.run and plan.run.name,
        "judged": sampler.judge_metric,
        "prompts": len(sampler.prompts),
        "together": SAMPLE_BATCH,
        "machine": machine(),
        "steps": measured,
    }
    path = out / f"{stem}.md"
    files.write_json(path.with_suffix(".json"), report)
    written = [path, path.with_suffix(".json")]
    for steps, lines in measured.items():
        plotted, sheet = out / f"{stem}-{steps}.svg", out / f"{stem}-{steps}.webp"
        files.write_text(plotted, plot(steps, lines))
        rows = [
            (_ascii(method.name), pictures(plan, method, steps)[:12])
            for method in sampler.methods(steps)
        ]
        save_sheet(contact_sheet(rows, 64), sheet)
        written += [plotted, sheet]
    full_size_part = "" if plan.run else f"\n{full_size(plan, sampler)}"
    write_below_marker(
        path, "Previews: speed against what it costs", markdown_page(report, stem) + full_size_part
    )
    return written


def _ascii(name: str) -> str:
    """Replace the letters that the sheet's font lacks."""
    return name.replace("τ", "tau").replace("ρ", "rho")


def markdown_page(report: dict, stem: str) -> str:
    """Return the generated part of the page, its tables. The conclusions above them are
    hand-written."""
    of = f" with the LoRA of run “{report['run']}”" if report["run"] else ""
    parts = [
        f"Model {report['model']}{of}, {report['prompts']} prompts, {report['together']} pictures together; "
        f"{_machine(report['machine'])}.\n"
    ]
    for steps, lines in report["steps"].items():
        table = markdown_table(HEAD.format(judged=report["judged"]), map(_row, lines))
        parts += [f"## {steps} sampling steps\n", *table, "\n"]
        parts.append(f"![speed against loss]({stem}-{steps}.svg)\n")
        parts.append(f"![the same twelve prompts by every way]({stem}-{steps}.webp)\n")
    return "\n".join(parts)


def _row(line: dict) -> list[str]:
    share, ceiling = "", line.get("ceiling")
    if ceiling:
        share = f"{100 * line['quicker_flops'] / ceiling:.0f} % of {ceiling:.2f}"
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
    """Return the section on FLUX's full size: the FLOPs of the measured steps there, and bytes over
    the bus with every block streamed."""
    costs, row, steps = preview_costs.pass_costs(FULL_SIZE), model_row(FULL_SIZE), plan.steps[0]
    sizes = [
        [
            f"{'' if factor == 1 else factor}p",
            cost.tokens,
            f"{cost.flops / 1e12:.1f}",
            f"{costs[1].flops / cost.flops:.2f}",
            f"{cost.cached_flops / 1e12:.2f}",
        ]
        for factor, cost in costs.items()
    ]
    baseline, rows = preview_costs.bus_bytes(FULL_SIZE, "full", [1] * steps), []
    for method in sampler.methods(steps):
        measured = measurements(plan, method, steps)[0]
        unquantised, quantised = (
            preview_costs.bus_bytes(FULL_SIZE, precision, measured["passes"])
            for precision in ("full", PRECISION)
        )
        quicker = preview_costs.speedup(costs, measured["factors"], measured["passes"])
        rows.append(
            [method.name, f"{quicker:.2f}", f"{unquantised / 1e9:.0f}", f"{quantised / 1e9:.0f}"]
        )
        rows[-1].append(f"{baseline / unquantised:.2f}")
    lines = [
        f"## {row.title} at {row.native_px} px, counted on its shapes\n",
        *markdown_table(SIZES_HEAD, sizes),
        f"\nWith the patch sizes and cached steps of the first batch of {plan.model} in {steps} steps:\n",
        *markdown_table(WAYS_HEAD.format(precision=PRECISION), rows),
    ]
    return "\n".join(lines) + "\n"


def _machine(facts: dict) -> str:
    return (
        f"{facts['processor']}, {facts['cores']} cores, torch {facts['torch']}, diffusers "
        f"{facts['diffusers']}, {facts['date']}"
    )
