"""Presets: TOML files in `presets/`. An unknown key in a row is an error."""

from __future__ import annotations

import copy
import dataclasses
import math
import tomllib
from dataclasses import field, replace
from functools import cache, cached_property

from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass

from blockskip.core.errors import BadFile, BadInput, NotFound
from blockskip.core.paths import PRESETS
from blockskip.core.settings import PREVIEW_SPEEDS, PreviewSpeed

STRICT = ConfigDict(extra="forbid")  # an unknown key is an error
_MIN_CACHED_STEPS = 8  # with fewer sampling steps, consecutive steps differ too much to be cached


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DynamicShift:
    """A shift of timesteps that grows with the picture: its logarithm mu is linear in the number of
    image tokens. tokens, mu: two points of that line."""

    tokens: tuple[int, int]
    mu: tuple[float, float]

    def at(self, tokens: int) -> float:
        """Return the shift for a picture of so many tokens."""
        (few, many), (low, high) = self.tokens, self.mu
        return math.exp(low + (high - low) * (tokens - few) / (many - few))


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ComfyuiNames:
    """Names of a model's files in ComfyUI's folders. files: part → beginnings of names; of a LoRA,
    whose tensors do not tell what it is for, the part is `lora`. others: words in names of other
    models with the same shapes, which are taken only if the user names the file. named: parts of
    whose files only the name tells whose they are: others are taken only if the user names them."""

    files: dict[str, tuple[str, ...]] = field(default_factory=dict)
    others: tuple[str, ...] = ()
    named: tuple[str, ...] = ()

    def usual(self, part: str) -> tuple[str, ...]:
        """Return the beginnings of a part's file names, () if none are known."""
        return self.files.get(part, ())


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Sibling:
    """The distilled model that LoRAs of a row are used on. Sample pictures are made with it in few
    steps, if it is on this machine. guidance: as in the row. shift: of its own schedule at 1024 px,
    for the documentation; pictures use its scheduler. lora: a LoRA file in the repository that
    makes of the trained model the distilled one; pictures are then made with this shift."""

    name: str
    title: str
    source: str
    steps: int
    guidance: float
    shift: float
    licence: str
    licence_url: str
    gated: bool = False
    download_gib: float = 0.0  # of its transformer; the other parts are the trained model's
    comfyui: ComfyuiNames = field(default_factory=ComfyuiNames)
    lora: str = ""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AdapterFile:
    """A training adapter (sampling/frozen_lora.py): a LoRA file of others. source: the
    repository on the hub. file: in it. comfyui: beginnings of its name as part `lora`."""

    name: str
    title: str
    source: str
    file: str
    comfyui: ComfyuiNames = field(default_factory=ComfyuiNames)
    licence: str
    licence_url: str
    download_gib: float


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ModelRow:
    """One row of presets/models.toml."""

    name: str
    title: str
    about: str
    family: str
    source: str  # folder in the repository, or a hub id
    dtype: str
    text_tokens: int
    native_px: int
    s_min_px: int
    s_max_px: int
    shift: float | DynamicShift  # of timesteps towards noise in training
    preview_steps: int
    preview_guidance: float
    guidance_embedding: bool
    blocks: tuple[int, ...]  # number of blocks in each stack, in order
    width: int
    licence: str
    provenance: str
    parts: tuple[str, ...] = ()  # the model's parts with weights
    comfyui: ComfyuiNames = field(default_factory=ComfyuiNames)
    licence_url: str = ""  # the licence's text
    gated: bool = False  # the hub requires a token of an account that accepted the licence
    download_gib: float = 0.0  # estimated size, used until the hub reports the file sizes
    float16: bool = False  # its blocks clip what float16 cannot hold, so that older cards train it
    common: bool = False  # shown at once, the others on demand
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)
    sibling: Sibling | None = None
    adapter: AdapterFile | None = None
    files: tuple[str, ...] = ()  # of a LoRA's row alone: all that is needed of the repository
    sibling_of: str = ""  # of a sibling's row alone: the model whose LoRAs it takes

    @cached_property
    def sibling_row(self) -> ModelRow | None:
        """The row of the sibling's transformer, from which pictures are made; None without one."""
        if self.sibling is None:
            return None
        s = self.sibling
        return replace(
            self,
            name=s.name,
            title=s.title,
            source=s.source,
            parts=("transformer",),
            comfyui=s.comfyui,
            files=(s.lora,) if s.lora else (),
            preview_steps=s.steps,
            preview_guidance=s.guidance,
            licence=s.licence,
            licence_url=s.licence_url,
            gated=s.gated,
            download_gib=s.download_gib,
            sibling=None,
            adapter=None,
            sibling_of=self.name,
        )

    @cached_property
    def adapter_row(self) -> ModelRow | None:
        """The row of the training adapter's file; None without one."""
        if self.adapter is None:
            return None
        a = self.adapter
        return replace(
            self,
            name=a.name,
            title=a.title,
            source=a.source,
            comfyui=a.comfyui,
            files=(a.file,),
            licence=a.licence,
            licence_url=a.licence_url,
            gated=False,
            download_gib=a.download_gib,
            sibling=None,
            adapter=None,
            sibling_of=self.name,
        )

    @property
    def demo(self) -> bool:
        """Whether this is one of the shipped demo models, which only know drawn pets."""
        return self.source.startswith("assets/")

    @property
    def number_bytes(self) -> int:
        """Bytes of one weight or activation in the model's own type."""
        return {"float32": 4, "bfloat16": 2}[self.dtype]

    @property
    def preview_passes(self) -> int:
        """Passes of the model for a sample picture; guidance with the empty prompt doubles them."""
        guided = self.preview_guidance > 1 and not self.guidance_embedding
        return self.preview_steps * (1 + guided)

    @property
    def num_blocks(self) -> int:
        """Number of blocks in all stacks."""
        return sum(self.blocks)

    def shift_at(self, tokens: int) -> float:
        """Return the shift of timesteps for training pictures of so many tokens."""
        return self.shift if isinstance(self.shift, float) else self.shift.at(tokens)

    def span(self, ratio: float) -> tuple[int, int]:
        """Return (front, back) for a skip ratio. Raises UserError if the row does not list it."""
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


_rows: dict[str, tuple[dict, ModelRow]] = {}  # by name: data, and the row that was made of it


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BudgetTier:
    """One tier of presets/budgets.toml. gib: graphics memory in GiB. ratio: share of blocks
    skipped."""

    gib: float
    title: str
    ratio: float


def model_rows() -> dict[str, ModelRow]:
    """Return all rows of presets/models.toml by name."""
    return {name: _row(name, row) for name, row in read_preset("models").items()}


def sibling_rows() -> dict[str, ModelRow]:
    """Return the rows of all siblings by name."""
    return {row.name: row for base in model_rows().values() if (row := base.sibling_row)}


def adapter_rows() -> dict[str, ModelRow]:
    """Return the rows of all training adapters by name."""
    return {row.name: row for base in model_rows().values() if (row := base.adapter_row)}


def model_row(name: str) -> ModelRow:
    """Return a model's row, or that of a sibling or adapter. Raises UserError for an unknown name."""
    table = read_preset("models")
    if name in table:  # asked for every run that the page lists
        return _row(name, table[name])
    rows = model_rows() | sibling_rows() | adapter_rows()
    if name not in rows:
        raise NotFound(f"There is no model called “{name}”.", f"Known models: {', '.join(rows)}.")
    return rows[name]


def preview_threshold(speed: PreviewSpeed, steps: int) -> float:
    """Return the step cache's threshold for previews of `steps` sampling steps; 0 disables it."""
    return PREVIEW_SPEEDS[speed] if steps >= _MIN_CACHED_STEPS else 0.0


def key_steps(model: str, speed: PreviewSpeed, steps: int) -> tuple[int, ...]:
    """Return which of `steps` sampling steps are computed in previews (sampling/key_steps.py).

    They come from presets/keysteps.toml; () means that they were not measured.
    """
    return tuple(read_preset("keysteps").get(model, {}).get(str(steps), {}).get(speed, ()))


def budget_tiers() -> list[BudgetTier]:
    """Return the budgets offered, smallest first."""
    return [BudgetTier(**row) for row in read_preset("budgets")["rung"]]


def reserve_table() -> dict[str, float]:
    """Return the graphics memory kept out of every plan, in GiB, from presets/budgets.toml."""
    return read_preset("budgets")["reserve"]


def rate_table() -> dict[str, float]:
    """Return the rates of a common PC (memory/planning/duration.py), from presets/budgets.toml."""
    return read_preset("budgets")["rates"]


def old_card_table() -> dict[str, float]:
    """Return what is assumed of cards without bfloat16, from presets/budgets.toml."""
    return read_preset("budgets")["old_cards"]


def fallback_table() -> dict[str, float]:
    """Return the limits of fallbacks, from presets/budgets.toml."""
    return read_preset("budgets")["fallback"]


def compiling_table() -> dict[str, float]:
    """Return what compiled blocks take and save, from presets/budgets.toml."""
    return read_preset("budgets")["compiling"]


def quality_table() -> dict:
    """Return published and assumed losses of likeness, from presets/budgets.toml."""
    return read_preset("budgets")["quality"]


def byte_table() -> dict:
    """Return the sizes of each full-size model that planning uses, from presets/bytes.toml."""
    return read_preset("bytes")


def workflow_table() -> dict:
    """Return the files and families of ComfyUI workflows, from presets/workflows.toml."""
    return read_preset("workflows")


def training_preset(model: str, kind: str = "pet") -> dict:
    """Return training defaults for a kind of subject, with the overrides for the model's family
    and for the model."""
    preset = read_preset("training")
    family = preset["family"].get(model_row(model).family, {})
    return {**preset[kind], **family, **preset["model"].get(model, {})}


def _row(name: str, data: dict) -> ModelRow:
    """Return a row; one whose data did not change since the last time is not validated again."""
    known = _rows.get(name)
    if known is None or known[0] != data:
        known = _rows[name] = copy.deepcopy(data), _validated(name, data)
    return known[1]


def _validated(name: str, data: dict) -> ModelRow:
    try:
        return ModelRow(**{**data, "name": name})
    except ValidationError as error:
        first = error.errors()[0]
        raise BadFile(
            f"presets/models.toml, [{name}]: {first['loc'][0]}: {first['msg']}.",
            f"Known keys: {', '.join(sorted(f.name for f in dataclasses.fields(ModelRow)))}.",
        ) from error


@cache
def read_preset(name: str) -> dict:
    """Return the tables of presets/<name>.toml. Raises UserError if it is damaged."""
    path = PRESETS / f"{name}.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise BadFile(
            f"presets/{name}.toml cannot be read: {error}.",
            "Restore the file from the download of BlockSkip Studio.",
        ) from error
