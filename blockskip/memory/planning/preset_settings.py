"""Combines the user's options with the presets into settings, before planning."""

from __future__ import annotations

import psutil

from blockskip.core.errors import BadInput
from blockskip.core.presets import ModelRow, budget_tiers, model_row, training_preset
from blockskip.core.settings import Settings

DRAFT_PX = 512  # a picture of 512 px costs a quarter of one of 1024 px (ours: for comparing steps)
_FROM_PRESET = (
    "batch accumulation rank targets lr rate_schedule timesteps patches prior caption_dropout reuse "
    "preview_every"
).split()


def preset_settings(row: ModelRow, chosen: dict, fixed: dict) -> Settings:
    """Return settings from the user's options; the presets supply the others.

    chosen: options that the user may leave out. fixed: fields that are always set. Raises UserError
    for an invalid value.
    """
    preset = training_preset(row.name)
    steps = chosen.get("steps", preset["steps"])
    fields = {
        # recorded, since rounding depends on it and a resumed run must not differ
        "threads": preset.get("threads") or psutil.cpu_count(logical=False) or 1,
        "s_min_px": row.s_min_px,
        "s_max_px": row.s_max_px,
        "text_tokens": row.text_tokens,
        "preview_px": row.native_px,
        "draft_px": min(DRAFT_PX, chosen.get("preview_px", row.native_px)),
        **_sampling(row, chosen.get("preview_model", "")),
        "training_adapter": row.adapter.name if row.adapter else "",
        "steps": steps,
        "window_steps": max(1, steps // preset["windows"]),
        **{k: preset[k] for k in _FROM_PRESET},
        **chosen,
    }
    if fields.get("preview_model"):  # distilled models have too few steps for a cache
        fields["preview_speed"] = "exact"
    try:
        settings = Settings.of(model=row.name, **fixed, **fields)
    except ValueError as error:
        raise BadInput(
            f"That does not work: {error}.", "Change this setting and try again."
        ) from error
    return _with_prompts(settings, preset["prompts"])


def _sampling(row: ModelRow, sibling: str) -> dict[str, object]:
    """Return how pictures are sampled, with the trained model or with a sibling."""
    pictures = model_row(sibling) if sibling else row
    return {
        "preview_steps": pictures.preview_steps,
        "preview_guidance": pictures.preview_guidance,
    }


def on_trained_model(settings: Settings) -> Settings:
    """Return the settings with pictures made by the trained model instead of a sibling."""
    row = model_row(settings.model)
    return settings.changed(preview_model="", **_sampling(row, ""))


def span_of(row: ModelRow, skip: str, budget_gib: float) -> tuple[int, int]:
    """Return (front, back) of `skip`, or of the budget's tier if it is "".

    Raises UserError for an invalid `skip`.
    """
    if skip:
        return parse_span(row, skip)
    fitting = [tier for tier in budget_tiers() if tier.gib <= budget_gib] or budget_tiers()[:1]
    return row.span(fitting[-1].ratio)


def parse_span(row: ModelRow, skip: str) -> tuple[int, int]:
    """Return (front, back) of "0.5" or "19,10". Raises UserError for anything else."""
    try:
        if "," in skip:
            front, back = (int(part) for part in skip.split(","))
        else:
            return row.span(float(skip))
    except ValueError:
        raise BadInput(
            f"--skip {skip} is not understood.",
            "Use a ratio (0.5) or blocks at the front and back (19,10).",
        ) from None
    if min(front, back) < 0 or front + back >= row.num_blocks:
        raise BadInput(
            f"Skipping {front} and {back} blocks leaves none of {row.num_blocks} to train.",
            f"{row.name}: skip fewer, for example {','.join(map(str, row.span(0.5)))}.",
        )
    return front, back


def _with_prompts(settings: Settings, templates: list[str]) -> Settings:
    if settings.preview_prompts:
        return settings
    filled = tuple(
        text.format(**{"subject": settings.subject_caption, "class": settings.class_name})
        for text in templates
    )
    return settings.changed(preview_prompts=filled)
