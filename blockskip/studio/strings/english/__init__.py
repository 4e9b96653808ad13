"""English: the language in which the page is written."""

from blockskip.studio.strings.english.photos import *
from blockskip.studio.strings.english.plan import *
from blockskip.studio.strings.english.problems import *
from blockskip.studio.strings.english.results import *
from blockskip.studio.strings.english.setup import *
from blockskip.studio.strings.english.training import *

TAG = "en"  # of the language (RFC 5646)
DECIMAL = "."
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
DATE = "{day} {month} {time}"
DAYS = "days"
ALMOST_NOTHING = "under {amount}"
PROGRAM_TEXTS: dict[str, str] = {}  # the program writes English
