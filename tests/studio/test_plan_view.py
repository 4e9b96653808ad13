"""The plan's drawing tells what the plan tells: every block, every size, and what would work."""

import dataclasses
import functools
import itertools
import random
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from string import Formatter

import pytest

from blockskip.core.errors import UserError
from blockskip.core.presets import model_row
from blockskip.data.crops import place_crop
from blockskip.data.photos import Photo
from blockskip.memory.planning.planner import make_plan
from blockskip.memory.planning.reason import Reason
from blockskip.memory.planning.wording import TEMPLATES
from blockskip.runs.expected_time import ExpectedTime
from blockskip.studio import plan_strings, plan_view, strings
from tests.helpers.sentences import sentences

CASES = [
    ("demo", 2.5, 16, {}),
    ("demo", 24, 16, {"skip": "0"}),
    *(("flux-dev", gib, ram, {}) for gib in (2.5, 4, 7, 8, 12, 24) for ram in (16, 64)),
    ("flux-dev", 3.3, 64, {}),  # the trained blocks leave the card between steps
    ("flux-dev", 8, 16, {"free_gib": 5.2}),
    ("flux-dev", 24, 64, {"skip": "0"}),
    ("flux-dev", 8, 16, {"skip": "3,1"}),
    *(("flux-dev", 8, 16, {"patches": p}) for p in ("reversed", "random", "resize", "full")),
]


class Parsed(HTMLParser):
    """Tags with their attributes, and all text; fails on a tag that is not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("rect", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("rect", "polyline"):
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data + " "

    def of(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def planned(model, gib, ram, said):
    return _planned(model, gib, ram, tuple(said.items()))


@functools.cache
def _planned(model, gib, ram, said):
    known = {"free_gib": 100.0, "disk_gib": 100.0, "system": "Windows"} | dict(said)
    return make_plan(model=model, budget_gib=gib, ram_gib=ram, **known)


def drawn(case, minutes=None, disk_gib=100.0):
    plan = planned(*case)
    return plan, Parsed(plan_view.plan_figure(plan, model_row(case[0]), minutes, disk_gib))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_block_is_one_cell_in_the_models_order(case):
    plan, page = drawn(case)
    s, row = plan.settings.plan, model_row(case[0])
    learn = "streamed" if s.middle == "streamed" else "trained"
    cells = [a["class"] for a in page.of("i") if a["class"] in ("skipped", "trained", "streamed")]
    middle = row.num_blocks - s.front - s.back
    assert cells == ["skipped"] * s.front + [learn] * middle + ["skipped"] * s.back
    label = next(a["aria-label"] for a in page.of("div") if a.get("role") == "img")
    counts = [int(n) for n in re.findall(r"(\d+) (?:learn|skipped)", label)]
    assert counts == [n for n in (middle, s.front + s.back) if n], "the same in words"


def bars(page):
    """Widths in percent by class, a list a row that has a bar."""
    rows, inside = [], False
    for tag, attrs in page.tags:
        if tag == "span":
            inside = attrs.get("class") == "plan-track"
            rows += [[]] * inside
        elif tag == "i" and inside:
            rows[-1] = [*rows[-1], (attrs["class"], float(attrs["style"][6:-1]))]
    return rows


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bars_are_the_plans_figures_on_the_scale_of_the_budget(case):
    plan, page = drawn(case)
    rows = bars(page)
    *stages, ram, disk = [sum(width for _, width in row) for row in rows]
    budget = plan.settings.budget_gib
    needs = [need.vram_gib for need in plan.stages.values()]
    assert stages == pytest.approx([100 * need / budget for need in needs], abs=0.02)
    style = next(a["style"] for a in page.of("figure") if a["class"] == "plan-stages")
    usable, reserved = (float(n) for n in re.findall(r":([\d.]+)%", style))
    assert max(stages) <= usable + 0.02 and usable <= reserved <= 100
    assert ram == pytest.approx(100 * plan.ram_gib / plan.settings.ram_gib, abs=0.02)
    assert disk == pytest.approx(plan.disk_gib, abs=0.02), "of 100 GiB"
    marked = [a for a in page.of("li") if a.get("class") == "most"]
    assert len(marked) == 1 and f"peak of {plan_strings.gb(max(needs))} expected" in page.text


@pytest.mark.parametrize("case", CASES, ids=str)
def test_trained_blocks_are_drawn_where_they_lie(case):
    plan, page = drawn(case)
    held = ["held" in dict(row) for row in bars(page)[:-2]]
    where = {"stays": [2, 3, 4], "leaves": [3], "streamed": []}[plan.settings.plan.middle]
    assert [n for n, there in enumerate(held) if there] == where


@pytest.mark.parametrize("case", CASES, ids=str)
def test_words_are_for_people_and_numbers_are_there(case):
    times = (None, ExpectedTime(3.2, "measured"), ExpectedTime(0.0, "common"))
    for minutes, disk in zip(times, (None, 50.0, float("inf")), strict=True):
        _, page = drawn(case, minutes, disk)
        assert not re.search(r"GiB|--\w|\binf\b|\bnan\b|None|\{|\d\.\d{5}", page.text)
        assert (strings.PLAN_MINUTES_UNKNOWN in page.text) == (minutes is None)
    plan = planned(*case)
    assert len(plan_view.plan_figure(plan, model_row(case[0]), None)) < 12_000
    front = page.text.split(strings.PLAN_WHY)[0]
    assert not re.search(r"DINO|LoRA|NF4|tokens|activations|0\.\d{4}", front)


def test_crops_are_drawn_as_the_schedule_cuts_them():
    """At much, middling and little noise, for every schedule; random ones within their band."""
    photo, chance = Photo(Path("x.jpg"), "", 3000, 3000, ""), random.Random(0)
    settings = planned("flux-dev", 8, 16, {}).settings
    for patches in ("dynamic", "reversed", "resize", "full", "random"):
        s = settings.changed(patches=patches)
        for t, (low, high) in zip((1.0, 0.5, 0.0), plan_strings.sides(s), strict=True):
            sides = {
                place_crop(photo, s, 16, t, chance.random, chance.randint).side for _ in range(20)
            }
            assert min(sides) >= low - 8 and max(sides) <= high + 8
            assert len(sides) > 1 if patches == "random" else sides == {high}


@pytest.mark.parametrize("patches", ["dynamic", "reversed", "random", "full"])
def test_the_line_is_to_scale(patches):
    plan, page = drawn(("flux-dev", 8, 16, {"patches": patches}))
    wanted = [high for _, high in plan_strings.sides(plan.settings)][
        : 1 if patches == "full" else 3
    ]
    squares = [float(a["height"]) for a in page.of("rect") if a["class"] == "crop"]
    assert squares == pytest.approx(
        [84 * side / plan.settings.plan.s_max_px for side in wanted], abs=0.1
    )
    for line in page.of("polyline"):
        heights = [90 - float(point.split(",")[1]) for point in line["points"].split()]
        assert heights == pytest.approx(squares)
    assert bool(page.of("polyline")) == (patches not in ("random", "full")), "chance has no line"


def test_demo_says_whole_pictures():
    _, page = drawn(("demo", 8, 16, {}))
    assert "whole pictures of 64 px" in page.text and "close-up" not in page.text


def test_names_are_escaped():
    row = dataclasses.replace(model_row("demo"), title='<img src=x onerror="1">')
    assert "<img" not in plan_view.plan_figure(planned("demo", 8, 16, {}), row, None)
    assert "<img" not in plan_view.refusal(UserError("<img>", "<img>"), 2.0)


def test_the_budget_a_refusal_offers_works():
    with pytest.raises(UserError) as refused:
        planned("flux-dev", 1, 16, {})
    least = refused.value.least.values["least_gib"]
    for offered in (least, least - 0.04):  # what comes with more digits is rounded up
        page = Parsed(plan_view.refusal(refused.value, offered))
        button = page.of("button")[0]
        assert float(button["data-budget"]) == least and f"Use {least:g} GB" in page.text
    planned("flux-dev", least, 16, {})
    assert not Parsed(plan_view.refusal(refused.value, None)).of("button")


def test_marks_divide_the_whole_slider():
    known = (2, 4), (8, 24), (3.0, 8.0, 48.0), (0.0, 1.2, 99.0), (0, 6.8)
    for low, high, total, others, free in itertools.product(*known):
        page = Parsed(plan_view.budget_marks(low, high, total, others, free))
        widths = {a["class"]: float(a["style"][6:-1]) for a in page.of("i")}
        assert sum(widths.values()) == pytest.approx(100, abs=0.05)
        assert list(widths) == [key for key in ("free", "taken", "beyond") if key in widths]
        assert ("beyond" in widths) == (total < high)
        if low < free < min(total, high) and others:
            assert widths["free"] == pytest.approx(100 * (free - low) / (high - low), abs=0.05)
        assert [a["class"] for a in page.of("li")] == list(widths), "a word for each"
        assert plan_strings.gb(total) in page.text


@pytest.mark.parametrize("total", [None, -1.0, 0.0])
def test_without_a_card_marks_say_so(total):
    page = Parsed(plan_view.budget_marks(2, 24, total, None, None))
    assert "No NVIDIA card" in page.text and not page.of("i")


@pytest.mark.parametrize("measuring", ["running", "waiting", "over"])
def test_whose_the_minutes_are_is_said(measuring):
    said = {
        "history": "judging by earlier trainings",
        "measured": "from a measurement of this computer, give or take a third",
        "common": "on a common PC",
    }
    plan, row = planned("flux-dev", 8, 16, {}), model_row("flux-dev")
    for basis, words in said.items():
        expected = ExpectedTime(160.0, basis)
        page = Parsed(plan_view.plan_figure(plan, row, expected, None, measuring))
        assert words in page.text and "2 h 40 min" in page.text
        soon = strings.PLAN_MEASURING[measuring]
        assert ("This computer is" in page.text) == bool(soon and basis == "common")
    page = Parsed(plan_view.plan_figure(plan, row, None, None, measuring))
    assert strings.PLAN_MEASURING[measuring] in page.text
    assert strings.PLAN_MINUTES_UNKNOWN in page.text


@pytest.mark.parametrize("reason, english, page", sentences(), ids=lambda v: getattr(v, "kind", ""))
def test_what_the_planner_tells_is_said_here_as_it_was(reason, english, page):
    say = plan_strings.gain_text if reason.kind.startswith("more_") else plan_strings.reason_text
    assert say(reason) == page


def test_captions_are_called_longer_only_when_they_are():
    """A plan of more memory may end captions earlier and win more elsewhere."""
    found = set()
    for model, gib, ram in (
        ("flux2-klein-4b", 2.5, 6),
        ("z-image", 3.8, 16),
        ("flux-dev", 2.5, 16),
    ):
        said = {"system": "Linux", "disk_gib": float("inf"), "free_gib": float("inf")}
        now = planned(model, gib, ram, said)
        then = planned(model, gib + now.one_more_gib.values["more_gib"], ram, said)
        tokens = [plan.settings.plan.text_tokens for plan in (now, then)]
        words = plan_strings.gain_text(now.one_more_gib)
        assert ("longer captions" in words) == (tokens[1] > tokens[0])
        assert ("shorter captions" in words) == (tokens[1] < tokens[0])
        found.add(tokens[1] - tokens[0])
    assert min(found) < 0 < max(found)


def test_the_pages_templates_say_the_planners_values():
    """No value is asked for that the planner does not give."""
    for kind, template in strings.PLAN_TEMPLATES.items():
        ours, theirs = (
            {name for _, name, *_ in Formatter().parse(t) if name}
            for t in (template, TEMPLATES[kind])
        )
        assert ours <= theirs


@pytest.mark.parametrize("size", [0.0, 3.0, 3.25, 15.97, 6.5, 80.0])
def test_sizes_have_one_decimal_at_most(size):
    reason = Reason("usable_budget", {"budget_gib": size})
    assert re.fullmatch(r"\d+(\.\d)? GB", plan_strings.reason_text(reason))


def test_no_torch_is_loaded():
    code = "import sys, blockskip.studio.plan_view; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
