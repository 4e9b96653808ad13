"""The offer of a tool's download: what it is and needs, and nothing without a click."""

import dataclasses
import re

import pytest

from blockskip.core.repositories import tool_names, tool_row
from blockskip.models.sources import download_process, tools
from blockskip.models.sources.download_process import Download
from blockskip.studio import click_handlers, tool_view


@pytest.fixture
def known(monkeypatch):
    """What the disk says of every tool: (state of the tool, its download)."""

    def say(state, download=None, problem=""):
        status = dataclasses.replace(tools.tool_status("detector"), state=state, problem=problem)
        monkeypatch.setattr(tools, "tool_status", lambda name: status)
        monkeypatch.setattr(download_process, "progress", lambda row: download)
        tool_view.refresh()

    return say


@pytest.mark.parametrize(
    "state, download, problem, said, press",
    [
        ("missing", None, "", ("Download 40 MB", "Licence: Apache-2.0"), ["fetch"]),
        ("partial", None, "", ("Resume the download",), ["fetch"]),
        (
            "partial",
            Download(model="detector", state="running", bytes_done=4 << 20, bytes_total=40 << 20),
            "",
            ("4.0 of 40.0 MB",),
            ["fetch_stop"],
        ),
        (
            "missing",
            Download(model="detector", state="failed", title="The <hub> is gone.", remedy="Later."),
            "",
            ("The &lt;hub&gt; is gone. Later.",),
            ["fetch"],
        ),
        ("broken", None, "A file is cut short.", ("A file is cut short.",), ["fetch"]),
    ],
)
def test_the_offer_tells_what_it_is_and_needs(known, state, download, problem, said, press):
    known(state, download, problem)
    drawn = tool_view.offer("detector", "Find <it>")
    assert re.findall(r'data-do="(\w+)" data-model="detector"', drawn) == press
    assert all(words in drawn for words in said) and "Find &lt;it&gt;" in drawn
    folded = state == "missing" and download is None
    assert drawn.startswith("<details><summary>" if folded else "<details open>")
    assert not tool_view.is_ready("detector")


def test_a_ready_tool_is_not_offered_and_a_finished_download_is_seen_at_once(known, monkeypatch):
    known("missing", Download(model="detector", state="running"))
    assert tool_view.offer("detector", "Find it")
    ready = dataclasses.replace(tools.tool_status("detector"), state="ready")
    monkeypatch.setattr(tools, "tool_status", lambda name: ready)
    done = Download(model="detector", state="done")
    monkeypatch.setattr(download_process, "progress", lambda row: done)
    assert tool_view.is_ready("detector") and not tool_view.offer("detector", "Find it")


def test_clicks_begin_and_pause_a_tools_download(monkeypatch):
    pressed = []
    monkeypatch.setattr(download_process, "start", lambda row: pressed.append(("start", row)))
    monkeypatch.setattr(download_process, "stop", lambda row: pressed.append(("stop", row)))
    for name in tool_names():
        tool_view.offer(name, "Find it")
        assert not pressed, "looking starts nothing"
        click_handlers.handle_click("", {"do": "fetch", "model": name})
        click_handlers.handle_click("", {"do": "fetch_stop", "model": name})
        assert pressed == [("start", tool_row(name)), ("stop", tool_row(name))]
        pressed.clear()
