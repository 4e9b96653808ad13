"""Products in 8 bits on a narrow FLUX.1 with planted outliers."""

import pytest

from blockskip.core.settings import Settings
from blockskip.lab.full_size.int8_errors import Job, measure
from blockskip.lab.full_size.simulate import simulate


def test_every_linear_is_within_two_percent_and_gradients_point_the_same_way():
    report = measure(Job(heads=3, tokens=(64, 24)))
    assert report["in_int8"] == report["linears"] == 17 and report["worst_error"] < 0.02
    assert min(report["block_cosines"].values()) > 0.999
    assert report["cosine_in_all"] > 0.999


@pytest.mark.long
def test_nearly_all_of_a_step_is_multiplied_in_8_bits():
    """The rest is attention, LoRA and rotations."""
    settings = Settings.of(
        model="flux-dev",
        front=13,
        back=10,
        s_min_px=512,
        text_tokens=256,
        precision="int8",
        arithmetic="int8",
    )
    peak = simulate(settings, ["train"])["train"]
    assert peak.int8_tflop > 0.85 * peak.tflop
