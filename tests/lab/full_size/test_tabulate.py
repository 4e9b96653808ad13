"""Byte counts are counted, and what is measured explains the simulation."""

import pytest

from blockskip.core import presets
from blockskip.core.settings import ALL_BLOCKS, Settings
from blockskip.lab.full_size import tabulate
from blockskip.lab.full_size.meta_models import fake_gpu_for
from blockskip.lab.full_size.simulate import simulate
from blockskip.memory.planning.requirements import stage_memory

QUICK = [
    presets.model_row(name) for name in ("demo", "demo-sana", "flux2-klein-4b", "sana-0.6b")
]  # all: test_simulate.py


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, marks=() if row in QUICK else pytest.mark.long)
        for row in presets.model_rows().values()
    ],
    ids=lambda row: row.name,
)
def test_counted_numbers_are_those_of_the_librarys_model(row):
    with fake_gpu_for(row):
        counted = tabulate._count_weights(row)
    table = presets.byte_table()[row.name]
    table = presets.byte_table()[table] if isinstance(table, str) else table
    for name, value in counted.items():
        if name == "kinds":
            for ours, told in zip(value, table["kinds"], strict=True):
                for key in ours.keys() - tabulate.UNMEASURED.keys():
                    assert told[key] == ours[key], (name, key)
        elif name in ("text", "vae"):
            for key in value.keys() & {"resident", "block", "ram", "weights"}:
                assert table[name][key] == value[key], (name, key)
        elif not name.endswith("multiply_adds"):  # measured
            assert table[name] == value, name
    assert sum(kind["count"] for kind in table["kinds"]) == row.num_blocks == sum(row.blocks)


@pytest.mark.parametrize("row", QUICK, ids=lambda row: row.name)
def test_a_step_is_planned_as_it_is_simulated(row):
    front, back = row.span(0.5)
    settings = Settings.of(
        model=row.name,
        front=front,
        back=back,
        s_min_px=row.s_min_px,
        s_max_px=row.s_max_px,
        text_tokens=row.text_tokens,
        recomputed=ALL_BLOCKS,
    )
    measured = simulate(settings, ["train"])["train"].vram_gib
    assert stage_memory(row, settings)["train"].vram_gib == pytest.approx(measured, rel=0.05)
    less = settings.changed(front=0, back=0)
    assert stage_memory(row, less)["train"].vram_gib > measured
