"""German: the same names as in English."""

from blockskip.studio.strings.german.photos import *
from blockskip.studio.strings.german.plan import *
from blockskip.studio.strings.german.planner import *
from blockskip.studio.strings.german.problems import *
from blockskip.studio.strings.german.program import PROGRAM_TEXTS as PROGRAM_TEXTS
from blockskip.studio.strings.german.results import *
from blockskip.studio.strings.german.setup import *
from blockskip.studio.strings.german.training import *

TAG = "de"  # of the language (RFC 5646)
DECIMAL = ","
MONTHS = (
    "Jan.",
    "Feb.",
    "März",
    "Apr.",
    "Mai",
    "Juni",
    "Juli",
    "Aug.",
    "Sept.",
    "Okt.",
    "Nov.",
    "Dez.",
)
DATE = "{day}. {month}, {time}"
DAYS = "Tage"
ALMOST_NOTHING = "unter {amount}"
