"""Who holds the card is named, and ComfyUI is asked to free it only if it is ComfyUI."""

import os
from types import SimpleNamespace

import psutil
import pytest
from helpers.fake_comfyui import FakeComfyUI
from helpers.fake_nvml import FakeNvml
from typer.testing import CliRunner

from blockskip.cli.app import app
from blockskip.core.errors import WrongState
from blockskip.memory import card_programs, comfyui_server
from blockskip.studio import card_view, click_handlers, setup_screen

P41, P42, P43, P44, P45, GONE = range(2_000_000_041, 2_000_000_047)  # no real ids
NAMES = {P41: "firefox", P42: "python3.12", P43: "Xorg", P44: "firefox", P45: "blender.exe"}


@pytest.fixture(autouse=True)
def card(nvml, monkeypatch):
    """A card of 24 GiB and programs that NVML names by id; ports of ComfyUI where one is given."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def process(pid):
        if pid not in NAMES:
            raise psutil.NoSuchProcess(pid)
        return SimpleNamespace(name=lambda: NAMES[pid], net_connections=lambda kind: listening(pid))

    ports = {}
    listening = lambda pid: [  # noqa: E731
        SimpleNamespace(status="LISTEN", laddr=SimpleNamespace(port=port))
        for port, owner in ports.items()
        if owner == pid
    ]
    for module in (card_programs, comfyui_server):
        fake = SimpleNamespace(Process=process, Error=psutil.Error)
        monkeypatch.setattr(module, "psutil", fake)
    monkeypatch.setattr(comfyui_server, "USUAL_PORTS", ())
    monkeypatch.setattr(comfyui_server, "FREEING_S", 0.3)
    monkeypatch.setattr(card_programs, "_cached", None)
    monkeypatch.setattr(card_view, "_said", [])

    def running(compute=None, graphics=None, comfyui=None):
        monkeypatch.setattr(
            FakeNvml, "running", {"Compute": compute or {}, "Graphics": graphics or {}}
        )
        monkeypatch.setattr(card_programs, "_cached", None)
        ports.clear()
        ports.update(comfyui or {})

    return running


def test_programs_are_named_once_with_what_they_hold(card):
    card({P42: 5.0, os.getpid(): 9.0}, {P41: 0.5, P42: 5.0, P44: 0.25, P43: 0.125, GONE: 0.5})
    found = card_programs.card_programs()
    assert found.names == {
        "python3.12": 5.0,
        "firefox": 0.75,
        f"process {GONE}": 0.5,
        "Xorg": 0.125,
    }
    assert found.comfyui is None and found.freeable_gib == 0
    assert "On the card: python3.12 5 GB, firefox 0.8 GB" in card_view.programs(None)


def test_where_windows_does_not_tell_it_is_said(card):
    card({P45: None}, {P41: None, P44: None})
    found = card_programs.card_programs().names
    assert found == {"blender": -1, "firefox": -1}
    page = card_view.programs(None)
    assert "blender, firefox. The system does not tell" in page and "-1" not in page


def test_a_card_that_nobody_uses_shows_nothing(card):
    card()
    assert card_view.programs(None) == ""


def test_comfyui_is_asked_on_a_press_only(card, nvml, monkeypatch):
    with FakeComfyUI() as server:
        card({P42: 5.5}, comfyui={server.port: P42})
        found = card_programs.card_programs()
        assert found.names == {"ComfyUI": 5.5} and found.freeable_gib == 5.0
        page = setup_screen.parts()[0]["marks"]["value"]
        assert 'data-do="free_comfyui"' in page and "Ask ComfyUI to free 5 GB" in page
        assert not server.asked
        click_handlers.handle_click("", {"do": "free_comfyui"})
        assert server.asked == [("/free", {"unload_models": True, "free_memory": True})]
        assert "ComfyUI freed 5 GB" in card_view.programs(None)


@pytest.mark.parametrize(
    "how, said", [({"busy": 1}, "is making a picture"), ({"keeps": True}, "kept its models")]
)
def test_why_nothing_was_freed_is_said(card, how, said):
    with FakeComfyUI(**how) as server:
        card({P42: 5.5}, comfyui={server.port: P42})
        with pytest.raises(WrongState, match=said):
            card_view.free_comfyui()


@pytest.mark.parametrize(
    "server",
    [
        {"stats": {"system": {"os": "nt"}, "devices": []}},
        {"stats": {"system": {"comfyui_version": "1"}, "devices": [{"vram_total": -1}]}},
        {"stats": ["<html>"]},
        {"total_gib": 8.0},  # it uses another card
        {"held_gib": 0.01},
    ],
)
def test_what_is_not_comfyui_on_this_card_is_never_asked(card, server):
    with FakeComfyUI(**server) as other:
        card({P42: 5.5}, comfyui={other.port: P42})
        assert card_programs.card_programs().comfyui is None
        assert card_programs.free_comfyui() == 0 and not other.asked


def test_the_terminal_says_who_holds_the_card_and_what_freeing_would_bring(card, monkeypatch):
    with FakeComfyUI(held_gib=14.0) as server:
        card({P42: 14.5}, {P43: 0.25}, comfyui={server.port: P42})
        monkeypatch.setattr(
            FakeNvml,
            "nvmlDeviceGetMemoryInfo",
            lambda self, card: SimpleNamespace(used=16 << 30, total=24 << 30),
        )
        printed = CliRunner().invoke(app, ["plan", "--budget", "24", "--ram", "32"])
        words = " ".join(printed.output.split())
        assert "Other programs on the card: ComfyUI 14.5 GiB, Xorg 0.2 GiB." in words
        assert "If ComfyUI frees the 14.0 GiB that its models hold: " in words
        assert "the same is trained" not in words and not server.asked
