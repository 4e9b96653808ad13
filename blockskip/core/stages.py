"""Stage names of a run, used as keys of events, plans and peaks.

Each screen has its own table of display texts by these keys (tests/core/test_stages.py checks that
they agree).
"""

# in the order of their first start
STAGES = ("photos", "load", "text", "latents", "residuals", "train", "preview", "export")
PHOTOS, LOAD, TEXT, LATENTS, RESIDUALS, TRAIN, PREVIEW, EXPORT = STAGES

# stages with planned memory, in which the model is open
PLANNED = (TEXT, LATENTS, RESIDUALS, TRAIN, PREVIEW)
# stages that start only once, in this order; windows and previews recur in between
MILESTONES = (PHOTOS, LOAD, TEXT, LATENTS, TRAIN, EXPORT)
