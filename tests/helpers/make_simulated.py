"""Complete simulated.json (every rung's plan, and training steps beside them), then print the table
of assets/evidence/simulated.md.

python tests/helpers/make_simulated.py    (minutes; empty the file first when a stage changes)
"""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

from blockskip.core.paths import ASSETS
from blockskip.core.presets import model_row, model_rows
from blockskip.core.settings import ALL_BLOCKS, Settings
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
PAGE = ASSETS / "evidence" / "simulated.md"
# the settings that a stage's peak depends on; others would repeat simulations
RELEVANT_SETTINGS = {
    "text": ("model", "text_tokens"),
    "latents": ("model", "s_min_px", "encode_batch"),
    "train": (
        "model front back s_min_px text_tokens precision arithmetic recomputed rank targets batch "
        "accumulation middle"
    ).split(),
}
MODEL = "model front back text_tokens precision arithmetic rank targets middle".split()
RELEVANT_SETTINGS["residuals"] = [*MODEL, "s_min_px", "micro_batch", "window_on_card"]
RELEVANT_SETTINGS["preview"] = [*MODEL, "preview_px", "preview_tiled"]


def cases() -> Iterator[tuple[str, Settings]]:
    """Yield (stage, settings) to simulate."""
    rungs = [*itertools.product(("Windows", "Linux"), BUDGETS, ("",)), ("Linux", 24, "0")]
    for system, budget, skip in rungs:
        plan = make_plan(
            model="flux-dev", budget_gib=budget, system=system, skip=skip, free_gib=float("inf")
        )
        yield from ((stage, plan.settings) for stage in RELEVANT_SETTINGS)
    for _, _, settings in other_models():
        yield from ((stage, settings) for stage in RELEVANT_SETTINGS)
    some = [{"recomputed": num} for num in (1, 9, 18, 27)]
    yield from (("train", DEFAULT_SETTINGS.changed(**changes)) for changes in some)
    spans, flags = ((7, 10), (13, 10), (19, 10)), (0, ALL_BLOCKS)
    kinds = itertools.product(("full", "int8", "nf4"), ("attention", "attention+ff"))
    for (front, back), again, (precision, targets) in itertools.product(spans, flags, kinds):
        yield (
            "train",
            DEFAULT_SETTINGS.changed(
                front=front, back=back, recomputed=again, precision=precision, targets=targets
            ),
        )


def other_models() -> Iterator[tuple[str, int, Settings]]:
    """Yield (model, budget in GiB, planned settings) of all models but FLUX.1-dev."""
    names = [row.name for row in model_rows().values() if not row.demo and row.name != "flux-dev"]
    for model, budget in itertools.product(names, (4, 8, 16)):
        plan = make_plan(model=model, budget_gib=budget, system="Linux", free_gib=float("inf"))
        yield model, budget, plan.settings


def key(stage: str, settings: Settings) -> tuple[str, dict]:
    """Return a case as in simulated.json: the stage, and its relevant settings that are not
    defaults."""
    values, defaults = settings.flat(), DEFAULT_SETTINGS.flat()
    values["accumulation"] = min(
        2, values["accumulation"]
    )  # all values above 1 take the same memory
    return stage, {k: values[k] for k in RELEVANT_SETTINGS[stage] if values[k] != defaults[k]}


def settings_of(case: dict) -> Settings:
    """Return the settings of a case, with defaults for the others."""
    side = case["settings"].get("s_min_px", 0)
    return DEFAULT_SETTINGS.changed(
        **case["settings"], s_max_px=max(side, DEFAULT_SETTINGS.plan.s_max_px)
    )


def main() -> None:
    cases_done = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else []
    wanted = [key(stage, choice) for stage, choice in cases()]
    cases_done = [case for case in cases_done if (case["stage"], case["settings"]) in wanted]
    for stage, settings in cases():
        unusual = key(stage, settings)[1]
        if any((case["stage"], case["settings"]) == (stage, unusual) for case in cases_done):
            continue
        peak = simulate(settings, [stage])[stage].vram_gib
        cases_done.append({"stage": stage, "settings": unusual, "vram_gib": round(peak, 4)})
        write(cases_done)
    write(cases_done)
    print("\n".join(table(cases_done)))


def write(cases_done: list[dict]) -> None:
    lines = ",\n".join(json.dumps(case) for case in cases_done)
    FILE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def table(cases_done: list[dict]) -> Iterator[str]:
    """Yield lines of the other models' simulated peaks and the plan's excess in percent, then the
    range of the excess over all cases."""
    for model, budget, settings in other_models():
        cells = []
        for stage in RELEVANT_SETTINGS:
            unusual = key(stage, settings)[1]
            peak = next(
                case["vram_gib"]
                for case in cases_done
                if (case["stage"], case["settings"]) == (stage, unusual)
            )
            above = 100 * (planned(stage, settings) / peak - 1)
            cells.append(f"{peak:.2f} ({above:+.1f})")
        yield " | ".join([f"| {model} | {budget}", *cells]) + " |"
    excesses = [
        100 * (planned(case["stage"], settings_of(case)) / case["vram_gib"] - 1)
        for case in cases_done
    ]
    yield f"{len(cases_done)} simulations: the plan is {min(excesses):+.1f} to {max(excesses):+.1f} % above them"


def planned(stage: str, settings: Settings) -> float:
    """Return the planned GPU memory in GiB."""
    return stage_memory(model_row(settings.model), settings, [stage])[stage].vram_gib


if __name__ == "__main__":
    main()
