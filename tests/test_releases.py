"""A release is a tag with a changelog entry (docs/contributing.md)."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEADING = re.compile(r"^## (\d+\.\d+\.\d+) \((unreleased|\d{4}-\d{2}-\d{2})\)$", re.M)


def headings() -> dict[str, str]:
    """Return the versions of the changelog, newest first, each with its date."""
    text = (ROOT / "docs" / "changelog.md").read_text(encoding="utf-8")
    assert len(HEADING.findall(text)) == text.count("\n## "), "a heading of another form"
    return dict(HEADING.findall(text))


def test_the_version_has_the_first_heading_and_only_it_may_be_unreleased():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (version, _), *earlier = headings().items()
    assert version == project["version"]
    assert "unreleased" not in dict(earlier).values()
    numbers = [tuple(map(int, name.split("."))) for name in headings()]
    assert numbers == sorted(set(numbers), reverse=True)


def test_every_tag_has_an_entry_with_a_date():
    git = ["git", "-C", ROOT, "tag", "--list", "v*"]
    try:
        tags = subprocess.run(git, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no history here")
    assert not [tag for tag in tags if headings().get(tag[1:], "unreleased") == "unreleased"]
