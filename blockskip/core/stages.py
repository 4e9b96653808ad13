"""The stages of a run: the keys of events, plans and peaks. What people read of a stage stands in a table
by these keys, one at each screen (tests/core/test_stages.py holds them together).
"""

# In the order in which they first begin.
STAGES = ("photos", "load", "text", "latents", "residuals", "train", "preview", "export")
PHOTOS, LOAD, TEXT, LATENTS, RESIDUALS, TRAIN, PREVIEW, EXPORT = STAGES

# Those that a plan counts memory of: the model is open in them.
PLANNED = (TEXT, LATENTS, RESIDUALS, TRAIN, PREVIEW)
# Those that begin once, one after the other; windows and previews come again and again in between.
MILESTONES = (PHOTOS, LOAD, TEXT, LATENTS, TRAIN, EXPORT)
