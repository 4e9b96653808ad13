"""What BlockSkip is compared with, on the same loop: LoRA on every block, nothing skipped or stored.

Draws, noise, peft's LoRA, loss, clipping, AdamW and learning rate are those of train.py; only two
answers differ. A window is the draws' own inputs, which no block has seen, and the library's forward
runs whole, its modulation included. Plain LoRA, QLoRA (a quantised model) and block swap (weights
brought for every block in every step) are settings of it (METHOD.md §3).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blockskip.memory.placement import replaced
from blockskip.residuals import save_window
from blockskip.skipping import Feed, checkpointed, streamed
from blockskip.train import Trainer


class WholeTrainer(Trainer):
    """LoRA on every block of `model`. settings: front and back are 0; patches "full" means s_max_px;
    middle "streamed" is block swap; `reuse` and `refresh` change nothing."""

    def _window(self, first: int) -> Path:
        """The draws' inputs on disk, as they would come from the encoders; no block works."""
        path, rows = self.window_dir / f"draws-{first:04d}.safetensors", self._rows(first)
        inputs = self._inputs(rows)
        tensors = {
            "front.image": inputs.noisy,
            "front.text": inputs.text,
            "pooled": inputs.pooled,
            "t": inputs.t,
            "target": self._targets(rows, None),
        }
        save_window(path, tensors, self.fingerprint)
        return path

    @contextmanager
    def _skipping(self, hollow: bool = False) -> Iterator[Feed]:
        settings, blocks = self.settings, self.family.blocks(self.model)
        wrapped = {}
        if hollow or settings.middle == "streamed":
            wrapped = streamed(blocks, range(len(blocks)), self.device)
        elif settings.checkpointing:
            wrapped = checkpointed(blocks, range(len(blocks)))
        with replaced(self.model, wrapped):
            yield Feed()
