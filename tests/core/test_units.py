"""A GiB is written once."""

import re

from blockskip.core.paths import ROOT
from blockskip.core.units import GIB

SPELT = re.compile(r"\b2 ?\*\* ?30\b|\b1 ?<< ?30\b|\b1024 ?\*\* ?3\b|\b1073741824\b|\bGIB *=")
# the doctor runs as a plain file where there is no package yet
ALLOWED = {"core/units.py", "cli/doctor.py"}


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
