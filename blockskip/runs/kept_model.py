"""The model that a worker keeps open from one run to the next."""

from __future__ import annotations

import logging

import torch

from blockskip.core import presets, stages
from blockskip.core.settings import Settings
from blockskip.core.units import GIB
from blockskip.memory.placement import free_memory, release
from blockskip.memory.planning.planner import planned_memory
from blockskip.memory.streaming import ParamSite
from blockskip.memory.vram_cap import context_gib
from blockskip.models import sources
from blockskip.runs import ram_figures
from blockskip.sampling.loaded_model import LoadedModel

log = logging.getLogger(__name__)
Files = list[tuple[tuple, ...]]


class KeptModel:
    """A model between two runs, or nothing. key: Settings.model_key of the runs that can use it, ""
    for nothing."""

    def __init__(self) -> None:
        self.key = ""
        self._model: LoadedModel | None = None
        self._pinned: list[ParamSite] = []  # its weights that are still on the device
        self._files: Files = []

    def take(self, settings: Settings) -> LoadedModel | None:
        """Return the model for a run, None if there is none for it or if its files were changed.
        Nothing is kept then until `put`."""
        model, pinned, files = self._model, self._pinned, self._files
        suits = settings.model_key == self.key and files == _files(settings)
        self.clear()
        if model is None or not suits:
            return None
        shared = model.device.type in ram_figures.SHARED
        if not _fits(settings, model.settings, pinned, shared):
            release(pinned)
            pinned = []
        self._pinned = pinned
        model.adopt(settings)
        return model

    def put(self, model: LoadedModel, pinned: list[ParamSite]) -> None:
        """Keep a model after a run. pinned: the weights that its trainer loaded onto the device."""
        try:
            model.forget_run()
            self.key, self._files = model.settings.model_key, _files(model.settings)
        except Exception:  # the run is done, whatever is wrong with its model
            log.exception("the model is not kept open")
            self.clear()
            return
        self._model, self._pinned = model, [*self._pinned, *pinned]

    def clear(self) -> None:
        """Keep nothing."""
        self.key, self._model, self._pinned = "", None, []

    def held_gib(self) -> float:
        """Return the graphics memory of this process in GiB, without what is free in it."""
        free_memory()
        if self._model is None or self._model.device.type != "cuda":
            return 0.0
        return torch.cuda.memory_reserved() / GIB + context_gib()


def _files(settings: Settings) -> Files:
    """Return what changes when a file of the model or of those beside it changes."""
    names = (settings.model, settings.training_adapter, settings.preview_model)
    rows = [presets.model_row(name) for name in names if name]
    found: Files = []
    for row in rows:
        if row.files:
            stat = sources.lora_path(row.name).stat()
            found.append(((stat.st_size, stat.st_mtime_ns, stat.st_ino),))
        else:
            found.append(sources.find_model(row).signature())
    return found


def _fits(settings: Settings, before: Settings, pinned: list[ParamSite], shared: bool) -> bool:
    """Return whether weights can stay on the device from one run to the next: both train the same
    blocks, and no stage takes more than the largest one was planned with. shared: whether the
    device's memory is RAM."""
    now, then = settings.plan, before.plan
    if (now.front, now.back, now.middle) != (then.front, then.back, then.middle):
        return False
    needs = {
        stage: need.vram_gib + shared * need.ram_gib
        for stage, need in planned_memory(settings).items()
    }
    held = sum(slot.num_bytes for _, _, slot in pinned) / GIB
    encoding = max(needs[stages.TEXT], needs[stages.LATENTS])
    return encoding + held <= max(needs.values())
