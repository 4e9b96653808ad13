"""Peaks belong to the innermost stage; what a warning is about is said once a run."""

import math

import pytest

from blockskip.core import events
from blockskip.memory import monitor
from blockskip.memory.usage_peaks import DiskMonitor, Peaks, ThermalMonitor
from blockskip.runs.reporter import Reporter
from blockskip.runs.run import Run


class Card:
    """A card whose memory goes up and down as told."""

    def __init__(self, monkeypatch):
        self.now = self.peak = 1.0
        monkeypatch.setattr(monitor, "card_peaks_gib", lambda: (self.peak, self.peak + 0.5))
        monkeypatch.setattr(monitor, "reset_card_peaks", self.restart)

    def restart(self):
        self.peak = self.now

    def use(self, gib, leave):
        self.peak, self.now = max(self.peak, gib), leave


def test_a_stage_inside_another_counts_for_itself(monkeypatch):
    card, peaks = Card(monkeypatch), Peaks()
    with peaks.stage("train"):
        card.use(6.0, leave=5.0)
        with peaks.stage("residuals"):
            card.use(7.5, leave=5.0)
        card.use(5.5, leave=1.0)
        with peaks.stage("residuals"):
            card.use(2.0, leave=1.0)
    assert peaks.used_gib == {"train": 6.0, "residuals": 7.5}
    assert peaks.held_gib == {"train": 6.5, "residuals": 8.0}
    assert all(ram > 0 for ram in peaks.ram_gib.values())


def test_an_error_loses_no_peak(monkeypatch):
    card, peaks = Card(monkeypatch), Peaks()
    with pytest.raises(ValueError), peaks.stage("train"):
        card.use(9.0, leave=1.0)
        raise ValueError
    assert peaks.used_gib == {"train": 9.0}


def warned_at(slowdown, readings):
    """Seconds at which a card of that slowdown temperature gives a warning; one reading each ten."""
    heat = ThermalMonitor(slowdown)
    return [10 * n for n, celsius in enumerate(readings) if heat.check(celsius, 10.0 * n)]


def test_a_card_is_hot_after_a_minute_close_to_its_slowdown():
    assert warned_at(90, [70, 85, 86, 88, 90, 91, 86, 85, 85]) == [70, 80]
    assert warned_at(90, [85, 85, 85, 85, 85, 84.9, 85, 85, 85, 85, 85, 85]) == []
    assert warned_at(-1, [99] * 20) == [], "nothing is known of this card"
    assert warned_at(90, [-1] * 20) == []


@pytest.mark.parametrize(
    "free, run, warns",
    [(4.0, 0.0, True), (6.0, 0.0, False), (4.0, 2.0, False), (1.5, 9.0, False), (0.9, 9.0, True)]
    + [(-1.0, -1.0, False), (6.0, -1.0, False)],
)
def test_a_disk_must_hold_what_the_run_still_needs_and_one_more(free, run, warns):
    assert bool(DiskMonitor(needs_gib=5.0).check(free, run)) == warns


def test_a_warning_is_said_once_a_run_whoever_works_on_it(tmp_path, monkeypatch):
    hot = events.Memory(rss_gib=1, ram_used_gib=1, ram_total_gib=2, disk_free_gib=0.1)
    monkeypatch.setattr(monitor, "memory_event", lambda folder, taken: hot)
    run = Run(tmp_path)
    for _ in range(2):  # two workers, each looks twice
        report = Reporter(run, disk=DiskMonitor(5.0))
        for _ in range(2):
            report.write(events.Note(text="at work"))
            report._memory = -math.inf
    notes = [e.text for e in run.events()[0] if isinstance(e, events.Note)]
    assert [text.split(":")[0] for text in notes if text != "at work"] == [
        "The disk is nearly full"
    ]
