"""Presets: TOML files in `presets/`; an unknown key there is an error."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import field
from functools import cache

from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass

from blockskip.core.errors import BadFile, BadInput, NotFound
from blockskip.core.paths import PRESETS
from blockskip.core.settings import PREVIEW_SPEEDS, PreviewSpeed

STRICT = ConfigDict(extra="forbid")  # an unknown key is an error
_TOO_FEW_STEPS = 8  # below it, steps lie too far apart for any to rest


@dataclass(frozen=True, kw_only=True, config=STRICT)
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
    provenance: str
    # of the model that have weights, where a folder in the library's layout is all we read …
    parts: tuple[str, ...] = ()
    file: str = ""  # … else how the name of ComfyUI's file of the transformer begins
    licence_url: str = ""  # its text
    gated: bool = False  # the hub wants a token of an account that accepted the licence
    download_gib: float = 0.0  # of the files we take, before the hub is asked for their sizes
    common: bool = False  # shown at once; others on demand
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def demo(self) -> bool:
        """Whether it is one of this project's own, which come along and know drawn pets only."""
        return self.source.startswith("assets/")

    @property
    def number_bytes(self) -> int:
        """Bytes of a weight, and of a number that passes, in the model's own type."""
        return {"float32": 4, "bfloat16": 2}[self.dtype]

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
        raise BadInput(
            f"Skip ratio {ratio:g} is not known for {self.name}.",
            f"Use one of {known}, or two numbers of blocks such as --skip 2,3.",
        )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BudgetTier:
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
        raise NotFound(f"There is no model called “{name}”.", f"Known models: {', '.join(rows)}.")
    return rows[name]


def preview_threshold(speed: PreviewSpeed, steps: int) -> float:
    """The change below which blocks rest in pictures of so many sampling steps; 0: they never do."""
    return PREVIEW_SPEEDS[speed] if steps >= _TOO_FEW_STEPS else 0.0


def key_steps(model: str, speed: PreviewSpeed, steps: int) -> tuple[int, ...]:
    """Which of so many sampling steps are computed in pictures of that speed (sampling/key_steps.py), from
    presets/keysteps.toml; (): that was not measured."""
    return tuple(_preset("keysteps").get(model, {}).get(str(steps), {}).get(speed, ()))


def budget_tiers() -> list[BudgetTier]:
    """The budgets offered, smallest first."""
    return [BudgetTier(**row) for row in _preset("budgets")["rung"]]


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


def _row(name: str, data: dict) -> ModelRow:
    try:
        return ModelRow(**{**data, "name": name})
    except ValidationError as error:
        first = error.errors()[0]
        raise BadFile(
            f"presets/models.toml, [{name}]: {first['loc'][0]}: {first['msg']}.",
            f"Known keys: {', '.join(sorted(f.name for f in dataclasses.fields(ModelRow)))}.",
        ) from error


@cache
def _preset(name: str) -> dict:
    path = PRESETS / f"{name}.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise BadFile(
            f"presets/{name}.toml cannot be read: {error}.",
            "Restore the file from the download of BlockSkip Studio.",
        ) from error
