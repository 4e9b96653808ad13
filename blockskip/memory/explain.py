"""A plan in words: what was chosen and why, what stood in the way of better, what more would bring.

Every figure says whose it is: published (by way of notes), assumed by us, or counted from shapes.
"""

from __future__ import annotations

from dataclasses import replace

from blockskip.config import ModelRow, quality_table
from blockskip.events import UserError
from blockskip.memory.plan import Candidate, Fit, Wish, candidates, expected_likeness, find
from blockskip.memory.tables import Choice, middle_bytes, model_bytes, stage_needs

GIB = 1024**3
_BITS = {"bf16": "16 bits", "int8": "8 bits", "nf4": "4 bits (NF4)"}


def reasons(row: ModelRow, wish: Wish, fit: Fit) -> list[str]:
    """Why the plan is as it is, one plain sentence or two each."""
    choice = fit.choice
    said = [_usable(wish), _skipping(row, choice), _precision(row, choice)]
    better = [c for c in candidates(row, wish) if c.loss < fit.candidate.loss]
    if better:
        said.append(_better(row, wish, better[0]))
    said += _prices(row, wish, choice)
    said.append(
        f"A window of {choice.window_draws} draws is computed at a time, with the LoRA as it is "
        "then: every weight crosses the bus once a window, not once a step."
    )
    return said


def one_more_gib(row: ModelRow, wish: Wish, fit: Fit) -> str:
    """What the next GiB would bring, or how many it takes until something changes."""
    for more in (1, 2, 4, 8, 16):
        wider = replace(wish, budget_gib=wish.budget_gib + more, free_gib=wish.free_gib + more)
        try:
            change = _change(row, fit, find(row, wider))
        except UserError:
            continue
        if change:
            start = "One more GiB" if more == 1 else f"{more} more GiB"
            before = "" if more == 1 else "One more GiB would change nothing. "
            return f"{before}{start} would give {change}."
    return "More graphics memory would change nothing."


def describe(candidate: Candidate, row: ModelRow) -> str:
    """“40 % of the blocks skipped, 512 px, 8 bits”."""
    share = round(100 * (candidate.front + candidate.back) / row.num_blocks)
    text = f", captions of {candidate.text_tokens} tokens" if candidate.text_tokens < 512 else ""
    bits = _BITS[candidate.precision]
    return f"{share} % of the blocks skipped, {candidate.side_px} px, {bits}{text}"


def _change(row: ModelRow, now: Fit, then: Fit) -> str:
    if then.candidate.loss < now.candidate.loss:
        gain = now.candidate.loss - then.candidate.loss
        return f"{describe(then.candidate, row)}: {gain:.4f} more likeness expected"
    if now.choice.middle == "streamed" != then.choice.middle:
        return "room for the trained blocks: nothing would cross the bus in a step"
    if now.choice.checkpointing and not then.choice.checkpointing:
        return "the same quality without computing activations twice: steps a third quicker"
    if now.choice.middle == "leaves" and then.choice.middle == "stays":
        return "the same quality, with quicker windows and previews"
    return ""


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
    likeness = expected_likeness(ratio, choice.side_px)
    known = any((choice.front, choice.back) == pair for pair in row.spans.values())
    whose = "published" if known and choice.side_px in (256, 512) else "between published figures:"
    return (
        f"Skips {choice.front} + {choice.back} of {row.num_blocks} blocks and trains at "
        f"{choice.side_px} px: likeness (DINO) {whose} {likeness:.4f}, plain LoRA "
        f"{quality_table()['lora']:.4f} (DiT-BlockSkip, by way of notes)."
    )


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


def _better(row: ModelRow, wish: Wish, candidate: Candidate) -> str:
    choice = Choice(
        model=row.name,
        front=candidate.front,
        back=candidate.back,
        side_px=candidate.side_px,
        text_tokens=candidate.text_tokens,
        precision=candidate.precision,
        checkpointing=True,
        rank=wish.rank,
        targets=wish.targets,
        batch=wish.batch,
    )
    need = stage_needs(row, choice)["train"].vram_gib
    return (
        f"Better by the order of losses would be {describe(candidate, row)}: a training step "
        f"would take {need:.1f} GiB at the least."
    )


def _prices(row: ModelRow, wish: Wish, choice: Choice) -> list[str]:
    said = []
    if choice.checkpointing:
        said.append("Activations are computed twice (checkpointing): slower by a third, no loss.")
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
    size = model_bytes(row, choice.precision) / GIB
    if choice.offload == "pinned":
        said.append(f"Weights that are not on the card wait in RAM: {size:.1f} GiB.")
    else:
        said.append(
            f"Weights that are not on the card are read from their file each time: {size:.1f} GiB "
            f"would not fit into the {wish.usable_ram_gib:.0f} GiB of RAM beside the rest."
        )
    return said
