"""The front's output in a window (docs/method.md §1.3).

It has one row a draw. If the text depends on the caption alone (`Family.text_is_static`), a row is
the image, and the text is stored once a caption.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor

from blockskip.core import files
from blockskip.models.families.base import Text
from blockskip.models.families.streams import Outputs, Streams, as_tuple

FRONT = "front.0"
TEXT = "text"  # (captions, S, D)
CAPTION = "caption"  # each draw's row of TEXT, (W,)


def stored_front(
    outputs: Outputs, text: Text, streams: Streams, tokens: int, static: bool
) -> dict[str, Tensor]:
    """Return copies, in RAM, of the outputs of the front's last block for the draws of `text`.

    tokens: of the image. static: whether text is stored once a caption; the streams are then one.
    """
    num = len(text.embeds)
    # copies, since later blocks overwrite their inputs; only the last block may end a stream
    parts = [cast(Tensor, stream)[:num] for stream in as_tuple(outputs)]
    if not static:
        return {f"front.{i}": part.to("cpu", copy=True) for i, part in enumerate(parts)}
    (joint,), (first, captions) = parts, _distinct(text)
    place = streams.text_slice(joint.shape[1], tokens)
    image = joint[:, place.stop :].to("cpu", copy=True)
    return {FRONT: image, TEXT: joint[first, place].cpu(), CAPTION: captions}


def with_text(window: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the window's tensors with one row a draw: each draw's text is put before its image."""
    rows = dict(window)
    if CAPTION in rows:
        rows[FRONT] = torch.cat([rows.pop(TEXT)[rows.pop(CAPTION)], rows[FRONT]], 1)
    return rows


def _distinct(text: Text) -> tuple[list[int], Tensor]:
    """Return a row of each distinct caption, and which of them every row is."""
    found: dict[str, int] = {}
    first: list[int] = []
    captions: list[int] = []
    for row in range(len(text.embeds)):
        parts = (part[row].cpu().contiguous() for part in (text.embeds, text.pooled_or_mask))
        key = files.fingerprint(*(part.view(torch.uint8).numpy().tobytes() for part in parts))
        if key not in found:
            found[key] = len(first)
            first.append(row)
        captions.append(found[key])
    return first, torch.tensor(captions)
