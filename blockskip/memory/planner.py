"""Budget → settings, from byte tables, without torch (it runs before anything heavy is loaded).

This first planner knows three kinds of things on the graphics card while training: the blocks that
stay (middle, less their modulation linears, METHOD.md §1.3), what the head and the embeddings of
time need, and activations. It refuses a budget that cannot work and says what would.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import psutil

from blockskip.config import ModelRow, Settings, model_row, rungs, training_preset
from blockskip.events import UserError

GIB = 1024**3
_FROM_PRESET = "batch accumulation rank targets lr timesteps patches prior".split()
_BYTES = {"float32": 4, "bfloat16": 2}
_BASE_GIB = (
    0.6  # allocator, kernels and libraries before the first weight (measured for the demo on a CPU)
)


@dataclass(frozen=True)
class Estimate:
    """Graphics memory of a training step in GiB, by what it is for."""

    weights_gib: float
    activations_gib: float
    lora_gib: float

    @property
    def total_gib(self) -> float:
        return _BASE_GIB + self.weights_gib + self.activations_gib + self.lora_gib


def block_params(row: ModelRow, index: int) -> int:
    """Parameters of block `index` that training keeps: without modulation linears and biases.

    FLUX: a double block has 2 x (4 attention + 8 feed-forward) d², a single one 12 d²  (d = width).
    """
    return (24 if index < row.blocks[0] else 12) * row.width**2


def estimate(
    row: ModelRow, front: int, back: int, *, batch: int, tokens: int, rank: int
) -> Estimate:
    """What a training step takes. tokens: image + text tokens of one draw."""
    middle = range(front, row.num_blocks - back)
    size = _BYTES[row.dtype]
    weights = sum(block_params(row, i) for i in middle) * size + 4 * row.width**2 * size
    # about 34 (28) d numbers are saved a token and block: attention and feed-forward
    activations = (
        sum(34 if i < row.blocks[0] else 28 for i in middle) * batch * tokens * row.width * size
    )
    lora = sum(16 if i < row.blocks[0] else 6 for i in middle) * rank * row.width * 16
    return Estimate(weights / GIB, activations / GIB, lora / GIB)


def choose_settings(
    *,
    model: str = "demo",
    trigger: str = "sks",
    class_name: str = "cat",
    budget_gib: float = 8.0,
    ram_gib: float = 16.0,
    skip: str = "",
    **overrides: object,
) -> Settings:
    """Settings of a run from what the user said; everything unsaid comes from the presets.

    skip: "" (the budget's rung decides), a ratio such as "0.4", or blocks such as "19,10".
    overrides: fields of Settings; None means unsaid. Raises UserError for an unknown model, a span
    that leaves no middle, or a budget that cannot work.
    """
    row = model_row(model)
    preset = training_preset(model)
    front, back = _span(row, skip, budget_gib)
    said = {key: value for key, value in overrides.items() if value is not None}
    steps = said.get("steps", preset["steps"])
    fields = {
        # recorded, since another number of threads rounds differently and a resumed run must not
        "threads": preset.get("threads") or psutil.cpu_count(logical=False) or 1,
        "s_min_px": row.s_min_px,
        "s_max_px": row.s_max_px,
        "text_tokens": row.text_tokens,
        "preview_px": row.native_px,
        "preview_steps": row.preview_steps,
        "preview_guidance": row.preview_guidance,
        "steps": steps,
        "window_steps": max(1, steps // preset["windows"]),
        **{k: preset[k] for k in _FROM_PRESET},
        **said,
    }
    try:
        settings = Settings(
            model=model,
            trigger=trigger,
            class_name=class_name,
            budget_gib=budget_gib,
            ram_gib=ram_gib,
            front=front,
            back=back,
            **fields,
        )
    except ValueError as error:
        raise UserError(
            f"That does not work: {error}.", "Change this setting and try again."
        ) from error
    _check_budget(row, settings)
    return _with_prompts(settings, preset["prompts"])


def _span(row: ModelRow, skip: str, budget_gib: float) -> tuple[int, int]:
    if not skip:
        fitting = [rung for rung in rungs() if rung.gib <= budget_gib] or rungs()[:1]
        return row.span(fitting[-1].ratio)
    try:
        if "," in skip:
            front, back = (int(part) for part in skip.split(","))
        else:
            return row.span(float(skip))
    except ValueError:
        raise UserError(
            f"--skip {skip} is not understood.",
            "Use a ratio (0.5) or blocks at the front and back (19,10).",
        ) from None
    if min(front, back) < 0 or front + back >= row.num_blocks:
        raise UserError(
            f"Skipping {front} and {back} blocks leaves none of {row.num_blocks} to train.",
            f"{row.name}: skip fewer, for example {','.join(map(str, row.span(0.5)))}.",
        )
    return front, back


def _check_budget(row: ModelRow, settings: Settings) -> None:
    side = settings.s_max_px if settings.patches == "full" else settings.s_min_px
    tokens = (side // 16 if row.native_px > 64 else side // 8) ** 2 + settings.text_tokens
    need = estimate(
        row, settings.front, settings.back, batch=settings.batch, tokens=tokens, rank=settings.rank
    ).total_gib
    if settings.budget_gib >= need:
        return
    front, back = row.span(max(float(key) for key in row.spans))
    least = estimate(row, front, back, batch=1, tokens=tokens, rank=settings.rank).total_gib
    raise UserError(
        f"A budget of {settings.budget_gib:g} GiB is too small for {row.title}: "
        f"training these blocks needs {need:.1f} GiB.",
        f"The least that works is {least:.1f} GiB, skipping {front} + {back} of "
        f"{row.num_blocks} blocks.",
    )


def _with_prompts(settings: Settings, templates: list[str]) -> Settings:
    if settings.preview_prompts:
        return settings
    filled = tuple(
        text.format(**{"subject": settings.subject_caption, "class": settings.class_name})
        for text in templates
    )
    return dataclasses.replace(settings, preview_prompts=filled)
