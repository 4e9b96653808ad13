"""A run's model, open, with the LoRA of any step that is kept at any strength: pictures long after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from PIL import Image

from blockskip.core import presets, safetensors_files
from blockskip.core.errors import BadFile, OutOfMemory
from blockskip.memory.open_model import open_model
from blockskip.memory.placement import pick_device, settle
from blockskip.memory.planning.oom_fallback import ran_out
from blockskip.memory.vram_cap import cap
from blockskip.models import sources
from blockskip.models.families.base import Sampling, Text, family
from blockskip.runs import checkpoints
from blockskip.runs.run import Run
from blockskip.sampling import sample
from blockskip.training import encode
from blockskip.training.checkpoint import checkpoint_lora
from blockskip.training.lora import add_lora, restore
from blockskip.training.residuals import Span


def kept_lora(run: Run, step: int | None = None) -> dict[str, torch.Tensor]:
    """The LoRA of a step, None: the last. Raises UserError when it is not kept, or another run's."""
    path = checkpoints.lora_file(run, step)
    if safetensors_files.read_metadata(path).get("fingerprint") != run.fingerprint():
        raise BadFile(
            f"{path.name} belongs to another run or to other photos.",
            "Delete it, or put back what was there.",
        )
    return checkpoint_lora(path)


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if not ran_out(error):
            raise
        raise OutOfMemory(
            "The graphics card has too little free memory for a picture.",
            "Close other programs that use the card, then try again.",
        ) from error


class Easel:
    """The model of a run, ready for pictures, below the run's budget.

    exact: every block works in every step, whatever the run's preview speed: for measurements. Raises
    UserError, here and in `paint`, when the model is not there or the card is too small.
    """

    def __init__(self, run: Run, exact: bool = False) -> None:
        self.run, self.settings = run, run.settings()
        if exact:
            self.settings = self.settings.changed(preview_speed="exact")
        row, settings = presets.model_row(self.settings.model), self.settings
        self.device, self.kind = pick_device(settings.device), family(row.family)
        self._texts: dict[str, Text] = {}
        cap(self.device, settings.budget_gib)
        source = sources.find_model(row)
        with _room():
            self.pipe = open_model(self.kind, row, source, settings, self.device)
        self.lora = add_lora(
            self.pipe.transformer,
            self.kind,
            Span(settings.plan.front, settings.plan.back),
            settings.rank,
            settings.targets,
            settings.seed,
        )
        settle(self.device, self.lora.values())

    def paint(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        step: int | None = None,
        strength: float = 1.0,
        sampling_steps: int = 0,
    ) -> list[Image.Image]:
        """One picture a prompt. strength: factor of the LoRA; 0: the untrained model.
        sampling_steps: 0 = the run's."""
        settings = self.settings
        sampling = Sampling(
            settings.preview_px,
            sampling_steps or settings.preview_steps,
            settings.preview_guidance,
        )
        restore(self.lora, self._scaled(step, strength))
        with _room(), torch.no_grad():
            return sample.sample(
                self.kind,
                self.pipe,
                self._text(prompts),
                self._text([""]),
                sampling,
                seeds,
                self.device,
                settings.plan.preview_batch,
                settings.plan.preview_tiled,
                **sample.quickened(settings, sampling.steps, self.kind, self.pipe.transformer),
            )

    def _text(self, prompts: Sequence[str]) -> Text:
        """Prompts encoded, each once: the text encoder may be large."""
        if new := [p for p in dict.fromkeys(prompts) if p not in self._texts]:
            tokens = self.settings.plan.text_tokens
            text = encode.encode_captions(self.kind, self.pipe, new, tokens, self.device)
            self._texts |= {prompt: text.rows([i]) for i, prompt in enumerate(new)}
        return Text.cat([self._texts[prompt] for prompt in prompts])

    def _scaled(self, step: int | None, strength: float) -> dict[str, torch.Tensor]:
        """A LoRA whose B·A is `strength` times the step's."""
        if strength == 0:  # of no step: nothing may have been learnt yet
            return {name: torch.zeros_like(tensor) for name, tensor in self.lora.items()}
        lora = kept_lora(self.run, step)
        return {n: t * strength if n.endswith("lora_B.weight") else t for n, t in lora.items()}
