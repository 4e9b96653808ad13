"""Sentences about results and the list of trainings."""

from __future__ import annotations

# results

DONE = "{name} is ready"
DONE_ABOUT = (
    "Trained in {time} and {steps} steps. The file was reopened and checked; peak memory: {peak}."
)
STOPPED_READY = "What the model has learnt about {name} so far"
STOPPED_READY_ABOUT = "The file holds step {step} of {total}. Resume to train further."
HOW_TO = (
    "The LoRA is a small file that teaches the model your pet. In ComfyUI: put it in "
    "<code>models/loras</code>, add a <b>Load LoRA</b> node for it, and write "
    "<q>a photo of <b>{trigger}</b> {kind}</q> in the prompt."
)
HOW_TO_WORKFLOW = "The workflow file does all this for you."
HOW_TO_NODE = (
    "The LoRA is a small file that teaches the model your pet. ComfyUI does not include {model}: "
    "it needs a custom node for it, and the file for that node. The other files are for diffusers. "
    "Write <q>a photo of <b>{trigger}</b> {kind}</q> in the prompt."
)
HOW_TO_DEMO = (
    "It is a LoRA, a small file that teaches a model your pet. This one works only with this "
    "studio’s demo model, not in ComfyUI. Its prompt is <q>a photo of <b>{trigger}</b> {kind}</q>."
)
FORMAT = "File for"
FORMAT_STANDARD = "This studio"
FORMATS = {
    "comfyui": "ComfyUI",
    "diffusers": "diffusers",
    "kohya": "Forge, SwarmUI (kohya)",
    "native": "ComfyUI’s custom node",
}
DOWNLOAD = "Download the LoRA"
DOWNLOAD_STEP = "Download the LoRA, step {step}"
MAKE = "Write this file"
PREPARING = "Writing and checking …"
DOWNLOAD_WORKFLOW = "ComfyUI workflow"
TO_COMFYUI = "Copy into ComfyUI"
CARD_TITLE = "About this file"
CARD_PARTS = {
    "what": (
        "A LoRA that teaches {model} what {pet}, a {animal}, looks like. In prompts it is called "
        "“{trigger} {kind}”."
    ),
    "learnt": (
        "Learnt from {photos} photos in {steps} steps (rank {rank}, seed {seed}) with {skipped} of "
        "{blocks} blocks skipped."
    ),
    "likeness": (
        "Likeness of its sample pictures to the photos, by the cosine of DINOv2’s features: "
        "{likeness:.2f}."
    ),
    "likeness_demo": (
        "Likeness of its sample pictures to the photos, by the demo world’s own judge: "
        "{likeness:.2f}."
    ),
    "limits": (
        "It knows this one animal from these photos; other animals, people and places are the base "
        "model’s. The base model’s licence applies to what you make with it: {licence}."
    ),
}
CARD_LICENCE = "Base model’s licence: {licence}"

COMPARE_TITLE = "Before and after"
COMPARE_ABOUT = (
    "Move the line to compare. Choose the step you like best: it is the one you download."
)
COMPARE = {
    "before": "Before",
    "after": "After",
    "slider": "How much of “before” is shown",
    "prompt": "Prompt",
    "step": "Step",
    "kept": "The file that you download is of this step.",
}
COMPARE_KEEP = "Keep step {step}"
LIKENESS_TITLE = "Likeness"
LIKENESS_ABOUT = (
    "1 = identical. Judged by a small network of ours that knows only drawn pets. The column “Any "
    "{kind}” should stay low: other animals should not change."
)
LIKENESS_PET = "Your pet"
LIKENESS_CLASS = "Any {kind}"
LIKENESS_PLACES = "Right place"
LIKENESS_MEASURING = "Judging the pictures …"
LIKENESS_BEST = "best"
LIKENESS_NEAREST = "Nearest photo"
LIKENESS_COPIES = "Copies"
LIKENESS_LOST = "No {kind}"
LIKENESS_BEHIND = "Below the top"
LIKENESS_BEHIND_ABOUT = (
    "“Below the top” is how much less a step’s pictures look like your pet than those of the step "
    "with the highest figure, prompt by prompt, ± what so few pictures leave open (95 %)."
)
LIKENESS_UNSEEN = (
    "Cosine of image features (DINOv2), cut to your pet, to {photos} of your photos that training "
    "did not see."
)
LIKENESS_SEEN = (
    "Cosine of image features (DINOv2), cut to your pet, to the {photos} photos of the training: "
    "pictures that copy them are rewarded for it. Of 6 photos or more, some can be held out."
)
LIKENESS_ANCHORS = (
    "Your photos reach {ceiling} among themselves; any {kind} had {floor} before training, and "
    "should stay near that."
)
LIKENESS_COPYING = (
    "“Nearest photo” is the most similar photo of the training. Above {copying}, the most that two "
    "of your photos have in common, a picture counts as a copy."
)
LIKENESS_UNTRIED = (
    "No figure is good or bad by itself, only compared with the others. These rules have been tried "
    "on drawn pets only: look at the pictures too."
)
LIKENESS_MEANING = "What the figures mean"
LIKENESS_CHART = "Likeness by step"
LIKENESS_CHART_ABOUT = "Shaded: what so few pictures leave open of the distance to the top."
LIKENESS_CHART_LABEL = "by step; the table below has the figures"
LIKENESS_AXIS = "step {step}"
LIKENESS_CEILING = "your photos"
LIKENESS_OFFER = "Measure which step looks most like your pet"
LIKENESS_DOING = {
    "starting": "Comparing the pictures with your photos …",
    "pictures": "Making pictures to compare: {n} of {total}",
    "comparing": "Comparing pictures with your photos: {n} of {total}",
}
LIKENESS_STOP = "Stop measuring"
LIKENESS_AGAIN = "Measure again"
LIKENESS_BEGIN = "Compare the pictures with your photos"
LIKENESS_MORE = "Make {count} more pictures of each prompt and step"
LIKENESS_MORE_ONE = "Make one more picture of each prompt and step"
LIKENESS_MORE_TIME = " (about {time})"
LIKENESS_MORE_ABOUT = (
    "More pictures tell the steps apart better. They take the graphics card meanwhile; a training "
    "that you start ends it, and what was made is kept."
)

SHEET_TITLE = "{name}, before and after"
SHEET_ABOUT = "{model} without and with the LoRA"
SHEET_SAVE = "Save as one picture"
SHEET_SHARE = "Share it"
SHEET_SHARED = "Copied: paste it where you like"
SHEET_NAMES = {  # of files
    "own": "{name} own pictures",
    "pair": "{name} step {step}",
    "steps": "{name} by step",
}
SHEET_EMPTY = "There are no such pictures."
PICTURE_SAVE = "Save this picture"
SHOW_FOLDER = "Show in folder"
FOLDER_SHOWN = "Shown in the file manager: {folder}"
FOLDER_IS = "The file is in {folder}"
PRESETS_TITLE = "Try:"
PRESETS = {
    "On a beach": "a photo of {pet} running on a beach, evening sun",
    "Asleep": "a photo of {pet} asleep on a red sofa, soft window light",
    "Close portrait": "close-up portrait of {pet}, studio light, dark background",
    "In the snow": "a photo of {pet} in fresh snow, winter forest",
    "Watercolour": "a watercolour painting of {pet} among flowers",
    "Astronaut": "a photo of {pet} as an astronaut, the earth behind it",
}
PRESETS_DEMO = {
    "On a beach": "a photo of {pet} on the beach",
    "On a sofa": "a photo of {pet} on the sofa",
    "In the snow": "a photo of {pet} in the snow",
    "In a meadow": "a photo of {pet} in the meadow",
    "At night": "a photo of {pet} at night",
}

OWN_TITLE = "Your own pictures"
OWN_ABOUT = "See each prompt with and without your pet’s LoRA."
OWN_PROMPT = "Prompt"
STRENGTH = "LoRA strength"
STRENGTH_INFO = "1 is as trained; a lower value shows less of the pet."
PAINT_SEED_INFO = "Empty: a new one each time."
RANDOM = "random"
PAINT = "Generate"
OWN_EMPTY = "The pictures you generate appear here."
OWN_STATES = {
    "waiting": "Queued",
    "working": "Generating: {n} of {total}",
    "failed": "This picture failed.",
}
OWN_DELETE = "Delete this picture"
OWN_STOP = "Stop generating"
OWN_FACTS = "step {step} · strength {strength:g} · seed {seed}"
PROMPT_MISSING = "The prompt is empty."
PROMPT_REMEDY = "Write what the picture should show."

GO_ON_TITLE = "Continue training"
MORE_STEPS = "Total steps"
MORE_STEPS_INFO = "Training continues from the last step."
EXTEND = "Train more steps"
EXTEND_LESS = "It has already been trained for {steps} steps."
EXTEND_LESS_REMEDY = "Choose a higher total."

# the list of trainings

LIST_TITLE = "Trainings"
LIST_EMPTY = "No training yet. Your first one appears here."
LIST_OPEN = "Open"
LIST_RENAME = "Rename"
LIST_AGAIN = "Use these settings again"
LIST_DELETE = "Delete"
RUN_DELETE = "Delete this training"
LIST_DELETE_ASK = (
    "Delete the training of {name} with its photos, pictures and files ({size})? "
    "This cannot be undone; a LoRA you downloaded stays."
)
LIST_RENAME_ASK = "New name for the pet"
NO = "Cancel"
LIST_UNREADABLE = "{state} · {size} on disk"
LIST_FACTS = "{state} · {step} of {steps} steps · {model} · {size} on disk · {started}"
