"""DDiT: the schedule is exact on known paths, and samplings have the sizes of patches that it chooses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import FirstBlockCacheConfig
from helpers.family_cases import CASES
from helpers.patch_adapters import MERGING_FAMILIES, adapters, model_inputs

from blockskip.core.paths import ASSETS, adapter_file
from blockskip.core.presets import model_row
from blockskip.core.settings import Settings
from blockskip.memory import layerwise
from blockskip.memory.planning.planner import make_plan
from blockskip.models.families.base import Sampling, get_family
from blockskip.sampling import dynamic_patches, patch_adapters, sample
from blockskip.sampling.step_cache import cache_config
from blockskip.training import encode


def path(coefficients: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
    """Polynomials of t, (times, *coefficients.shape[1:])."""
    powers = torch.stack([times**k for k in range(len(coefficients))], 1)
    return torch.einsum("tk,k...->t...", powers, coefficients)


def velocities(latents: torch.Tensor, times: torch.Tensor) -> list[torch.Tensor]:
    return [
        (b - a) / (later - t)
        for a, b, t, later in zip(latents, latents[1:], times, times[1:], strict=False)
    ]


def test_third_difference_is_the_papers_in_its_50_steps():
    times = 1 - torch.arange(9, dtype=torch.float64) / 50
    z = torch.randn(9, 2, 3, dtype=torch.float64)
    v = velocities(z, times)
    for i in range(3, 9):
        found = dynamic_patches.third_difference(times[i - 3 : i].tolist(), v[i - 3 : i])
        expected = z[i] - 3 * z[i - 1] + 3 * z[i - 2] - z[i - 3]
        torch.testing.assert_close(found.abs(), expected.abs(), atol=1e-12, rtol=1e-9)


def test_cubic_paths_have_a_constant_third_difference_and_straight_ones_none():
    cubic = torch.tensor([0.3, -1.0, 0.5, 2.0], dtype=torch.float64)[:, None]
    for num in (12, 50):
        times = torch.linspace(1, 0, num + 1, dtype=torch.float64)
        v = velocities(path(cubic, times), times)
        found = [
            float(dynamic_patches.third_difference(times[i : i + 3].tolist(), v[i : i + 3]))
            for i in range(num - 2)
        ]
        # 6 · 2.0 / 50³, however many steps there are
        torch.testing.assert_close(torch.tensor(found), torch.full((num - 2,), 12 / 50**3))
    shifted = 3 * times / (1 + 2 * times)  # steps that are not uniform
    v = velocities(path(cubic[:2], shifted), shifted)
    for i in range(num - 2):
        assert (
            abs(dynamic_patches.third_difference(shifted[i : i + 3].tolist(), v[i : i + 3])) < 1e-12
        )


def taus(tau):
    """One for all sizes, as in the paper."""
    return dict.fromkeys(patch_adapters.FACTORS, tau)


def test_known_deviations_choose_known_sizes():
    def waves(side):
        """±1 in squares of `side` cells: nothing inside patches of that side, 1 in larger ones."""
        signs = 1 - 2 * (torch.arange(16) // side % 2).float()
        return (signs[:, None] * signs)[None, None].expand(2, 3, -1, -1)

    assert torch.equal(dynamic_patches.deviations(waves(4), 4), torch.zeros(2, 16))
    assert torch.equal(dynamic_patches.deviations(waves(4), 8), torch.ones(2, 4))
    for patch, chosen in ((1, 4), (2, 2), (4, 1)):
        assert dynamic_patches.choose_factor(waves(4), patch, taus(0.5)) == chosen
    assert dynamic_patches.choose_factor(waves(4), 4, taus(1.5)) == 4
    several = torch.cat([waves(8)[:1], waves(4)[:1]])
    assert (
        dynamic_patches.choose_factor(several, 2, taus(0.5)) == 2
    )  # the finest that one of them asks for
    assert (
        dynamic_patches.choose_factor(torch.zeros(1, 3, 12, 18), 2, taus(0.5)) == 1
    )  # 4 cells do not divide 18 px


@pytest.mark.parametrize("rho", [0.2, 0.4, 0.7])
def test_the_share_of_busy_patches_that_refines_is_one_minus_rho(rho):
    for busy in range(1, 101):
        change = torch.zeros(100, 1, 4, 4)
        change[:busy, :, ::2, ::2] = 1.0
        change = change.reshape(10, 10, 4, 4).permute(0, 2, 1, 3).reshape(1, 1, 40, 40)
        assert (dynamic_patches.choose_factor(change, 2, taus(1e-3), rho) == 1) == (
            busy >= 100 - round(100 * rho)
        )


@pytest.fixture(scope="module")
def demo():
    """The demo model with awake adapters, and what samples two pictures of it."""
    family, row = get_family("flux"), model_row("demo")
    pipe = family.load(ASSETS / "demo-model", torch.float32)
    with torch.no_grad():
        text = encode.encode_captions(family, pipe, ["a red cat", "a dog", ""], row.text_tokens)
        made = adapters(pipe.transformer, family, True)

    def paint(tau, steps=8, rows=sample.SAMPLE_BATCH, cache=None, hold=dynamic_patches.HOLD):
        schedule = dynamic_patches.PatchSchedule(taus(tau or 0.0), hold=hold)
        dynamic = tau is not None and dynamic_patches.PatchScheduler(
            pipe.transformer, family, made, schedule
        )
        how = Sampling(64, steps, row.preview_guidance)
        texts = text.rows([0, 1]), text.rows([2])
        device = torch.device("cpu")
        found = sample.sample(
            family, pipe, *texts, how, [1, 2], device, rows, cache=cache, dynamic=dynamic or None
        )
        return [np.asarray(picture).astype(int) for picture in found], dynamic

    return paint


def test_a_sampling_is_fine_for_three_steps_and_then_as_coarse_as_it_may_be(demo):
    exact, _ = demo(None)
    fine, dynamic = demo(0.0)
    assert dynamic.factors == [1] * 8
    assert all(map(np.array_equal, exact, fine))  # what only looks changes nothing
    larger, dynamic = demo(float("inf"))
    assert dynamic.factors == [1, 1, 1, 4, 4, 4, 4, 4]
    assert not any(map(np.array_equal, exact, larger))
    assert all(map(np.array_equal, exact, demo(None)[0]))  # nothing is left behind


@torch.no_grad()
@pytest.mark.parametrize("name", MERGING_FAMILIES)
def test_what_larger_patches_miss_is_carried_on(name, monkeypatch):
    """Each coarse velocity is the one before it and what the coarse pass says has changed; a fine one
    is the model's own."""
    case = CASES[name]
    model, family = case.model(), case.family
    dynamic = dynamic_patches.PatchScheduler(
        model, family, adapters(model, family, True), dynamic_patches.PatchSchedule({})
    )
    steps = []
    for k in range(8):
        inputs = model_inputs(case)
        inputs[family.latents_arg] = inputs[family.latents_arg] + 0.1 * k
        steps.append(inputs | {"timestep": inputs["timestep"] * (1 - 0.1 * k)})
    sizes = iter([2, 2, 4, 1, 2])
    monkeypatch.setattr(dynamic_patches, "choose_factor", lambda *_: next(sizes))
    with dynamic.installed():
        found = [family.velocity(model(**inputs)) for inputs in steps]

    def alone(factor, k):
        return dynamic.coarse_velocity(model.forward, steps[k], 1 - 0.1 * k, factor)

    assert dynamic.factors == [1, 1, 1, 2, 2, 4, 1, 2]
    for k, factor in enumerate(dynamic.factors):
        if factor == 1:
            assert torch.equal(found[k], family.velocity(model(**steps[k])))
        else:
            expected = found[k - 1] + alone(factor, k) - alone(factor, k - 1)
            torch.testing.assert_close(found[k], expected, atol=1e-4, rtol=1e-4)


def test_a_fine_step_comes_after_so_many_coarse_ones(demo):
    _, dynamic = demo(float("inf"), steps=14, hold=4)
    assert dynamic.factors == [1, 1, 1, 4, 4, 4, 4, 1, 4, 4, 4, 4, 1, 4]


def test_larger_patches_work_where_the_other_pictures_wait_in_ram(demo, monkeypatch):
    together, _ = demo(float("inf"), steps=5)
    monkeypatch.setattr(sample, "offload_side_modules", layerwise.in_host_memory)
    alone, dynamic = demo(float("inf"), steps=5, rows=1)
    assert 4 in dynamic.factors
    for one, other in zip(together, alone, strict=True):
        assert np.abs(one - other).max() <= 2  # rounding


def test_a_step_cache_begins_anew_where_the_size_changes(demo):
    """It never sees tokens of two sizes, and rests between steps of one."""
    fine, _ = demo(0.0, cache=FirstBlockCacheConfig(0.0))
    assert all(map(np.array_equal, fine, demo(None)[0]))
    plain, _ = demo(float("inf"))
    computed, _ = demo(float("inf"), cache=FirstBlockCacheConfig(0.0))
    assert all(map(np.array_equal, computed, plain))
    quick, dynamic = demo(float("inf"), cache=FirstBlockCacheConfig(9.0))
    assert dynamic.factors == [1, 1, 1, 4, 4, 4, 4, 4]
    assert not any(map(np.array_equal, plain, quick))


def test_previews_have_the_schedule_that_was_calibrated(tmp_path, monkeypatch):
    """At the speed “fastest” and the steps it was found for; a broken file leaves what there is
    without."""
    family, row = get_family("flux"), model_row("demo")
    model = family.load(ASSETS / "demo-model", torch.float32).transformer
    path = tmp_path / "demo.safetensors"
    for module in (sample, dynamic_patches):
        monkeypatch.setattr(module, "adapter_file", lambda model: path)
    found = {"steps": 16, "taus": {4: float("inf")}, "rho": 0.5, "hold": 3, "cache": 0.125}

    def quickened(speed="fastest", steps=16):
        settings = Settings.of(model=row.name, preview_speed=speed)
        return sample.preview_acceleration(settings, steps, family, model)

    assert "dynamic" not in quickened()
    patch_adapters.save(path, adapters(model, family), {"schedule": found})
    how = quickened()
    assert how["cache"].threshold == 0.125
    assert how["dynamic"].schedule == dynamic_patches.PatchSchedule({4: float("inf")}, 0.5, 3)
    assert "dynamic" not in quickened("fast") and "dynamic" not in quickened(steps=12)
    patch_adapters.save(path, adapters(model, family), {"schedule": None})
    assert "dynamic" not in quickened()
    path.write_bytes(b"no weights")
    assert quickened() == {"cache": cache_config(row.name, "fastest", 16)}


def test_what_adapters_take_of_ram_is_planned(tmp_path, monkeypatch):
    monkeypatch.setenv("BLOCKSKIP_DATA", str(tmp_path))

    def ram(speed):
        plan = make_plan(model="flux-dev", budget_gib=16, ram_gib=32, preview_speed=speed)
        return plan.stages["preview"].ram_gib

    before = ram("fastest")
    path = adapter_file("flux-dev")
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(1 << 30)
    assert ram("fastest") == pytest.approx(before + 1) and ram("fast") == before
