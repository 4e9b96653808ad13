"""The reasons for a plan, as data, worded by wording.py and, for the page, studio/plan_strings.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Union

Value = Union[str, float, "Reason", "tuple[Reason, ...]", None]
Values = dict[str, Value]


@dataclass(frozen=True)
class Reason:
    """One statement about a plan or a refusal.

    kind: its template in a table such as wording.TEMPLATES. values: the template's fields. Sizes
    are in GiB; clauses are Reasons themselves (None: omitted; a tuple: joined by “and”).
    """

    kind: str
    values: Mapping[str, Value] = field(default_factory=dict)
