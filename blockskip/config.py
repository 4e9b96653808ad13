"""Settings of a run, frozen, and the presets they come from.

`Settings` is all that repeats a run, together with the photos; it is written to `run.toml` and
never changes after that. Presets are TOML files in `presets/`; an unknown key there is an error.
"""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from blockskip.events import UserError

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT / "assets"
PRESETS = ROOT / "presets"

PATCH_SCHEDULES = ("dynamic", "reversed", "random", "resize", "full")
TIMESTEP_SAMPLERS = ("logit_normal", "uniform", "shifted_sigmoid")
TARGETS = ("attention", "attention+ff")
REFRESH = ("window", "once")
PRECISIONS = ("full", "int8", "nf4")
MIDDLE = ("stays", "leaves", "streamed")
OFFLOAD = ("mapped", "pinned")
DEVICES = ("auto", "cuda", "mps", "xpu", "cpu")
# how little the first block's work may change, against a step that was computed, for the other blocks
# to rest (cache.py). Published for FLUX (diffusers' pull request 11180): 0.10 1.8 times as quick, 0.20
# 2.8 times, “below 0.2 works”. Measured on the demo model: of 16 steps 19 % and 48 % rest, of 50 steps
# 61 % and 77 %; at “fast” pictures stay within 1.2 of 255 levels on average
PREVIEW_SPEEDS = {"exact": 0.0, "fast": 0.1, "fastest": 0.2}
_TOO_FEW_STEPS = 8  # below it, steps lie too far apart for any to rest


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


@dataclass(frozen=True, kw_only=True)
class ModelRow:
    """One row of presets/models.toml."""

    name: str
    title: str
    about: str
    family: str
    source: str  # folder below the repository, or a hub id
    dtype: str
    text_tokens: int
    native_px: int
    s_min_px: int
    s_max_px: int
    preview_steps: int
    preview_guidance: float
    guidance_embedding: bool
    blocks: tuple[int, ...]  # blocks of each stack, in order
    width: int
    licence: str
    default_ratio: float
    provenance: str
    # of the model that have weights, where a folder in the library's layout is all we read …
    parts: tuple[str, ...] = ()
    file: str = ""  # … else how the name of ComfyUI's file of the transformer begins
    licence_url: str = ""  # its text
    gated: bool = False  # the hub wants a token of an account that accepted the licence
    download_gib: float = 0.0  # of the files we take, before the hub is asked for their sizes
    common: bool = False  # shown at once; others on demand
    full_size: bool = False  # too big to be whole on the card: planned from memory/tables.py
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def demo(self) -> bool:
        """Whether it is one of this project's own, which come along and know drawn pets only."""
        return self.source.startswith("assets/")

    @property
    def num_blocks(self) -> int:
        """Of all kinds together."""
        return sum(self.blocks)

    def span(self, ratio: float) -> tuple[int, int]:
        """(front, back) for a ratio of the table. Raises UserError for a ratio that is not in
        it."""
        if ratio == 0:
            return 0, 0
        for key, pair in self.spans.items():
            if abs(float(key) - ratio) < 1e-6:
                return pair
        known = ", ".join(["0", *self.spans])
        raise UserError(
            f"Skip ratio {ratio:g} is not known for {self.name}.",
            f"Use one of {known}, or two numbers of blocks such as --skip 2,3.",
        )


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One rung of presets/budgets.toml. gib: graphics memory in GiB. ratio: share of blocks
    skipped."""

    gib: float
    title: str
    ratio: float


def model_rows() -> dict[str, ModelRow]:
    """All rows of presets/models.toml by name."""
    return {name: _row(name, row) for name, row in _preset("models").items()}


def model_row(name: str) -> ModelRow:
    """The row of a model. Raises UserError for an unknown name."""
    rows = model_rows()
    if name not in rows:
        raise UserError(f"There is no model called “{name}”.", f"Known models: {', '.join(rows)}.")
    return rows[name]


def preview_threshold(speed: str, steps: int) -> float:
    """The change below which blocks rest in pictures of so many sampling steps; 0: they never do."""
    return PREVIEW_SPEEDS[speed] if steps >= _TOO_FEW_STEPS else 0.0


def key_steps(model: str, speed: str, steps: int) -> tuple[int, ...]:
    """Which of so many sampling steps are computed in pictures of that speed (keysteps.py), from
    presets/keysteps.toml; (): that was not measured."""
    return tuple(_preset("keysteps").get(model, {}).get(str(steps), {}).get(speed, ()))


def rungs() -> list[Rung]:
    """The budgets offered, smallest first."""
    return [Rung(**row) for row in _preset("budgets")["rung"]]


def reserve_table() -> dict[str, float]:
    """GiB of a card that are never planned with, from presets/budgets.toml."""
    return _preset("budgets")["reserve"]


def quality_table() -> dict:
    """Published and assumed losses of likeness, from presets/budgets.toml."""
    return _preset("budgets")["quality"]


def byte_table() -> dict:
    """What planning counts of each model of full size, from presets/bytes.toml."""
    return _preset("bytes")


def training_preset(model: str, kind: str = "pet") -> dict:
    """Training defaults of a kind of subject, with what `model` needs differently."""
    preset = _preset("training")
    return {**preset[kind], **preset.get("model", {}).get(model, {})}


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


def _row(name: str, data: dict) -> ModelRow:
    known = {f.name for f in dataclasses.fields(ModelRow)}
    if unknown := set(data) - known:
        raise UserError(
            f"presets/models.toml, [{name}]: unknown key {sorted(unknown)[0]}.",
            f"Known keys: {', '.join(sorted(known))}.",
        )
    spans = {key: tuple(pair) for key, pair in data.get("spans", {}).items()}
    return ModelRow(**{**data, "name": name, "blocks": tuple(data["blocks"]), "spans": spans})


@cache
def _preset(name: str) -> dict:
    path = PRESETS / f"{name}.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise UserError(
            f"presets/{name}.toml cannot be read: {error}.",
            "Restore the file from the download of BlockSkip Studio.",
        ) from error


def _check(ok: bool, name: str, value: object, allowed: object) -> None:
    if not ok:
        raise ValueError(f"setting {name} = {value!r} is not possible; allowed: {allowed}")
