"""What a run will be, before it is: settings and a plan from what the user said, without torch.

Models of full size are planned stage by stage (search.py, from requirements.py) and explained
(explanations.py, in words by wording.py). For a model so small that it fits everywhere, the rung
decides how much is skipped, and one estimate of a training step is all that is needed.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from blockskip.core.paths import adapter_file
from blockskip.core.presets import ModelRow, model_row, preview_threshold, training_preset
from blockskip.core.settings import Settings
from blockskip.core.stages import PLANNED
from blockskip.memory.monitor import usage
from blockskip.memory.planning import alternatives, explanations
from blockskip.memory.planning.preset_settings import preset_settings, span_of
from blockskip.memory.planning.reason import Reason
from blockskip.memory.planning.refusal import refusal
from blockskip.memory.planning.requirements import Choice, Need, stage_needs
from blockskip.memory.planning.search import Wish, crops, find
from blockskip.memory.planning.small_models import check_budget, step_need
from blockskip.memory.planning.wording import ENGLISH

_TYPES = {"float32": "fp32", "bfloat16": "bf16"}


@dataclass(frozen=True)
class Plan:
    """What would happen under a budget. All sizes in GiB; stages: a Need each of text, latents,
    residuals, train, preview."""

    settings: Settings
    usable_gib: float
    reserve_gib: float
    stages: dict[str, Need]
    reasons: list[Reason]
    one_more_gib: Reason

    @property
    def peak_vram_gib(self) -> float:
        """Of the stage that takes the most of the card."""
        return max(need.vram_gib for need in self.stages.values())

    @property
    def ram_gib(self) -> float:
        """Of the stage that takes the most RAM."""
        return max(need.ram_gib for need in self.stages.values())

    @property
    def disk_gib(self) -> float:
        """Of all stages together: what one wrote stays until the end."""
        return sum(need.disk_gib for need in self.stages.values())

    def to_dict(self) -> dict:
        """The contract of `plan --json` (DESIGN.md §3)."""
        s, row = self.settings, model_row(self.settings.model)
        full = _TYPES[row.dtype]
        return {
            "model": s.model,
            "budget_gib": s.budget_gib,
            "usable_gib": round(self.usable_gib, 2),
            "reserve_gib": round(self.reserve_gib, 2),
            "span": {
                "front": s.plan.front,
                "middle": row.num_blocks - s.plan.front - s.plan.back,
                "back": s.plan.back,
                "ratio": round((s.plan.front + s.plan.back) / row.num_blocks, 3),
            },
            "precision": full if s.plan.precision == "full" else s.plan.precision,
            "offload": s.plan.offload,
            "middle": s.plan.middle,
            "checkpointing": s.plan.checkpointing,
            "text_tokens": s.plan.text_tokens,
            "batch": s.plan.batch,
            "patches": {
                "schedule": s.plan.patches,
                "s_min": s.plan.s_min_px,
                "s_max": s.plan.s_max_px,
            },
            "window_draws": s.window_draws,
            "stages": {
                name: {key: round(value, 3) for key, value in dataclasses.asdict(need).items()}
                for name, need in self.stages.items()
            },
            "peak_vram_gib": round(self.peak_vram_gib, 3),
            "ram_gib": round(self.ram_gib, 3),
            "disk_gib": round(self.disk_gib, 3),
            "fits": True,  # what does not fit is refused in words
            "reasons": [ENGLISH.say(reason) for reason in self.reasons],
            "one_more_gib": ENGLISH.say(self.one_more_gib),
        }


def choose_settings(
    *,
    model: str = "demo",
    trigger: str = "sks",
    class_name: str = "cat",
    budget_gib: float = 8.0,
    ram_gib: float = 16.0,
    disk_gib: float = math.inf,
    skip: str = "",
    **overrides: object,
) -> Settings:
    """Settings of a run from what the user said; everything unsaid comes from the presets.

    disk_gib: free on the disk. skip: "" (the budget decides), a ratio such as "0.4", or blocks such
    as "19,10". overrides: fields of Settings; None means unsaid. Raises UserError for an unknown
    model, a span that leaves no middle, or a budget that cannot work.
    """
    return make_plan(
        model=model,
        trigger=trigger,
        class_name=class_name,
        budget_gib=budget_gib,
        ram_gib=ram_gib,
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
    system: str = "",
    skip: str = "",
    **overrides: object,
) -> Plan:
    """The plan of a run; see choose_settings.

    disk_gib: free on the disk. free_gib: free on the card; None asks it. system: Windows, Linux, …
    ("": this one). Raises UserError for what cannot work, with the least that would.
    """
    row = model_row(model)
    said = {key: value for key, value in overrides.items() if value is not None}
    if said.get("precision") == _TYPES[row.dtype]:
        said["precision"] = "full"
    span = span_of(row, skip, budget_gib) if skip or not row.full_size else (0, 0)
    fixed = {"trigger": trigger, "class_name": class_name, "front": span[0], "back": span[1]}
    fixed |= {"budget_gib": budget_gib, "ram_gib": ram_gib}
    settings = preset_settings(row, said, fixed)
    if not row.full_size:
        return _small_plan(row, settings)
    free = _free_gib() if free_gib is None else free_gib
    wish = _wish(row, settings, said, span if skip else None)
    wish = dataclasses.replace(wish, disk_gib=disk_gib, free_gib=free, system=system)
    return _full_plan(row, settings, wish)


def _free_gib() -> float:
    free = usage().vram_free_gib
    return free if free >= 0 else math.inf


def _wish(row: ModelRow, settings: Settings, said: dict, span: tuple[int, int] | None) -> Wish:
    precision = settings.plan.precision if "precision" in said else ""
    return Wish(
        budget_gib=settings.budget_gib,
        ram_gib=settings.ram_gib,
        span=span,
        precision="bf16" if precision == "full" else precision,
        patches=settings.plan.patches,
        side_px=_side(row, settings, said),
        s_max_px=said.get("s_max_px", 0),
        text_tokens=said.get("text_tokens", 0),
        rank=settings.rank,
        targets=settings.targets,
        batch=settings.plan.batch if "batch" in said or "accumulation" in said else 0,
        draws_per_step=settings.plan.draws_per_step,
        num_draws=settings.num_draws,
        prior=settings.prior,
        window_draws=settings.window_draws,
        reuse=settings.reuse,
        preview_speed=settings.plan.preview_speed,
        preview_steps=settings.preview_steps,
        adapters=_adapters(settings),
    )


def _side(row: ModelRow, settings: Settings, said: dict) -> int:
    """The side to train at where something said decides it, else 0. Another patch schedule than
    the usual one is asked for to compare with what was published, so it has the published sides."""
    if settings.plan.patches == "full":
        return settings.plan.s_max_px
    usual = training_preset(row.name)["patches"]
    return said.get("s_min_px", 0 if settings.plan.patches == usual else row.s_min_px)


def _full_plan(row: ModelRow, settings: Settings, wish: Wish) -> Plan:
    fit = find(row, wish)
    if fit is None:
        raise refusal(row, wish)
    choice = fit.choice
    patches, s_max_px = crops(row, wish, choice.side_px)
    settings = settings.changed(
        front=choice.front,
        back=choice.back,
        patches=patches,
        s_min_px=choice.side_px,
        s_max_px=s_max_px,
        text_tokens=choice.text_tokens,
        precision="full" if choice.precision == "bf16" else choice.precision,
        checkpointing=choice.checkpointing,
        batch=choice.batch,
        accumulation=settings.plan.draws_per_step // choice.batch,
        middle=choice.middle,
        offload=choice.offload,
        window_on_card=choice.window_on_card,
        window_steps=max(1, choice.window_draws // settings.plan.draws_per_step) * settings.reuse,
        micro_batch=choice.rows,
        encode_batch=choice.encode_rows,
        preview_batch=1,  # what the tables count
        preview_tiled=choice.tiled,
        preview_speed=settings.plan.preview_speed if choice.cached else "exact",
    )
    return Plan(
        settings,
        wish.usable_gib,
        wish.reserve_gib,
        fit.needs,
        explanations.reasons(row, wish, fit),
        alternatives.one_more_gib(row, wish, fit),
    )


def _small_plan(row: ModelRow, settings: Settings) -> Plan:
    """A model that fits everywhere: a training step takes the most, and is estimated."""
    check_budget(row, settings)
    settings = settings.changed(window_on_card=settings.window_draws)
    stages = planned(settings)
    small = {
        "front": settings.plan.front,
        "back": settings.plan.back,
        "num_blocks": row.num_blocks,
        "ratio": (settings.plan.front + settings.plan.back) / row.num_blocks,
        "needs_gib": stages["train"].vram_gib,
    }
    reasons = [Reason("small", small)]
    reasons += explanations.sampling(
        settings.model, settings.plan.preview_speed, settings.preview_steps
    )
    return Plan(settings, settings.budget_gib, 0.0, stages, reasons, Reason("more_small"))


def planned(settings: Settings) -> dict[str, Need]:
    """What each stage of a run with these settings needs, whether it was planned so or eased."""
    row = model_row(settings.model)
    if row.full_size:
        return stage_needs(row, choice_of(settings))
    need = step_need(row, settings, settings.plan.front, settings.plan.back)
    return {name: Need(need.total_gib, 1.5, 0.1) for name in PLANNED}


def choice_of(settings: Settings) -> Choice:
    """What the byte tables are asked about these settings."""
    return Choice(
        model=settings.model,
        front=settings.plan.front,
        back=settings.plan.back,
        side_px=settings.plan.s_max_px
        if settings.plan.patches == "full"
        else settings.plan.s_min_px,
        text_tokens=settings.plan.text_tokens,
        precision="bf16" if settings.plan.precision == "full" else settings.plan.precision,
        checkpointing=settings.plan.checkpointing,
        rank=settings.rank,
        targets=settings.targets,
        batch=settings.plan.batch,
        accumulates=settings.plan.accumulation > 1,
        middle=settings.plan.middle,
        window_draws=settings.window_draws,
        prior=settings.prior,
        window_on_card=settings.plan.window_on_card,
        rows=settings.plan.micro_batch,
        encode_rows=settings.plan.encode_batch,
        preview_px=settings.preview_px,
        tiled=settings.plan.preview_tiled,
        cached=preview_threshold(settings.plan.preview_speed, settings.preview_steps) > 0,
        adapters=_adapters(settings),
        num_draws=settings.num_draws,
        offload=settings.plan.offload,
    )


def _adapters(settings: Settings) -> float:
    """Bytes of the adapters that previews may have (sampling/dynamic_patches.py)."""
    path = adapter_file(settings.model)
    wanted = settings.plan.preview_speed == "fastest" and path.exists()
    return float(path.stat().st_size) if wanted else 0.0
