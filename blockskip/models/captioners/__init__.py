"""Models that describe photos: on this computer (found.py), or a server of the user's (server.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from PIL import Image


class Answer(NamedTuple):
    """What a captioner says of a photo. cut: whether it had more to say than it was allowed to."""

    text: str
    cut: bool = False


# (photo, instruction) → answer
Describe = Callable[["Image.Image", str], Answer]
