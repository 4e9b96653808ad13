"""Every sentence the studio says, in one place: short, plain, and about what the user sees.

Texts with braces are filled with str.format; what is filled in is escaped where it goes into HTML.
"""

from __future__ import annotations

APP = "BlockSkip Studio"
TAGLINE = "Teach an image model what your pet looks like."

PHOTOS_TITLE = "Photos"
PHOTOS_ABOUT = "4 to 20 photos, with only this pet in them. Different places and poses work best."
PHOTOS_DROP = "Photos of your pet"
PHOTOS_DEMO = "Try it with the demo pet"
DEMO_NAME = "Momo"
PHOTOS_CLEAR = "Remove all"
PHOTOS_EMPTY = "The photos you choose appear here. They stay on this computer."
PHOTOS_FEW = "A few more photos would help: 4 or more show the pet from several sides."
PHOTOS_MANY = "That is a lot: 20 good photos teach as much as {count}, and faster."
PHOTOS_REJECTED = "Left out:"
PHOTOS_COUNT_ONE = "1 photo"
PHOTOS_COUNT = "{count} photos"
PHOTO_REMOVE = "Remove {name}"
PHOTO_TWICE = "it is already among the photos"

PET_TITLE = "Your pet"
PET_KIND = "What kind of animal is it?"
PET_KIND_INFO = "Choose one or type your own."
PET_KINDS = ("cat", "dog", "rabbit", "bear", "guinea pig", "hamster", "parrot", "horse")
PET_NAME = "What is its name?"
PET_NAME_PLACEHOLDER = "Momo"
PET_NAME_INFO = "The name becomes the word that calls your pet in prompts."
WORDING = "In prompts you will write <q>a photo of <b>{trigger}</b> {kind}</q>."
WORDING_EMPTY = (
    "Give a name, for example Momo. In prompts you then write <q>a photo of <b>momo</b> cat</q>."
)
WORDING_SAME = "The name must be another word than the kind of animal."

MEMORY_TITLE = "Graphics memory"
MEMORY_BUDGET = "How much may training use?"
MEMORY_CARD = "This computer’s card has {total:.0f} GB, {free:.1f} GB of it free now."
MEMORY_NO_CARD = (
    "No NVIDIA card was found: training runs on the processor, which is fine for the demo model."
)
PLAN = (
    "{skipped} of the model’s {total} blocks are skipped, so they take no memory while training; "
    "the {trained} in the middle learn your pet."
)
PLAN_ALL = "All {total} blocks of the model learn your pet; none is skipped."
MODEL = "Model to teach"
MODEL_ABOUT = (
    "The demo model knows <b>drawn pets only</b>. It shows in a few minutes how everything works, "
    "without a download. Large models for real photos, such as FLUX.1-dev, come to this page in a "
    "later version."
)
OWN_PHOTOS = (
    "<b>These are your own photos.</b> The demo model can only draw, so it cannot learn them "
    "well. You can still watch how training works."
)
OWN_PHOTOS_ANYWAY = "Train the demo model on my photos anyway"

ADVANCED = "Advanced"
STEPS = "Training steps"
STEPS_INFO = "More steps learn the pet better, up to a point."
SEED = "Seed"
SEED_INFO = "The same seed, photos and settings repeat a training exactly."
RANK = "LoRA rank"
RANK_INFO = "How much the add-on can hold; 16 suits a pet."

TRAIN = "Train"
TRAIN_BUSY = "A training is running"
TRAIN_BUSY_ABOUT = (
    "One training at a time. You can prepare the next one here; watch the other in the list above."
)

CHOOSER = "Show a training"
NEW = "New pet"
PAUSE, RESUME, STOP, LOOK = "Pause", "Resume", "Stop", "Show pictures now"
AGAIN = "Train again with these photos"

STATES = {
    "new": "Not started",
    "running": "Training",
    "paused": "Paused",
    "stopped": "Stopped",
    "failed": "Stopped by a problem",
    "crashed": "Cut off",
    "done": "Done",
}
STAGES = {
    "photos": "Reading the photos",
    "load": "Opening the model",
    "text": "Reading the captions",
    "latents": "Preparing crops of the photos",
    "residuals": "Passing through the skipped blocks",
    "train": "Learning your pet",
    "preview": "Painting pictures",
    "export": "Saving and checking the file",
}
STARTING = "Starting"
PENDING = {
    "pause": "Pausing after this step",
    "stop": "Stopping after this step",
    "preview": "Painting pictures after this step",
}
STEP_OF = "step {n} of {total}"
LEFT = "about {time} left"
FACTS = "{kind} · {photos} · {steps} steps · {budget:g} GB budget · started {started}"
PAUSED_AT = "Paused at step {step}. The graphics memory is free for other programs; Resume goes on from here."
STOPPED_AT = "Stopped at step {step}. What was learnt so far is kept; Resume goes on from here."
CRASHED = "The training was cut off before it could say why."
CRASHED_REMEDY = (
    "Perhaps the computer was switched off or ran out of memory. Resume goes on from the last "
    "saved step. Details for a helper are in {log}."
)
DONE = "{name} is ready"
DONE_ABOUT = (
    "Learned in {time} with {steps} steps. The file was opened again and checked; "
    "memory used at most: {peak}."
)
STOPPED_READY = "What {name}’s training learned so far"
STOPPED_READY_ABOUT = "The file holds step {step} of {total}. Resume to let it learn more."
DOWNLOAD = "Download the LoRA"
DOWNLOAD_WORKFLOW = "ComfyUI workflow"
HOW_TO = (
    "In ComfyUI: put the file into <code>models/loras</code>, add a <b>Load LoRA</b> node for it, and write "
    "<q>a photo of <b>{trigger}</b> {kind}</q> in the prompt."
)
HOW_TO_DEMO = (
    "This file belongs to the demo model of this studio. LoRAs of large models go into ComfyUI’s "
    "<code>models/loras</code>; their prompt is then <q>a photo of <b>{trigger}</b> {kind}</q>."
)
DROPPED = "Left out of the training"

PICTURES_TITLE = "Pictures"
PICTURES_ABOUT = (
    "The same prompts before and during training. Watch them turn into your pet; "
    "press one to see it larger."
)
PICTURES_PHOTOS = "Your photos"
PICTURES_BEFORE = "Before"
PICTURES_STEP = "Step {step}"
PICTURES_ALT = "{prompt}, {when}"

MEMORY_CHART = "Memory"
MEMORY_CHART_VRAM = "graphics memory"
MEMORY_CHART_RAM = "main memory"
MEMORY_CHART_BUDGET = "budget {budget:g} GB"
LOSS_CHART = "Learning curve"
LOSS_CHART_ABOUT = "error of each step and its mean; it jumps about, the pictures tell more"
CHART_EMPTY = "Appears when training runs"

GENERAL_ERROR = "Something unexpected went wrong. What happened is written to {log}."
NO_PHOTOS = "There are no photos yet."
NO_PHOTOS_REMEDY = "Add photos of your pet, or try it with the demo pet."
NO_NAME = "Your pet has no name yet."
NO_NAME_REMEDY = "Type its name; letters A to Z are used."
NO_KIND = "The kind of animal is missing."
NO_KIND_REMEDY = "Choose cat, dog, … or type another."
BUSY_REMEDY = "Wait until it is done, or pause it first."
OWN_PHOTOS_TITLE = "The demo model only knows drawn pets."
OWN_PHOTOS_REMEDY = f"Tick “{OWN_PHOTOS_ANYWAY}” if you want to see how training works."
NO_RUN = "This training is not there any more."
NO_RUN_REMEDY = "Choose another one from the list."
ALREADY_OPEN = "%s is already open at %s"
OPEN_AT = "%s is open at %s (Ctrl-C ends it; a running training goes on)"
CLOSED = "The studio is closed. A running training goes on; open the studio again to watch it."

# The plan drawn beside the budget (plan_view.py). Sizes are filled in with their unit: “6.7 GB”.
PLAN_LABEL = "The plan"
PLAN_BLOCKS = "The model’s {count} blocks"
PLAN_SKIPPED = "{count} skipped: never on the card while training"
PLAN_TRAINED = "{count} learn your pet"
PLAN_STREAMED = "{count} learn your pet, brought to the card one after the other in every step"
PLAN_STAGES_TITLE = "Graphics memory"
PLAN_STAGES_ABOUT = "{size} expected at most: {stage}"
PLAN_STAGES = {
    "text": "Reading captions",
    "latents": "Preparing photos",
    "residuals": "Skipped blocks",
    "train": "Training",
    "preview": "Pictures",
}
PLAN_STAGES_UNSKIPPED = {"residuals": "Preparing steps"}
PLAN_EVERY_STAGE = "Every stage"
PLAN_HELD = "blocks that learn, kept on the card"
PLAN_PASSING = "what passes through"
PLAN_RESERVE = "{size} left to the desktop and the driver"
PLAN_TAKEN = "{size} of the budget taken by other programs now"
PLAN_BUDGET = "your budget: {size}"
PLAN_ROOM_TITLE = "This computer"
PLAN_RAM = "RAM"
PLAN_RAM_OF = "{size} of {total}"
PLAN_RAM_KEPT = "Hatched: a quarter of the RAM is left to other programs."
PLAN_DISK = "Disk"
PLAN_DISK_OF = "{size} of {total} free"
PLAN_MINUTES = "It takes about {time}, going by earlier trainings on this computer."
PLAN_MINUTES_UNKNOWN = "How long it takes is not known for this computer yet."
PLAN_CROPS_TITLE = "What training looks at"
PLAN_CROPS = {
    "dynamic": "the more noise, the more of the photo",
    "reversed": "the more noise, the less of the photo",
    "random": "more or less of the photo, by chance",
    "resize": "as much of the photo at any noise",
    "full": "as much of the photo at any noise",
}
PLAN_CROP_WORDS = ("whole pet", "part of it", "close-up")
PLAN_WHOLE = "whole pictures of {side} px"
PLAN_ANY_CROP = "crops of {low} to {high} px"
PLAN_SHRUNK = "; all shrunk to {side} px"
PLAN_NOISE = ("much noise", "little noise")
PLAN_GIVES_UP = "What it gives up"
PLAN_GIVES_NOTHING = "Nothing: all blocks learn your pet."
PLAN_COST_SKIPPED = "{share} % of the blocks learn nothing. That saves memory and time."
PLAN_COST_BITS = {
    "int8": "The model’s numbers are kept in 8 bits instead of 16. We assume that costs hardly any "
    "likeness.",
    "nf4": "The model’s numbers are kept in 4 bits instead of 16. We assume that costs a little "
    "likeness.",
}
PLAN_COST_SIDE = "It learns from pictures of {side} px instead of {largest} px: some likeness less."
PLAN_COST_TEXT = "Captions end after about {words} words."
PLAN_COST_STREAMED = (
    "The blocks that learn do not fit on the card together. They travel to it in every step, which "
    "makes training slower."
)
PLAN_COST_TWICE = (
    "Part of each step is computed twice to save memory: steps take half as long again."
)
PLAN_COST_LEAVES = (
    "The blocks that learn leave the card while pictures are made, which takes some time."
)
PLAN_COST_MAPPED = (
    "The blocks that wait do not fit into the RAM. They are read from the disk each time."
)
PLAN_MORE = "With more graphics memory"
PLAN_WHY = "Why this plan"
PLAN_LIKENESS = (
    "hardly more likeness expected",
    "a little more likeness expected",
    "more likeness expected",
)
PLAN_NEW = {  # what a piece of the planner's description means
    "blocks skipped": "{number} % instead of {now} % skipped blocks",
    "px": "pictures of {number} px",
    "bits": "{number}-bit numbers",
    "tokens": "longer captions",
}
PLAN_PLAINER = {
    "without computing activations twice": "without computing anything twice",
    "with quicker windows and previews": "with less waiting between steps",
}
PLAN_USE = "Use {size}"

PLAN_MARKS = "This card: {total}. Other programs use {others} now, {free} are free."
PLAN_MARKS_ALONE = "This card: {total}. No other program uses it now."
PLAN_MARKS_FREE = "free now"
PLAN_MARKS_TAKEN = "used by other programs"
PLAN_MARKS_BEYOND = "more than this card has"
PLAN_MARKS_NO_CARD = (
    "No NVIDIA card was found, so training runs on the processor. The budget then only decides how "
    "much of the model learns; choose the size of the card you have in mind."
)
