"""One finding of `doctor`. Imports only the standard library, as doctor.py does."""

from typing import NamedTuple

OK, WARNING, PROBLEM = "OK", "warning", "problem"
GIB = 2**30  # as in core/units.py, which cannot be imported from a plain file


class Line(NamedTuple):
    """One finding. remedy: how to solve it unless it is OK."""

    name: str
    state: str
    text: str
    remedy: str = ""
