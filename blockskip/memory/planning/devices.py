"""What a device cannot do: NF4 on a Mac; products in 8 bits there and on the oldest cards; bfloat16
on cards before RTX 30, which compute in float16 with a scaled loss instead, or are refused."""

from __future__ import annotations

from dataclasses import replace

from blockskip.core.errors import BadInput, UserError
from blockskip.core.presets import ModelRow, model_rows, old_card_table
from blockskip.memory.planning.duration import run_seconds, usual_rates
from blockskip.memory.planning.request import PlanRequest, is_mac, precisions
from blockskip.memory.planning.search import best_plan


class TooSlow(UserError):
    """The card would only emulate the numbers that this model needs."""


def for_device(row: ModelRow, request: PlanRequest, capability: float) -> PlanRequest:
    """Return the request with what the device can do. capability: the GPU's compute capability,
    below 0 if unknown. Raises UserError for what it cannot."""
    if request.settings.plan.precision not in precisions(request.system):
        raise BadInput(
            "4 bits (NF4) need bitsandbytes, which a Mac does not have.", "Use --precision int8."
        )
    if is_mac(request.system) or 0 <= capability < old_card_table()["int8_from"]:
        request = request.with_fixed(arithmetic="weights")
    on_cuda = request.settings.device in ("auto", "cuda")
    return _in_float16(row, request) if on_cuda and _emulates(row, capability) else request


def _emulates(row: ModelRow, capability: float) -> bool:
    """Return whether a card of this compute capability (below 0: unknown) only emulates the type
    that the model computes in."""
    return row.dtype == "bfloat16" and 0 <= capability < old_card_table()["from"]


def _in_float16(row: ModelRow, request: PlanRequest) -> PlanRequest:
    """Return the request in float16. Raises UserError with the counted hours if the model cannot
    compute in that."""
    if row.float16:
        settings = request.settings.changed(number_type="float16")
        return replace(request, settings=settings)
    raise TooSlow(
        f"{row.title} computes in bfloat16, which this graphics card only emulates{_hours(row, request)}.",
        f"Cards from RTX 30 on can. On this one, choose {_others()}.",
    )


def _hours(row: ModelRow, request: PlanRequest) -> str:
    fit = best_plan(row, request)
    if fit is None:
        return ""
    rates = usual_rates(tflops=old_card_table()["emulated_tflops"])
    hours = run_seconds(row, fit.settings, rates) / 3600
    return f": training would take about {hours:.1f} hours, and more memory than can be planned"


def _others() -> str:
    titles = [row.title for row in model_rows().values() if row.float16 and row.common]
    return " or ".join(titles)
