"""Validate values from outside: files, the command line, the HTTP API and clicks.

Each place has a pydantic schema. `validated` returns the value, or raises one UserError that names
the subject, the key and the value.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from blockskip.core.errors import BadInput, UserError

_MAX_SHOWN = 60  # characters of an invalid value in a message


def validated(
    schema: Any,
    value: object,
    subject: str,
    *,
    error: type[UserError] = BadInput,
    remedy: str = "",
) -> Any:
    """Return `value` as `schema`, a type that pydantic can check.

    subject: what the value is, such as a file's path; it begins the message. Raises `error`, which
    names the first invalid key.
    """
    try:
        return _adapter(schema).validate_python(value)
    except ValidationError as problem:
        raise error(f"{subject}: {first_problem(problem)}.", remedy) from problem


class Invalid(ValueError):
    """A schema's own check of one value failed. Its text is the reason, a clause."""


def first_problem(problem: ValidationError) -> str:
    """Return the first problem of a validation as a sentence without a full stop."""
    first = problem.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    raised = first.get("ctx", {}).get("error")
    reason = str(raised or first["msg"])
    if first["type"] in ("dataclass_type", "dict_type"):  # without the name of a class of ours
        reason = "it should be a table of keys and values"
    reason = reason[:1].lower() + reason[1:]
    if first["type"] == "missing":
        return f"{key} is missing"
    if not key and raised and not isinstance(raised, Invalid):
        return reason  # of a whole object, whose keys it names
    value = f"{key} = {shortened(first['input'])}" if key else shortened(first["input"])
    return f"{value} is not possible: {reason}"


def shortened(value: object) -> str:
    """Return a value as a message shows it: its repr, cut to a few words."""
    try:
        text = repr(value)
    except RecursionError:
        return "a deeply nested value"
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"


@cache
def _adapter(schema: Any) -> TypeAdapter:
    return TypeAdapter(schema)
