"""What a plan means, in words for people who own cats: sizes, what is given up, what is gained.

The planner's reasons stay as they are for whoever wants to know; here is what the page says first.
"""

from __future__ import annotations

import re

from blockskip.core.presets import ModelRow, quality_table
from blockskip.core.settings import Settings
from blockskip.memory.planning.explanations import describe
from blockskip.memory.planning.search import Candidate
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


def plain(text: str) -> str:
    """The planner's words for this page: GB with one decimal, and nothing of the command line."""
    text = re.sub(r";? ?\(?--skip 0( turns it off)?\)?", "", text)
    text = re.sub(r"(\d+\.\d{2,})(?= GiB)", lambda found: f"{float(found[0]):.1f}", text)
    return text.replace("GiB", "GB")


def costs(s: Settings, row: ModelRow) -> list[str]:
    """What the plan gives up, in the order of what surprises; skipping is in the drawing as well."""
    share = _share(s, row)
    side = s.plan.s_max_px if s.plan.patches == "full" else s.plan.s_min_px
    largest = round(max(quality_table()["sides"]) * row.s_min_px)
    full = row.full_size
    words = 10 * round(s.plan.text_tokens * WORDS_A_TOKEN / 10)
    paid = [
        (full and side < largest, strings.PLAN_COST_SIDE.format(side=side, largest=largest)),
        (s.plan.middle == "streamed", strings.PLAN_COST_STREAMED),
        (
            s.plan.precision in strings.PLAN_COST_BITS,
            strings.PLAN_COST_BITS.get(s.plan.precision, ""),
        ),
        (s.plan.checkpointing and s.plan.middle != "streamed", strings.PLAN_COST_TWICE),
        (full and s.plan.offload == "mapped", strings.PLAN_COST_MAPPED),
        (s.plan.middle == "leaves", strings.PLAN_COST_LEAVES),
        (s.plan.text_tokens < row.text_tokens, strings.PLAN_COST_TEXT.format(words=words)),
        (share > 0, strings.PLAN_COST_SKIPPED.format(share=share)),
    ]
    return [said for is_paid, said in paid if is_paid]


def gain(text: str, s: Settings, row: ModelRow) -> str:
    """What more memory brings: of the plan it would allow only what differs, likeness in words.

    A cat owner cannot judge “512 px, 8 bits: 0.0153 more likeness expected”.
    """
    side = s.plan.s_max_px if s.plan.patches == "full" else s.plan.s_min_px
    bits = "bf16" if s.plan.precision == "full" else s.plan.precision
    now = describe(
        Candidate(0.0, s.plan.front, s.plan.back, side, bits, s.plan.text_tokens), row
    ).split(", ")

    def words(found: re.Match) -> str:
        then = found[1].split(", ")
        new = [_shown(piece, _share(s, row)) for piece in then if piece not in now]
        if any("tokens" in piece for piece in now) and not any("tokens" in piece for piece in then):
            new.append(strings.PLAN_NEW["tokens"])
        return f"give {', '.join(new)}:" if new else found[0]

    text = re.sub(r"give ([^:]+):(?= 0\.\d{4} more likeness)", words, text)
    for theirs, ours in strings.PLAN_PLAINER.items():
        text = text.replace(theirs, ours)
    return re.sub(r"(0\.\d{4}) more likeness expected(, no more than such.*vary)?", _likeness, text)


def _likeness(found: re.Match) -> str:
    more = float(found[1])
    return strings.PLAN_LIKENESS[(more > quality_table()["chance"]) + (more > BIG_GAIN)]


def _share(s: Settings, row: ModelRow) -> int:
    """Percent of the blocks that are skipped."""
    return round(100 * (s.plan.front + s.plan.back) / row.num_blocks)


def _shown(piece: str, now: int) -> str:
    """A piece of explain.describe as people would say it. now: percent skipped so far."""
    number = piece.split()[0]
    for unit, words in strings.PLAN_NEW.items():
        if unit in piece:
            return words.format(number=number, now=now)
    return piece


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
