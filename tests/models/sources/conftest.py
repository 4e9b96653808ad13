import platformdirs
import pytest

from blockskip.models.sources import comfyui_locations


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home with nothing in it, and nothing beside the program."""
    home = tmp_path / "höme"
    home.mkdir()
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    for name in ("XDG_DOCUMENTS_DIR", "XDG_DESKTOP_DIR", "XDG_DOWNLOAD_DIR"):
        monkeypatch.delenv(name, raising=False)
    for kind, folder in (("config", ".config"), ("data", ".local/share")):

        def user_folder(program, *_, folder=folder, **__):
            return str(home / folder / program)

        monkeypatch.setattr(platformdirs, f"user_{kind}_dir", user_folder)
    monkeypatch.setattr(comfyui_locations.psutil, "disk_partitions", lambda all: [])
    monkeypatch.setattr(comfyui_locations, "ROOT", home / "BlockSkip Studio")
    return home
