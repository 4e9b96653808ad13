"""Steps that became several times slower are noticed, explained, and reported once for each cause."""

from dataclasses import replace

import pytest

from blockskip.memory import monitor, slow_steps
from blockskip.memory.monitor import Activity, Usage
from blockskip.memory.slow_steps import SlowStepDetector, causes_in

CARD = Activity(full=0.8, held_gib=6.0, celsius=70.0, programs=frozenset({7}), ram_free=0.4)
STEADY, SLOW = [9.0] + [1.0] * 8, [5.0] * 6


@pytest.fixture(autouse=True)
def _four_processors(monkeypatch):
    monkeypatch.setattr(slow_steps.os, "cpu_count", lambda: 4)


class Computer:
    """What a run sees: a step's use of everything, more or less of it while steps are slow."""

    def __init__(self, usual=CARD, slow=None, a_step=None, a_slow_step=None):
        self.now, self.slow = usual, slow or {}
        self.a_step = {"read_gib": 0.05, "others_cpu_s": 0.1} | (a_step or {})
        self.a_slow_step = self.a_step | (a_slow_step or {})

    def run(self, seconds, told=()):
        """Return (step, cause, times) of what is said of steps of these durations."""
        watch, said = SlowStepDetector(lambda: self.now, 85.0, set(told)), []
        for step, each in enumerate(seconds):
            is_slow = each >= 4 and step > 0
            more = self.a_slow_step if is_slow else self.a_step
            counts = {name: getattr(self.now, name) + value for name, value in more.items()}
            self.now = replace(self.now, **counts, **(self.slow if is_slow else {}))
            if slowdown := watch.check(each):
                said.append((step, slowdown.cause, slowdown.times))
        return said


@pytest.mark.parametrize(
    "cause, usual, slow, a_slow_step",
    [
        ("spill", CARD, {"full": 0.98}, {}),
        ("gaps", CARD, {}, {"retries": 3}),
        ("gaps", CARD, {"held_gib": 6.6}, {}),
        ("swap", CARD, {}, {"swapped_gib": 0.2}),
        ("swap", CARD, {"ram_free": 0.01}, {}),
        ("disk", CARD, {}, {"read_gib": 2.0}),
        ("program", CARD, {"programs": frozenset({7, 9})}, {}),
        ("heat", CARD, {"celsius": 86.0}, {}),
        ("processor", Activity(), {}, {"others_cpu_s": 6.0}),
        ("unknown", Activity(), {}, {"others_cpu_s": 4.0}),
        ("unknown", CARD, {}, {"others_cpu_s": 20.0}),
        ("unknown", CARD, {}, {}),
    ],
)
def test_the_cause_is_found(cause, usual, slow, a_slow_step):
    said = Computer(usual, slow, a_slow_step=a_slow_step).run(STEADY + SLOW)
    assert said == [(11, cause, 5.0)], "at the third slow step, and once"
    assert not Computer(usual, slow, a_slow_step=a_slow_step).run(STEADY + SLOW, told=[cause])


def test_what_explains_most_is_named():
    everything = {"full": 0.99, "held_gib": 7.0, "celsius": 90.0, "ram_free": 0.0}
    assert [cause for _, cause, _ in Computer(slow=everything).run(STEADY + SLOW)] == ["spill"]


def test_another_cause_is_said_later():
    computer = Computer(slow={"celsius": 90.0})
    seconds = STEADY + SLOW
    assert [c for _, c, _ in computer.run(seconds)] == ["heat"]
    watch = SlowStepDetector(lambda: computer.now, 85.0)
    computer.now, said = CARD, []
    for step, each in enumerate(STEADY + SLOW + [1.0] * 3 + SLOW):
        computer.now = replace(CARD, full=0.99 if step > 18 else 0.5, celsius=90.0)
        said += [slowdown.cause] if (slowdown := watch.check(each)) else []
    assert said == ["heat", "spill"]


@pytest.mark.parametrize(
    "seconds",
    [
        [60.0] + [1.0] * 7 + [9.0, 1.0, 9.0, 9.0, 1.0],  # a slow start, single slow steps
        [9.0] + [1.0] * 8 + [3.9] * 9,  # not several times
        [9.0] + [1.0, 5.0, 5.0, 5.0, 5.0] + [5.0] * 9,  # as the run's own first ones
        [1.0, 9.0, 9.0],
        [0.0] * 12,  # a clock that stood still
        [1.0] * 8 + [-5.0] * 4,  # … or went backwards
    ],
)
def test_what_is_no_slowdown(seconds):
    assert Computer(slow={"full": 0.99}).run(seconds) == []


def test_a_clock_that_stood_still_is_no_crash():
    assert [step for step, *_ in Computer().run([0.0] * 8 + [5.0] * 4)] == [10]


def test_a_steady_reading_of_weights_is_no_cause():
    busy = Computer(a_step={"read_gib": 4.0}, slow={"celsius": 90.0})
    assert [cause for _, cause, _ in busy.run(STEADY + SLOW)] == ["heat"]


@pytest.mark.parametrize("system", ["win32", "linux"])
def test_every_warning_says_what_to_do_and_is_known_again(monkeypatch, system):
    monkeypatch.setattr(slow_steps.sys, "platform", system)
    for cause in slow_steps.WHY:
        text = slow_steps.Slowdown(cause, 4.6).text
        assert text.startswith("Steps became 5 times slower") and text.endswith((".", "”."))
        assert causes_in(["at work", text]) == {cause}
        assert ("Sysmem Fallback" in text) == (cause == "spill" and system == "win32")


def test_this_computer_is_asked_without_torch(monkeypatch):
    monkeypatch.setattr(monitor, "usage", lambda pid=None: Usage(1, 12, 16, 6.0, 24.0))
    monkeypatch.setattr(monitor, "card_processes", lambda: {5: 1.0})
    now = monitor.activity()
    assert (
        now.full == 0.25 and now.ram_free == 0.25 and now.programs == {5} and now.others_cpu_s > 0
    )
