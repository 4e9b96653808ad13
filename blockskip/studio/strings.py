"""Every sentence the studio says, in one place: short, plain, and about what the user sees.

Texts with braces are filled with str.format; what is filled in is escaped where it goes into HTML.
A translation is another module with the same names.
"""

from __future__ import annotations

from blockskip.core import stages

APP = "BlockSkip Studio"
TAGLINE = "Teach an image model what your pet looks like."

# the way through

STEPS_NAV = {"photos": "Photos", "budget": "Budget", "train": "Train", "results": "Results"}
NAV_LABEL = "The way to your LoRA"
LIST = "Trainings"
LIST_COUNT = "Trainings ({count})"
NEW = "New pet"

# photos

PHOTOS_TITLE = "Photos"
PHOTOS_ABOUT = "4 to 20 photos with only this pet in them. Different places and poses work best."
PHOTOS_LABEL = "Photos of your pet"
PHOTOS_DROP = "Drop photos here, or press to choose them"
PHOTOS_DEMO = "Try it with the demo pet"
DEMO_NAME = "Momo"
PHOTOS_CLEAR = "Remove all"
PHOTOS_EMPTY = "The photos you choose appear here. They stay on this computer."
PHOTOS_REJECTED = "Left out:"
PHOTOS_ADDING = "Reading photos: {n} of {total}"
PHOTOS_COUNT_ONE = "1 photo"
PHOTOS_COUNT = "{count} photos"
PHOTOS_MOST = "the most is {most} photos"
PHOTO_REMOVE = "Remove {name}"
PHOTO_OPEN = "Open {name}"
PHOTO_TWICE = "it is already among the photos"
PHOTO_BOXED = "The pet is marked"
PHOTO_HINT = "Press a photo to draw a frame around the pet, change its caption, and see what is learnt from it."
PHOTOS_BOX_ALL = "Mark the pet on every photo"
PHOTOS_BOX_NONE = "Remove the marks"
PHOTOS_BOXED_ABOUT = (
    "The pet is marked on {count} of {total} photos, so close-ups show it and not the grass. "
    "Please look: press a photo to move its frame."
)
PHOTO = {
    "title": "Photo",
    "close": "Done",
    "previous": "Previous",
    "next": "Next",
    "box": "Where is the pet?",
    "box_about": "Draw a frame around it with the mouse or a finger. Keys: arrows move the frame, Shift and "
    "arrows change its size.",
    "propose": "Suggest a frame",
    "no_box": "No frame",
    "caption": "Caption",
    "caption_about": "What else is to be seen, in a few words, such as: lying on a sofa. “{automatic}” is "
    "put before it.",
    "describe": "Describe it for me",
    "crops": "What the trainer will see",
    "crops_again": "Other crops",
    "much": "seen from afar",
    "middle": "nearer",
    "little": "close up",
    "findings": "Worth knowing",
}
CROPS_ABOUT = {
    "dynamic": "It learns the whole pet first, fur and eyes last.",
    "reversed": "It learns fur and eyes first, the whole pet last.",
    "random": "It learns near and far by chance.",
    "resize": "With this model and budget always the whole photo.",
    "full": "With this model and budget always the whole photo.",
}
DESCRIBING = "Describing the photos …"
DESCRIBE_ALL = "Describe all photos for me"

# the pet

PET_TITLE = "Your pet"
PET_KIND = "What is it?"
PET_KINDS = ("cat", "dog", "rabbit", "bear", "guinea pig", "hamster", "parrot", "horse")
PET_NAME = "What is its name?"
PET_NAME_EXAMPLE = "Momo"
WORDING = "In prompts you will write <q>a photo of <b>{trigger}</b> {kind}</q>."
WORDING_EMPTY = (
    "Give a name, for example Momo. In prompts you then write <q>a photo of <b>momo</b> cat</q>."
)
WORDING_SAME = "The name must be another word than the kind of animal."

# the model

MODEL_TITLE = "Model to teach"
MODEL_STATES = {
    "ready": "Ready",
    "partial": "Download begun",
    "missing": "{need:.0f} GB to get",
    "broken": "Needs a look",
}
MODEL_MORE = "More models"
MODEL_READY = "Ready: {where}"
MODEL_DEMO = "Comes with the studio. It knows <b>drawn pets only</b>; nothing is downloaded."
MODEL_NEEDS = "Needs a download of {need:.0f} GB; {free:.0f} GB are free on that drive."
MODEL_NO_ROOM = (
    "Needs a download of {need:.0f} GB, but only {free:.0f} GB are free on that drive. "
    "Free some space, or keep your data on another drive (below)."
)
MODEL_FOUND = "Found in ComfyUI: {where}"
MODEL_USE_FOUND = "Use these files"
MODEL_FETCH = "Download {need:.0f} GB"
MODEL_FETCH_MORE = "Go on with the download"
MODEL_FETCH_STOP = "Pause the download"
MODEL_FETCHING = "{done:.1f} of {total:.1f} GB · {speed} · {left}"
MODEL_FETCH_SPEED = "{speed:.0f} MB/s"
MODEL_LICENCE = "Licence: {licence}"
MODEL_GATED = (
    "Its makers ask you to accept a licence first. 1. Make a free account at the model hub, "
    "huggingface.co. 2. Accept the licence on the model’s page. 3. Make an access token of the kind "
    "“read” there and paste it here. It is tested before anything is downloaded."
)
MODEL_TOKEN = "Access token"
MODEL_TOKEN_TEST = "Test and keep the token"
MODEL_TOKEN_OTHER = "Use another token"
MODEL_TOKEN_KEPT = "An access token is kept on this computer."
MODEL_TOKEN_GOOD = "The token works."
COMFYUI_FOLDER = "Folder of your ComfyUI"
COMFYUI_FOLDER_ABOUT = (
    "If you use ComfyUI, its model files are used as they lie; nothing is copied."
)
COMFYUI_USE = "Look there"
DATA_TITLE = "Where everything is kept"
DATA_ABOUT = (
    "{folder}: {free:.0f} GB free. Models {models:.1f} GB, trainings {runs:.1f} GB, of which "
    "{caches:.1f} GB can be freed."
)
DATA_CLEAN = "Free {caches:.1f} GB"
DATA_CLEANED = "{freed:.1f} GB freed. What is needed again is made again."
DATA_MOVE = "Another folder or drive"
DATA_MOVE_ABOUT = "Used when the studio is started again; nothing is moved."
DATA_MOVE_DO = "Use this folder"
DATA_MOVED = "From the next start on, everything is kept in {folder}."

OWN_PHOTOS = (
    "<b>These are your own photos.</b> The demo model can only draw, so it cannot learn them well."
)
OWN_PHOTOS_READY = "{title} is here and suits them."
OWN_PHOTOS_MISSING = "{title} would suit them; choose it above to see what it needs."
OWN_PHOTOS_USE = "Teach {title}"
OWN_PHOTOS_ANYWAY = "Train the demo model on my photos anyway"
MODEL_MISSING = "{title} is not on this computer yet."
MODEL_MISSING_REMEDY = "Download it or choose files of it under “Model to teach”."

# the budget

BUDGET_TITLE = "Budget"
BUDGET_ABOUT = "How much graphics memory may training use? More is quicker or closer to your pet."
BUDGET_LABEL = "Graphics memory, GB"
NO_CARD = "This computer has no NVIDIA card that can be used."
NO_CARD_REMEDY = (
    "On the processor alone a model of this size would learn for days. The plan shows what a card of "
    "the chosen size would do."
)
ADVANCED = "Advanced"
AUTOMATIC = "automatic"
STEPS = "Training steps"
STEPS_INFO = "Empty: from the number of photos. More learn the pet better, up to a point."
SEED = "Seed"
SEED_INFO = "The same seed, photos and settings repeat a training exactly."
RANK = "LoRA rank"
RANK_INFO = "How much it can remember; 16 suits a pet."
SPEED = "Sample pictures"
SPEED_INFO = (
    "Faster ones let most of the model rest where little changes. What is learnt is the same."
)

TRAIN = "Train"
TRAIN_STEPS = "Train {steps} steps"
TRAIN_BUSY = "A training is running"
TRAIN_BUSY_ABOUT = "One training at a time. You can prepare the next one here."
TRAIN_BUSY_OPEN = "Watch it"

# a training

PAUSE, RESUME, STOP, LOOK = "Pause", "Resume", "Stop", "Sample now"
AGAIN = "New training with these photos"
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
    stages.PHOTOS: "Reading the photos",
    stages.LOAD: "Opening the model",
    stages.TEXT: "Reading the captions",
    stages.LATENTS: "Cutting the photos to size",
    stages.RESIDUALS: "Working out what the skipped blocks would do",
    stages.TRAIN: "Learning your pet",
    stages.PREVIEW: "Painting pictures",
    stages.EXPORT: "Saving and checking the file",
}
STAGE_LINE = {
    stages.PHOTOS: "Photos",
    stages.LOAD: "Model",
    stages.TEXT: "Captions",
    stages.LATENTS: "Crops",
    stages.TRAIN: "Learning",
    stages.EXPORT: "File",
}
STARTING = "Starting"
PENDING = {
    "pause": "Pausing after this step",
    "stop": "Stopping after this step",
    "preview": "Painting pictures after this step",
}
STEP_OF = "step {n} of {total}"
LEFT = "about {time} left"
FACTS = "{kind} · {photos} · {steps} steps · {model} · {budget:g} GB budget · started {started}"
PAUSED_AT = "Paused at step {step}. The graphics memory is free for other programs; Resume goes on from here."
STOPPED_AT = "Stopped at step {step}. What was learnt so far is kept; Resume goes on from here."
CRASHED = "The training was cut off before it could say why."
CRASHED_REMEDY = (
    "Perhaps the computer was switched off or ran out of memory. Resume goes on from the last "
    "saved step. Details for a helper are in {log}."
)

PICTURES_TITLE = "Pictures while training"
PICTURES_ABOUT = (
    "The same prompts and seeds before and during training. Press a picture to see it larger."
)
PICTURES_PHOTOS = "Your photos"
PICTURES_BEFORE = "Before"
PICTURES_STEP = "Step {step}"
PICTURES_ALT = "{prompt}, {when}"

CHART_VRAM = "Graphics memory"
CHART_RAM = "RAM"
CHART_DISK = "Disk"
CHART_OURS = "this training {now:.1f} GB"
CHART_CARD = "the whole card {now:.1f} GB"
CHART_PC = "the whole computer {now:.1f} GB"
CHART_DISK_RUN = "this training {now:.2f} GB"
CHART_BUDGET = "budget {budget:g} GB"
CHART_CARD_ABOUT = "the card has {total:.0f} GB"
CHART_RAM_ABOUT = "this computer has {total:.0f} GB"
CHART_DISK_ABOUT = "{free:.0f} GB free"
CHART_EMPTY = "Appears when training runs"
LOSS_CHART = "Learning curve"
LOSS_RAW = "each step"
LOSS_MEAN = "mean"
LOSS_ABOUT = "how far off it still is; it jumps about, trust the pictures"

# results

DONE = "{name} is ready"
DONE_ABOUT = (
    "Learned in {time} with {steps} steps. The file was opened again and checked; "
    "memory used at most: {peak}."
)
STOPPED_READY = "What {name}’s training learned so far"
STOPPED_READY_ABOUT = "The file holds step {step} of {total}. Resume to let it learn more."
HOW_TO = (
    "The LoRA is a small file that teaches the model your pet. In ComfyUI: put it into "
    "<code>models/loras</code>, add a <b>Load LoRA</b> node for it, and write "
    "<q>a photo of <b>{trigger}</b> {kind}</q> in the prompt. The workflow file does all this for you."
)
HOW_TO_NODE = (
    "The LoRA is a small file that teaches the model your pet. ComfyUI by itself has no {model}: it needs "
    "a custom node that brings it, and the file for that node; diffusers reads the other files. Write "
    "<q>a photo of <b>{trigger}</b> {kind}</q> in the prompt."
)
HOW_TO_DEMO = (
    "It is a LoRA, a small file that teaches a model your pet. This one works with the demo model of "
    "this studio only, not in ComfyUI. Its prompt is <q>a photo of <b>{trigger}</b> {kind}</q>."
)
FORMAT = "File for"
FORMATS = {
    "comfyui": "ComfyUI",
    "diffusers": "diffusers",
    "kohya": "Forge, SwarmUI (kohya)",
    "native": "ComfyUI’s custom node",
}
DOWNLOAD = "Download the LoRA"
DOWNLOAD_STEP = "Download step {step}"
MAKE = "Write this file"
PREPARING = "Writing and checking …"
DOWNLOAD_WORKFLOW = "ComfyUI workflow"
TO_COMFYUI = "Copy into ComfyUI"
COPIED = "Copied into ComfyUI: {path}"
CARD_TITLE = "About this file"
CARD_LICENCE = "Base model’s licence: {licence}"

COMPARE_TITLE = "Before and after"
COMPARE_ABOUT = "Move the line. Choose the step you like best: it is the one you download."
COMPARE = {
    "before": "Before",
    "after": "After",
    "slider": "How much of “before” is shown",
    "prompt": "Prompt",
    "step": "Step",
    "keep": "Keep this step",
    "kept": "This step is kept: it is in the file you download.",
}
COMPARE_KEEP = "Keep step {step}"
LIKENESS_TITLE = "Likeness"
LIKENESS_ABOUT = (
    "1 = the same. Judged by a small network of ours that knows drawn pets only. The column “Any "
    "{kind}” should stay low: other animals stay what they were."
)
LIKENESS_PET = "Your pet"
LIKENESS_CLASS = "Any {kind}"
LIKENESS_PLACES = "Right place"
LIKENESS_MEASURING = "Judging the pictures …"
LIKENESS_BEST = "best"

OWN_TITLE = "Your own pictures"
OWN_ABOUT = "Each prompt is painted without and with what was learnt, from the same start."
OWN_PROMPT = "Prompt"
STRENGTH = "LoRA strength"
STRENGTH_INFO = "1 is as trained; less mixes the pet in lightly."
PAINT_SEED_INFO = "Empty: another one each time."
RANDOM = "random"
PAINT = "Paint"
OWN_EMPTY = "What you paint appears here."
OWN_STATES = {
    "waiting": "Waits its turn",
    "working": "Being painted: {n} of {total}",
    "failed": "This picture failed.",
}
OWN_DELETE = "Delete this picture"
OWN_STOP = "Stop painting"
OWN_FACTS = "step {step} · strength {strength:g} · seed {seed}"
PROMPT_MISSING = "The prompt is empty."
PROMPT_REMEDY = "Write what the picture should show."

GO_ON_TITLE = "Go on"
MORE_STEPS = "Steps in all"
MORE_STEPS_INFO = "Learning goes on from the last step."
EXTEND = "Learn more"
EXTEND_LESS = "It has already learnt {steps} steps."
EXTEND_LESS_REMEDY = "Choose more steps than that."

# the list of trainings

LIST_TITLE = "Trainings"
LIST_EMPTY = "No training yet. Your first one appears here."
LIST_OPEN = "Open"
LIST_RENAME = "Rename"
LIST_AGAIN = "Same settings again"
LIST_DELETE = "Delete"
LIST_DELETE_ASK = (
    "Delete the training of {name} with its photos, pictures and files ({size})? "
    "This cannot be undone; a LoRA you downloaded stays."
)
LIST_RENAME_ASK = "New name of the pet"
NO = "Cancel"
LIST_FACTS = "{state} · {step} of {steps} steps · {model} · {size} on disk · {started}"

# problems

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
BUDGET_NO_NUMBER = "The budget is no number."
BUDGET_NO_NUMBER_REMEDY = "Give it in GB, for example 8."
NO_RUN = "This training is not there any more."
NO_RUN_REMEDY = "Choose another one from the list."
ALREADY_OPEN = "%s is already open at %s"
OPEN_AT = "%s is open at %s (Ctrl-C ends it; a running training goes on)"
DATA_GONE = "Attach its drive again, or delete {memo} to go back to the usual folder."
NO_WINDOW = (
    "There is no window of its own here (it needs the package pywebview); the browser is used."
)
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
    stages.TEXT: "Reading captions",
    stages.LATENTS: "Preparing photos",
    stages.RESIDUALS: "Skipped blocks",
    stages.TRAIN: "Training",
    stages.PREVIEW: "Pictures",
}
PLAN_STAGES_UNSKIPPED = {stages.RESIDUALS: "Preparing steps"}
PLAN_EVERY_STAGE = "In every stage"
PLAN_HELD = "blocks that learn, kept on the card"
PLAN_PASSING = "what passes through"
PLAN_RESERVE = "{size} left to the desktop and the driver"
PLAN_TAKEN = "{size} of the budget taken by other programs now"
PLAN_BUDGET = "your budget: {size}"
PLAN_ROOM_TITLE = "This computer"
PLAN_RAM = "RAM"
PLAN_RAM_OF = "{size} of {total}"
PLAN_RAM_KEPT = "Striped: a quarter of the RAM is left to other programs."
PLAN_DISK = "Disk"
PLAN_DISK_OF = "{size} of {total} free"
PLAN_MINUTES = "It takes about {time}, going by earlier trainings on this computer."
PLAN_MINUTES_UNKNOWN = "How long it takes is not known for this computer yet."
PLAN_CROPS_TITLE = "What training looks at"
PLAN_CROPS = {
    "dynamic": "the whole pet first, fur and eyes last",
    "reversed": "fur and eyes first, the whole pet last",
    "random": "more or less of the photo, by chance",
    "resize": "always the whole photo",
    "full": "always the whole photo",
}
PLAN_CROP_WORDS = ("whole pet", "part of it", "close-up")
PLAN_WHOLE = "whole pictures of {side} px"
PLAN_ANY_CROP = "crops of {low} to {high} px"
PLAN_SHRUNK = "; all shrunk to {side} px"
PLAN_NOISE = ("first, through much noise", "last, nearly clear")
PLAN_GIVES_UP = "What it gives up"
PLAN_GIVES_NOTHING = "Nothing: all blocks learn your pet."
PLAN_COST_SKIPPED = "{share} % of the model stays as it is. That saves memory and time."
PLAN_COST_BITS = {
    "int8": "The model is rounded to half its size. We expect that to cost hardly any likeness.",
    "nf4": "The model is rounded to a quarter of its size. We expect that to cost a little likeness.",
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
PLAN_NEW = {  # what differs in the way to train that more memory would allow
    "percent": "{percent} % instead of {percent_now} % skipped blocks",
    "side_px": "pictures of {side_px} px",
    "bits": "a less rounded model",
    "captions": "longer captions",
}
PLAN_SHORTER = {"captions": "shorter captions"}
PLAN_TEMPLATES = {  # instead of the planner's own (memory/planning/wording.py)
    "unskipped": (
        "Skipping nothing would fit too ({way}): {gain}. Skipping saves {percent} % of the "
        "computing of a training step, and is kept for that."
    ),
    "more_next": "One more GB would give {change}.",
    "more_later": (
        "One more GB would not change what is trained. {more_gib} more GB would give {change}."
    ),
    "gives_speed": "the same quality without computing anything twice: steps a third quicker",
    "gives_calm": "the same quality, with less waiting between steps",
    "room_now": " There is room to skip nothing: {gain}.",
    "room_later": " With {more_gib:g GiB} more there is room to skip nothing: {gain}.",
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
