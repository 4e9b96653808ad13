"""Of the evidence's pictures the repository holds what a page shows, and every page's links lead somewhere."""

import re
from pathlib import Path

from blockskip.core.paths import ASSETS

ROOT = Path(__file__).resolve().parent.parent
EVIDENCE = ASSETS / "evidence"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(EVIDENCE.glob("*.md"))]
PICTURES = {".png", ".webp", ".jpg", ".svg", ".gif"}
MOST_BYTES = 8e6


def links(page: Path) -> set[Path]:
    """Files that a page shows or leads to."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"\]\(([^)#\s]+)", text) + re.findall(r'src="([^"]+)"', text)
    return {(page.parent / to).resolve() for to in found if "://" not in to}


def pictures() -> set[Path]:
    return {path for path in EVIDENCE.rglob("*") if path.suffix.lower() in PICTURES}


def test_every_link_of_a_page_leads_somewhere():
    assert not {f"{p.name} → {to}" for p in PAGES for to in links(p) if not to.exists()}


def test_no_picture_lies_there_that_no_page_shows():
    assert not pictures() - {to for page in PAGES for to in links(page)}


def test_pictures_and_figures_stay_small():
    assert sum(path.stat().st_size for path in pictures()) <= MOST_BYTES
