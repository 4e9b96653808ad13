"""Key steps: the plan is the best there is, and what is measured is what steps would lose."""

import itertools
import tomllib

import pytest
import torch

from blockskip.core import presets
from blockskip.core.settings import PREVIEW_SPEEDS
from blockskip.lab.previews.calibrate import write_keys
from blockskip.sampling.key_steps import MEASURED_TOKENS, KeySteps, choose_key_steps, skip_losses


@pytest.mark.parametrize("num", range(1, 8))
def test_no_other_choice_loses_less(num):
    lost = torch.rand(7, 8, generator=torch.Generator().manual_seed(num), dtype=torch.float64)
    lost = torch.stack([row.cumsum(0) - row[: i + 2].sum() for i, row in enumerate(lost)]).clamp(0)

    def total(keys):
        return sum(float(lost[i, j]) for i, j in zip(keys, [*keys[1:], 7], strict=True))

    every = [(0, *rest) for rest in itertools.combinations(range(1, 7), num - 1)]
    found = choose_key_steps(lost, num)
    with pytest.raises(ValueError, match="8 key steps of 7"):
        choose_key_steps(lost, 8)
    assert found in every and total(found) == pytest.approx(min(map(total, every)))


def test_steps_that_do_the_same_lose_nothing_and_a_change_is_found():
    added = [torch.ones(2, 5, 3), 2 * torch.ones(2, 5, 3)]
    # two calls a step; the blocks do something else from step 3 on
    told = [added[step >= 3] for step in range(6) for _ in range(2)]
    lost = skip_losses(told, [1.0, 0.8, 0.6, 0.4, 0.3, 0.1, 0.0])
    assert lost.shape == (6, 7) and (lost[0, :4] == 0).all() and (lost[3] == 0).all()
    assert lost[0, 5] > lost[0, 4] > 0, "each step that rests loses"
    assert choose_key_steps(lost, 2) == (0, 3)


def test_what_is_heard_is_a_part_of_the_tokens():
    keys = KeySteps(None)
    keys.record(torch.rand(2, 1000, 3))
    keys.record(torch.rand(2, 7, 3))
    assert [tuple(one.shape) for one in keys.deltas] == [(2, MEASURED_TOKENS, 3), (2, 7, 3)]
    KeySteps(frozenset({0})).record(torch.rand(1, 2, 3))  # nobody asked


def test_written_key_steps_are_those_that_previews_have(tmp_path, monkeypatch):
    path = tmp_path / "keysteps.toml"
    path.write_text("# What this is.\n# And more.\n", encoding="utf-8")
    monkeypatch.setattr(
        presets, "read_preset", lambda name: tomllib.loads(path.read_text(encoding="utf-8"))
    )
    write_keys(path, "sana-1.6b", 20, {"fast": [0, 1, 5]})
    write_keys(path, "demo", 16, {"fast": [0, 2], "fastest": [0]})
    write_keys(path, "demo", 8, {})
    write_keys(path, "demo", 16, {"fast": [0, 3], "fastest": [0]})
    assert path.read_text(encoding="utf-8").startswith("# What this is.\n# And more.\n\n[demo.8]")
    assert presets.key_steps("sana-1.6b", "fast", 20) == (0, 1, 5)
    assert presets.key_steps("demo", "fast", 16) == (0, 3)
    for asked in (("demo", "fast", 8), ("demo", "fast", 17), ("z-image", "fast", 16)):
        assert presets.key_steps(*asked) == ()
    assert presets.key_steps("sana-1.6b", "fastest", 20) == ()


def test_shipped_key_steps_begin_with_the_first_and_fit_the_models():
    for name, row in presets.model_rows().items():
        counts = {}
        for speed in PREVIEW_SPEEDS:
            keys = presets.key_steps(name, speed, row.preview_steps)
            assert list(keys) == sorted(set(keys)) and (not keys or keys[0] == 0)
            assert all(key < row.preview_steps for key in keys)
            counts[speed] = len(keys) or row.preview_steps
        assert counts["fastest"] <= counts["fast"] <= counts["exact"]
