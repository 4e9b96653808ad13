"""Frozen settings of a run. Together with the photos they reproduce it.

`Settings` holds what the user requested. The nested `ExecutionPlan` holds how to carry it out under
a budget. The planner chooses it before a run, and a run that runs out of memory falls back to
another plan. Both are written to `run.toml` when a run is created. pydantic validates every new
`Settings`, also those made by `dataclasses.replace`.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import unicodedata
from dataclasses import field
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.dataclasses import dataclass

from blockskip.core.errors import BadFile
from blockskip.core.validation import Invalid, first_problem


def _encodable(text: str) -> str:
    """Accept text that UTF-8 can hold."""
    if any(unicodedata.category(letter) == "Cs" for letter in text):
        raise Invalid("it is not UTF-8")
    return text


def _one_line(text: str) -> str:
    """Accept a line of at most MAX_LINE characters."""
    if len(text) > MAX_LINE:
        raise Invalid(f"it has more than {MAX_LINE} characters")
    if any(unicodedata.category(letter) in ("Cc", "Zl", "Zp") for letter in text):
        raise Invalid("it has line breaks or characters that cannot be seen")
    if text and not text.strip():
        raise Invalid("it is blank")
    return text


MAX_LINE = 500  # characters of a trigger, a class or a caption
Patches = Literal["dynamic", "reversed", "random", "resize", "full"]
Timesteps = Literal["logit_normal", "uniform", "shifted_sigmoid"]
RateSchedule = Literal["cosine", "constant"]
Targets = Literal["attention", "attention+ff"]
Refresh = Literal["window", "once"]
Precision = Literal["full", "int8", "nf4"]
Arithmetic = Literal["weights", "int8"]
Middle = Literal["stays", "leaves", "streamed"]
NumberType = Literal["model", "float16"]
Device = Literal["auto", "cuda", "mps", "xpu", "cpu"]
Compile = Literal["auto", "off"]
PreviewSpeed = Literal["exact", "fast", "fastest"]
# Ranges, the same for the command line, the API, the page and run.toml. Upper limits only keep out
# slips that no machine could carry out.
MAX_STEPS = 1_000_000
ALL_BLOCKS = 999  # more than any model has
OneOrMore = Annotated[int, Field(ge=1, le=MAX_STEPS)]
ZeroOrMore = Annotated[int, Field(ge=0, le=MAX_STEPS)]
Rank = Annotated[int, Field(ge=1, le=1024)]
Pixels = Annotated[int, Field(ge=1, le=8192)]
PixelsOrNone = Annotated[int, Field(ge=0, le=8192)]
TextTokens = Annotated[int, Field(ge=1, le=65_536)]
SamplingSteps = Annotated[int, Field(ge=1, le=1000)]
Images = Annotated[int, Field(ge=1, le=1000)]
Threads = Annotated[int, Field(ge=0, le=1024)]
MAX_GIB = 1_000_000.0
Gib = Annotated[float, Field(gt=0, le=MAX_GIB, allow_inf_nan=False)]
GibOrNone = Annotated[float, Field(ge=0, le=MAX_GIB, allow_inf_nan=False)]
LearningRate = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Shift = Annotated[float, Field(ge=0.01, le=100, allow_inf_nan=False)]
Guidance = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
OldSeed = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]  # runs up to 0.2 may have one below 0
Text = Annotated[str, AfterValidator(_encodable)]
Line = Annotated[Text, AfterValidator(_one_line)]
Word = Annotated[Line, Field(min_length=1)]

# Step cache threshold: if the first block's residual changed less than this since the last computed
# step, the other blocks are skipped (sampling/step_cache.py). Published for FLUX (diffusers' pull
# request 11180): 0.10 is 1.8 times as fast, 0.20 2.8 times, “below 0.2 works”. Measured on the demo
# model at 0.1 and 0.2: 19 % and 48 % of 16 steps are skipped, 61 % and 77 % of 50 steps. At “fast”,
# pictures differ by less than 1.2 of 255 levels on average.
PREVIEW_SPEEDS: dict[PreviewSpeed, float] = {"exact": 0.0, "fast": 0.1, "fastest": 0.2}

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class ExecutionPlan:
    """Execution of a run: the skipped blocks, the crop sizes, and choices that affect only memory
    and time."""

    front: ZeroOrMore = 0  # blocks skipped at the front
    back: ZeroOrMore = 0  # blocks skipped at the back
    patches: Patches = "dynamic"
    s_min_px: Pixels = 256
    s_max_px: Pixels = 512
    text_tokens: TextTokens = 512
    precision: Precision = "full"  # of frozen blocks; full: the model's own type
    # of 8-bit weights: weights: they are unpacked for every product | int8: inputs and gradients
    # are rounded to 8 bits too, and integers are multiplied
    arithmetic: Arithmetic = "weights"
    # what the transformer computes in: the model's own type | float16 with a scaled loss, on cards
    # that only emulate bfloat16
    number_type: NumberType = "model"
    batch: OneOrMore = 1  # draws per forward pass of the trained blocks
    accumulation: OneOrMore = 1  # batches averaged by one optimiser step
    window_steps: OneOrMore = 50  # optimiser steps per residual window
    processes: OneOrMore = 1  # that share the draws of a step, one on each card
    micro_batch: OneOrMore = 16  # draws per block forward while a window is computed
    # of the trained blocks, how many (from the first on) compute their activations again in the
    # backward pass instead of keeping them; ALL_BLOCKS: all, however many there are
    recomputed: ZeroOrMore = 0
    # the trained blocks: always on the card | off the card during windows and previews | streamed
    # block by block in every step, which recomputes all
    middle: Middle = "stays"
    # waiting block weights that RAM keeps once they were read (MAX_GIB: all of them); the others are
    # read from their files each time
    ram_weights_gib: GibOrNone = MAX_GIB
    # windows up to this many draws stay on the card while computed
    window_on_card: Annotated[int, Field(ge=0)] = 0
    encode_batch: OneOrMore = 32  # crops per forward of the VAE
    preview_batch: OneOrMore = 8  # pictures per block forward, the others wait in RAM
    preview_tiled: bool = False  # whether the VAE decodes previews in tiles
    preview_speed: PreviewSpeed = "fast"  # exact: computes every block in every sampling step

    @model_validator(mode="after")
    def _crops_grow(self) -> ExecutionPlan:
        if self.s_max_px < self.s_min_px:
            raise ValueError(f"s_max_px = {self.s_max_px} is below s_min_px = {self.s_min_px}")
        return self

    @model_validator(mode="after")
    def _draws_are_shared(self) -> ExecutionPlan:
        if self.accumulation % self.processes:
            raise ValueError(
                f"{self.batch} x {self.accumulation} draws a step are not shared by "
                f"{self.processes} processes"
            )
        return self

    @property
    def side_px(self) -> int:
        """Side of a training image in pixels: the smallest crop, or the whole picture."""
        return self.s_max_px if self.patches == "full" else self.s_min_px

    @property
    def int8_products(self) -> bool:
        """Whether frozen linears multiply in 8 bits, where their error allows it."""
        return self.precision == "int8" and self.arithmetic == "int8"

    @property
    def skips(self) -> bool:
        """Whether any block is skipped."""
        return self.front + self.back > 0

    @property
    def draws_per_step(self) -> int:
        """Draws averaged by one optimiser step."""
        return self.batch * self.accumulation


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Settings:
    """Everything that reproduces a run, except the photos themselves."""

    model: str = "demo"  # row in presets/models.toml
    trigger: Text = "sks"  # the word that stands for this pet
    class_name: Text = "cat"
    caption: Text = ""  # "" = "a photo of {trigger} {class}"; a photo's .txt takes precedence
    budget_gib: Gib = 8.0  # total graphics memory that this process may use
    ram_gib: Gib = 16.0
    steps: OneOrMore = 500  # optimiser steps; draws = steps * batch * accumulation / reuse
    rank: Rank = 16  # LoRA rank; alpha = rank
    targets: Targets = "attention"
    lr: LearningRate = 1e-4
    rate_schedule: RateSchedule = "cosine"  # constant: until it decays in the last fifth
    timesteps: Timesteps = "logit_normal"
    shift: Shift = 1.0  # of timesteps towards noise, the model's at the trained side
    seed: OldSeed = 0
    prior: Share = 0.0  # share of prior-preservation draws
    caption_dropout: Share = 0.0  # share of the other draws with an empty caption
    flip: bool = False  # off, since mirroring swaps eyes of different colours
    reuse: OneOrMore = 1  # passes over a window's draws with the same residuals
    refresh: Refresh = "window"  # "once" = residuals of the untrained model, as in the paper
    checkpoint_every: OneOrMore = 50  # optimiser steps
    preview_every: ZeroOrMore = 100  # optimiser steps; 0 = only before and after
    preview_px: Pixels = 1024  # side of pictures at the end and on demand
    draft_px: PixelsOrNone = 0  # of those that show the progress; 0 = preview_px
    preview_steps: SamplingSteps = 20
    preview_guidance: Guidance = 1.0
    # the sibling of the model that pictures are made with; "": the trained model itself
    preview_model: str = ""
    preview_prompts: tuple[str, ...] = ()
    preview_images: Images = 1  # images per prompt
    training_adapter: str = ""  # the model's, on while it is trained; "": none
    device: Device = "auto"
    threads: Threads = 0  # CPU threads; 0 = torch's own choice
    compile: Compile = "auto"  # blocks: where there is a compiler and it gains time
    plan: ExecutionPlan = field(default_factory=ExecutionPlan)

    @classmethod
    def of(cls, **fields: Any) -> Settings:
        """Create settings from flat fields of both dataclasses. Raises ValueError that names the
        first invalid setting."""
        try:
            return _replaced(None, fields)
        except ValidationError as error:
            raise ValueError(first_problem(error)) from error

    def changed(self, **fields: Any) -> Settings:
        """Return a copy with changed fields of either dataclass. Raises ValueError."""
        try:
            return _replaced(self, fields)
        except ValidationError as error:
            raise ValueError(first_problem(error)) from error

    def flat(self) -> dict[str, Any]:
        """Return all fields of both dataclasses by name."""
        names = [f.name for f in dataclasses.fields(self) if f.name != "plan"]
        return {name: getattr(self, name) for name in names} | dataclasses.asdict(self.plan)

    def fresh_steps(self, steps: int) -> int:
        """Return how many of a window's `steps` steps use draws for the first time."""
        return -(-steps // self.reuse)

    @property
    def progress_px(self) -> int:
        """Side of the pictures that are made at every few steps and compared, in pixels."""
        return self.draft_px or self.preview_px

    @property
    def finishes_large(self) -> bool:
        """Whether the trained model's pictures are made once more, in full size."""
        return self.progress_px != self.preview_px

    @property
    def preview_times(self) -> int:
        """How many times a run makes its preview pictures, before the first step included."""
        return 1 + (-(-self.steps // self.preview_every) if self.preview_every else 1)

    @property
    def window_draws(self) -> int:
        """Distinct draws of a full residual window."""
        return self.fresh_steps(self.plan.window_steps) * self.plan.draws_per_step

    @property
    def num_draws(self) -> int:
        """Distinct draws of the whole run. The last window may be shorter."""
        windows, remainder = divmod(self.steps, self.plan.window_steps)
        return windows * self.window_draws + self.fresh_steps(remainder) * self.plan.draws_per_step

    @property
    def model_key(self) -> str:
        """Text that is the same for runs which one open model can serve, one after the other."""
        plan = self.plan
        weights = self.model, plan.precision, plan.arithmetic, plan.number_type
        beside = self.training_adapter, self.preview_model
        return "|".join(map(str, (*weights, *beside, self.device, self.threads, self.compile)))

    @property
    def subject_caption(self) -> str:
        """Caption of photos without a caption of their own."""
        return self.caption or f"a photo of {self.trigger} {self.class_name}"

    @property
    def class_caption(self) -> str:
        """Caption of the class alone, such as “a photo of a cat”, which must not come to mean this
        pet."""
        article = "an" if self.class_name[:1].lower() in "aeiou" else "a"
        return f"a photo of {article} {self.class_name}"


# runs up to format 2 kept all waiting weights in RAM or none
_OFFLOAD = {"pinned": MAX_GIB, "mapped": 0.0}
PLAN_FIELDS = frozenset(f.name for f in dataclasses.fields(ExecutionPlan))


def settings_to_dict(settings: Settings) -> dict:
    """Convert settings to a TOML-ready dict, with the plan as a nested table."""
    return _plain(dataclasses.asdict(settings))


def settings_from_dict(data: dict) -> Settings:
    """Invert `settings_to_dict`. Also reads older runs with flat fields, from before the plan was
    nested, and those with `offload`. Raises UserError for unknown keys and invalid values."""
    plan = data.get("plan", {})
    if not isinstance(plan, dict):
        raise BadFile(f"The run's settings do not work: plan is {plan!r}.", "Make a new run.")
    fields = {key: value for key, value in data.items() if key != "plan"} | plan
    if "checkpointing" in fields:  # up to 0.2: all trained blocks, or none
        again = fields.pop("checkpointing")
        fields["recomputed"] = again * ALL_BLOCKS if isinstance(again, bool) else again
    if "offload" in fields:
        offload = fields.pop("offload")
        fields.setdefault("ram_weights_gib", _OFFLOAD.get(str(offload)))
    known = {f.name for f in dataclasses.fields(Settings)} | PLAN_FIELDS
    if unknown := set(fields) - known:
        raise BadFile(
            f"Unknown setting: {', '.join(sorted(unknown))}.",
            "The run was made by another version; update BlockSkip Studio.",
        )
    nested = {name: value for name, value in fields.items() if name not in PLAN_FIELDS}
    nested["plan"] = {name: value for name, value in fields.items() if name in PLAN_FIELDS}
    try:  # strict, so that no text passes as a number; as JSON, which knows no tuples
        return _adapter().validate_json(json.dumps(nested, default=str), strict=True)
    except ValidationError as error:
        raise BadFile(
            f"The run's settings do not work: {first_problem(error)}.", "Make a new run."
        ) from error


@cache
def _adapter() -> TypeAdapter:
    return TypeAdapter(Settings)


def _replaced(before: Settings | None, fields: dict[str, Any]) -> Settings:
    plan = {name: value for name, value in fields.items() if name in PLAN_FIELDS}
    outer = {name: value for name, value in fields.items() if name not in PLAN_FIELDS}
    if before is None:
        return Settings(**outer, plan=ExecutionPlan(**plan))
    after = dataclasses.replace(before.plan, **plan) if plan else before.plan
    if outer:
        return dataclasses.replace(before, **outer, plan=after)
    changed = copy.copy(before)  # without checking all of it again
    object.__setattr__(changed, "plan", after)
    return changed


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return list(value) if isinstance(value, tuple) else value
