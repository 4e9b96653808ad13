"""Format numbers of files that a later version of the program may have written.

A later version adds keys, which earlier ones ignore, without a new number. Where that would mislead
earlier ones, it writes a greater `format`. A file without one has the first.
"""

from collections.abc import Mapping

from blockskip.core.errors import BadFile
from blockskip.core.validation import validated

UPDATE = "Update BlockSkip Studio."


class Later(BadFile):
    """A file was written by a later version of the program, which must not be written over."""


def check_format(data: Mapping, newest: int, subject: str, what: str) -> None:
    """Check the number `format` of a file's data.

    newest: the format of this version. subject: the file, as in `validated`. what: begins the
    message of a later format. Raises Later, and BadFile if the number is none.
    """
    number = validated(int, data.get("format", 1), f"{subject}: format", error=BadFile)
    if number > newest:
        raise Later(f"{what} by a later version of BlockSkip Studio.", UPDATE)
