"""Sentences about navigation, the pet, the model and the budget."""

from __future__ import annotations

APP = "BlockSkip Studio"
TAGLINE = "Teach an image model what your pet looks like."

# navigation

STEPS_NAV = {"photos": "Photos", "budget": "Budget", "train": "Train", "results": "Results"}
NAV_LABEL = "Steps to your LoRA"
LIST = "Trainings"
LIST_COUNT = "Trainings ({count})"
NEW = "New pet"
OPENING_PLACE = "Opening …"

# the pet

PET_TITLE = "Your pet"
PET_KIND = "What is it?"
PET_KINDS = ("cat", "dog", "rabbit", "bear", "guinea pig", "hamster", "parrot", "horse")
PET_KINDS_SHOWN = PET_KINDS  # PET_KINDS go into prompts, which are English
PET_NAME = "What is its name?"
PET_NAME_EXAMPLE = "Momo"
WORDING = "In prompts you will write <q>a photo of <b>{trigger}</b> {kind}</q>."
WORDING_EMPTY = (
    "Enter a name, for example Momo. In prompts you will then write "
    "<q>a photo of <b>momo</b> cat</q>."
)
WORDING_SAME = "The name must differ from the kind of animal."

# the model

MODEL_TITLE = "Model to teach"
MODEL_STATES = {
    "ready": "Ready",
    "partial": "Partly downloaded",
    "missing": "{need:.0f} GB download",
    "broken": "Needs attention",
}
MODEL_MORE = "More models"
MODEL_READY = "Ready: {where}"
MODEL_DEMO = "Comes with the studio. It knows <b>drawn pets only</b>; nothing is downloaded."
MODEL_NEEDS = "Needs a {need:.0f} GB download; the drive has {free:.0f} GB free."
MODEL_NO_ROOM = (
    "Needs a {need:.0f} GB download, but the drive has only {free:.0f} GB free. "
    "Free some space, or keep your data on another drive (below)."
)
MODEL_ADAPTER = (
    "With it comes “{title}”, a LoRA of others: on while your pet is learnt, off in pictures, and not "
    "in your file."
)
SIBLING_TITLE = "Sample pictures {times} times as quick"
SIBLING_OFFER = (
    "{title} makes a picture in {passes} passes of the model instead of {own}. It is also the model to "
    "use your LoRA on."
)
SIBLING_NEEDS = "Not necessary: {need:.0f} GB more to download; the drive has {free:.0f} GB free."
SIBLING_READY = (
    "Sample pictures are made on {title}, the model to use your LoRA on: {passes} passes of the model "
    "instead of {own}."
)
MODEL_FOUND = "Found in ComfyUI: {where}"
MODEL_USE_FOUND = "Use these files"
MODEL_FETCH = "Download {need:.0f} GB"
MODEL_FETCH_MORE = "Resume the download"
MODEL_FETCH_STOP = "Pause the download"
MODEL_FETCHING = "{done:.1f} of {total:.1f} {unit} · {speed} · {left}"
MODEL_FETCH_SPEED = "{speed:.0f} MB/s"
MODEL_LICENCE = "Licence: {licence}"
TOOL_NEEDS = "Not necessary: a {need} download. It runs on this computer, on the processor."
TOOL_FETCH = "Download {need}"
MODEL_GATED = "Its makers ask you to accept a licence first. That takes a few minutes, once:"
MODEL_GATED_STEPS = (
    "Create a free account:",
    "Accept the licence on the model’s page:",
    "Create an access token of type “Read”:",
)
MODEL_GATED_PASTE = "Paste the token here. It is tested before anything is downloaded."
MODEL_FETCH_AGAIN = "Try again"
MODEL_SUITS = "Recommended for this computer"
MODEL_TOKEN = "Access token"
MODEL_TOKEN_TEST = "Test and save the token"
MODEL_TOKEN_OTHER = "Use another token"
MODEL_TOKEN_KEPT = "An access token is saved on this computer."
MODEL_TOKEN_GOOD = "The token works."
COMFYUI_FOLDER = "Your ComfyUI folder"
COMFYUI_FOLDER_ABOUT = "If you use ComfyUI: we use its model files in place. Nothing is copied."
COMFYUI_USE = "Search"
FOLDER_PICK = "Choose the folder"
DATA_TITLE = "Where everything is kept"
DATA_ABOUT = (
    "{folder}: {free:.0f} GB free. Models {models:.1f} GB, trainings {runs:.1f} GB, of which "
    "{caches:.1f} GB can be freed."
)
DATA_CLEAN = "Free {caches:.1f} GB"
DATA_CLEANED = "{freed:.1f} GB freed. Caches are rebuilt when needed."
DATA_MOVE = "Another folder or drive"
DATA_MOVE_ABOUT = "Takes effect when the studio is restarted. Nothing is moved."
DATA_MOVE_DO = "Use this folder"
DATA_MOVED = "From the next start, everything is kept in {folder}."

OWN_PHOTOS = (
    "<b>These are your own photos.</b> The demo model can only draw, so it cannot learn them well."
)
OWN_PHOTOS_READY = "{title} is on this computer and suits them."
OWN_PHOTOS_MISSING = "{title} would suit them; choose it above to see what it needs."
OWN_PHOTOS_USE = "Use {title}"
OWN_PHOTOS_ANYWAY = "Train the demo model on my photos anyway"
MODEL_MISSING = "{title} is not on this computer yet."
MODEL_MISSING_REMEDY = "Download it, or choose its files under “Model to teach”."

# the budget

BUDGET_TITLE = "Budget"
BUDGET_ABOUT = (
    "How much graphics memory may training use? More memory means faster training or a better "
    "likeness."
)
BUDGET_LABEL = "Graphics memory, GB"
NO_CARD = "This computer has no usable NVIDIA card."
NO_CARD_REMEDY = (
    "On the processor alone, a model of this size would train for days; that is the time told below. "
    "All else in the plan is for a card with that much memory."
)
ADVANCED = "Advanced"
AUTOMATIC = "automatic"
STEPS = "Training steps"
STEPS_INFO = "Empty: based on the number of photos. More steps help, up to a point."
SEED = "Seed"
SEED_INFO = "The same seed, photos and settings repeat a training exactly."
RANK = "LoRA rank"
RANK_INFO = "How much the LoRA can remember; 16 suits a pet."
SPEED = "Sample pictures"
SPEEDS = {"exact": "exact", "fast": "fast", "fastest": "fastest"}
SCHEDULES = {  # of crops
    "dynamic": "dynamic",
    "reversed": "reversed",
    "random": "random",
    "resize": "resize",
    "full": "full",
}
SPEED_INFO = "Faster previews skip some calculations. Training is not affected."

TRAIN = "Train"
TRAIN_WAITS = "Starting …"
TRAIN_STEPS = "Train {steps} steps"
TRAIN_TIME = "{train} · about {time}"
TRAIN_QUEUE = "Add to the queue: train {steps} steps"
TRAIN_BUSY_ABOUT = "“{name}” is being trained. This one begins by itself when it is its turn."
TRAIN_BUSY_OPEN = "Watch it"
