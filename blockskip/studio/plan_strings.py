"""What a plan means, in words for people who own cats: sizes, what is given up, what is gained.

The planner's reasons stay for whoever wants to know, in GB and without the command line; here is
also what the page says first.
"""

from __future__ import annotations

from blockskip.core.errors import UserError
from blockskip.core.presets import ModelRow, quality_table
from blockskip.core.settings import Settings
from blockskip.memory.planning.reason import Reason
from blockskip.memory.planning.refusal import DoesNotFit
from blockskip.memory.planning.wording import TEMPLATES, Wording
from blockskip.studio import strings

WORDS_A_TOKEN = 0.75  # English in T5's pieces, about
BIG_GAIN = 0.01  # of likeness (DINO): about what 512 instead of 256 px bring (budgets.toml)


def amount(gib: float) -> str:
    """“6.7”, “8”, “211”; next to nothing is “under 0.1”."""
    if 0 < gib < 0.05:
        return "under 0.1"
    return f"{round(gib) if gib >= 99.95 else round(gib, 1):g}"


def gb(gib: float) -> str:
    """The same with its unit: “6.7 GB”."""
    return f"{amount(gib)} GB"


def reason_text(reason: Reason) -> str:
    """What the planner tells, for this page: GB with one decimal, and nothing of the command line."""
    return _WORDING.render(reason)


def gain_text(reason: Reason) -> str:
    """What more memory brings: of the plan it would allow only what differs, likeness in words.

    A cat owner cannot judge “512 px, 8 bits: 0.0153 more likeness expected”.
    """
    return _GAIN_WORDING.render(reason)


def refusal_text(error: UserError) -> tuple[str, str]:
    """(problem, remedy) of an error in the words of this page."""
    if isinstance(error, DoesNotFit):
        return reason_text(error.problem), reason_text(error.least)
    return error.title, error.remedy


def costs(s: Settings, row: ModelRow) -> list[str]:
    """What the plan gives up, in the order of what surprises; skipping is in the drawing as well."""
    share = round(100 * (s.plan.front + s.plan.back) / row.num_blocks)
    side = s.plan.s_max_px if s.plan.patches == "full" else s.plan.s_min_px
    largest = round(max(quality_table()["sides"]) * row.s_min_px)
    words = 10 * round(s.plan.text_tokens * WORDS_A_TOKEN / 10)
    paid = [
        (side < largest, strings.PLAN_COST_SIDE.format(side=side, largest=largest)),
        (s.plan.middle == "streamed", strings.PLAN_COST_STREAMED),
        (
            s.plan.precision in strings.PLAN_COST_BITS,
            strings.PLAN_COST_BITS.get(s.plan.precision, ""),
        ),
        (s.plan.checkpointing and s.plan.middle != "streamed", strings.PLAN_COST_TWICE),
        (s.plan.offload == "mapped", strings.PLAN_COST_MAPPED),
        (s.plan.middle == "leaves", strings.PLAN_COST_LEAVES),
        (s.plan.text_tokens < row.text_tokens, strings.PLAN_COST_TEXT.format(words=words)),
        (share > 0, strings.PLAN_COST_SKIPPED.format(share=share)),
    ]
    return [said for is_paid, said in paid if is_paid]


def sides(s: Settings) -> list[tuple[float, float]]:
    """(smallest, largest) side of a crop in pixels at much, middling and little noise."""
    low, high = float(s.plan.s_min_px), float(s.plan.s_max_px)
    falling = [(high, high), ((low + high) / 2,) * 2, (low, low)]
    ways = {"dynamic": falling, "reversed": falling[::-1], "random": [(low, high)] * 3}
    return ways.get(s.plan.patches, [(high, high)] * 3)


def crop_words(s: Settings) -> list[tuple[str, str]]:
    """(words, side) under the squares: three where crops follow the noise, else one for all."""
    found = sides(s)
    if s.plan.patches == "random":
        return [("", strings.PLAN_ANY_CROP.format(low=s.plan.s_min_px, high=s.plan.s_max_px))]
    if s.plan.patches not in ("dynamic", "reversed"):
        return [("", strings.PLAN_WHOLE.format(side=s.plan.s_max_px))]
    words = strings.PLAN_CROP_WORDS[:: 1 if s.plan.patches == "dynamic" else -1]
    return [(word, f"{side:g} px") for word, (_, side) in zip(words, found, strict=True)]


def _size(gib: float, format_spec: str) -> str:
    """As the planner writes it, with one decimal at most."""
    text = f"{gib:{format_spec}}"
    return f"{float(text):.1f} GB" if len(text.partition(".")[2]) > 1 else f"{text} GB"


def _gives_likeness(now: Reason, then: Reason, shorter: bool, likeness: float) -> str:
    """“pictures of 512 px, longer captions: more likeness expected”. shorter: captions would be."""
    words = strings.PLAN_NEW | (strings.PLAN_SHORTER if shorter else {})
    new = [
        template.format(**then.values, percent_now=now.values["percent"])
        for name, template in words.items()
        if then.values[name] != now.values[name]
    ]
    return f"{', '.join(new)}: {_likeness(likeness)}"


def _likeness(likeness: float, chance: Reason | None = None) -> str:
    """How much more is expected, in words instead of figures."""
    return strings.PLAN_LIKENESS[(likeness > quality_table()["chance"]) + (likeness > BIG_GAIN)]


_WORDING = Wording(TEMPLATES | strings.PLAN_TEMPLATES, _size)
_GAIN_WORDING = Wording(
    {**_WORDING.templates, "gives_likeness": _gives_likeness, "likeness_more": _likeness}, _size
)
