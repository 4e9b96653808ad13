"""The computer is measured by itself while nobody needs it, and gives way to presses and trainings."""

import threading

import pytest

from blockskip.memory import speed_process
from blockskip.studio import actions, measuring
from blockskip.studio.measuring import ATTEMPTS, QUIET_S, Measuring


class Studio:
    """A studio with a clock of its own. during: what happens while it measures."""

    def __init__(self):
        self.time, self.known, self.training = 0.0, False, False
        self.worked, self.stopped, self.measures = 0, 0, False
        self.during = lambda: setattr(self, "known", True)
        self.measuring = Measuring(
            now=lambda: self.time,
            needed=lambda: not self.known,
            busy=lambda: self.training,
            work=self.work,
            stop=self.stop,
        )

    def work(self, pressed):
        assert self.measuring.running and not pressed.is_set()
        self.worked += 1
        self.during()
        return self.measures

    def stop(self):
        self.stopped += 1


def test_it_measures_at_once_and_once():
    studio = Studio()
    assert studio.measuring.wait_s() == 0
    studio.measuring.loop()
    assert studio.worked == 1 and studio.measuring.wait_s() is None
    studio.measuring.loop()
    assert studio.worked == 1 and not studio.measuring.running


def test_a_press_ends_it_and_it_begins_again_after_a_while():
    studio = Studio()
    for _ in range(2 * ATTEMPTS):  # what a press ended is no failure
        studio.during = studio.measuring.press
        studio.measuring.attempt()
        assert studio.measuring.wait_s() == QUIET_S
        studio.time += QUIET_S - 1
        assert studio.measuring.wait_s() == 1
        studio.time += 1
        assert studio.measuring.wait_s() == 0
    assert studio.stopped == 2 * ATTEMPTS
    studio.measuring.press()
    assert studio.stopped == 2 * ATTEMPTS, "nothing was being measured"


def test_a_press_just_before_it_begins_comes_first():
    studio = Studio()
    studio.measuring.press()
    studio.measuring.attempt()
    assert studio.worked == 0 and studio.measuring.wait_s() == QUIET_S


def test_a_press_while_its_process_begins_ends_it(monkeypatch):
    studio, ended = Studio(), []
    monkeypatch.setattr(speed_process, "stop", lambda: ended.append("stopped"))
    monkeypatch.setattr(speed_process, "finished", lambda process: ended.append("waited for"))
    monkeypatch.setattr(speed_process, "start", studio.measuring.press)
    pressed = threading.Event()
    measuring._measure(pressed)
    assert ended == [], "another process measures"
    pressed.set()
    monkeypatch.setattr(speed_process, "start", object)
    measuring._measure(pressed)
    assert ended == ["stopped", "waited for"]


def test_a_training_comes_first():
    studio = Studio()
    studio.training = True
    assert studio.measuring.wait_s() == QUIET_S
    studio.training = False
    assert studio.measuring.wait_s() == 0


def test_a_computer_that_cannot_be_measured_is_left_alone():
    studio = Studio()
    studio.during = lambda: None
    studio.measuring.loop()
    assert studio.worked == ATTEMPTS and studio.measuring.wait_s() is None


def test_a_card_without_room_for_everything_is_measured_once_a_start():
    studio = Studio()
    studio.during, studio.measures = lambda: None, True
    studio.measuring.loop()
    assert studio.worked == 1 and not studio.known


def test_an_error_is_logged_and_ends_nothing(monkeypatch, caplog):
    def broken():
        raise OSError("no process can be started")

    studio = Studio()
    studio.during = broken
    monkeypatch.setattr(measuring, "_measuring", studio.measuring)
    assert measuring.state() == "waiting"
    measuring._loop()
    assert "could not be measured" in caplog.text and measuring.state() == "waiting"
    studio.known = True
    assert measuring.state() == "over"


@pytest.mark.parametrize("programs", [True, False])
def test_every_press_is_noted(monkeypatch, programs):
    studio = Studio()
    monkeypatch.setattr(measuring, "_measuring", studio.measuring)
    studio.time = 5.0
    assert actions.user_errors(lambda: "done", programs)() == "done"
    assert studio.measuring.wait_s() == QUIET_S
