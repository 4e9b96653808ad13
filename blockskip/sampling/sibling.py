"""The distilled model on which a run's pictures are made, opened beside the trained one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from diffusers import DiffusionPipeline, ModelMixin

from blockskip.memory.streaming import weight_stores


@contextmanager
def taking_turns(trained: ModelMixin, sibling: DiffusionPipeline) -> Iterator[DiffusionPipeline]:
    """Context manager in which RAM keeps the sibling's weights instead of the trained model's.

    Both would need twice the RAM that was planned. The weights that leave are read from their files
    again, once a turn.
    """
    for store in weight_stores([trained]):
        store.release_cache()
    try:
        yield sibling
    finally:
        for store in weight_stores([sibling.transformer]):
            store.release_cache()
