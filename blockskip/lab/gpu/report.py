"""Format the GPU measurements as a page: gpu.json keeps each line's latest report, gpu.md is made
from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from blockskip.core import files
from blockskip.lab.bench.report import machine
from blockskip.lab.bench.report import table as bench_table
from blockskip.lab.demo_world.batches import CHECK_T
from blockskip.lab.gpu.commands import MEASUREMENTS
from blockskip.lab.gpu.demo import CARRIED
from blockskip.lab.gpu.predict import COPY_SHARE, FREE, MEASURED
from blockskip.lab.measuring.pages import markdown_table, write_below_marker
from blockskip.memory.planning.duration import usual_rates

TITLE = "On a card: memory, speed, overlap"
DRY_RUN_NOTE = (
    "**A dry run on small models: it shows that this works, and no figure in it means anything.**"
)


def record(path: Path, name: str, report: dict, command: str, tiny: bool) -> None:
    """Store a line's report in the .json beside `path` (a .md) and rewrite the page. Earlier runs
    on the same GPU with other budgets are kept."""
    json_path = path.with_suffix(".json")
    entries = files.read_json(json_path) if json_path.exists() else {}
    entry = {"command": command, "machine": machine(), "dry": tiny, "report": report}
    entries[name] = _merge_runs(entries.get(name), entry)
    files.write_json(json_path, entries)
    write_below_marker(path, TITLE, markdown(entries))


def _merge_runs(old: dict | None, new: dict) -> dict:
    alike = old and old["dry"] == new["dry"]
    alike = alike and old["machine"].get("card") == new["machine"].get("card")
    before, report = (old or {}).get("report", {}), new["report"]
    if alike and "caps" in before and "caps" in report:
        return new | {"report": report | {"caps": _merge_caps(before["caps"], report["caps"])}}
    if not alike or "runs" not in report:
        return new
    return new | {"report": {"runs": _merge_by_name(before.get("runs", ()), report["runs"])}}


def _merge_caps(old: dict[str, dict], new: dict[str, dict]) -> dict[str, dict]:
    """Return the benchmark of every cap, with the contenders of both."""
    merged = old | new
    for gib in old.keys() & new.keys():
        rows = _merge_by_name(old[gib]["contenders"], new[gib]["contenders"])
        merged[gib] = new[gib] | {"contenders": rows}
    return dict(sorted(merged.items(), key=lambda cap: float(cap[0])))


def _merge_by_name(old: Sequence[dict], new: Sequence[dict]) -> list[dict]:
    return list({row["name"]: row for row in (*old, *new)}.values())


def markdown(entries: dict) -> str:
    """Return the generated part of the page."""
    body = [
        [f"`{name}`", line.about, _measured_on(entries.get(name))]
        for name, line in MEASUREMENTS.items()
    ]
    lines = markdown_table("line|what it is to show|measured", body)
    for name in MEASUREMENTS:
        if name in entries:
            lines += ["", f"## {name}", "", *_section(name, entries[name])]
    return "\n".join(lines) + "\n"


def _measured_on(entry: dict | None) -> str:
    if entry is None:
        return "no"
    machine_facts = entry["machine"]
    if entry["dry"]:
        return f"no: a dry run, {machine_facts['date']}"
    return f"{machine_facts.get('card', 'no: counted')}, {machine_facts['date']}"


def _section(name: str, entry: dict) -> Iterator[str]:
    machine_facts = entry["machine"]
    versions = ", ".join(
        f"{n} {machine_facts[n]}" for n in ("torch", "diffusers", "peft", "bitsandbytes")
    )
    card = (
        f"{machine_facts['card']}, driver {machine_facts['driver']}, CUDA {machine_facts['cuda']}; "
        if "card" in machine_facts
        else ""
    )
    yield f"    {entry['command']}"
    yield ""
    computer = f"{machine_facts['processor']}, {machine_facts['cores']} cores, {machine_facts['ram_gib']} GiB of RAM"
    yield f"{card}{computer}, {machine_facts['system']}; {versions}; {machine_facts['date']}."
    if entry["dry"]:
        yield from ("", DRY_RUN_NOTE)
    yield ""
    if "failed" in entry["report"]:
        yield f"It failed: {entry['report']['failed']}"
        return
    yield from _TABLES[name](entry["report"])


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:+.1f} %"


def _caps(report: dict) -> Iterator[str]:
    head = "model|budget|stage|planned GiB|used|plan off|held|seconds"
    body = []
    for run in report["runs"]:
        for stage, figures in run.get("stages", {}).items():
            if "planned_gib" in figures:
                memory = figures["planned_gib"], figures["used_gib"], _percent(figures["off"])
                body.append([run["model"], run["budget_gib"], stage, *memory, figures["held_gib"]])
                body[-1].append(figures.get("seconds"))
    yield from markdown_table(head, body)
    yield ""
    head = "model|budget|the whole process, GiB|within the cap|what it gave up, or why it failed"
    body = [[run["model"], run["budget_gib"], *_outcome(run)] for run in report["runs"]]
    yield from markdown_table(head, body)


def _outcome(run: dict) -> list[object]:
    why = run.get("failed") or " ".join(run.get("eased", [])) or "nothing"
    return [run.get("process_gib"), run.get("within_cap"), why]


def _speed(report: dict) -> Iterator[str]:
    rates = report["rates"]
    yield from _rates(rates)
    for gib, part in report["caps"].items():
        title = "Without a cap" if gib == "0" else f"Under {gib} GiB"
        yield from ("", f"{title}:", "", *bench_table(part), "")
        head = "contender|TFLOP/s in steps|share of the measured product|GB/s over the bus"
        body = [_shares(row, rates) for row in _whole(part["contenders"])]
        yield from markdown_table(head, body)
        yield from ("", *_swapping(title, part["contenders"]))


def _rates(rates: dict) -> Iterator[str]:
    in_int8 = f"{rates['int8_tops']:.4g} in 8 bits, " if "int8_tops" in rates else ""
    yield (
        f"This device at best: {rates['matmul_tflops']:.4g} TFLOP/s ({rates['dtype']} products of side "
        f"{rates['side']}), {in_int8}{rates['to_card_gbs']:.3g} GB/s from pinned RAM to it, "
        f"{rates['from_card_gbs']:.3g} GB/s back."
    )


def _whole(contenders: Sequence[dict]) -> list[dict]:
    return [row for row in contenders if "failed" not in row]


def _shares(row: dict, rates: dict) -> list[object]:
    reached = row["step_tflop_a_draw"] / row["step_seconds_a_draw"]
    over = row["weight_bytes_a_draw"] / row["seconds_a_draw"] / 1e9
    return [f"`{row['name']}`", reached, f"{reached / rates['matmul_tflops']:.0%}", over]


def _swapping(title: str, contenders: Sequence[dict]) -> Iterator[str]:
    """Compare BlockSkip, the quickest and as planned, with the quickest that swaps."""
    seconds = {row["name"]: row["seconds_a_draw"] for row in _whole(contenders)}
    swapping = [name for name in seconds if name.startswith("swap")]
    ours = [name for name in seconds if name.startswith("ours")]
    if not swapping or not ours:
        return
    theirs = min(swapping, key=seconds.__getitem__)
    named = [min(ours, key=seconds.__getitem__), *(name for name in ours if name.endswith("gb"))]
    times = [f"`{name}` {seconds[theirs] / seconds[name]:.2f}" for name in dict.fromkeys(named)]
    yield f"{title}, times as fast as `{theirs}`, the quickest that swaps: {', '.join(times)}."


def _overlap(report: dict) -> Iterator[str]:
    yield from _rates(report["rates"])
    yield ""
    head = "of|stage|copying, ms|hidden behind computing|card idle|waits"
    name = report["timeline"]["name"]
    body = []
    for stage, figures in report["timeline"].get("stages", {}).items():
        waits = ", ".join(f"{n} {k}" for k, n in figures.get("waits", {}).items()) or None
        hidden, idle = figures.get("copy_hidden"), figures.get("idle")
        shares = [None if x is None else f"{x:.0%}" for x in (hidden, idle)]
        body.append([f"`{name}`", stage, figures.get("copy_ms"), *shares, waits])
    yield from markdown_table(head, body)
    yield ""
    yield "One wait per step, and one at either end of a stage, are due to the measurement."
    yield from _failed([report["timeline"]])


def _failed(runs: Sequence[dict]) -> Iterator[str]:
    yield from (f"\n`{run['name']}` failed: {run['failed']}" for run in runs if "failed" in run)


def _quant(report: dict) -> Iterator[str]:
    head = "precision|output off|gradients off|s a step|peak GiB|weights GiB"
    keys = "output_off gradients_off step_seconds peak_gib weights_gib".split()
    body = [[name, *(figures[k] for k in keys)] for name, figures in report["precisions"].items()]
    yield from markdown_table(head, body)
    adamw = report["adamw"]
    yield ""
    if "skipped" in adamw:
        yield f"AdamW in 8 bits: {adamw['skipped']}."
        return
    yield f"AdamW: 20 steps in 8 bits end {adamw['off']:.2%} from those in 32 bits."
    yield ""
    keys = "seconds_a_step", "state_bytes_a_parameter"
    body = [[name, *(figures[k] for k in keys)] for name, figures in adamw.items() if name != "off"]
    yield from markdown_table("AdamW|s a step|bytes a parameter", body)


def _smoke(report: dict) -> Iterator[str]:
    off = {k: report[f"{k}_off"] for k in ("text", "latents", "gradients", "losses")}
    yield from markdown_table(f"what|off from the processor's on {report['device']}", off.items())
    yield ""
    head = "device|launch to LoRA, s|likeness|95 %|most of the card, GiB"
    keys = "seconds likeness likeness_95 peak_vram_gib".split()
    body = [
        [device, *(figures[k] for k in keys)] for device, figures in report["whole_way"].items()
    ]
    yield from markdown_table(head, body)


def _pictures(report: dict) -> Iterator[str]:
    head = "budget|px|way|seconds|times as quick|GiB"
    body = [
        [run["budget_gib"], run["px"], row["way"], row["seconds"], row["times"], row["used_gib"]]
        for run in report["runs"]
        for row in run.get("rows", [])
    ]
    yield from markdown_table(head, body)
    yield from _failed(report["runs"])


def _demo(report: dict) -> Iterator[str]:
    before, after = report["unseen"]["before"], report["unseen"]["after"]
    peak = f"; peak {report['peak_gib']:.2f} GiB" if report["peak_gib"] >= 0 else ""
    yield (
        f"Steps {before['step']} to {after['step']} on {report['device']} in {report['seconds']:.0f} s, "
        f"{report['times']} times a core's pictures a step: {report['pictures_a_second']:.0f} pictures a "
        f"second{peak}. {report['progress']:.1%} of the pretraining are done"
        f"{', when it was stopped' if report['stopped'] else ''}."
    )
    yield ""
    head = "held-out pictures" + "".join(f"|t = {t}" for t in CHECK_T)
    body = [
        [f"{key.removeprefix('unseen_')}, {when}", *losses]
        for key in before
        if key.startswith("unseen_")
        for when, losses in (("before", before[key]), ("after", after[key]))
    ]
    yield from markdown_table(head, body)
    yield ""
    body = [[f"`{name}`", size, CARRIED[name]] for name, size in report["mib"].items()]
    yield from markdown_table("in the folder|MiB|to be carried", body)


def _predict(report: dict) -> Iterator[str]:
    shares = list(report["rows"][0]["minutes"])
    whose = "which was measured" if report["share_measured"] else "which no card was asked for yet"
    yield (
        f"**Arithmetic, not measured**: {report['model']}, at {' and at '.join(shares)} of the "
        f"published rate of products ({whose}) and {COPY_SHARE:.0%} of those of memory and bus. "
        "Minutes are those of captions, latents, windows, steps and sample pictures: for each the "
        "longer of computing and copying, plus unpacking, rounding and draws that wait in RAM. "
        f"8-bit integers are multiplied {usual_rates().int8_times:g} times as fast as bf16, as published. "
        f"Plans are those of a desktop PC with Windows and 16 GiB of RAM, where {FREE:.0%} of the card are free. "
        "Weights that RAM does not hold come from a disk of "
        f"{usual_rates().disk_gbs:g} GB/s. Loading and decoding pictures are not included. "
        "“As planned” is the studio's choice, “500 steps” the same with fewer steps, “on sibling” the same with pictures on the distilled model. “quick” is the paper's setting: half of the blocks "
        "skipped, at the smallest side. Pictures have every step computed: a run makes them at 512 px, "
        "and the last ones once more in full size, which is the size of “a picture”."
    )
    if any(row["card"].endswith(MEASURED) for row in report["rows"]):
        yield ""
        yield "Measured rows are counted from `doctor --measure` on that computer instead, ± a third."
    yield ""
    head = "card|way|uses of draws|skipped, px, bits, together|PFLOP captions + latents + windows + steps + pictures (in 8 bits)|GB of weights over the bus, of draws|TB unpacked or rounded"
    for unit in ("minutes", "a picture"):
        head += "".join(f"|{unit} at {s}" for s in shares)
    yield from markdown_table(head, [_prediction(row, shares) for row in report["rows"]])
    yield ""
    head = "card|published TFLOP/s (bf16, fp32 sums)|GB/s of its memory|GB/s of its bus"
    cards = {row["card"]: row for row in report["rows"]}
    body = [[name, r["tflops"], r["memory_gbs"], r["bus_gbs"]] for name, r in cards.items()]
    yield from markdown_table(head, body)


def _prediction(row: dict, shares: Sequence[str]) -> list[object]:
    front, back = row["skip"]
    again = f", {row['recomputed']} blocks computed twice" if row["recomputed"] else ""
    parts = ("text", "latents", "windows", "steps", "pictures")
    flops, traffic = [row[f"{k}_tflop"] / 1000 for k in parts], ("unpacked_gb", "rounded_gb")
    in_int8 = sum(row[f"{k}_int8_tflop"] for k in parts) / 1000 / sum(flops)
    return [
        row["card"],
        row["way"],
        row["draws"],
        f"{front} + {back}, {row['side_px']} px, {row['precision']}, {row['batch']}{again}",
        " + ".join(f"{x:.1f}" for x in flops) + f" ({in_int8:.0%})",
        f"{sum(row[f'{k}_bus_gb'] for k in ('windows', 'steps', 'pictures')):.0f}, {row['windows_state_gb']:.0f}",
        sum(row[f"{part}_{kind}"] for part in parts for kind in traffic) / 1000,
        *(f"{row['minutes'][s]['all']:.0f}" for s in shares),
        *(f"{row['minutes'][s]['a_picture']:.1f} min" for s in shares),
    ]


_TABLES = {
    "smoke": _smoke,
    "caps": _caps,
    "speed": _speed,
    "overlap": _overlap,
    "quant": _quant,
    "families": _caps,
    "previews": _pictures,
    "spill": _caps,
    "demo": _demo,
    "predict": _predict,
}
