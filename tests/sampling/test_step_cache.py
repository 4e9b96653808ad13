"""Step caches: nothing changes where nothing rests, and what rests is not even brought."""

from collections import Counter
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
import torch
from diffusers import FirstBlockCacheConfig, MagCacheConfig
from diffusers.hooks.first_block_cache import FBCHeadBlockHook
from helpers.fake_cuda import CARD, CudaPeakMeter, fake_cuda, to_card
from helpers.family_cases import CASES
from helpers.parked import CPU, offloaded_model, saved_checkpoint
from helpers.tiny import tiny_draws

from blockskip.core.settings import Settings, settings_from_dict, settings_to_dict
from blockskip.lab.full_size.meta_models import StreamedBlocks, build_transformer, weights
from blockskip.lab.measuring.peak_memory import fake_gpu, gpu_kernels
from blockskip.memory.layerwise import in_host_memory, layerwise
from blockskip.memory.placement import on_device, replace_modules
from blockskip.memory.planning.planner import make_plan
from blockskip.models.families.base import Text
from blockskip.models.families.flux import Flux
from blockskip.models.families.flux2 import Flux2
from blockskip.sampling.key_steps import KeySteps
from blockskip.sampling.step_cache import cache_config, step_cache_installed

ALWAYS, NEVER = FirstBlockCacheConfig(float("inf")), FirstBlockCacheConfig(0.0)
FIRST = KeySteps(frozenset({0}))
RATIOS = {"mag_ratios": [1.0] * 28, "retention_ratio": 0.0, "max_skip_steps": 99}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


class Sampler:
    """A pipeline's loop, as far as a cache sees it: every step calls the model for both captions of
    guidance, then the scheduler. size: of a step; 0: all steps are alike."""

    def __init__(self, case, model=None, num=3):
        self.family, self.transformer = case.family, case.model() if model is None else model
        self.draws, other = case.draws(num), case.draws(num, seed=9)
        self.texts, self.noisy = (self.draws.text, other.text), self.draws.noisy
        self.scheduler = SimpleNamespace(step=lambda velocity, size: self._move(velocity, size))
        self.worked = Counter()
        for name, block in self.family.blocks(self.transformer):
            block.register_forward_hook(lambda *_, name=name: self.worked.update([name]))

    def _move(self, velocity, size):
        self.noisy = self.noisy - size * velocity

    @torch.no_grad()
    def run(self, config, steps=4, size=0.2, rows=2):
        """What the model says in every call."""
        self.noisy, said = self.draws.noisy, []
        self.worked.clear()
        with replace_modules(self.transformer, layerwise(self.transformer, self.family, rows, CPU)):
            with step_cache_installed(self, self.family, config) as cache:
                for step in range(steps):
                    said += self.step(1 - step * size)
                    if step == 0 and config is not None:
                        assert cache.tokens > 0
        return said

    def step(self, t, size=0.2):
        said = []
        for text in self.texts:
            time = torch.full((len(self.noisy),), t)
            config, side = self.transformer.config, self.draws.side_px
            given = self.family.inputs(config, self.noisy, text, time, side)
            said.append(self.family.predict(self.transformer, given).clone())
        self.scheduler.step(said[0], size)
        return said


def test_a_cache_that_never_rests_changes_no_bit(case):
    sampler = Sampler(case)
    exact = sampler.run(None)
    every = dict(sampler.worked)
    assert all(torch.equal(a, b) for a, b in zip(exact, sampler.run(NEVER), strict=True))
    assert sampler.worked == every and set(every.values()) == {2 * 4 * 2}
    strict = MagCacheConfig(threshold=-1, num_inference_steps=4, **RATIOS)
    assert all(torch.equal(a, b) for a, b in zip(exact, sampler.run(strict), strict=True))
    recorded = KeySteps(None)
    assert all(torch.equal(a, b) for a, b in zip(exact, sampler.run(recorded), strict=True))
    assert len(recorded.deltas) == 4 * 2, "what blocks did in each call of each step"
    assert sampler.worked == every


@pytest.mark.parametrize("kind", ["first block", "magnitude", "key steps"])
def test_a_cache_that_always_rests_lets_blocks_work_once(case, kind):
    sampler = Sampler(case)
    exact = sampler.run(None)
    config = {
        "first block": ALWAYS,
        "magnitude": MagCacheConfig(1e9, num_inference_steps=9, **RATIOS),
        "key steps": FIRST,
    }[kind]
    said = sampler.run(config)
    assert all(torch.equal(a, b) for a, b in zip(exact[:2], said[:2], strict=True))
    assert (said[-1] - exact[-1]).abs().max() > 1e-4
    head, *others = [sampler.worked[name] for name, _ in sampler.family.blocks(sampler.transformer)]
    once = 2 * 2  # both captions, in two parts
    assert set(others) == {once} and head == (4 * once if kind == "first block" else once)


@pytest.mark.parametrize("config", [NEVER, FIRST], ids=["first block", "key steps"])
def test_a_step_like_the_one_before_rests_and_says_the_same(case, config):
    """Each of a step's calls as that call of the step before."""
    sampler = Sampler(case)
    with replace_modules(
        sampler.transformer, layerwise(sampler.transformer, sampler.family, 2, CPU)
    ):
        with step_cache_installed(sampler, sampler.family, config), torch.no_grad():
            first, second = sampler.step(0.5, size=0), sampler.step(0.5, size=0)
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert (first[0] - first[1]).abs().max() > 1e-3
    counts = list(sampler.worked.values())
    assert counts[0] == (2 if config is NEVER else 1) * counts[1] and set(counts[1:]) == {2 * 2}


def test_all_is_as_it_was_afterwards(case):
    sampler = Sampler(case)
    exact, step = sampler.run(None), sampler.scheduler.step
    modules = list(sampler.transformer.modules())
    kept = []

    def fail(*_):
        raise KeyError

    with pytest.raises(KeyError):
        with replace_modules(
            sampler.transformer, layerwise(sampler.transformer, sampler.family, 2, CPU)
        ):
            before = {
                n: vars(block).copy() for n, block in sampler.family.blocks(sampler.transformer)
            }
            with ExitStack() as stack:
                stack.callback(
                    lambda: kept.extend(
                        vars(block) == before[name]
                        for name, block in sampler.family.blocks(sampler.transformer)
                    )
                )
                cache = stack.enter_context(step_cache_installed(sampler, sampler.family, ALWAYS))
                sampler.step(1.0)
                sampler.scheduler.step = fail
                sampler.step(0.8)
    assert kept and all(kept)
    assert sampler.scheduler.step is step and "forward" not in vars(sampler.transformer)
    assert list(sampler.transformer.modules()) == modules
    assert not any(hasattr(module, "_diffusers_hook") for module in modules)
    hook = cache.blocks[0]._diffusers_hook.get_hook("fbc_leader_block_hook")
    assert not hook.state_manager._state_cache, "its memory is free"
    assert all(torch.equal(a, b) for a, b in zip(exact, sampler.run(None), strict=True))


def test_another_patch_size_after_a_reset(case):
    """A cache must forget; the steps are exact again, and then rest."""
    sampler = Sampler(case)
    cells = case.side_px // 16 if case.name != "sana" else case.side_px // 32
    with replace_modules(
        sampler.transformer, layerwise(sampler.transformer, sampler.family, 2, CPU)
    ):
        with step_cache_installed(sampler, sampler.family, ALWAYS) as cache, torch.no_grad():
            sampler.step(1.0)
            small = sampler.noisy
            if small.dim() == 3:  # (B, T, C)
                small = small.unflatten(1, (cells, cells))[:, :2, :2].flatten(1, 2)
            else:
                small = small[..., : 2 * small.shape[-1] // cells, : 2 * small.shape[-1] // cells]
            sampler.noisy, side = small.contiguous(), sampler.draws.side_px
            sampler.draws = SimpleNamespace(side_px=2 * side // cells)
            cache.reset()
            said = sampler.step(0.8, 0)
            assert cache.tokens and (sampler.step(0.8, 0)[0] - said[0]).abs().max() < 1e-5
    before = sampler.worked.copy()
    with replace_modules(
        sampler.transformer, layerwise(sampler.transformer, sampler.family, 2, CPU)
    ):
        with torch.no_grad():
            exact = sampler.step(0.8, 0)
    assert all(torch.equal(a, b) for a, b in zip(exact, said, strict=True))
    assert sampler.worked != before


@pytest.mark.parametrize("config", [ALWAYS, FIRST], ids=["first block", "key steps"])
def test_blocks_that_rest_are_not_brought(tmp_path, config):
    family, draws = Flux(), tiny_draws()
    model, store = offloaded_model(saved_checkpoint(tmp_path / "model"))
    pipe = SimpleNamespace(transformer=model, scheduler=SimpleNamespace(step=lambda: None))
    given = family.inputs(model.config, draws.noisy, draws.text, draws.t, draws.side_px)
    with (
        replace_modules(model, layerwise(model, family, 2, CPU)),
        on_device(CPU, model),
        torch.no_grad(),
    ):
        with step_cache_installed(pipe, family, config):
            for _ in range(3):
                model(**given)
                pipe.scheduler.step()
                assert store._transfer is None, "nothing is fetched in vain"
    reads = store.stats.reads
    first = {name: n for name, n in reads.items() if name.startswith("transformer_blocks.0.")}
    others = {n for name, n in reads.items() if "blocks." in name and name not in first}
    assert set(first.values()) == {3 if config is ALWAYS else 1} and others == {1}


def test_where_pictures_wait_in_ram_the_card_takes_no_more(monkeypatch):
    """Full size, on a pretended card, one picture of three at a time: a step that works, one that
    rests."""
    from blockskip.core.presets import model_row

    row, family = model_row("flux2-klein-4b"), Flux2()
    peaks = {}
    monkeypatch.setattr(
        FBCHeadBlockHook, "_should_compute_remaining_blocks", lambda hook, _: hook.works.pop(0)
    )
    for config in (None, ALWAYS):
        with fake_gpu():
            model = build_transformer(row, "bf16")
        streamed = [block for _, block in family.blocks(model)]
        with fake_cuda(), gpu_kernels():
            to_card(model)
            around = weights(*(c for n, c in model.named_children() if "blocks" not in n))
            pipe = SimpleNamespace(transformer=model, scheduler=SimpleNamespace(step=lambda: None))
            text = torch.empty(3, 512, 7680, dtype=torch.bfloat16)
            noisy = torch.empty(3, 4096, 128, dtype=torch.bfloat16)
            with CudaPeakMeter() as meter, ExitStack() as stack:
                StreamedBlocks(meter, streamed, around)
                stack.enter_context(replace_modules(model, layerwise(model, family, 1, CARD)))
                stack.enter_context(in_host_memory(model, 1, CARD))
                cache = stack.enter_context(step_cache_installed(pipe, family, config))
                if cache:
                    hook = cache.blocks[0]._diffusers_hook.get_hook("fbc_leader_block_hook")
                    hook.works = [True, False]
                meter.restart()
                for _ in range(2 if cache else 1):
                    given = family.inputs(
                        model.config, noisy, Text(text, torch.empty(3, 0)), torch.empty(3), 1024
                    )
                    assert model(**given)[0].device.type == "cpu"
                    pipe.scheduler.step()
            peaks[config is None] = meter.peak_bytes
    assert peaks[True] == peaks[False] > 0


def test_settings():
    old = settings_to_dict(Settings())
    del old["plan"]["preview_speed"]
    assert settings_from_dict(old) == Settings(), "a run of before"
    with pytest.raises(ValueError, match="preview_speed"):
        Settings.of(preview_speed="quick")
    assert cache_config("flux-dev", "exact", 28) is None
    assert cache_config("flux-dev", "fastest", 4) is None
    fast, fastest = (cache_config("flux-dev", speed, 28) for speed in ("fast", "fastest"))
    assert 0 < fast.threshold < fastest.threshold


def test_plans_say_what_pictures_are_made_with():
    def plan(model, ram_gib=32, **said):
        return make_plan(model=model, budget_gib=16, ram_gib=ram_gib, system="Linux", **said)

    made = plan("flux-dev", preview_speed="fastest")
    assert made.settings.plan.preview_speed == "fastest"
    assert any("less than 20 %" in said for said in made.to_dict()["reasons"])
    few = plan("flux-schnell", preview_speed="fast")
    assert few.settings.plan.preview_speed == "exact"
    assert any("only 4 steps" in said for said in few.to_dict()["reasons"])
    exact = plan("flux-dev", preview_speed="exact")
    assert not any("first block" in said for said in exact.to_dict()["reasons"])
    more = made.stages["preview"].ram_gib - exact.stages["preview"].ram_gib
    assert 1 < more < 1.2, "six times the image of eight pictures of 1024 px"
    assert made.peak_vram_gib == exact.peak_vram_gib
    demo = make_plan(model="demo", preview_speed="fast")
    assert any("“fast”" in said for said in demo.to_dict()["reasons"])


def test_a_cache_never_takes_more_ram_than_there_is():
    """Nor does it send weights from RAM to their file."""
    small, large = (
        make_plan(
            model="z-image",
            budget_gib=16,
            ram_gib=ram,
            system="Linux",
            preview_speed="fast",
            precision="bf16",
        )
        for ram in (16, 24)
    )
    assert (
        small.settings.plan.preview_speed == "exact" and large.settings.plan.preview_speed == "fast"
    )
    assert small.to_dict()["offload"] == large.to_dict()["offload"] == "pinned"
    assert small.ram_gib <= 12 and large.ram_gib <= 18
    assert any("RAM has no room for a step cache" in said for said in small.to_dict()["reasons"])
