"""Sentences about a training in progress."""

from __future__ import annotations

from blockskip.core import stages

# a training

PAUSE, RESUME, STOP, LOOK = "Pause", "Resume", "Stop", "Sample now"
AS_PLANNED = "Resume as planned"
EASED = "Memory ran short, so this training takes less than planned: {changes}."
EASED_BACK = (
    "To go back: close other programs that use the graphics card, pause this training and press "
    "“{button}”. What was learnt is kept."
)
AGAIN = "New training with these photos"
STATES = {
    "new": "Not started",
    "waiting": "Queued",
    "running": "Training",
    "paused": "Paused",
    "stopped": "Stopped",
    "failed": "Stopped by an error",
    "crashed": "Interrupted",
    "done": "Done",
    "unreadable": "Cannot be read",
}
STAGES = {
    stages.PHOTOS: "Reading the photos",
    stages.LOAD: "Opening the model",
    stages.TEXT: "Reading the captions",
    stages.LATENTS: "Cutting the photos to size",
    stages.RESIDUALS: "Working out what the skipped blocks would do",
    stages.TRAIN: "Learning your pet",
    stages.PREVIEW: "Generating pictures",
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
TELL = {
    "on": "Notify me when it is done",
    "off": "You will be notified when it is done",
    "sound_on": "With a sound",
    "sound_off": "Sound is on",
    "denied": "This browser does not allow it. Allow notifications for this page in the address bar.",
    "missing": "This browser cannot show notifications.",
    "about": "While a tab of the studio is open.",
}
NEWS = {
    "done": "{pet} is ready",
    "failed": "The training of {pet} was stopped by an error",
    "crashed": "The training of {pet} was interrupted",
}
WAITS = "Queued: it begins by itself after {count} others."
WAITS_ONE = "Queued: it begins by itself after one other."
WAITS_NEXT = "Queued: it begins by itself as soon as a graphics card is free."
WAITS_HELD = "Queued, and the queue is held: nothing begins until you let it go on."
QUEUE_TITLE = "Queue"
QUEUE_ABOUT = (
    "They are trained in this order, one on each graphics card, also while this page is closed."
)
QUEUE_FACTS = "{steps} steps"
QUEUE_FACTS_TIME = "{steps} steps · about {time}"
QUEUE_UP = "Earlier"
QUEUE_DOWN = "Later"
QUEUE_REMOVE = "Take out"
QUEUE_HOLD = "Hold the queue"
QUEUE_GO = "Let it go on"
QUEUE_HELD = "Held: nothing begins until you let it go on."
MODEL_OPEN = (
    "The model of the last training stays open until {until}, so that the next one begins sooner."
)
MODEL_OPEN_HOLDS = " It holds {size} of graphics memory, which is counted as free."
MODEL_CLOSE = "Close it now"
PENDING = {
    "pause": "Pausing after this step",
    "stop": "Stopping after this step",
    "preview": "Generating pictures after this step",
}
PENDING_EARLY = {  # before the first step
    "pause": "Pausing as soon as this is done: {stage}",
    "stop": "Stopping as soon as this is done: {stage}",
}
PRESSED = {"pause": "Pausing …", "stop": "Stopping …", "preview": "Sampling …"}
STEP_OF = "step {n} of {total}"
LEFT = "about {time} left"
LEFT_LITTLE = "A few seconds left"
FACTS = "{kind} · {photos} · {steps} steps · {model} · {budget:g} GB budget · started {started}"
PAUSED_AT = (
    "Paused at step {step}. The graphics memory is free for other programs; Resume continues from "
    "here."
)
STOPPED_BEFORE = "Stopped before training began. Resume starts it."
PAUSED_BEFORE = "Paused before training began. Resume starts it."
STOPPED_AT = "Stopped at step {step}. What was learnt so far is kept; Resume continues from here."
CRASHED = "The training was interrupted without an error message."
CRASHED_REMEDY = (
    "Perhaps the computer was switched off or ran out of memory. Resume continues from the last "
    "saved step. Details are in {log}."
)

PICTURES_TITLE = "Pictures while training"
PICTURES_ABOUT = (
    "The same prompts and seeds before and during training. Click a picture to see it larger."
)
PICTURES_PHOTOS = "Your photos"
PICTURES_BEFORE = "Before"
PICTURES_STEP = "Step {step}"
PICTURES_LARGE = "Step {step}, full size"
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
CHART_EMPTY = "Appears once training starts"
LOSS_CHART = "Learning curve"
LOSS_RAW = "each step"
LOSS_MEAN = "mean"
LOSS_ABOUT = "how far off the model still is; it is noisy, so trust the pictures"
