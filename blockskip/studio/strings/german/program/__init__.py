"""German for texts that the program outside the studio writes in English, such as errors.

Names in braces stand for any text. Of several texts that fit, the first counts: joined sentences come
before single ones, and last those that begin with a field, which fit most.
"""

from blockskip.studio.strings.german.program.captions import CAPTIONS
from blockskip.studio.strings.german.program.errors import ERRORS
from blockskip.studio.strings.german.program.joined import JOINED
from blockskip.studio.strings.german.program.models import MODELS
from blockskip.studio.strings.german.program.photos import PHOTOS
from blockskip.studio.strings.german.program.results import RESULTS
from blockskip.studio.strings.german.program.runs import RUNS

_SINGLE = PHOTOS | CAPTIONS | RUNS | RESULTS | MODELS | ERRORS
PROGRAM_TEXTS: dict[str, str] = JOINED | dict(
    sorted(_SINGLE.items(), key=lambda item: item[0].startswith("{"))
)
