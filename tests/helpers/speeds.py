"""A measurement of this computer that nobody made, so that a studio does not make one."""

import dataclasses

from blockskip.memory.planning.measured_speed import PassRates, Speed, this_computer


def speed_here(**changes) -> Speed:
    """Return a measurement of this computer; keywords change it."""
    speed = Speed(
        computer=this_computer(),
        device="cpu",
        product_tflops={"float32": 0.1},
        narrow={1: PassRates(tflops=0.02, launch_ms=0.5, backward=2.0)},
        encode_mps={1: 1.0},
        decode_mps={1: 0.5},
        memory_gbs=20.0,
    )
    return dataclasses.replace(speed, **changes)
