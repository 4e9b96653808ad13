"""Sentences about problems, and about the studio opening and closing."""

from __future__ import annotations

from blockskip.studio.strings.english.setup import OWN_PHOTOS_ANYWAY

GENERAL_ERROR = "Something unexpected went wrong. Details are in {log}."
BEHIND = "The studio is busy and answers late. This page catches up by itself."
NO_PHOTOS = "There are no photos yet."
NO_PHOTOS_REMEDY = "Add photos of your pet, or try it with the demo pet."
NO_NAME = "Your pet has no name yet."
NO_NAME_REMEDY = "Type its name. Only the letters A to Z are used."
NO_KIND = "The kind of animal is missing."
NO_KIND_REMEDY = "Choose cat, dog, … or type another."
BUSY = "“{name}” is being trained."
BUSY_REMEDY = "Wait until it is done, or pause it first."
OWN_PHOTOS_TITLE = "The demo model only knows drawn pets."
OWN_PHOTOS_REMEDY = f"Tick “{OWN_PHOTOS_ANYWAY}” if you want to see how training works."
BUDGET_NO_NUMBER = "Enter the budget as a number."
BUDGET_NO_NUMBER_REMEDY = "It is in GB, for example 8."
NO_RUN = "This training no longer exists."
NO_RUN_REMEDY = "Choose another one from the list."
ALREADY_OPEN = "%s is already open at %s"
OPENING = "BlockSkip Studio is just being opened by another window."
OPENING_REMEDY = "Wait a moment, then start it again."
NO_KEY = (
    "Open the studio by its launcher (./launch.sh, on Windows launch.bat): it opens the address that "
    "lets you in."
)
OPEN_AT = "%s is open at %s (Ctrl-C closes it; a running training continues)"
DATA_GONE = "Reconnect the drive, or delete {location_file} to go back to the default folder."
NO_WINDOW = "No window could be opened (it needs the package pywebview). Using the browser instead."
CLOSED = "The studio is closed. A running training continues; open the studio again to watch it."
