"""Results, the list of trainings, problems."""

from __future__ import annotations

from blockskip.studio.strings.setup import OWN_PHOTOS_ANYWAY

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
