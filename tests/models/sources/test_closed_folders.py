"""Folders that may not be read: those of others are passed over, a named one is told."""

import os

import pytest
from helpers.comfyui_lists import make

from blockskip.core import presets
from blockskip.core.errors import UserError
from blockskip.models import sources
from blockskip.models.sources import comfyui

ROW = presets.model_row("flux-dev")
ADAPTER = presets.model_row("z-image-turbo-adapter")


@pytest.fixture
def closed(home, monkeypatch):
    """A folder called as ComfyUI, of another user (root may read everything)."""
    folder = make(home / "comfy of others")

    def refusing(ask):
        def refuse(path=".", *args, **options):
            if isinstance(path, str | os.PathLike) and folder in home.joinpath(path).parents:
                raise PermissionError(13, "Permission denied", str(path))
            return ask(path, *args, **options)

        return refuse

    monkeypatch.setattr(os, "stat", refusing(os.stat))
    for name in ("listdir", "scandir"):  # of the folder itself
        ask = getattr(os, name)

        def list_names(path=".", ask=ask):
            if not isinstance(path, int) and home.joinpath(path) == folder:
                raise PermissionError(13, "Permission denied", str(path))
            return ask(path)

        monkeypatch.setattr(os, name, list_names)
    return folder


def test_those_of_others_are_passed_over(closed, home):
    mine = make(home / "ComfyUI")
    assert comfyui.candidates() == [mine]
    assert sources.find_in_comfyui(ROW) == []


def test_a_named_one_is_told(closed):
    for path in (closed, closed / "models", closed / "flux1-dev.safetensors"):
        for row in (ROW, ADAPTER):
            with pytest.raises(UserError, match="Permission denied|not found") as told:
                sources.select_model(row, [path])
            assert str(path) in str(told.value)
        with pytest.raises(UserError, match="Permission denied"):
            sources.select_comfyui(path)
