"""What README and docs say fits on a card is what is planned beside a desktop with 16 GB of RAM."""

import re
from pathlib import Path

import pytest

from blockskip.core.errors import UserError
from blockskip.core.presets import model_rows
from blockskip.memory.planning.planner import make_plan

ROOT = Path(__file__).resolve().parent.parent
FREE = 0.93  # of a card's memory beside Windows and a browser
BITS = {"full": "16 bits", "int8": "8 bits", "nf4": "4 bits"}


def cell(model: str, card_gib: int) -> str:
    how = {"system": "Windows", "free_gib": FREE * card_gib, "ram_gib": 16, "capability": 8.6}
    try:
        plan = make_plan(model=model, budget_gib=card_gib, **how).settings.plan
    except UserError:
        return "–"
    streamed = ", streamed" if plan.middle == "streamed" else ""
    return f"{BITS[plan.precision]}, {plan.side_px} px{streamed}"


def table(page: str) -> list[list[str]]:
    """Return the cells of a page's table of cards, its heading first."""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if re.match(r"\| model .*\| 4 GB", line))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([part.strip() for part in line.strip("|").split("|")])
    return [rows[0], *rows[2:]]


def names(words: str) -> list[str]:
    """Return the models that a table's row names, by title or by name."""
    listed = re.findall(r"`([^`]+)`", words)
    return listed or [row.name for row in model_rows().values() if row.title == words]


@pytest.mark.parametrize("page", ["README.md", "docs/models.md"])
def test_tables_of_cards_are_what_is_planned(page):
    heading, *rows = table(page)
    first = next(i for i, words in enumerate(heading) if words.startswith("4 GB"))
    cards = [int(words.split()[0]) for words in heading[first:]]
    assert len(rows) >= 5
    for row in rows:
        found = names(row[1]) or names(row[0])
        assert found, row
        said = dict(zip(cards, row[first:], strict=True))
        for card, words in said.items():
            shown = said[int(words.split()[1])] if words.startswith("as ") else words
            assert {cell(model, card) for model in found} == {shown}, (row[0], card)
