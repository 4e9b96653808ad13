"""Generate pictures from a run's model, with the LoRA of any saved step at any strength."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from PIL import Image

from blockskip.core.errors import OutOfMemory
from blockskip.memory.planning.oom_fallback import is_out_of_memory
from blockskip.memory.vram_cap import room_gib
from blockskip.runs import checkpoints
from blockskip.runs.previewer import with_pictures
from blockskip.runs.run import Run
from blockskip.sampling.loaded_model import LoadedModel
from blockskip.sampling.sample import SAMPLE_BATCH
from blockskip.training.lora import restore


@contextmanager
def _user_error_on_oom() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error, room_gib):
            raise
        raise OutOfMemory(
            "The graphics card has too little free memory for a picture.",
            "Close other programs that use the card, then try again.",
        ) from error


class ImageSession(LoadedModel):
    """The open model of a run, with the run's LoRA.

    exact: compute every block in every step, regardless of the run's preview speed, for
    measurements. The constructor and `generate` raise UserError if the model is missing or graphics
    memory runs out. batch: pictures sampled together.
    """

    batch = SAMPLE_BATCH

    def __init__(self, run: Run, exact: bool = False) -> None:
        self.run, (settings, _) = run, with_pictures(run.settings())
        with _user_error_on_oom():
            super().__init__(settings.changed(preview_speed="exact") if exact else settings)
        self.lora = self.add_lora(settings)

    def generate(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        step: int | None = None,
        strength: float = 1.0,
        sampling_steps: int = 0,
        px: int = 0,
    ) -> list[Image.Image]:
        """Sample one picture per prompt. step: the LoRA's step, None for the last. strength: factor
        of the LoRA, 0 for the untrained model. sampling_steps, px: 0 for the run's."""
        restore(self.lora, self._scaled_lora(step, strength))
        with _user_error_on_oom():
            return self.sample_prompts(prompts, seeds, sampling_steps, px)

    def _scaled_lora(self, step: int | None, strength: float) -> dict[str, torch.Tensor]:
        """Return the step's LoRA with B·A scaled by `strength`."""
        if strength == 0:  # needs no saved step
            return {name: torch.zeros_like(tensor) for name, tensor in self.lora.items()}
        lora = checkpoints.load_lora(self.run, step)
        return {n: t * strength if n.endswith("lora_B.weight") else t for n, t in lora.items()}
