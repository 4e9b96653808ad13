"""Settings of a run, frozen, and the presets they come from.

`Settings` is all that repeats a run, together with the photos; it is written to `run.toml` and
never changes after that. Presets are TOML files in `presets/`; an unknown key there is an error.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from blockskip.core.errors import UserError

PATCH_SCHEDULES = ("dynamic", "reversed", "random", "resize", "full")
TIMESTEP_SAMPLERS = ("logit_normal", "uniform", "shifted_sigmoid")
TARGETS = ("attention", "attention+ff")
REFRESH = ("window", "once")
PRECISIONS = ("full", "int8", "nf4")
MIDDLE = ("stays", "leaves", "streamed")
OFFLOAD = ("mapped", "pinned")
DEVICES = ("auto", "cuda", "mps", "xpu", "cpu")
# how little the first block's work may change, against a step that was computed, for the other blocks
# to rest (sampling/step_cache.py). Published for FLUX (diffusers' pull request 11180): 0.10 1.8 times as quick, 0.20
# 2.8 times, “below 0.2 works”. Measured on the demo model: of 16 steps 19 % and 48 % rest, of 50 steps
# 61 % and 77 %; at “fast” pictures stay within 1.2 of 255 levels on average
PREVIEW_SPEEDS = {"exact": 0.0, "fast": 0.1, "fastest": 0.2}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that repeats a run except the photos themselves."""

    model: str = "demo"  # row in presets/models.toml
    trigger: str = "sks"  # the word that will mean this pet
    class_name: str = "cat"
    caption: str = ""  # "" = "a photo of {trigger} {class}"; a .txt beside a photo wins
    budget_gib: float = 8.0  # graphics memory this process may use in all
    ram_gib: float = 16.0
    front: int = 0  # blocks skipped at the front
    back: int = 0  # blocks skipped at the back
    patches: str = "dynamic"
    s_min_px: int = 256
    s_max_px: int = 512
    text_tokens: int = 512
    steps: int = 500  # optimiser steps; draws = steps * batch * accumulation / reuse
    batch: int = 1  # draws that pass the trained blocks together
    accumulation: int = 1  # batches that one step averages over
    rank: int = 16  # LoRA rank; alpha = rank
    targets: str = "attention"
    lr: float = 1e-4
    timesteps: str = "logit_normal"
    seed: int = 0
    prior: float = 0.0  # share of draws that keep the bare class word what it was
    flip: bool = False  # mirrored photos swap odd eyes: off
    window_steps: int = 50  # optimiser steps a residual window serves
    reuse: int = 1  # passes over a window's draws; what was computed for each serves so often
    refresh: str = "window"  # "once" = residuals of the untrained model, the paper's way
    micro_batch: int = 16  # draws at a time through a block while a window is computed
    checkpointing: bool = False
    precision: str = "full"  # of frozen blocks: the model's own type | int8 | nf4
    # of the trained blocks: on the card always | leaves for windows and previews | streamed, block
    # by block in every step, which implies checkpointing
    middle: str = "stays"
    offload: str = "pinned"  # where weights wait that are not on the card: RAM | "mapped", the file
    window_on_card: int = 0  # a window of no more draws keeps its state on the card while computed
    encode_batch: int = 32  # crops at a time through the VAE
    preview_batch: int = 8  # pictures at a time through a block; fewer than 8: the rest wait in RAM
    preview_tiled: bool = False  # the VAE decodes previews in tiles
    checkpoint_every: int = 50  # optimiser steps
    preview_every: int = 100  # optimiser steps; 0 = only before and after
    preview_px: int = 1024
    preview_steps: int = 20
    preview_guidance: float = 1.0
    preview_speed: str = "fast"  # exact: every block works in every sampling step
    preview_prompts: tuple[str, ...] = ()
    preview_images: int = 1  # images a prompt
    device: str = "auto"
    threads: int = 0  # CPU threads; 0 = torch's own choice

    def __post_init__(self) -> None:
        _check(self.patches in PATCH_SCHEDULES, "patches", self.patches, PATCH_SCHEDULES)
        _check(self.timesteps in TIMESTEP_SAMPLERS, "timesteps", self.timesteps, TIMESTEP_SAMPLERS)
        _check(self.targets in TARGETS, "targets", self.targets, TARGETS)
        _check(self.refresh in REFRESH, "refresh", self.refresh, REFRESH)
        _check(self.precision in PRECISIONS, "precision", self.precision, PRECISIONS)
        _check(self.middle in MIDDLE, "middle", self.middle, MIDDLE)
        _check(self.offload in OFFLOAD, "offload", self.offload, OFFLOAD)
        _check(self.device in DEVICES, "device", self.device, DEVICES)
        speeds = tuple(PREVIEW_SPEEDS)
        _check(self.preview_speed in speeds, "preview_speed", self.preview_speed, speeds)
        for name in (
            "steps",
            "batch",
            "accumulation",
            "rank",
            "window_steps",
            "reuse",
            "micro_batch",
            "s_min_px",
            "text_tokens",
            "checkpoint_every",
            "encode_batch",
            "preview_batch",
            "preview_images",
        ):
            _check(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        for name in ("front", "back", "preview_every", "threads", "window_on_card"):
            _check(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        _check(self.s_max_px >= self.s_min_px, "s_max_px", self.s_max_px, "s_min_px or more")
        _check(0 <= self.prior < 1, "prior", self.prior, "0 or more, less than 1")
        _check(self.lr > 0, "lr", self.lr, "more than 0")

    @property
    def draws_per_step(self) -> int:
        """Draws that one optimiser step averages over."""
        return self.batch * self.accumulation

    def fresh_steps(self, steps: int) -> int:
        """How many of `steps` steps that one window serves see draws of their own."""
        return -(-steps // self.reuse)

    @property
    def window_draws(self) -> int:
        """Draws of a whole residual window, each once."""
        return self.fresh_steps(self.window_steps) * self.draws_per_step

    @property
    def num_draws(self) -> int:
        """Draws of the whole run, each once; the last window may be shorter."""
        windows, rest = divmod(self.steps, self.window_steps)
        return windows * self.window_draws + self.fresh_steps(rest) * self.draws_per_step

    @property
    def subject_caption(self) -> str:
        """Of photos that bring no caption of their own."""
        return self.caption or f"a photo of {self.trigger} {self.class_name}"

    @property
    def class_caption(self) -> str:
        """What must not come to mean this pet: “a photo of a cat”."""
        article = "an" if self.class_name[:1].lower() in "aeiou" else "a"
        return f"a photo of {article} {self.class_name}"


def settings_to_dict(settings: Settings) -> dict:
    """A TOML-ready dict of the settings."""
    return {
        k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(settings).items()
    }


def settings_from_dict(data: dict) -> Settings:
    """The inverse of settings_to_dict. Raises UserError for unknown keys."""
    unknown = set(data) - {f.name for f in dataclasses.fields(Settings)}
    if unknown:
        raise UserError(
            f"Unknown setting: {', '.join(sorted(unknown))}.",
            "The run was made by another version; update BlockSkip Studio.",
        )
    return Settings(**{k: tuple(v) if isinstance(v, list) else v for k, v in data.items()})


def _check(ok: bool, name: str, value: object, allowed: object) -> None:
    if not ok:
        raise ValueError(f"setting {name} = {value!r} is not possible; allowed: {allowed}")
