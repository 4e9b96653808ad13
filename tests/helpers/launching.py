"""Copies of the launcher in separate folders."""

from pathlib import Path

from blockskip.cli import doctor

ROOT = Path(doctor.ROOT)


FOLDER = "Müller's cats & dogs (1)"


def repin(place):
    text = (place.home / "pyproject.toml").read_text().replace("==6.31.0", "==6.32.0")
    (place.home / "pyproject.toml").write_text(text)
