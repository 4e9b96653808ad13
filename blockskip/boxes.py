"""The box around the pet: where in a photo the crops must look.

A box is kept beside its photo as `<name of the photo without its ending>.box.json`, so it goes
where the photo goes, and people who use commands may write one by hand:
`{"left": 0.2, "top": 0.1, "right": 0.8, "bottom": 0.9}`. How crops respect it is crops.py's, how
one is proposed is proposal.py's.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path

from blockskip import files


@dataclass(frozen=True)
class Box:
    """Edges as shares 0 … 1 of the upright photo's width and height. Raises ValueError for a box
    that is empty, not finite or reaches outside the photo."""

    left: float
    top: float
    right: float
    bottom: float

    def __post_init__(self) -> None:
        edges = (self.left, self.top, self.right, self.bottom)
        known = all(type(edge) in (int, float) and math.isfinite(edge) for edge in edges)
        if not known or not (0 <= self.left < self.right <= 1 and 0 <= self.top < self.bottom <= 1):
            raise ValueError(f"a box with edges {edges} is not possible")

    @property
    def area(self) -> float:
        """Share of the photo, more than 0, up to 1."""
        return (self.right - self.left) * (self.bottom - self.top)


def box_path(photo: Path) -> Path:
    """Where the box of a photo is kept, whether or not there is one."""
    return photo.with_name(f"{photo.stem}.box.json")


def read_box(photo: Path) -> Box | None:
    """The box beside a photo. None where there is no such file, and where it cannot be read as a
    box: a photo is never refused for its box."""
    try:
        data = files.read_json(box_path(photo))
        return Box(data["left"], data["top"], data["right"], data["bottom"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def write_box(photo: Path, box: Box | None) -> None:
    """Keep a box beside its photo, or take it away. Raises UserError when the disk is full."""
    if box is None:
        try:
            box_path(photo).unlink(missing_ok=True)
        except OSError as error:
            raise files.disk_error(box_path(photo), error) from error
    else:
        files.write_json(box_path(photo), asdict(box))
