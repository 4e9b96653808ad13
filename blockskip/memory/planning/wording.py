"""The English text of plans and refusals: a table of templates, and the format of sizes.

A translation is another table with the same names. `{size:.1f GiB}` in a template marks a size and
its digits; the Wording decides the unit shown (the studio's page: GB).
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from typing import Any

from blockskip.core import stages
from blockskip.memory.planning.reason import Reason

# A format string, or a function of the same values where the text depends on them.
Template = str | Callable[..., str]


class Wording(string.Formatter):
    """A formatter of reasons by a table of templates. size: formats (GiB, spec) with a unit."""

    def __init__(
        self, templates: Mapping[str, Template], size: Callable[[float, str], str]
    ) -> None:
        self.templates, self.size = templates, size

    def render(self, reason: Reason) -> str:
        """Return the reason as text. Raises KeyError for an unknown kind or a missing value."""
        template = self.templates[reason.kind]
        if callable(template):
            return template(**reason.values)
        return self.format(template, **reason.values)

    def format_field(self, value: Any, format_spec: str) -> str:
        """Render clauses and sizes; format other values as Python does."""
        if value is None:
            return ""
        if isinstance(value, Reason):
            return self.render(value)
        if isinstance(value, tuple):
            return self.render(Reason("and")).join(self.render(each) for each in value)
        if format_spec.endswith(" GiB"):
            return self.size(value, format_spec.removesuffix(" GiB"))
        return super().format_field(value, format_spec)


def _gib(size: float, format_spec: str) -> str:
    return f"{size:{format_spec}} GiB"


def _fits_card(budget_gib: float) -> str:
    card = f"{budget_gib:g}"
    article = "an" if card.startswith("8") or card in ("11", "18") else "a"
    return f"This fits {article} {card} GB card."


TEMPLATES: dict[str, Template] = {
    "and": " and ",
    # the summary: does it fit, what limits it, the expected result
    "in_short": "{fits} {limit} {result}",
    "fits_card": _fits_card,
    "fits_free": "This fits into the {free_gib:.1f GiB} that are free on the card now.",
    "limited": "What limits it: {limits}.",
    "limits_speed": "Graphics memory limits only how quick it is.",
    "limits_nothing": "Nothing limits it.",
    "limit_card": "graphics memory",
    "limit_ram": "RAM",
    "limit_disk": "room on the disk",
    "result_same": "Expect about the likeness that training without any savings gives.",
    "result_slightly_less": (
        "Expect slightly less likeness than training without any savings gives."
    ),
    "result_less": "Expect less likeness than a bigger card would give.",
    # a way to train
    "way": "{blocks}, {side_px} px, {bits}{captions}",
    "way_skips": "{percent} % of the blocks skipped",
    "way_skips_none": "no blocks skipped",
    "way_captions": ", captions of {text_tokens} tokens",
    "bits_full": "16 bits",
    "bits_int8": "8 bits",
    "bits_nf4": "4 bits (NF4)",
    # usable memory
    "usable": (
        "{usable_gib:.2f GiB} can be planned with: {whole} less {reserve_gib:.2f GiB} for the "
        "desktop and for CUDA itself."
    ),
    "usable_budget": "{budget_gib:g GiB}",
    "usable_free": "the {free_gib:.1f GiB} that are free now (of {budget_gib:g} allowed)",
    # skipped blocks, and the published likeness
    "skips": (
        "Skips {front} + {back} of {num_blocks} blocks and trains at {side_px} px: likeness (DINO) "
        "{whose} {likeness:.4f}, plain LoRA {reference:.4f} (DiT-BlockSkip, by way of notes)."
    ),
    "skips_none": (
        "Skips none of {num_blocks} blocks and trains at {side_px} px: likeness (DINO) {whose} "
        "{reference:.4f}, as plain LoRA (DiT-BlockSkip, by way of notes)."
    ),
    "whose_published": "published",
    "whose_between": "between published figures:",
    "whose_other_model": "of FLUX.1-dev, taken over unverified:",
    "small": (
        "Skips {front} + {back} of {num_blocks} blocks ({percent} %). The model is small: "
        "{needs_gib:.1f GiB} is enough for every stage (counted from shapes)."
    ),
    # crops
    "pictures": "{seen}{enlarged}{cost}",
    "pictures_whole": "It sees whole pictures at {side_px} px, no close-ups.",
    "pictures_whole_published": (
        "It sees whole pictures at {side_px} px, no close-ups: published {loss:.4f} below crops "
        "that follow the noise."
    ),
    "pictures_close": (
        "It sees photos whole and close up: crops of {largest_px} down to {side_px} px, all at "
        "{side_px} px. Close-ups raised the published likeness by {gain:.4f} at 256 px{known}."
    ),
    "close_published_whole": "; what is published at 512 px is of whole pictures",
    "close_unpublished": "; at {side_px} px nothing is published",
    "pictures_asked": (
        "Crops are “{schedule}” as you asked, at most {largest_px} px, all at {side_px} px: "
        "published {loss:.4f} below crops that follow the noise."
    ),
    "pictures_enlarged": (
        " Photos whose shorter side is below {largest_px} px are enlarged for it."
    ),
    "pictures_cost": (
        " {side_px} px instead of {least_px} px cost {times:.1f} times the computing{crops}."
    ),
    "pictures_cost_crops": "; larger crops alone cost none",
    # precision
    "unquantised": "The trained blocks stay unquantised: {size_gib:.1f GiB}.",
    "quantised": (
        "The frozen weights are kept in {bits}: {size_gib:.1f} instead of {full_gib:.1f GiB}. Its "
        "loss of {loss:g} is our assumption, not measured yet.{computed}"
    ),
    "int8_products": (
        " Products with them are computed in 8 bits too, which is faster, except in layers where that "
        "is measured to be off by more than 2 %."
    ),
    "faster": (
        "{bits} would fit too{twice}: the run would take about {percent} % longer, counted for a "
        "common PC, for a difference within chance."
    ),
    "faster_twice": ", with {count} blocks computed twice",
    "float16": (
        "This graphics card has no bfloat16, so the model computes in float16, with a scaled loss; "
        "captions and the VAE do not. Not tried on such a card yet."
    ),
    # better options
    "better": ("Better by the order of losses would be {way}: it would take {lacks}.{streamed}"),
    "better_lacks": (
        "{needs_gib:.1f GiB} of {limit} at the least ({there_gib:.1f} can be planned with)"
    ),
    "better_streams_more": (
        " Streamed, {size_gib:.1f GiB} instead of {mine_gib:.1f} would cross the bus in every step."
    ),
    "better_would_stream": (
        " Streamed it would fit, {size_gib:.1f GiB} crossing the bus in every step: that is left "
        "to cards on which nothing else works."
    ),
    "unskipped": (
        "Skipping nothing would fit too ({way}): {gain}. Skipping saves {percent} % of the "
        "computing of a training step, and is kept for that; --skip 0 turns it off."
    ),
    "likeness_same": "as much likeness expected",
    "likeness_more": "{likeness:.4f} more likeness expected{chance}",
    "likeness_chance": ", no more than such figures vary",
    # costs in time, and shorter captions
    "recomputed": (
        "{count} of the {trained} trained blocks compute their activations twice (checkpointing): "
        "steps take {percent} % longer, no loss."
    ),
    "leaves": (
        "The trained blocks leave the card while windows and previews are made: their weights "
        "cross the bus twice a window."
    ),
    "streamed": (
        "Not even the trained blocks fit: they are streamed in every step. No loss of quality, but "
        "the bus decides how long it takes."
    ),
    "captions": (
        "Captions are {text_tokens} tokens long instead of {full_tokens}; the loss of that is our "
        "assumption."
    ),
    "together": (
        "There is room for {batch} of a step's {draws} draws to pass the trained blocks together: "
        "fewer and larger products{unpacked}{crossing}, and what is learnt is the same."
    ),
    "together_unpacked": ", weights unpacked less often",
    "together_crossing": " and crossing the bus less often",
    # offloaded weights, and how often they cross the bus
    "waits_in_ram": "Weights that are not on the card wait in RAM: {size_gib:.1f GiB}.",
    "waits_in_file": (
        "Weights that are not on the card are read from their file each time: {size_gib:.1f GiB} "
        "would not fit into the {ram_gib:.0f GiB} of RAM beside the rest.{now}"
    ),
    "waits_partly": (
        "Of the {size_gib:.1f GiB} of weights that are not on the card, {kept_gib:.1f} wait in RAM "
        "and the rest is read from its file each time: the {ram_gib:.0f GiB} of RAM hold no more "
        "beside the rest.{now}"
    ),
    "ram_now": " RAM: {free_gib:.1f GiB} free now, of which {spare_gib:g} are left for other programs.",
    "ram_short": (
        "RAM: {free_gib:.1f GiB} free now, and this takes up to {needs_gib:.1f GiB}. Close other "
        "programs before it begins, or it will be slow."
    ),
    "window": (
        "A window of {draws} draws{used} is computed at a time, with the LoRA as it is then"
        "{crossing}."
    ),
    "window_used": ", used {reuse} times each,",
    "window_one_step": (
        ": the weights {which} cross the bus once a window, and a window is no more than one step "
        "here"
    ),
    "window_steps": (
        ": the weights {which} cross the bus once a window of {steps} steps, not once a step"
    ),
    "weights_off_card": "that are not on the card",
    "weights_skipped": "of the skipped blocks",
    # sample pictures
    "samples_sibling": (
        "Sample pictures are made on {title}, on which your LoRA will be used: {passes} passes of the "
        "model a picture instead of {own}."
    ),
    "samples_few_steps": (
        "Sample pictures take only {steps} steps, so every block works in each: a step cache would "
        "save nothing."
    ),
    "samples_no_ram": (
        "Every block works in every step of sample pictures: RAM has no room for a step cache "
        "beside the rest."
    ),
    "samples_key_steps": (
        "Sample pictures are “{speed}”: {computed} of {steps} steps are computed, which was "
        "measured on this model; in the others all blocks rest and no weights are brought."
    ),
    "samples_first_block": (
        "Sample pictures are “{speed}”: in a step where the first block's work changes by less "
        "than {percent} %, the others rest and their weights are not brought (the library's "
        "FirstBlockCache, which needs no numbers of the model's own)."
    ),
    # the benefit of more GPU memory
    "more_next": "One more GiB would give {change}.",
    "more_later": (
        "One more GiB would not change what is trained. {more_gib:g} more GiB would give {change}."
    ),
    "more_nothing": "More graphics memory would not change what is trained.{room}",
    "freed": "If ComfyUI frees the {size_gib:.1f GiB} that its models hold: {change}.",
    "freed_nothing": (
        "If ComfyUI frees the {size_gib:.1f GiB} that its models hold, the same is trained."
    ),
    "commit_short": (
        "Windows can set aside {free_gib:.1f GiB} more for programs, and this takes up to "
        "{needs_gib:.1f GiB}, as it counts what the card holds too. Close programs, or make the "
        "page file {more_gib:.1f GiB} larger: Settings, System, About, Advanced system settings, "
        "Performance, Advanced, Virtual memory; best is “Automatically manage”."
    ),
    "more_small": "More graphics memory would change little: this model fits everywhere.",
    "gives_likeness": "{then}: {likeness:.4f} more likeness expected{time}",
    "in_less_time": ", in {percent} % less time, counted for a common PC",
    "in_more_time": ", in {percent} % more time, counted for a common PC",
    "gives_room": "room for the trained blocks: they would not cross the bus in every step",
    "gives_speed": "the same quality in {percent} % less time, counted for a common PC",
    "gives_calm": "the same quality, with quicker windows and previews",
    "room_now": " There is room to skip nothing (--skip 0): {gain}.",
    "room_later": " With {more_gib:g GiB} more there is room to skip nothing (--skip 0): {gain}.",
    # refusals
    "budget_too_small": "A budget of {budget_gib:g GiB} is too small for {model}{free}.",
    "budget_free": "; {free_gib:.1f GiB} are free now",
    "budget_least": (
        "The least that works is {least_gib:g GiB}: {stage} takes {needs_gib:.1f GiB}, and the "
        "rest is left to the desktop and the driver."
    ),
    "ram_too_small": "{ram_gib:g GiB} of RAM are too small for {model}.",
    "ram_least": (
        "The least that works is {least_gib:g GiB}: the program itself and two blocks of the model "
        "on their way to the card."
    ),
    "disk_too_small": "{disk_gib:g GiB} on the disk are too small for {model}.",
    "disk_least": "The least that works is {least_gib:g GiB}, most of it for {stage}.",
    "small_too_small": (
        "A budget of {budget_gib:g GiB} is too small for {model}: training these blocks needs "
        "{needs_gib:.1f GiB}."
    ),
    "small_least": (
        "The least that works is {least_gib:.1f GiB}, skipping {front} + {back} of {num_blocks} "
        "blocks."
    ),
    f"card_{stages.TEXT}": "reading the captions with T5-XXL, two of its blocks at a time,",
    f"card_{stages.LATENTS}": "turning photos into latents",
    f"card_{stages.RESIDUALS}": "the skipped blocks, two at a time,",
    f"card_{stages.TRAIN}": "training the blocks that are not skipped",
    f"card_{stages.PREVIEW}": "sampling a preview, two blocks at a time,",
    f"disk_{stages.TEXT}": "captions",
    f"disk_{stages.LATENTS}": "the encoded crops",
    f"disk_{stages.RESIDUALS}": "what the skipped blocks compute, and quantised blocks where there are any",
    f"disk_{stages.TRAIN}": "checkpoints",
    f"disk_{stages.PREVIEW}": "previews",
}

ENGLISH = Wording(TEMPLATES, _gib)
