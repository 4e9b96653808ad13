"""Why a plan is as it is, as data; wording.py says it in English, studio/plan_strings.py to owners."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Union

Value = Union[str, float, "Reason", "tuple[Reason, ...]", None]
Values = dict[str, Value]


@dataclass(frozen=True)
class Reason:
    """One thing that a plan or a refusal tells.

    kind: the name of its template in a table such as wording.TEMPLATES. values: what is filled in;
    sizes are GiB, clauses are Reasons themselves (None: left out; a tuple: an enumeration).
    """

    kind: str
    values: Mapping[str, Value] = field(default_factory=dict)
