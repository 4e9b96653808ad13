"""Formatting shared by all parts of the page: escaping, times, sizes, boxes and buttons."""

from __future__ import annotations

import datetime
import html
import json
import re
from pathlib import Path
from typing import Protocol

from blockskip.core import units
from blockskip.studio import strings

e = html.escape


class Problem(Protocol):
    """What can go wrong: an error, or the work that failed."""

    @property
    def title(self) -> str: ...
    @property
    def remedy(self) -> str: ...


_COMMAND = r"(?:\./launch\.sh|\.\\launch\.bat)(?: [\w./-]*[\w-]){0,4}"


def note(title: str, text: str, level: str) -> str:
    """Return a message box. level: info | warning | error."""
    title, text = strings.translated(title), strings.translated(text)
    strong = f"<b>{e(title)}</b> " if title else ""
    return f'<div class="note {level}">{strong}{e(text)}</div>'


def in_words(problem: Problem) -> str:
    """Return what happened and what to do, in the page's language."""
    said = (strings.translated(text) for text in (problem.title, problem.remedy) if text)
    return " ".join(said)


def without_commands(text: str) -> str:
    """Return a message of the program without the terminal commands that it names: on the page
    there is a button for each."""
    sentences = re.split(r"(?<=[.!?]) (?=[A-Z])", text)
    text = " ".join(one for one in sentences if "HF_TOKEN" not in one)
    text = re.sub(rf"Use {_COMMAND}, or (\w)", lambda found: found[1].upper(), text)
    return re.sub(rf":? {_COMMAND}\.?", ".", text)


def json_attribute(value: object) -> str:
    """Return JSON for an attribute in double quotes."""
    return e(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def action_button(action: str, label: str, style: str = "", **data: str | int | Path) -> str:
    """Return a button inside a drawn part. A click sends `action` and `data` to CLICK_HANDLERS.

    style: "" | primary | link | danger.
    """
    extra = "".join(
        f' data-{key.replace("_", "-")}="{e(str(value))}"' for key, value in data.items()
    )
    return (
        f'<button type="button" class="press {style}" data-do="{action}"{extra}>{e(label)}</button>'
    )


def action_link(address: str, action: str, label: str, style: str = "", **data: str) -> str:
    """Return a link to a place of the page (places.py) that looks like a button; see
    `action_button`."""
    extra = "".join(f' data-{key}="{e(value)}"' for key, value in data.items())
    return f'<a class="press {style}" href="{e(address)}" data-do="{action}"{extra}>{e(label)}</a>'


def kind_in_words(kind: str) -> str:
    """Return the kind of animal in the page's language, as it was typed if it is not of ours."""
    return dict(zip(strings.PET_KINDS, strings.PET_KINDS_SHOWN, strict=True)).get(kind, kind)


def count_photos(count: int) -> str:
    return strings.PHOTOS_COUNT_ONE if count == 1 else strings.PHOTOS_COUNT.format(count=count)


def duration(seconds: float) -> str:
    """Return seconds in plain form: 40 s, 3 min, 1 h 20 min, 5 days."""
    return units.duration(seconds, strings.DAYS)


def time_left(seconds: float) -> str:
    """Return how long something will still take, in plain form."""
    if seconds < 8:
        return strings.LEFT_LITTLE
    return strings.LEFT.format(time=duration(seconds))


def clock(iso: str) -> str:
    """Return a start time in plain form: 14:05 today, 21 Nov 14:05 otherwise."""
    try:
        when = datetime.datetime.fromisoformat(iso).astimezone()
    except (ValueError, OverflowError, OSError):
        return ""
    if when.date() == datetime.datetime.now().astimezone().date():
        return f"{when:%H:%M}"
    month = strings.MONTHS[when.month - 1]
    return strings.DATE.format(day=when.day, month=month, time=f"{when:%H:%M}")


def size(num_bytes: float) -> str:
    """Return bytes in plain form: 340 MB, 2.1 GB (computed as MiB and GiB)."""
    mib = num_bytes / 2**20
    return f"{mib:.0f} MB" if mib < 1000 else f"{strings.number(mib / 1024, '.1f')} GB"
