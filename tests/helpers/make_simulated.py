"""Keeps simulated.json whole: every rung's plan and training steps beside them; then prints the
table of assets/evidence/simulated.md.

python tests/helpers/make_simulated.py    (minutes; empty the file first when a stage itself
changes)
"""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

from blockskip.core.presets import model_row, model_rows
from blockskip.core.settings import Settings
from blockskip.lab.full_size.simulate import simulate
from blockskip.memory.planning.planner import make_plan
from blockskip.memory.planning.requirements import stage_memory

BUDGETS = (2.5, 4, 6, 8, 10, 12, 16, 24)  # at 2.5 the trained blocks are streamed
DEFAULT_SETTINGS = Settings.of(
    model="flux-dev",
    front=19,
    back=10,
    micro_batch=4,
    encode_batch=4,
    preview_batch=1,
    preview_tiled=True,
)
FILE = Path(__file__).with_name("simulated.json")
# what a stage's peak depends on; other settings would only simulate it twice
RELEVANT_SETTINGS = {
    "text": ("model", "text_tokens"),
    "latents": ("model", "s_min_px", "encode_batch"),
    "train": (
        "model front back s_min_px text_tokens precision checkpointing rank targets batch "
        "accumulation middle"
    ).split(),
}
MODEL = "model front back text_tokens precision rank targets middle".split()
RELEVANT_SETTINGS["residuals"] = [*MODEL, "s_min_px", "micro_batch", "window_on_card"]
RELEVANT_SETTINGS["preview"] = [*MODEL, "preview_px", "preview_tiled"]


def cases() -> Iterator[tuple[str, Settings]]:
    """(stage, settings) to simulate."""
    rungs = [*itertools.product(("Windows", "Linux"), BUDGETS, ("",)), ("Linux", 24, "0")]
    for system, budget, skip in rungs:
        plan = make_plan(
            model="flux-dev", budget_gib=budget, system=system, skip=skip, free_gib=float("inf")
        )
        yield from ((stage, plan.settings) for stage in RELEVANT_SETTINGS)
    for _, _, settings in other_models():
        yield from ((stage, settings) for stage in RELEVANT_SETTINGS)
    spans, flags = ((7, 10), (13, 10), (19, 10)), (False, True)
    kinds = itertools.product(("full", "int8", "nf4"), ("attention", "attention+ff"))
    for (front, back), again, (precision, targets) in itertools.product(spans, flags, kinds):
        yield (
            "train",
            DEFAULT_SETTINGS.changed(
                front=front, back=back, checkpointing=again, precision=precision, targets=targets
            ),
        )


def other_models() -> Iterator[tuple[str, int, Settings]]:
    """(model, budget in GiB, what is planned) of all but FLUX.1-dev."""
    names = [row.name for row in model_rows().values() if not row.demo and row.name != "flux-dev"]
    for model, budget in itertools.product(names, (4, 8, 16)):
        plan = make_plan(model=model, budget_gib=budget, system="Linux", free_gib=float("inf"))
        yield model, budget, plan.settings


def key(stage: str, settings: Settings) -> tuple[str, dict]:
    """A case as simulated.json has it: the stage, and which settings matter and are unusual."""
    said, usual = settings.flat(), DEFAULT_SETTINGS.flat()
    said["accumulation"] = min(2, said["accumulation"])  # gradients wait between batches, or do not
    return stage, {k: said[k] for k in RELEVANT_SETTINGS[stage] if said[k] != usual[k]}


def settings_of(case: dict) -> Settings:
    """Of a case, with the rest as usual."""
    side = case["settings"].get("s_min_px", 0)
    return DEFAULT_SETTINGS.changed(
        **case["settings"], s_max_px=max(side, DEFAULT_SETTINGS.plan.s_max_px)
    )


def main() -> None:
    found = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else []
    wanted = [key(stage, choice) for stage, choice in cases()]
    found = [case for case in found if (case["stage"], case["settings"]) in wanted]
    for stage, settings in cases():
        unusual = key(stage, settings)[1]
        if any((case["stage"], case["settings"]) == (stage, unusual) for case in found):
            continue
        peak = simulate(settings, [stage])[stage].vram_gib
        found.append({"stage": stage, "settings": unusual, "vram_gib": round(peak, 4)})
        write(found)
    write(found)
    print("\n".join(table(found)))


def write(found: list[dict]) -> None:
    lines = ",\n".join(json.dumps(case) for case in found)
    FILE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def table(found: list[dict]) -> Iterator[str]:
    """Simulated peaks of the other models, and by how many percent the plan is above them; the
    range of that over all cases."""
    for model, budget, settings in other_models():
        told = []
        for stage in RELEVANT_SETTINGS:
            unusual = key(stage, settings)[1]
            peak = next(
                case["vram_gib"]
                for case in found
                if (case["stage"], case["settings"]) == (stage, unusual)
            )
            above = 100 * (planned(stage, settings) / peak - 1)
            told.append(f"{peak:.2f} ({above:+.1f})")
        yield " | ".join([f"| {model} | {budget}", *told]) + " |"
    apart = [
        100 * (planned(case["stage"], settings_of(case)) / case["vram_gib"] - 1) for case in found
    ]
    yield f"{len(found)} simulations: the plan is {min(apart):+.1f} to {max(apart):+.1f} % above them"


def planned(stage: str, settings: Settings) -> float:
    """GiB of graphics memory."""
    return stage_memory(model_row(settings.model), settings)[stage].vram_gib


if __name__ == "__main__":
    main()
