"""What README and docs show exists: links, headings, files, commands and their options."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from blockskip.cli.app import app
from blockskip.core import presets

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EVIDENCE = sorted((ROOT / "assets" / "evidence").glob("*.md"))
LAUNCHER = {"test", "rollback"}  # words of launch.sh itself


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    titles = re.findall(r"^#+ (.+)$", text_of(page), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def shown_commands(page: Path) -> list[list[str]]:
    """Words after ./launch.sh of every command in a block or between backticks."""
    text = text_of(page)
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`(\./launch\.sh[^`]*)`", text)
    found = [line.strip()[11:] for line in lines if line.strip().startswith("./launch.sh")]
    return [shlex.split(words, comments=True) for words in found]


@pytest.mark.parametrize("page", [*PAGES, *EVIDENCE], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", text_of(page), flags=re.M | re.S)
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    for link in links:
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.is_relative_to(ROOT) and there.exists(), link
        assert not anchor or anchor in anchors(there), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_shown_exists_with_its_options(page):
    for words in shown_commands(page):
        if not words or words[0] in LAUNCHER:
            continue
        command, path = get_command(app), list(words)
        while hasattr(command, "commands") and path and not path[0].startswith("-"):
            name = path.pop(0)
            assert name in command.commands, f"{page.name}: {' '.join(words)}"
            command = command.commands[name]
        known = {option for each in command.params for option in each.opts} | {"--help"}
        asked = {word for word in path if word.startswith("--")}
        assert asked <= known, f"{page.name}: {' '.join(words)}: {asked - known}"


def test_files_named_in_the_docs_exist():
    """Between backticks: paths of the repository and modules of the package."""
    for page in PAGES:
        for name in re.findall(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|toml|md|json))`", text_of(page)):
            if "<" in name or page.name == "changelog.md":
                continue
            places = (ROOT / name, ROOT / "blockskip" / name)
            assert any(place.exists() for place in places), f"{page.name}: {name}"


def test_the_readme_is_a_front_page():
    assert len(text_of(ROOT / "README.md").splitlines()) <= 150


def test_the_page_on_comfyui_names_every_file_of_models():
    page = text_of(ROOT / "docs" / "comfyui.md")
    for row in presets.model_rows().values():
        names = [name for part in row.parts for name in row.comfyui.usual(part)[:1]]
        assert [name for name in names if f"`{name}`" not in page] == [], row.name
