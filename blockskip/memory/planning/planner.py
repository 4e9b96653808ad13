"""Plans a run before it starts: settings and a plan from the user's options, without torch.

search.py finds the plan, with the byte counts of requirements.py. explanations.py gives the reasons
and wording.py their text.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from blockskip.core.errors import BadInput
from blockskip.core.presets import ModelRow, model_row, training_preset
from blockskip.core.settings import Settings
from blockskip.core.units import GIB
from blockskip.memory import monitor
from blockskip.memory.planning import alternatives, explanations
from blockskip.memory.planning.devices import for_device
from blockskip.memory.planning.model_stats import model_stats
from blockskip.memory.planning.preset_settings import preset_settings, span_of
from blockskip.memory.planning.reason import Reason, Values
from blockskip.memory.planning.refusal import demo_refusal, refusal
from blockskip.memory.planning.request import PlanRequest, free_vram_gib, peak_gib
from blockskip.memory.planning.requirements import StageMemory, stage_memory
from blockskip.memory.planning.run_sizes import kept_bytes, offload, recomputed_blocks
from blockskip.memory.planning.search import best_plan
from blockskip.memory.planning.wording import ENGLISH

_TYPES = {"float32": "fp32", "bfloat16": "bf16"}


@dataclass(frozen=True)
class Plan:
    """The plan of a run under a budget. All sizes in GiB.

    stages: a StageMemory each for text, latents, residuals, train and preview.
    """

    settings: Settings
    usable_gib: float
    reserve_gib: float
    stages: dict[str, StageMemory]
    reasons: list[Reason]
    one_more_gib: Reason
    free_ram_gib: float = math.inf  # when it was made; inf: unknown
    commit_short: Reason | None = None  # RAM and page file are too small, on Windows
    when_freed: Reason | None = None  # what ComfyUI's models on the card are in the way of

    @property
    def peak_vram_gib(self) -> float:
        """GPU memory of the stage that needs the most, in GiB."""
        return max(need.vram_gib for need in self.stages.values())

    @property
    def ram_gib(self) -> float:
        """RAM of the stage that needs the most, in GiB."""
        return max(need.ram_gib for need in self.stages.values())

    @property
    def disk_gib(self) -> float:
        """Disk space of all stages together, in GiB: files stay until the end."""
        return sum(need.disk_gib for need in self.stages.values())

    def to_dict(self) -> dict:
        """Return the JSON of `plan --json` (DESIGN.md §3)."""
        s, row = self.settings, model_row(self.settings.model)
        plan = s.plan
        full = "fp16" if plan.number_type == "float16" else _TYPES[row.dtype]
        return {
            "model": s.model,
            "budget_gib": s.budget_gib,
            "usable_gib": round(self.usable_gib, 2),
            "reserve_gib": round(self.reserve_gib, 2),
            "span": {
                "front": plan.front,
                "middle": row.num_blocks - plan.front - plan.back,
                "back": plan.back,
                "ratio": round((plan.front + plan.back) / row.num_blocks, 3),
            },
            "precision": full if plan.precision == "full" else plan.precision,
            "arithmetic": "int8" if plan.int8_products else full,
            "offload": offload(row, s),
            "ram_weights_gib": round(kept_bytes(row, s) / GIB, 3),
            "middle": plan.middle,
            "recomputed": recomputed_blocks(row, s),
            "text_tokens": plan.text_tokens,
            "batch": plan.batch,
            "patches": {"schedule": plan.patches, "s_min": plan.s_min_px, "s_max": plan.s_max_px},
            "window_draws": s.window_draws,
            "stages": {
                name: {key: round(value, 3) for key, value in dataclasses.asdict(need).items()}
                for name, need in self.stages.items()
            },
            "peak_vram_gib": round(self.peak_vram_gib, 3),
            "ram_gib": round(self.ram_gib, 3),
            "free_ram_gib": None if math.isinf(self.free_ram_gib) else round(self.free_ram_gib, 1),
            "disk_gib": round(self.disk_gib, 3),
            "fits": True,  # otherwise planning raises DoesNotFit
            "reasons": [ENGLISH.render(reason) for reason in self.reasons],
            "one_more_gib": ENGLISH.render(self.one_more_gib),
            "commit_short": self.commit_short and ENGLISH.render(self.commit_short),
            "when_freed": self.when_freed and ENGLISH.render(self.when_freed),
        }


def choose_settings(
    *,
    model: str = "demo",
    trigger: str = "sks",
    class_name: str = "cat",
    budget_gib: float = 8.0,
    ram_gib: float = 16.0,
    free_ram_gib: float = math.inf,
    disk_gib: float = math.inf,
    skip: str = "",
    **overrides: Any,
) -> Settings:
    """Return a run's settings from the user's options and, for the others, the presets.

    free_ram_gib, disk_gib: see make_plan. skip: "" (the budget decides), a ratio such as "0.4", or blocks such
    as "19,10". overrides: fields of Settings; None means unset. Raises UserError for an unknown
    model, a span that leaves no middle, or a budget that cannot work.
    """
    return make_plan(
        model=model,
        trigger=trigger,
        class_name=class_name,
        budget_gib=budget_gib,
        ram_gib=ram_gib,
        free_ram_gib=free_ram_gib,
        disk_gib=disk_gib,
        skip=skip,
        **overrides,
    ).settings


def make_plan(
    *,
    model: str = "demo",
    trigger: str = "sks",
    class_name: str = "cat",
    budget_gib: float = 8.0,
    ram_gib: float = 16.0,
    disk_gib: float = math.inf,
    free_gib: float | None = None,
    free_ram_gib: float = math.inf,
    commit_gib: float = 0.0,
    freeable_gib: float = 0.0,
    system: str = "",
    capability: float | None = None,
    skip: str = "",
    **overrides: Any,
) -> Plan:
    """Return the plan of a run; see choose_settings.

    disk_gib: free on the disk. free_gib: free on the GPU; None queries it. free_ram_gib: RAM that
    is free now (monitor.free_ram_gib); inf: unknown. commit_gib: what Windows can still promise,
    inf on other systems; 0 queries it. freeable_gib: of the GPU, what ComfyUI's models hold.
    system: Windows, Linux, … ("": this one). capability: the GPU's compute capability, below 0 if
    unknown; None queries it. Raises UserError if nothing works, with the least that would.
    """
    row = _trained(model)
    fixed: dict[str, Any] = {"trigger": trigger, "class_name": class_name}
    fixed |= {"budget_gib": budget_gib, "ram_gib": ram_gib}
    settings, decided = _asked(row, overrides, fixed, skip)
    free = _free_gib() if free_gib is None else free_gib
    room: dict[str, Any] = {"free_gib": free, "free_ram_gib": free_ram_gib, "disk_gib": disk_gib}
    request = PlanRequest(settings=settings, fixed=decided, system=system, **room)
    capability = monitor.compute_capability() if capability is None else capability
    request = for_device(row, request, capability)
    plan = _demo(row, request) if row.demo else _best(row, request, freeable_gib)
    short = explanations.commit_short(plan.stages, commit_gib or _commit_gib())
    plan = dataclasses.replace(plan, commit_short=short, free_ram_gib=free_ram_gib)
    return plan if overrides.get("shift") is not None else _with_shift(row, plan)


def _trained(model: str) -> ModelRow:
    """Return the row of a model. Raises UserError for a sibling, which serves pictures alone."""
    row = model_row(model)
    if row.sibling_of:
        raise BadInput(
            f"{row.title} is not trained here: pictures are made on it.",
            f"Train {model_row(row.sibling_of).title}: --model {row.sibling_of}",
        )
    return row


def _asked(
    row: ModelRow, overrides: dict[str, Any], fixed: dict[str, Any], skip: str
) -> tuple[Settings, frozenset[str]]:
    """Return the settings that were asked for, and the names of the plan's fields among them.

    fixed: fields that are always set, without the span."""
    chosen = {key: value for key, value in overrides.items() if value is not None}
    if chosen.get("precision") == _TYPES[row.dtype]:
        chosen["precision"] = "full"
    span = span_of(row, skip, fixed["budget_gib"]) if skip or row.demo else (0, 0)
    settings = preset_settings(row, chosen, fixed | {"front": span[0], "back": span[1]})
    decided = _fixed(row, settings, chosen, bool(skip))
    if "batch" not in decided and not row.demo:
        settings = settings.changed(batch=1, accumulation=settings.plan.draws_per_step)
    return settings, decided


def _commit_gib() -> float:
    now = monitor.commit()
    return now.free_gib if now else math.inf


def _best(row: ModelRow, request: PlanRequest, freeable_gib: float) -> Plan:
    fit = best_plan(row, request)
    if fit is None:
        raise refusal(row, request)
    return Plan(
        fit.settings,
        request.usable_gib,
        request.reserve_gib,
        fit.stages,
        explanations.reasons(row, request, fit),
        alternatives.one_more_gib(row, request, fit),
        when_freed=alternatives.when_freed(row, request, fit, freeable_gib),
    )


def _with_shift(row: ModelRow, plan: Plan) -> Plan:
    """Return the plan with the model's shift of timesteps at the side that the plan trains."""
    side = plan.settings.plan.side_px
    tokens = (side // model_stats(row.name).pixels_a_token) ** 2
    return dataclasses.replace(plan, settings=plan.settings.changed(shift=row.shift_at(tokens)))


def _free_gib() -> float:
    free = free_vram_gib()
    return free if free >= 0 else math.inf


def _fixed(row: ModelRow, settings: Settings, chosen: dict, skips: bool) -> frozenset[str]:
    """Return the names of the plan's fields that the user decided."""
    fixed = chosen.keys() & {"precision", "arithmetic", "s_min_px", "s_max_px", "text_tokens"}
    if skips:
        fixed |= {"front"}
    if chosen.keys() & {"batch", "accumulation"}:
        fixed |= {"batch"}
    # a patch schedule other than the preset's serves comparisons with published figures, so it
    # keeps the published sides
    if settings.plan.patches != training_preset(row.name)["patches"]:
        fixed |= {"s_min_px"}
    return frozenset(fixed)


def _demo(row: ModelRow, request: PlanRequest) -> Plan:
    """Plan a demo model. It fits everywhere, so there is no search: the budget's tier sets the
    skipped share, as an illustration. Raises MemoryTooSmall if it does not fit."""
    asked = request.settings
    settings = asked.changed(window_on_card=asked.window_draws)
    needs = planned_memory(settings)
    if peak_gib(needs) > request.usable_gib:
        raise demo_refusal(row, request, settings)
    skipped = settings.plan.front + settings.plan.back
    values: Values = {
        "front": settings.plan.front,
        "back": settings.plan.back,
        "num_blocks": row.num_blocks,
        "percent": round(100 * skipped / row.num_blocks),
        "needs_gib": peak_gib(needs),
    }
    reasons = [Reason("small", values)]
    reasons += explanations.sampling(row, settings)
    sizes = request.usable_gib, request.reserve_gib
    return Plan(settings, *sizes, needs, reasons, Reason("more_small"))


def planned_memory(settings: Settings) -> dict[str, StageMemory]:
    """Return the memory that each stage of a run needs, with planned or fallback settings."""
    return stage_memory(model_row(settings.model), settings)
