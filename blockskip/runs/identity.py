"""What a run began with: its photos, their captions and its model, which must stay the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, replace
from typing import Any

import torch

from blockskip.core import files
from blockskip.core.errors import BadFile
from blockskip.data.photos import Photo
from blockskip.models import sources
from blockskip.models.sources import Source
from blockskip.runs.run import Run


def with_recorded_captions(photos: Sequence[Photo], info: Mapping[str, Any]) -> list[Photo]:
    """Return the photos with the captions that the first start recorded, if there was one.

    Other versions may read caption files otherwise, and a run keeps what it began with. info: as in
    run.toml.
    """
    recorded = {facts["file"]: facts["caption"] for facts in info.get("photos", ())}
    return [
        replace(photo, caption=recorded.get(photo.path.name, photo.caption)) for photo in photos
    ]


def check(
    run: Run, photos: Sequence[Photo], source: Source, progress: Callable[[int, int], None]
) -> str:
    """Return the fingerprint of settings, photos and model.

    The first start records photos and model. Later starts raise BadFile if they changed.
    """
    # the first fingerprint of large files takes minutes on a slow disk
    model, info = source.fingerprint(progress), run.info()
    if adapter := run.settings().training_adapter:
        model = files.fingerprint(model, sources.lora_path(adapter).read_bytes())
    found = {"model_fingerprint": model, "photos": [photo_facts(photo) for photo in photos]}
    recorded = {key: info[key] for key in found if key in info}
    if recorded and recorded != found:
        changed = "photos" if recorded["photos"] != found["photos"] else "model"
        raise BadFile(
            f"The {changed} of run “{run.name}” changed since it began.",
            "Put them back as they were, or start a new run.",
        )
    if not recorded:
        run.write_info(info | found | {"torch": torch.__version__})
    return run.fingerprint()


def photo_facts(photo: Photo) -> dict:
    """Return the photo's data that draws depend on.

    Without a box the key is missing, as in runs made before boxes existed.
    """
    box = {"box": list(astuple(photo.box))} if photo.box else {}
    return {"file": photo.path.name, "sha": photo.sha, "caption": photo.caption, **box}
