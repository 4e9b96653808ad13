"""A GiB is written once, and times are told in units that suit them."""

import re

import pytest

from blockskip.core.paths import ROOT
from blockskip.core.units import GIB, duration

SPELT = re.compile(r"\b2 ?\*\* ?30\b|\b1 ?<< ?30\b|\b1024 ?\*\* ?3\b|\b1073741824\b|\bGIB *=")
# the doctor runs as a plain file where there is no package yet
ALLOWED = {"core/units.py", "cli/finding.py"}


def test_a_gib_is_written_in_one_place():
    package = ROOT / "blockskip"
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if SPELT.search(path.read_text(encoding="utf-8"))
    }
    assert {name for name in found if not name.startswith("lab/")} == ALLOWED
    from blockskip.cli import doctor

    assert doctor.GIB == GIB == 1024 * 1024 * 1024


@pytest.mark.parametrize(
    "seconds, words",
    [
        (-3, "5 s"),
        (0.2, "5 s"),
        (43, "45 s"),
        (89.9, "90 s"),
        (90, "2 min"),
        (5350, "89 min"),
        (5400, "1 h 30 min"),
        (170_000, "47 h 13 min"),
        (172_800, "2 days"),
        (768_000, "9 days"),
    ],
)
def test_a_duration_is_a_number_of_its_unit(seconds, words):
    assert duration(seconds) == words
