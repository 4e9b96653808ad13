"""Why a plan is as it is, as data; wording.py has the words.

The first reason is for everybody, the rest for whoever wants to know. Every figure says whose it
is: published (by way of notes), assumed by us, or counted from shapes.
"""

from __future__ import annotations

from dataclasses import replace

from blockskip.core.presets import ModelRow, key_steps, preview_threshold, quality_table
from blockskip.core.settings import PreviewSpeed
from blockskip.core.units import GIB
from blockskip.memory.planning.alternatives import Limits, better, better_ways, unskipped
from blockskip.memory.planning.model_stats import work
from blockskip.memory.planning.reason import Reason, Values
from blockskip.memory.planning.requirements import Choice, middle_bytes, waiting_bytes
from blockskip.memory.planning.search import Fit, Wish, crops, expected_likeness


def reasons(row: ModelRow, wish: Wish, fit: Fit) -> list[Reason]:
    """Why the plan is as it is."""
    choice = fit.choice
    ways = better_ways(row, wish, fit)
    found: list[Reason | None] = [
        _in_short(wish, fit, list(ways)),
        _usable(wish),
        _skipping(row, choice),
    ]
    found += [_pictures(row, wish, choice), _precision(row, choice)]
    found += [better(row, wish, fit, way) for way in ways.values()]
    found += [unskipped(row, wish, fit), *_prices(row, choice)]
    found += [_together(wish, choice), _waiting(row, wish, choice), _window(wish, choice)]
    found += sampling(row.name, wish.preview_speed, wish.preview_steps, choice.cached)
    return [reason for reason in found if reason]


def sampling(model: str, speed: PreviewSpeed, steps: int, room: bool = True) -> list[Reason]:
    """Which step cache sample pictures are made with, and why. room: whether RAM has some for it."""
    change = preview_threshold(speed, steps)
    if speed == "exact":
        return []
    if not change:
        return [Reason("samples_few_steps", {"steps": steps})]
    if not room:
        return [Reason("samples_no_ram")]
    if keys := key_steps(model, speed, steps):
        values: Values = {"speed": speed, "computed": len(keys), "steps": steps}
        return [Reason("samples_key_steps", values)]
    return [Reason("samples_first_block", {"speed": speed, "percent": round(100 * change)})]


def _in_short(wish: Wish, fit: Fit, failed: list[Limits]) -> Reason:
    """Does it fit, what limits it, what comes of it: for people who own cats. failed: by what each
    better way does."""
    fits = Reason("fits_card", {"budget_gib": wish.budget_gib})
    if wish.free_gib < wish.budget_gib:
        fits = Reason("fits_free", {"free_gib": wish.free_gib})
    if failed:
        which = dict.fromkeys(name for names in failed for name in names)
        limit = Reason("limited", {"limits": tuple(Reason(f"limit_{name}") for name in which)})
    elif fit.choice.checkpointing or fit.choice.middle != "stays" or fit.choice.accumulates:
        limit = Reason("limits_speed")
    else:
        limit = Reason("limits_nothing")
    results = quality_table()["results"]
    result = next(each["name"] for each in results if fit.candidate.loss <= each["up_to"])
    return Reason("in_short", {"fits": fits, "limit": limit, "result": Reason(f"result_{result}")})


def _usable(wish: Wish) -> Reason:
    whole = Reason("usable_budget", {"budget_gib": wish.budget_gib})
    if wish.free_gib < wish.budget_gib:
        whole = Reason("usable_free", {"budget_gib": wish.budget_gib, "free_gib": wish.free_gib})
    sizes = {"usable_gib": wish.usable_gib, "reserve_gib": wish.reserve_gib}
    return Reason("usable", {**sizes, "whole": whole})


def _skipping(row: ModelRow, choice: Choice) -> Reason:
    ratio = (choice.front + choice.back) / row.num_blocks
    sides = row.s_min_px, 2 * row.s_min_px
    plain = not ratio and choice.side_px == sides[1]
    known = (choice.front, choice.back) in row.spans.values() and choice.side_px in sides
    whose = "whose_published" if known or plain else "whose_between"
    if row.provenance.startswith("unverified"):
        whose = "whose_other_model"
    return Reason(
        "skips_none" if plain else "skips",
        {
            "front": choice.front,
            "back": choice.back,
            "num_blocks": row.num_blocks,
            "side_px": choice.side_px,
            "whose": Reason(whose),
            "likeness": expected_likeness(row, ratio, choice.side_px),
            "reference": quality_table()["lora"],
        },
    )


def _pictures(row: ModelRow, wish: Wish, choice: Choice) -> Reason:
    """What the model sees of the photos, what is known of that, and what it costs."""
    side = choice.side_px
    schedule, largest = crops(row, wish, side)
    enlarged = cost = None
    if schedule != "full" and largest > row.s_max_px:
        enlarged = Reason("pictures_enlarged", {"largest_px": largest})
    if side > row.s_min_px:
        times = work(row, side, choice.text_tokens) / work(row, row.s_min_px, choice.text_tokens)
        larger = None if schedule == "full" else Reason("pictures_cost_crops")
        values: Values = {
            "side_px": side,
            "least_px": row.s_min_px,
            "times": times,
            "crops": larger,
        }
        cost = Reason("pictures_cost", values)
    seen = _seen(row, schedule, side, largest)
    return Reason("pictures", {"seen": seen, "enlarged": enlarged, "cost": cost})


def _seen(row: ModelRow, schedule: str, side: int, largest: int) -> Reason:
    """Crops or whole pictures, and the published figure of them."""
    table = quality_table()["patches"]
    values: Values = {"side_px": side, "largest_px": largest, "schedule": schedule}
    if schedule == "dynamic":
        gain, known = table["dynamic"] - table["resize"], None
        if side != 256:
            kind = "close_published_whole" if side == 512 else "close_unpublished"
            known = Reason(kind, {"side_px": side})
        return Reason("pictures_close", values | {"gain": gain, "known": known})
    values["loss"] = table["dynamic"] - table["resize" if schedule == "full" else schedule]
    if schedule != "full":
        return Reason("pictures_asked", values)
    return Reason("pictures_whole_published" if side == row.s_min_px else "pictures_whole", values)


def _precision(row: ModelRow, choice: Choice) -> Reason:
    size = middle_bytes(row, choice) / GIB
    if choice.precision == "bf16":
        return Reason("unquantised", {"size_gib": size})
    return Reason(
        "quantised",
        {
            "bits": Reason(f"bits_{choice.precision}"),
            "size_gib": size,
            "full_gib": middle_bytes(row, replace(choice, precision="bf16")) / GIB,
            "loss": quality_table()["loss"][choice.precision],
        },
    )


def _prices(row: ModelRow, choice: Choice) -> list[Reason]:
    found = []
    if choice.checkpointing:
        found.append(Reason("checkpointing"))
    if choice.middle in ("leaves", "streamed"):
        found.append(Reason(choice.middle))
    if choice.text_tokens < row.text_tokens:
        tokens = {"text_tokens": choice.text_tokens, "full_tokens": row.text_tokens}
        found.append(Reason("captions", tokens))
    return found


def _together(wish: Wish, choice: Choice) -> Reason | None:
    """How many of a step's draws pass the trained blocks at once."""
    if choice.batch == 1:
        return None
    return Reason(
        "together",
        {
            "batch": choice.batch,
            "draws": wish.draws_per_step,
            "unpacked": Reason("together_unpacked") if choice.precision != "bf16" else None,
            "crossing": Reason("together_crossing") if choice.middle == "streamed" else None,
        },
    )


def _waiting(row: ModelRow, wish: Wish, choice: Choice) -> Reason:
    size = waiting_bytes(row, choice) / GIB
    if choice.offload == "pinned":
        return Reason("waits_in_ram", {"size_gib": size})
    return Reason("waits_in_file", {"size_gib": size, "ram_gib": wish.usable_ram_gib})


def _window(wish: Wish, choice: Choice) -> Reason:
    """How often weights cross the bus; what the middle does stands in _prices."""
    steps = max(1, choice.window_draws // wish.draws_per_step) * wish.reuse
    which = "off_card" if choice.middle == "stays" else "skipped"
    crossing = None
    if choice.middle == "stays" or choice.front + choice.back:
        kind = "window_one_step" if steps == 1 else "window_steps"
        crossing = Reason(kind, {"which": Reason(f"weights_{which}"), "steps": steps})
    return Reason(
        "window",
        {
            "draws": choice.window_draws,
            "used": Reason("window_used", {"reuse": wish.reuse}) if wish.reuse > 1 else None,
            "crossing": crossing,
        },
    )
