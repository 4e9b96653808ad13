"""Staying awake is asked for, and no run fails where nobody can grant it."""

import pytest
from wakepy import current_mode, global_modes

from blockskip.core.power import keep_awake


def test_nobody_who_could_grant_it_is_no_failure(monkeypatch, recwarn):
    monkeypatch.setenv("WAKEPY_FORCE_FAILURE", "1")
    with keep_awake():
        assert not current_mode().active
    assert not recwarn.list


def test_it_is_held_inside_and_given_back(monkeypatch):
    monkeypatch.setenv("WAKEPY_FAKE_SUCCESS", "1")
    with pytest.raises(KeyError), keep_awake():
        assert current_mode().active
        raise KeyError("an error of the run")
    assert not global_modes()


def test_a_desktop_that_left_meanwhile_is_no_failure(monkeypatch):
    monkeypatch.setenv("WAKEPY_FAKE_SUCCESS", "1")

    def gone() -> None:
        raise ConnectionError("the session's bus has gone")

    with keep_awake():
        monkeypatch.setattr(current_mode()._active_method, "exit_mode", gone)
