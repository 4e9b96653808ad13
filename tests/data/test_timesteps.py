"""Draws are spread over t as each model's own schedule is, and the page says how closely.

SCHEDULES is how far a model's sampler shifts timesteps: diffusers' functions, with the scheduler's
configuration on the hub. A schedule is uniform in the sampler's time.
"""

import math
from statistics import NormalDist

import pytest
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

from blockskip.core.flow_matching import generator, sample_t, shift_t
from blockskip.core.paths import ROOT
from blockskip.core.presets import ModelRow, model_row, model_rows
from blockskip.core.settings import Settings
from blockskip.data.photos import Photo
from blockskip.data.schedule import build_schedule
from blockskip.memory.planning.model_stats import model_stats
from blockskip.memory.planning.planner import make_plan
from blockskip.training.optimizer import learning_rate

NORMAL = NormalDist()
MANY_STEPS = 200  # diffusers' formula for klein joins its few steps to this many


def of_flux(tokens: int, *more: float) -> float:
    return math.exp(calculate_shift(tokens, *more))


def of_klein(tokens: int, steps: int = MANY_STEPS) -> float:
    return math.exp(compute_empirical_mu(tokens, steps))


SCHEDULES = {
    "demo": lambda tokens: 1.0,
    "demo-sana": lambda tokens: 1.0,
    "flux-dev": of_flux,
    "flux-krea": of_flux,
    "flux-schnell": lambda tokens: 1.0,
    "flux2-klein-4b": of_klein,
    "flux2-klein-9b": of_klein,
    "flux3-klein": lambda tokens: 6.93,
    "krea2": lambda tokens: of_flux(tokens, 256, 6400, 0.5, 1.15),
    **dict.fromkeys(
        ("qwen-image", "qwen-image-2.1"), lambda tokens: of_flux(tokens, 256, 8192, 0.5, 0.9)
    ),
    "z-image": lambda tokens: 6.0,
    "z-image-turbo": lambda tokens: 3.0,
    "chroma-hd": lambda tokens: 1.0,
    **dict.fromkeys(("sd35-medium", "sd35-large"), lambda tokens: 3.0),
    **dict.fromkeys(("sana-0.6b", "sana-1.6b", "sana-4.8b"), lambda tokens: 3.0),
}
# rows whose draws are farther than .25 from the sampler's schedule, and the recipe they follow
RECIPES = {"z-image": "musubi-tuner, docs/zimage.md: --discrete_flow_shift 2.0"}
GRID = [k / 2000 for k in range(1, 2000)]


def tokens_of(row: ModelRow, side_px: int) -> int:
    return (side_px // model_stats(row.name).pixels_a_token) ** 2


def trained_side(row: ModelRow) -> int:
    """The side that a 12 GB card trains at."""
    return row.s_max_px


def share_below(t: float, shift: float) -> float:
    """The share of logit-normal draws with that shift below t."""
    return NORMAL.cdf(math.log(t / (1 - t)) - math.log(shift))


def distance(draws: float, schedule: float) -> float:
    """Kolmogorov's distance between logit-normal draws and a uniform schedule, by their shifts."""
    return max(abs(share_below(t, draws) - shift_t(t, 1 / schedule)) for t in GRID)


@pytest.mark.parametrize("name", model_rows())
def test_a_plans_draws_follow_the_models_schedule(name):
    settings = make_plan(model=name, budget_gib=12, free_gib=math.inf, system="Linux").settings
    row, side = model_row(name), settings.plan.side_px
    schedule = SCHEDULES[name](tokens_of(row, side))
    photo = Photo(path=None, caption="", width=2048, height=2048, sha="")
    times = sorted(draw.t for draw in build_schedule([photo], settings, 16))
    apart = max(abs((k + 0.5) / len(times) - shift_t(t, 1 / schedule)) for k, t in enumerate(times))
    assert side == trained_side(row) and apart == pytest.approx(
        distance(settings.shift, schedule), abs=0.05
    )
    assert (apart >= 0.25) == (name in RECIPES), f"{apart:.3f}"
    assert distance(1.0, schedule) >= apart - 0.05, "closer than without a shift"


def test_diffusers_formula_for_klein_is_flux_1s_at_many_steps_and_farther_at_few():
    row = model_row("flux2-klein-4b")
    for side in (256, 512, 768, 1024):
        tokens = tokens_of(row, side)
        assert row.shift_at(tokens) == pytest.approx(of_klein(tokens), rel=1e-4)
        assert of_klein(tokens, row.preview_steps) > 2.5 * row.shift_at(tokens)
    few = [of_klein(tokens_of(row, side), row.preview_steps) for side in (512, 1024)]
    assert [round(shift, 1) for shift in few] == [6.4, 8.6], "as docs/models.md says"
    assert round(distance(row.shift_at(1024), few[0]), 2) == 0.40


def test_a_shift_moves_every_timestep_by_the_same_odds():
    for sampler in ("logit_normal", "uniform"):
        plain, moved = (
            [sample_t(sampler, generator(0, i), *shift) for i in range(50)]
            for shift in ((), (3.0,))
        )
        assert plain == [sample_t(sampler, generator(0, i), 1.0) for i in range(50)], "to the bit"
        for one, other in zip(plain, moved, strict=True):
            assert other / (1 - other) == pytest.approx(3 * one / (1 - one))
    fixed = sample_t("shifted_sigmoid", generator(0, 1), 7.0)
    assert fixed == sample_t("shifted_sigmoid", generator(0, 1)), "keeps its own shift"


def test_the_shift_follows_the_side_and_what_was_asked_for():
    def planned(**more) -> float:
        return make_plan(model="flux-dev", budget_gib=12, free_gib=math.inf, **more).settings.shift

    assert planned(s_min_px=256) == pytest.approx(math.exp(0.5))
    assert planned(s_min_px=256) < planned() and planned(shift=2.5) == 2.5


def test_empty_captions_change_nothing_else():
    photos = [Photo(path=None, caption="", width=640, height=480, sha="")] * 3
    plain = Settings.of(s_min_px=256, s_max_px=512, steps=200, batch=4, prior=0.25)
    draws = build_schedule(photos, plain.changed(caption_dropout=0.1), 16)
    blank = [draw for draw in draws if draw.blank]
    assert 40 <= len(blank) <= 80 and not any(draw.prior for draw in blank)
    bare = [{**vars(draw), "blank": False} for draw in draws]
    assert bare == [vars(draw) for draw in build_schedule(photos, plain, 16)]


@pytest.mark.parametrize("steps", [400, 800, 1000])
def test_a_constant_rate_does_not_know_the_end_until_it_decays(steps):
    short = Settings.of(steps=steps, lr=1e-4, rate_schedule="constant")
    rates = [learning_rate(short, step) for step in range(steps)]
    longer = short.changed(steps=2000)
    known = steps - steps // 5
    assert rates[: known + 1] == [learning_rate(longer, step) for step in range(known + 1)]
    assert set(rates[20:known]) == {1e-4} and rates[0] == 1e-4 / 20
    assert rates[known:] == sorted(rates[known:], reverse=True)
    assert 1e-5 <= rates[-1] < 1.2e-5


def test_a_short_run_has_every_part_of_the_schedule():
    for steps in range(1, 12):
        settings = Settings.of(steps=steps, lr=1.0, rate_schedule="constant")
        rates = [learning_rate(settings, step) for step in range(steps)]
        assert rates[0] == 1 and all(0.1 <= rate <= 1 for rate in rates)


def quantile(share: float, shift: float) -> float:
    """The timestep below which that share of draws lies."""
    return shift_t(1 / (1 + math.exp(-NORMAL.inv_cdf(share))), shift)


def table_line(row: ModelRow) -> str:
    """A model's line of the table in docs/models.md."""
    side, (draws, few, native) = trained_side(row), shifts(row)
    quartiles = " · ".join(f"{quantile(q, draws):.2f}" for q in (0.1, 0.25, 0.5, 0.75, 0.9))
    above = f"{1 - share_below(0.9, draws):.0%} | {1 - shift_t(0.9, 1 / few):.0%}"
    far = f"{distance(draws, few):.2f} | {distance(draws, native):.2f}"
    return f"| `{row.name}` | {side} px | {draws:.2f} | {few:.2f} | {quartiles} | {above} | {far} |"


def shifts(row: ModelRow) -> tuple[float, float, float]:
    """Shifts of draws, and of the sampler's schedule at the trained side and at 1024 px."""
    trained, native = (tokens_of(row, side) for side in (trained_side(row), 1024))
    schedule = SCHEDULES[row.name]
    return row.shift_at(trained), schedule(trained), schedule(native)


def test_the_documentation_has_these_figures():
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    lines = [table_line(row) for row in model_rows().values() if not row.demo]
    assert not [line for line in lines if line not in page], "\n".join(lines)
