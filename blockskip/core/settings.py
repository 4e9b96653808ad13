"""Settings of a run, frozen: all that repeats it, together with the photos.

`Settings` is what was asked for, `ExecutionPlan` (nested in it) is how that is carried out under a
budget: the planner decides it before a run, and a run that runs out of memory falls back to another
one. Both are written to `run.toml` when a run is made. Values are validated by pydantic wherever a
`Settings` is made, `dataclasses.replace` included.
"""

from __future__ import annotations

import dataclasses
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from blockskip.core.errors import BadFile

Patches = Literal["dynamic", "reversed", "random", "resize", "full"]
Timesteps = Literal["logit_normal", "uniform", "shifted_sigmoid"]
Targets = Literal["attention", "attention+ff"]
Refresh = Literal["window", "once"]
Precision = Literal["full", "int8", "nf4"]
Middle = Literal["stays", "leaves", "streamed"]
Offload = Literal["mapped", "pinned"]
Device = Literal["auto", "cuda", "mps", "xpu", "cpu"]
PreviewSpeed = Literal["exact", "fast", "fastest"]
OneOrMore = Annotated[int, Field(ge=1)]
ZeroOrMore = Annotated[int, Field(ge=0)]

# how little the first block's work may change, against a step that was computed, for the other blocks
# to rest (sampling/step_cache.py). Published for FLUX (diffusers' pull request 11180): 0.10 1.8 times as quick, 0.20
# 2.8 times, “below 0.2 works”. Measured on the demo model: of 16 steps 19 % and 48 % rest, of 50 steps
# 61 % and 77 %; at “fast” pictures stay within 1.2 of 255 levels on average
PREVIEW_SPEEDS: dict[PreviewSpeed, float] = {"exact": 0.0, "fast": 0.1, "fastest": 0.2}

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class ExecutionPlan:
    """How a run is carried out: what is skipped and at which side it trains, and what only costs or
    saves memory and time."""

    front: ZeroOrMore = 0  # blocks skipped at the front
    back: ZeroOrMore = 0  # blocks skipped at the back
    patches: Patches = "dynamic"
    s_min_px: OneOrMore = 256
    s_max_px: OneOrMore = 512
    text_tokens: OneOrMore = 512
    precision: Precision = "full"  # of frozen blocks: the model's own type | int8 | nf4
    batch: OneOrMore = 1  # draws that pass the trained blocks together
    accumulation: OneOrMore = 1  # batches that one step averages over
    window_steps: OneOrMore = 50  # optimiser steps a residual window serves
    micro_batch: OneOrMore = 16  # draws at a time through a block while a window is computed
    checkpointing: bool = False
    # of the trained blocks: on the card always | leaves for windows and previews | streamed, block
    # by block in every step, which implies checkpointing
    middle: Middle = "stays"
    offload: Offload = "pinned"  # where weights wait that are not on the card: RAM | the file
    window_on_card: ZeroOrMore = 0  # a window of no more draws is kept on the card while computed
    encode_batch: OneOrMore = 32  # crops at a time through the VAE
    preview_batch: OneOrMore = 8  # pictures at a time through a block; fewer: the rest wait in RAM
    preview_tiled: bool = False  # the VAE decodes previews in tiles
    preview_speed: PreviewSpeed = "fast"  # exact: every block works in every sampling step

    @model_validator(mode="after")
    def _crops_grow(self) -> ExecutionPlan:
        if self.s_max_px < self.s_min_px:
            raise ValueError(f"s_max_px = {self.s_max_px} is below s_min_px = {self.s_min_px}")
        return self

    @property
    def side_px(self) -> int:
        """Side that training sees: of the smallest crop, or of whole pictures."""
        return self.s_max_px if self.patches == "full" else self.s_min_px

    @property
    def draws_per_step(self) -> int:
        """Draws that one optimiser step averages over."""
        return self.batch * self.accumulation


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Settings:
    """Everything that repeats a run except the photos themselves."""

    model: str = "demo"  # row in presets/models.toml
    trigger: str = "sks"  # the word that will mean this pet
    class_name: str = "cat"
    caption: str = ""  # "" = "a photo of {trigger} {class}"; a .txt beside a photo wins
    budget_gib: float = 8.0  # graphics memory this process may use in all
    ram_gib: float = 16.0
    steps: OneOrMore = 500  # optimiser steps; draws = steps * batch * accumulation / reuse
    rank: OneOrMore = 16  # LoRA rank; alpha = rank
    targets: Targets = "attention"
    lr: Annotated[float, Field(gt=0)] = 1e-4
    timesteps: Timesteps = "logit_normal"
    seed: int = 0
    prior: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of draws that keep the bare class word
    flip: bool = False  # mirrored photos swap odd eyes: off
    reuse: OneOrMore = 1  # passes over a window's draws; what was computed for each serves so often
    refresh: Refresh = "window"  # "once" = residuals of the untrained model, the paper's way
    checkpoint_every: OneOrMore = 50  # optimiser steps
    preview_every: ZeroOrMore = 100  # optimiser steps; 0 = only before and after
    preview_px: OneOrMore = 1024
    preview_steps: OneOrMore = 20
    preview_guidance: float = 1.0
    preview_prompts: tuple[str, ...] = ()
    preview_images: OneOrMore = 1  # images a prompt
    device: Device = "auto"
    threads: ZeroOrMore = 0  # CPU threads; 0 = torch's own choice
    plan: ExecutionPlan = field(default_factory=ExecutionPlan)

    @classmethod
    def of(cls, **fields: Any) -> Settings:
        """Settings from fields of both dataclasses, without nesting. Raises ValueError that names the
        first setting that cannot be."""
        try:
            return _replaced(None, fields)
        except ValidationError as error:
            raise ValueError(_explained(error)) from error

    def changed(self, **fields: Any) -> Settings:
        """These settings with other values of fields of both dataclasses. Raises ValueError."""
        try:
            return _replaced(self, fields)
        except ValidationError as error:
            raise ValueError(_explained(error)) from error

    def flat(self) -> dict[str, Any]:
        """All fields of both dataclasses by name."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "plan"}
        return own | dataclasses.asdict(self.plan)

    def fresh_steps(self, steps: int) -> int:
        """How many of `steps` steps that one window serves see draws of their own."""
        return -(-steps // self.reuse)

    @property
    def window_draws(self) -> int:
        """Draws of a whole residual window, each once."""
        return self.fresh_steps(self.plan.window_steps) * self.plan.draws_per_step

    @property
    def num_draws(self) -> int:
        """Draws of the whole run, each once; the last window may be shorter."""
        windows, rest = divmod(self.steps, self.plan.window_steps)
        return windows * self.window_draws + self.fresh_steps(rest) * self.plan.draws_per_step

    @property
    def subject_caption(self) -> str:
        """Of photos that bring no caption of their own."""
        return self.caption or f"a photo of {self.trigger} {self.class_name}"

    @property
    def class_caption(self) -> str:
        """What must not come to mean this pet: “a photo of a cat”."""
        article = "an" if self.class_name[:1].lower() in "aeiou" else "a"
        return f"a photo of {article} {self.class_name}"


PLAN_FIELDS = frozenset(f.name for f in dataclasses.fields(ExecutionPlan))


def settings_to_dict(settings: Settings) -> dict:
    """A TOML-ready dict of the settings; those of the plan are a table of their own."""
    return _plain(dataclasses.asdict(settings))


def settings_from_dict(data: dict) -> Settings:
    """The inverse of settings_to_dict. Also reads runs made before the plan was nested, whose fields
    stand side by side. Raises UserError for unknown keys and impossible values."""
    fields = {key: value for key, value in data.items() if key != "plan"} | data.get("plan", {})
    known = {f.name for f in dataclasses.fields(Settings)} | PLAN_FIELDS
    if unknown := set(fields) - known:
        raise BadFile(
            f"Unknown setting: {', '.join(sorted(unknown))}.",
            "The run was made by another version; update BlockSkip Studio.",
        )
    try:
        return Settings.of(**fields)
    except ValueError as error:
        raise BadFile(f"The run's settings do not work: {error}.", "Make a new run.") from error


def _replaced(before: Settings | None, fields: dict[str, Any]) -> Settings:
    plan = {name: value for name, value in fields.items() if name in PLAN_FIELDS}
    own = {name: value for name, value in fields.items() if name not in PLAN_FIELDS}
    if before is None:
        return Settings(**own, plan=ExecutionPlan(**plan))
    return dataclasses.replace(before, **own, plan=dataclasses.replace(before.plan, **plan))


def _plain(data: dict) -> dict:
    return {
        key: list(value)
        if isinstance(value, tuple)
        else _plain(value)
        if isinstance(value, dict)
        else value
        for key, value in data.items()
    }


def _explained(error: ValidationError) -> str:
    """The first thing that is wrong, in a sentence."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    reason = str(first.get("ctx", {}).get("error", first["msg"]))
    reason = reason[:1].lower() + reason[1:]
    return f"setting {name} = {first['input']!r} is not possible: {reason}" if name else reason
