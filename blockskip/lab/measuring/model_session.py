"""A model as it comes, open below a budget, for measurements of pictures."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from blockskip.core import presets
from blockskip.memory.open_model import open_model
from blockskip.memory.placement import hold, pick_device
from blockskip.memory.planning.planner import choose_settings
from blockskip.memory.vram_cap import cap
from blockskip.models import sources
from blockskip.models.families.base import Sampling, Text, family
from blockskip.sampling.sample import sample
from blockskip.training import encode


class Opened:
    """row, kind, settings (as a run has them), device, pipe, mark (the model's fingerprint). Raises
    UserError when the model is not there."""

    def __init__(self, model: str, budget_gib: float) -> None:
        self.row, self.settings = (
            presets.model_row(model),
            choose_settings(model=model, budget_gib=budget_gib),
        )
        self.kind, self.device = family(self.row.family), pick_device(self.settings.device)
        cap(self.device, budget_gib)
        source = sources.find_model(self.row)
        self.mark = source.fingerprint()
        self.pipe = open_model(self.kind, self.row, source, self.settings, self.device)
        self.model = self.pipe.transformer
        if self.device.type == "cpu":
            hold(self.device, self.model)

    def read(self, prompts: Sequence[str]) -> Text:
        """Prompts encoded, and the empty one last."""
        texts, tokens = [*prompts, ""], self.settings.plan.text_tokens
        return encode.encode_captions(self.kind, self.pipe, texts, tokens, self.device)

    def paint(
        self, text: Text, rows: Sequence[int], seeds: Sequence[int], steps: int = 0, **how: object
    ) -> list[Image.Image]:
        """Pictures of rows of `text` as `read` gives it, sampled as previews are. steps: 0 = the
        run's. how: `dynamic` and `cache` of preview.sample."""
        s = self.settings
        return sample(
            self.kind,
            self.pipe,
            text.rows(rows),
            text.rows([len(text.embeds) - 1]),
            Sampling(s.preview_px, steps or s.preview_steps, s.preview_guidance),
            seeds,
            self.device,
            s.plan.preview_batch,
            s.plan.preview_tiled,
            **how,
        )
