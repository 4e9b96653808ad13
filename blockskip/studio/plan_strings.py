"""A plan in plain words: sizes, trade-offs and gains.

The planner's reasons are also available on the page, in GB and without mentions of the command
line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from blockskip.core.errors import UserError
from blockskip.core.presets import ModelRow, quality_table
from blockskip.core.settings import Settings
from blockskip.memory.planning.reason import Reason
from blockskip.memory.planning.refusal import DoesNotFit
from blockskip.memory.planning.run_sizes import offload, recomputed_blocks
from blockskip.memory.planning.wording import TEMPLATES, Template, Wording
from blockskip.studio import strings

WORDS_A_TOKEN = 0.75  # approximate, for English text in T5 tokens
BIG_GAIN = 0.01  # likeness (DINO), about the gain from 256 to 512 px (budgets.toml)


def amount(gib: float) -> str:
    """Return a size in GiB as a number: “6.7”, “8”, “211”, or “under 0.1”."""
    if 0 < gib < 0.05:
        return strings.ALMOST_NOTHING.format(amount=0.1)
    return strings.number(round(gib) if gib >= 99.95 else round(gib, 1))


def gb(gib: float) -> str:
    """Return a size in GiB with its unit: “6.7 GB”."""
    return f"{amount(gib)} GB"


def reason_text(reason: Reason) -> str:
    """Return a reason for this page: GB with one decimal, without mentions of the command line."""
    return _PageWording({}).render(reason)


def gain_text(reason: Reason) -> str:
    """Return what more memory would bring: only the differences, with likeness in words.

    A cat owner cannot judge “512 px, 8 bits: 0.0153 more likeness expected”.
    """
    own: dict[str, Template] = {"gives_likeness": _gives_likeness, "likeness_more": _likeness}
    return _PageWording(own).render(reason)


def refusal_text(error: UserError) -> tuple[str, str]:
    """Return an error's (problem, remedy) in this page's wording."""
    if isinstance(error, DoesNotFit):
        return reason_text(error.problem), reason_text(error.least)
    return strings.translated(error.title), strings.translated(error.remedy)


def costs(s: Settings, row: ModelRow) -> list[str]:
    """Return what the plan gives up, most surprising first. The drawing shows skipping too."""
    share = round(100 * (s.plan.front + s.plan.back) / row.num_blocks)
    side = s.plan.s_max_px if s.plan.patches == "full" else s.plan.s_min_px
    largest = round(max(quality_table()["sides"]) * row.s_min_px)
    trained, again = row.num_blocks - s.plan.front - s.plan.back, recomputed_blocks(row, s)
    words = 10 * round(s.plan.text_tokens * WORDS_A_TOKEN / 10)
    waits = offload(row, s)
    tradeoffs = [
        (side < largest, strings.PLAN_COST_SIDE.format(side=side, largest=largest)),
        (s.plan.middle == "streamed", strings.PLAN_COST_STREAMED),
        (
            s.plan.precision in strings.PLAN_COST_BITS,
            strings.PLAN_COST_BITS.get(s.plan.precision, ""),
        ),
        (s.plan.int8_products, strings.PLAN_COST_INT8),
        (
            again > 0 and s.plan.middle != "streamed",
            strings.PLAN_COST_TWICE.format(percent=round(50 * again / trained)),
        ),
        (waits == "mapped", strings.PLAN_COST_MAPPED),
        (waits == "partly", strings.PLAN_COST_PARTLY),
        (s.plan.middle == "leaves", strings.PLAN_COST_LEAVES),
        (s.plan.text_tokens < row.text_tokens, strings.PLAN_COST_TEXT.format(words=words)),
        (share > 0, strings.PLAN_COST_SKIPPED.format(share=share)),
    ]
    return [sentence for applies, sentence in tradeoffs if applies]


def sides(s: Settings) -> list[tuple[float, float]]:
    """Return a crop's (smallest, largest) side in pixels at high, medium and low noise."""
    low, high = float(s.plan.s_min_px), float(s.plan.s_max_px)
    falling = [(high, high), ((low + high) / 2,) * 2, (low, low)]
    by_schedule = {"dynamic": falling, "reversed": falling[::-1], "random": [(low, high)] * 3}
    return by_schedule.get(s.plan.patches, [(high, high)] * 3)


def crop_words(s: Settings) -> list[tuple[str, str]]:
    """Return (words, side) for the squares: three if crops follow the noise, else one for all."""
    crop_sides = sides(s)
    if s.plan.patches == "random":
        return [("", strings.PLAN_ANY_CROP.format(low=s.plan.s_min_px, high=s.plan.s_max_px))]
    if s.plan.patches not in ("dynamic", "reversed"):
        return [("", strings.PLAN_WHOLE.format(side=s.plan.s_max_px))]
    words = strings.PLAN_CROP_WORDS[:: 1 if s.plan.patches == "dynamic" else -1]
    return [(word, f"{side:g} px") for word, (_, side) in zip(words, crop_sides, strict=True)]


def _size(gib: float, format_spec: str) -> str:
    """Format a size as the planner does, with at most one decimal."""
    text = f"{gib:{format_spec}}"
    return f"{strings.number(float(text), '.1f') if '.' in text else text} GB"


def _gives_likeness(
    now: Reason, then: Reason, shorter: bool, likeness: float, time: Reason | None
) -> str:
    """Return for example “pictures of 512 px, longer captions, and likeness would improve”.

    shorter: whether captions would be shorter. time: how much more or less of it.
    """
    words = strings.PLAN_NEW | (strings.PLAN_SHORTER if shorter else {})
    new = [
        template.format(**then.values, percent_now=now.values["percent"])
        for name, template in words.items()
        if then.values[name] != now.values[name]
    ]
    in_time = reason_text(time) if time else ""
    return f"{', '.join(new)}, {_likeness(likeness)}{in_time}"


def _likeness(likeness: float, chance: Reason | None = None) -> str:
    """Return how much more likeness is expected, in words instead of figures."""
    return strings.PLAN_LIKENESS[(likeness > quality_table()["chance"]) + (likeness > BIG_GAIN)]


def _in_short(fits: Reason, limit: Reason, result: Reason) -> str:
    """Return whether it fits and the result. That graphics memory limits it goes without saying."""
    limits = limit.values.get("limits")
    other = isinstance(limits, tuple) and any(each != Reason("limit_card") for each in limits)
    return " ".join(map(reason_text, [fits, limit, result] if other else [fits, result]))


class _PageWording(Wording):
    """The planner's reasons in the language of the page."""

    def __init__(self, own: Mapping[str, Template]) -> None:
        templates = {**TEMPLATES, **strings.PLAN_TEMPLATES, "in_short": _in_short, **own}
        super().__init__(templates, _size)

    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Return a value, the names of settings in words."""
        value = super().get_value(key, args, kwargs)
        words = {"speed": strings.SPEEDS, "schedule": strings.SCHEDULES}.get(str(key))
        return words[value] if words else value

    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, float) and not format_spec.endswith(" GiB"):
            return strings.number(value, format_spec)
        return super().format_field(value, format_spec)
