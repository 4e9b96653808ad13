"""An open model without a LoRA, within a budget, for measurements of pictures."""

from __future__ import annotations

from blockskip.memory.placement import pin_on_device
from blockskip.memory.planning.planner import choose_settings
from blockskip.sampling.loaded_model import LoadedModel


class ModelSession(LoadedModel):
    """A model with the settings of a run within `budget_gib`. On a CPU its weights stay in RAM, so
    that none are read during a measurement. Raises UserError if the model is missing."""

    def __init__(self, model: str, budget_gib: float) -> None:
        super().__init__(choose_settings(model=model, budget_gib=budget_gib))
        if self.device.type == "cpu":
            pin_on_device(self.device, self.transformer)
