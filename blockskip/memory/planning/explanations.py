"""A plan in words: what was chosen and why, what stood in the way of better, what more would bring.

The first sentence is for everybody, the rest for whoever wants to know. Every figure says whose it
is: published (by way of notes), assumed by us, or counted from shapes.
"""

from __future__ import annotations

from dataclasses import replace

from blockskip.core.presets import ModelRow, key_steps, preview_threshold, quality_table
from blockskip.core.units import GIB
from blockskip.memory.planning.requirements import Choice, middle_bytes, waiting_bytes, work
from blockskip.memory.planning.search import (
    Candidate,
    Fit,
    Wish,
    candidates,
    crops,
    exceeded,
    expected_likeness,
    find,
    least_needs,
    limits,
    smallest,
    totals,
)

_BITS = {"bf16": "16 bits", "int8": "8 bits", "nf4": "4 bits (NF4)"}
_LIMITS = {"card": "graphics memory", "ram": "RAM", "disk": "room on the disk"}


def reasons(row: ModelRow, wish: Wish, fit: Fit) -> list[str]:
    """Why the plan is as it is, one plain sentence or two each."""
    choice = fit.choice
    better = _better(row, wish, fit)
    said = [_plainly(row, wish, fit, better), _usable(wish), _skipping(row, choice)]
    said += [_pictures(row, wish, choice), _precision(row, choice)]
    said += [_fails(row, wish, fit, way) for way in better.values()]
    said += [_unskipped(row, wish, fit), *_prices(row, choice)]
    said += [_together(wish, choice), _waiting(row, wish, choice), _window(wish, choice)]
    said += sampling(row.name, wish.preview_speed, wish.preview_steps, choice.cached)
    return [sentence for sentence in said if sentence]


def sampling(model: str, speed: str, steps: int, room: bool = True) -> list[str]:
    """Which step cache sample pictures are made with, and why. room: whether RAM has some for it."""
    change = preview_threshold(speed, steps)
    if speed == "exact":
        return []
    if not change:
        return [
            f"Sample pictures take only {steps} steps, so every block works in each: a step cache "
            "would save nothing."
        ]
    if not room:
        return [
            "Every block works in every step of sample pictures: RAM has no room for a step cache "
            "beside the rest."
        ]
    if keys := key_steps(model, speed, steps):
        return [
            f"Sample pictures are “{speed}”: {len(keys)} of {steps} steps are computed, which was measured "
            "on this model; in the others all blocks rest and no weights are brought."
        ]
    return [
        f"Sample pictures are “{speed}”: in a step where the first block's work changes by less than "
        f"{round(100 * change)} %, the others rest and their weights are not brought (the library's "
        "FirstBlockCache, which needs no numbers of the model's own)."
    ]


def one_more_gib(row: ModelRow, wish: Wish, fit: Fit) -> str:
    """What the next GiB would bring, or how many it takes until something changes."""
    for more in (1, 2, 4, 8, 16):
        then = find(row, _wider(wish, more))
        change = _change(row, fit, then) if then else ""
        if change:
            start = "One more GiB" if more == 1 else f"{more} more GiB"
            before = "" if more == 1 else "One more GiB would not change what is trained. "
            return f"{before}{start} would give {change}."
    return "More graphics memory would not change what is trained." + _room_for_all(row, wish, fit)


def describe(candidate: Candidate, row: ModelRow) -> str:
    """“40 % of the blocks skipped, 512 px, 8 bits”."""
    share = round(100 * (candidate.front + candidate.back) / row.num_blocks)
    text = f", captions of {candidate.text_tokens} tokens"
    text = text if candidate.text_tokens < row.text_tokens else ""
    bits = _BITS[candidate.precision]
    skipped = f"{share} % of the blocks skipped" if share else "no blocks skipped"
    return f"{skipped}, {candidate.side_px} px, {bits}{text}"


def _wider(wish: Wish, more_gib: float) -> Wish:
    return replace(wish, budget_gib=wish.budget_gib + more_gib, free_gib=wish.free_gib + more_gib)


def _change(row: ModelRow, now: Fit, then: Fit) -> str:
    if then.candidate.loss < now.candidate.loss:
        gain = now.candidate.loss - then.candidate.loss
        return f"{describe(then.candidate, row)}: {gain:.4f} more likeness expected"
    if now.choice.middle == "streamed" != then.choice.middle:
        return "room for the trained blocks: they would not cross the bus in every step"
    if now.choice.checkpointing and not then.choice.checkpointing:
        return "the same quality without computing activations twice: steps a third quicker"
    if now.choice.middle == "leaves" and then.choice.middle == "stays":
        return "the same quality, with quicker windows and previews"
    return ""


Limits = tuple[str, ...]  # of card, ram, disk


def _better(row: ModelRow, wish: Wish, fit: Fit) -> dict[Limits, Candidate]:
    """The best of what would lose less, by what it fails by if not streamed; only those that fail
    by one thing, if there are any: with more of it they would be taken."""
    found: dict[Limits, Candidate] = {}
    for way in candidates(row, wish):
        if way.loss < fit.candidate.loss:
            found.setdefault(tuple(exceeded(wish, least_needs(row, wish, way))), way)
    alone = {names: way for names, way in found.items() if len(names) == 1}
    return alone or dict(list(found.items())[:1])


def _plainly(row: ModelRow, wish: Wish, fit: Fit, better: dict[Limits, Candidate]) -> str:
    """Does it fit, what limits it, what comes of it: for people who own cats."""
    card = f"{wish.budget_gib:g} GB"
    if wish.free_gib < wish.budget_gib:
        fits = f"This fits into the {wish.free_gib:.1f} GiB that are free on the card now."
    else:
        fits = f"This fits {'an' if card.startswith(('8', '11 ', '18 ')) else 'a'} {card} card."
    if better:
        which = dict.fromkeys(name for names in better for name in names)
        limit = f"What limits it: {' and '.join(_LIMITS[name] for name in which)}."
    elif fit.choice.checkpointing or fit.choice.middle != "stays" or fit.choice.accumulates:
        limit = "Graphics memory limits only how quick it is."
    else:
        limit = "Nothing limits it."
    words = quality_table()["words"]
    result = next(w["says"] for w in words if fit.candidate.loss <= w["up_to"])
    return f"{fits} {limit} {result}"


def _usable(wish: Wish) -> str:
    of = f"{wish.budget_gib:g} GiB"
    if wish.free_gib < wish.budget_gib:
        of = f"the {wish.free_gib:.1f} GiB that are free now (of {wish.budget_gib:g} allowed)"
    return (
        f"{wish.usable_gib:.2f} GiB can be planned with: {of} less {wish.reserve_gib:.2f} GiB for "
        "the desktop and for CUDA itself."
    )


def _skipping(row: ModelRow, choice: Choice) -> str:
    ratio = (choice.front + choice.back) / row.num_blocks
    likeness = expected_likeness(row, ratio, choice.side_px)
    sides = row.s_min_px, 2 * row.s_min_px
    plain = not ratio and choice.side_px == sides[1]
    known = (choice.front, choice.back) in row.spans.values() and choice.side_px in sides
    whose = "published" if known or plain else "between published figures:"
    if row.provenance.startswith("unverified"):
        whose = "of FLUX.1-dev, taken over unverified:"
    reference = quality_table()["lora"]
    if plain:
        return (
            f"Skips none of {row.num_blocks} blocks and trains at {choice.side_px} px: likeness "
            f"(DINO) {whose} {reference:.4f}, as plain LoRA (DiT-BlockSkip, by way of notes)."
        )
    return (
        f"Skips {choice.front} + {choice.back} of {row.num_blocks} blocks and trains at "
        f"{choice.side_px} px: likeness (DINO) {whose} {likeness:.4f}, plain LoRA "
        f"{reference:.4f} (DiT-BlockSkip, by way of notes)."
    )


def _pictures(row: ModelRow, wish: Wish, choice: Choice) -> str:
    """What the model sees of the photos, what is known of that, and what it costs."""
    side = choice.side_px
    schedule, largest = crops(row, wish, side)
    table = quality_table()["patches"]
    loss = table["dynamic"] - table["resize" if schedule == "full" else schedule]
    below = f"published {loss:.4f} below crops that follow the noise."
    if schedule == "full":
        said = f"It sees whole pictures at {side} px, no close-ups"
        said += f": {below}" if side == row.s_min_px else "."
    elif schedule == "dynamic":
        gain = table["dynamic"] - table["resize"]
        said = (
            f"It sees photos whole and close up: crops of {largest} down to {side} px, all at "
            f"{side} px. Close-ups raised the published likeness by {gain:.4f} at 256 px"
        )
        said += {256: ".", 512: "; what is published at 512 px is of whole pictures."}.get(
            side, f"; at {side} px nothing is published."
        )
    else:
        said = (
            f"Crops are “{schedule}” as you asked, at most {largest} px, all at {side} px: {below}"
        )
    if schedule != "full" and largest > row.s_max_px:
        said += f" Photos whose shorter side is below {largest} px are enlarged for it."
    if side > row.s_min_px:
        times = work(row, side, choice.text_tokens) / work(row, row.s_min_px, choice.text_tokens)
        said += f" {side} px instead of {row.s_min_px} px cost {times:.1f} times the computing"
        said += "." if schedule == "full" else "; larger crops alone cost none."
    return said


def _precision(row: ModelRow, choice: Choice) -> str:
    size = middle_bytes(row, choice) / GIB
    if choice.precision == "bf16":
        return f"The trained blocks stay unquantised: {size:.1f} GiB."
    loss = quality_table()["loss"][choice.precision]
    full = middle_bytes(row, replace(choice, precision="bf16")) / GIB
    return (
        f"The frozen weights are kept in {_BITS[choice.precision]}: {size:.1f} instead of "
        f"{full:.1f} GiB. Its loss of {loss:g} is our assumption, not measured yet."
    )


def _fails(row: ModelRow, wish: Wish, fit: Fit, way: Candidate) -> str:
    """What would be better, and what it fails by."""
    least = least_needs(row, wish, way)
    needs, there = totals(least), limits(wish)
    failing = [
        f"{needs[name]:.1f} GiB of {_LIMITS[name]} at the least ({there[name]:.1f} can be planned "
        "with)"
        for name in exceeded(wish, least)
    ]
    said = f"Better by the order of losses would be {describe(way, row)}: it would take "
    said += " and ".join(failing) + "."
    if exceeded(wish, least_needs(row, wish, way, streamed=True)):
        return said
    size = middle_bytes(row, smallest(row, wish, way, True, "streamed")) / GIB
    if fit.choice.middle == "streamed":
        mine = middle_bytes(row, fit.choice) / GIB
        return f"{said} Streamed, {size:.1f} GiB instead of {mine:.1f} would cross the bus in every step."
    return (
        f"{said} Streamed it would fit, {size:.1f} GiB crossing the bus in every step: that is left to "
        "cards on which nothing else works."
    )


def _unskipped(row: ModelRow, wish: Wish, fit: Fit) -> str:
    """Skipping nothing where that would fit too and lose less: what it would bring and cost. "" if
    not, or if the user decided."""
    other = find(row, replace(wish, span=(0, 0))) if wish.span is None else None
    if other is None or other.choice.middle == "streamed":
        return ""
    if other.candidate.loss >= fit.candidate.loss:  # it would take fewer bits or smaller crops
        return ""
    left = row.num_blocks - fit.candidate.front - fit.candidate.back
    # forward and backward through frozen weights take as long, checkpointed: forward once more
    passes = (2 + fit.choice.checkpointing) / (2 + other.choice.checkpointing)
    share = round(100 * (1 - left / row.num_blocks * passes))
    return (
        f"Skipping nothing would fit too ({describe(other.candidate, row)}): "
        f"{_difference(fit.candidate.loss - other.candidate.loss)}. Skipping saves {share} % of "
        "the computing of a training step, and is kept for that; --skip 0 turns it off."
    )


def _difference(gain: float) -> str:
    """How much more likeness, and whether that is more than such figures vary."""
    if abs(gain) < 5e-5:
        return "as much likeness expected"
    said = f"{abs(gain):.4f} {'more' if gain > 0 else 'less'} likeness expected"
    # published: skipping more blocks came out better by so much, so it is no more than chance
    chance = quality_table()["chance"]
    return said + (", no more than such figures vary" if abs(gain) <= chance + 5e-5 else "")


def _room_for_all(row: ModelRow, wish: Wish, fit: Fit) -> str:
    """When there is, or would be, room to skip nothing and lose less."""
    for more in (0, 1, 2, 4, 8, 16) if wish.span is None else ():
        other = find(row, replace(_wider(wish, more), span=(0, 0)))
        if (
            other
            and other.choice.middle != "streamed"
            and other.candidate.loss < fit.candidate.loss
        ):
            gain = _difference(fit.candidate.loss - other.candidate.loss)
            when = f" With {more} GiB more there" if more else " There"
            return f"{when} is room to skip nothing (--skip 0): {gain}."
    return ""


def _prices(row: ModelRow, choice: Choice) -> list[str]:
    said = []
    if choice.checkpointing:
        said.append(
            "Activations are computed twice (checkpointing): steps take half as long again, no loss."
        )
    if choice.middle == "leaves":
        said.append(
            "The trained blocks leave the card while windows and previews are made: their weights "
            "cross the bus twice a window."
        )
    if choice.middle == "streamed":
        said.append(
            "Not even the trained blocks fit: they are streamed in every step. No loss of quality, "
            "but the bus decides how long it takes."
        )
    if choice.text_tokens < row.text_tokens:
        said.append(
            f"Captions are {choice.text_tokens} tokens long instead of {row.text_tokens}; "
            "the loss of that is our assumption."
        )
    return said


def _together(wish: Wish, choice: Choice) -> str:
    """How many of a step's draws pass the trained blocks at once."""
    if choice.batch == 1:
        return ""
    saved = "fewer and larger products"
    if choice.precision != "bf16":
        saved += ", weights unpacked less often"
    if choice.middle == "streamed":
        saved += " and crossing the bus less often"
    return (
        f"There is room for {choice.batch} of a step's {wish.draws_per_step} draws to pass the trained "
        f"blocks together: {saved}, and what is learnt is the same."
    )


def _waiting(row: ModelRow, wish: Wish, choice: Choice) -> str:
    size = waiting_bytes(row, choice) / GIB
    if choice.offload == "pinned":
        return f"Weights that are not on the card wait in RAM: {size:.1f} GiB."
    return (
        f"Weights that are not on the card are read from their file each time: {size:.1f} GiB "
        f"would not fit into the {wish.usable_ram_gib:.0f} GiB of RAM beside the rest."
    )


def _window(wish: Wish, choice: Choice) -> str:
    """How often weights cross the bus; what the middle does stands in _prices."""
    steps = max(1, choice.window_draws // wish.draws_per_step) * wish.reuse
    used = f", used {wish.reuse} times each," if wish.reuse > 1 else ""
    said = (
        f"A window of {choice.window_draws} draws{used} is computed at a time, with the LoRA as it is "
        "then"
    )
    if choice.middle == "stays":
        said += ": the weights that are not on the card"
    elif choice.front + choice.back:
        said += ": the weights of the skipped blocks"
    else:
        return said + "."
    if steps == 1:
        return said + " cross the bus once a window, and a window is no more than one step here."
    return said + f" cross the bus once a window of {steps} steps, not once a step."
