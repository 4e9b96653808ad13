"""Sentences of the plan beside the budget (plan_view.py), with sizes including their unit."""

from __future__ import annotations

from blockskip.core import stages

PLAN_LABEL = "The plan"
PLAN_BLOCKS = "The model’s {count} blocks"
PLAN_SKIPPED = "{count} skipped: never on the card while training"
PLAN_TRAINED = "{count} learn your pet"
PLAN_STREAMED = "{count} learn your pet, moved to the card one by one in every step"
PLAN_STAGES_TITLE = "Graphics memory"
PLAN_STAGES_ABOUT = "peak of {size} expected: {stage}"
PLAN_STAGES = {
    stages.TEXT: "Reading captions",
    stages.LATENTS: "Preparing photos",
    stages.RESIDUALS: "Skipped blocks",
    stages.TRAIN: "Training",
    stages.PREVIEW: "Pictures",
}
PLAN_STAGES_UNSKIPPED = {stages.RESIDUALS: "Preparing steps"}
PLAN_HELD = "trained blocks, kept on the card"
PLAN_PASSING = "everything else"
PLAN_RESERVE = "{size} left for the desktop and the driver"
PLAN_TAKEN = "{size} of the budget not free on the card now"
PLAN_BUDGET = "your budget: {size}"
PLAN_ROOM_TITLE = "This computer"
PLAN_RAM = "RAM"
PLAN_RAM_OF = "{size} of {total}"
PLAN_RAM_KEPT = "A quarter of the RAM is left for other programs."
PLAN_RAM_FREE = "RAM: {size} free now."
PLAN_DISK = "Disk"
PLAN_DISK_OF = "{size} of {total} free"
PLAN_MINUTES_BY = {
    "history": "This will take about {time}, judging by earlier trainings on this computer.",
    "measured": (
        "This will take about {time}, counted from a measurement of this computer, give or take a third."
    ),
    "common": (
        "This would take about {time} on a common PC, one with an RTX 3060 and an NVMe drive."
    ),
}
PLAN_MEASURING = {
    "running": "This computer is being measured now. That takes about 20 s and stops when you click.",
    "waiting": "This computer is measured as soon as you have not clicked anything for a moment.",
    "over": "",
}
PLAN_MINUTES_UNKNOWN = "How long this will take on this computer is not known yet."
PLAN_CROPS_TITLE = "What training looks at"
PLAN_CROPS = {
    "dynamic": "the whole pet first, fur and eyes last",
    "reversed": "fur and eyes first, the whole pet last",
    "random": "more or less of the photo, at random",
    "resize": "always the whole photo",
    "full": "always the whole photo",
}
PLAN_CROP_WORDS = ("whole pet", "part of it", "close-up")
PLAN_WHOLE = "whole pictures of {side} px"
PLAN_ANY_CROP = "crops of {low} to {high} px"
PLAN_SHRUNK = "; all shrunk to {side} px"
PLAN_NOISE = ("first, through heavy noise", "last, nearly clear")
PLAN_GIVES_UP = "What it gives up"
PLAN_GIVES_NOTHING = "Nothing: all blocks learn your pet."
PLAN_COST_SKIPPED = "{share} % of the model stays as it is. That saves memory and time."
PLAN_COST_BITS = {
    "int8": "The model is rounded to half its size. We expect that to cost hardly any likeness.",
    "nf4": "The model is rounded to a quarter of its size. We expect that to cost a little likeness.",
}
PLAN_COST_INT8 = "Most of it is computed in 8 bits too, which is faster and hardly less exact."
PLAN_COST_SIDE = (
    "It learns from pictures of {side} px instead of {largest} px, at some cost in likeness."
)
PLAN_COST_TEXT = "Captions are cut off after about {words} words."
PLAN_COST_STREAMED = (
    "The trained blocks do not all fit on the card at once. They are moved there in every step, "
    "which makes training slower."
)
PLAN_COST_TWICE = (
    "Part of each step is computed twice to save memory: steps take {percent} % longer."
)
PLAN_COST_LEAVES = (
    "The trained blocks leave the card while pictures are made, which takes some time."
)
PLAN_COST_MAPPED = (
    "The blocks that are not in use do not fit in the RAM. They are read from the disk each time."
)
PLAN_COST_PARTLY = (
    "Some of the blocks that are not in use do not fit in the RAM. They are read from the disk each "
    "time."
)
PLAN_MORE = "With more graphics memory"
PLAN_WHY = "Why this plan"
PLAN_LIKENESS = (
    "but likeness would barely improve",
    "and likeness would improve a little",
    "and likeness would improve",
)
PLAN_NEW = {  # what more memory would change about training
    "percent": "{percent} % instead of {percent_now} % skipped blocks",
    "side_px": "pictures of {side_px} px",
    "bits": "a less rounded model",
    "captions": "longer captions",
}
PLAN_SHORTER = {"captions": "shorter captions"}
PLAN_TEMPLATES = {  # instead of the planner's own (memory/planning/wording.py)
    "small": "This model is small: {needs_gib:.1f GiB} of graphics memory is enough for it.",
    "unskipped": (
        "Skipping nothing would fit too ({way}): {gain}. Skipping saves {percent} % of the "
        "computing of a training step, and is kept for that."
    ),
    "more_next": "One more GB would give {change}.",
    "more_later": (
        "One more GB would not change what is trained. {more_gib} more GB would give {change}."
    ),
    "freed": "With those {size_gib:.1f GiB}: {change}.",
    "freed_nothing": "With those {size_gib:.1f GiB} the plan would stay the same.",
    "commit_short": (
        "Windows can set aside {free_gib:.1f GiB} more for programs, and this takes up to "
        "{needs_gib:.1f GiB}, as it counts what the card holds too. Close programs, or make the page "
        "file {more_gib:.1f GiB} larger (Settings, System, About, Advanced system settings, "
        "Performance, Advanced, Virtual memory; best is “Automatically manage”)."
    ),
    "gives_speed": "the same quality in about {percent} % less time",
    "in_less_time": ", in about {percent} % less time",
    "in_more_time": ", in about {percent} % more time",
    "gives_calm": "the same quality, with less waiting between steps",
    "room_now": " You could train every block, {gain}.",
    "room_later": " With {more_gib:g GiB} more you could train every block, {gain}.",
    "result_same": "Expect nearly full quality.",
    "result_slightly_less": "Expect slightly less than full quality.",
    "result_less": "Expect less than full quality; a bigger card would give more.",
}
PLAN_USE = "Use {size}"

PLAN_SIZES = "Cards with:"
PLAN_MARKS = "This card has {total}. Other programs are using {others}; {free} is free."
PLAN_MARKS_ALONE = "This card has {total}. No other program is using it."
PLAN_MARKS_FREE = "free now"
PLAN_MARKS_TAKEN = "used by other programs"
PLAN_MARKS_BEYOND = "more than this card has"
PLAN_HELD_BY = "On the card: {programs}."
PLAN_HELD_SIZE = "{name} {size}"
PLAN_HELD_UNTOLD = (
    "Programs on the card: {programs}. The system does not tell how much each of them holds."
)
PLAN_COMFYUI = "ComfyUI holds about {size} of it for its models."
PLAN_COMFYUI_FREE = "Ask ComfyUI to free {size}"
PLAN_COMFYUI_FREED = "ComfyUI freed {size}."
PLAN_MARKS_NO_CARD = (
    "No NVIDIA card was found, so training runs on the processor. The budget then only decides how "
    "much of the model learns; choose the size of the card you have in mind."
)
