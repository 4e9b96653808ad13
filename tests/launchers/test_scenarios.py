"""Both launchers on other people's computers (scenarios.py)."""

import os

import pytest
from launchers.doctor_faults import FAULTS, found
from launchers.launcher import Launcher
from launchers.scenarios import SCENARIOS, Untried


@pytest.mark.skipif(os.name == "nt", reason="launch.sh is for Linux and macOS")
@pytest.mark.parametrize("name", SCENARIOS)
def test_launch_sh(tmp_path, name):
    try:
        assert SCENARIOS[name](Launcher(tmp_path))
    except Untried as why:
        pytest.skip(str(why))


@pytest.mark.parametrize("name", SCENARIOS)
def test_launch_bat(windows, tmp_path, name):
    try:
        assert SCENARIOS[name](Launcher(tmp_path, windows))
    except Untried as why:
        pytest.skip(str(why))


@pytest.mark.parametrize("fault", FAULTS)
def test_doctor_names_a_seeded_fault_and_its_remedy(monkeypatch, tmp_path, fault):
    line = found(fault, monkeypatch, tmp_path)
    assert (line is None) == (FAULTS[fault][1] is None)
