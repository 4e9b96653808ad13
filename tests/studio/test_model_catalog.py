"""Models and the data folder, as the page offers them; nothing is fetched without a press."""

import dataclasses
import re
from types import SimpleNamespace

import pytest

from blockskip.core import presets
from blockskip.core.errors import UserError
from blockskip.core.paths import QUANTISED_CACHE, ROOT, data_dir
from blockskip.models import sources
from blockskip.models.sources import download_process, hub
from blockskip.models.sources.download_process import Download
from blockskip.runs.storage import Usage
from blockskip.studio import (
    click_handlers,
    draft,
    folder_dialog,
    model_catalog,
    model_view,
    pictures,
    plans,
    strings,
)
from blockskip.studio.model_view import ModelCatalog

USAGE = Usage(
    drive="/", free_gib=100.0, total_gib=500.0, models_gib=31.4, runs_gib=2.0, caches_gib=1.25
)
DEMO, FLUX = (offer for offer in sources.list_models() if offer.model in ("demo", "flux-dev"))


def offered(tmp_path, chosen="flux-dev", download=None, **changes):
    """The models' part of the page; keywords change FLUX's offer."""
    kept = changes.pop("token_kept", False)
    flux = dataclasses.replace(FLUX, **{"fits": True, "free_gib": 100.0} | changes)
    found = changes.pop("found", {})
    whole = ModelCatalog((DEMO, flux), {"flux-dev": download}, found, USAGE, tmp_path, kept)
    return model_view.models(whole, chosen)


def buttons(drawn):
    return re.findall(r'data-do="(\w+)"', drawn)


@pytest.mark.parametrize("name, step", [("sana-1.6b", 32), ("flux-dev", 16)])
def test_crops_that_are_shown_are_the_models(name, step):
    assert pictures._step_px(presets.model_row(name)) == step


def test_the_second_demo_is_among_more_models_until_it_is_chosen(tmp_path):
    every = tuple(sources.list_models())
    for chosen in ("demo", "demo-sana"):
        drawn = model_view.models(ModelCatalog(every, {}, {}, USAGE, tmp_path, False), chosen)
        more = drawn.index("<details")
        assert (drawn.index('data-model="demo-sana"') > more) == (chosen == "demo")
        assert drawn.index('data-model="demo"') < more


def test_the_demo_model_says_what_it_is_and_wants_nothing(tmp_path):
    drawn = offered(tmp_path, chosen="demo")
    assert "drawn pets only" in drawn and not {"fetch", "token"} & set(buttons(drawn))
    assert drawn.count('aria-checked="true"') == 1


def test_a_gated_model_wants_a_token_before_its_download(tmp_path):
    without = offered(tmp_path, gated=True)
    assert "token" in buttons(without) and "fetch" not in buttons(without)
    steps = re.search('<ol class="way">.*</ol>', without)[0]
    pages = ["https://huggingface.co/join", FLUX.page, "https://huggingface.co/settings/tokens"]
    assert re.findall('href="([^"]+)"', steps) == pages and steps.count("<li>") == 4
    assert FLUX.licence.split()[0] in without
    assert "fetch" in buttons(offered(tmp_path, gated=True, token_kept=True))
    assert "fetch" in buttons(offered(tmp_path, gated=False))


def test_a_failed_download_is_tried_again_by_a_button(tmp_path):
    """No terminal command stands on the page."""
    fetch = "It goes on where it stopped: ./launch.sh models fetch flux-dev"
    failed = Download(model="flux-dev", state="failed", title="It was interrupted.", remedy=fetch)
    drawn = offered(tmp_path, gated=True, token_kept=True, download=failed)
    assert "It goes on where it stopped.<" in drawn and "launch" not in drawn
    assert f">{strings.MODEL_FETCH_AGAIN}<" in drawn and FLUX.page in drawn


def test_what_is_recommended_suits_the_computer(monkeypatch):
    """Without a card, the smallest one; with a card, one that fits its memory."""
    rows = {row.name: row for row in presets.model_rows().values() if not row.demo}
    for total, free in ((-1.0, -1.0), (8.0, 7.5), (24.0, 23.0)):
        usage = dataclasses.replace(plans.monitor.usage(), vram_total_gib=total)
        monkeypatch.setattr(plans.monitor, "usage", lambda usage=usage: usage)
        monkeypatch.setattr(plans, "free_vram_gib", lambda free=free: free)
        chosen = rows[plans.recommended_model()]
        if total < 0:
            assert chosen.download_gib == min(row.download_gib for row in rows.values())
        else:
            assert chosen.common and plans._fits_card(chosen.name)


def test_no_room_no_download(tmp_path):
    drawn = offered(tmp_path, gated=False, fits=False, free_gib=3.0)
    assert "fetch" not in buttons(drawn) and "only 3 GB" in drawn


@pytest.mark.parametrize(
    "download, said, press",
    [
        (
            Download(
                model="flux-dev",
                state="running",
                bytes_done=8 << 30,
                bytes_total=32 << 30,
                bytes_per_s=5e7,
            ),
            "8.0 of 32.0 GB · 50 MB/s",
            "fetch_stop",
        ),
        (
            Download(
                model="flux-dev", state="failed", title="The <hub> was lost.", remedy="Go on later."
            ),
            "The &lt;hub&gt; was lost. Go on later.",
            "fetch",
        ),
    ],
)
def test_a_download_is_told(tmp_path, download, said, press):
    drawn = offered(tmp_path, gated=False, state="partial", download=download)
    assert said in drawn and press in buttons(drawn)


def test_what_was_found_in_comfyui_is_offered(tmp_path):
    flux = dataclasses.replace(FLUX, fits=True)
    note = "flux1-dev-Q8_0.gguf, 9 bits a weight. flux1-dev-nvfp4.safetensors is packed"
    found = {"flux-dev": [(tmp_path / 'Com"fy <UI>', note)]}
    whole = ModelCatalog((DEMO, flux), {}, found, USAGE, tmp_path)
    drawn = model_view.models(whole, "flux-dev")
    assert "Com&quot;fy &lt;UI&gt;" in drawn and "<UI>" not in drawn and note in drawn
    assert strings.MODEL_USE_FOUND in drawn
    assert drawn.count("press primary") == 1, "the download is the second choice"


def test_the_model_that_was_chosen_stays_chosen(monkeypatch):
    """Also if other models were found in the same ComfyUI."""
    offers = [dataclasses.replace(FLUX, model=name, state="ready") for name in ("a", "z-image")]
    monkeypatch.setattr(sources, "select_comfyui_in_subprocess", lambda path: [])
    monkeypatch.setattr(sources, "list_models", lambda: offers)
    for chosen, then in (("z-image", "z-image"), ("sana-0.6b", "a")):
        draft.save_answers(model=chosen)
        model_catalog.use_comfyui("/somewhere")
        assert draft.load().answers["model"] == then


def test_a_folder_that_is_no_comfyui_is_said(tmp_path, told):
    click_handlers.handle_click("", {"do": "use_comfyui", "folder": f'"{tmp_path}"'})
    drawn = told("")[0]["models"]["value"]
    assert tmp_path.name in model_catalog.snapshot().messages["comfyui"]
    assert "role=status" in drawn and draft.load().answers.get("model") is None


def test_looking_starts_nothing_and_asks_nobody(told, monkeypatch):
    asked = []
    monkeypatch.setattr(download_process, "start", asked.append)
    monkeypatch.setattr(hub, "try_token", lambda *words: asked.append(words))
    for model in presets.model_rows():
        draft.save_answers(model=model)
        told("")
    assert not asked, "nothing is fetched without a press"


def test_a_token_is_never_shown_again(told, monkeypatch):
    def refused(row, token):
        raise UserError(f"{row.title} is not open to this account.", "Accept its licence.")

    draft.save_answers(model="flux-dev")
    monkeypatch.setattr(hub, "try_token", refused)
    click_handlers.handle_click("", {"do": "token", "model": "flux-dev", "value": " hf_secret "})
    parts, _ = told("")
    assert "Accept its licence" in model_catalog.snapshot().messages["token"]
    assert all("hf_secret" not in str(part) for part in parts.values())


def test_caches_are_freed_and_counted(told):
    cache = data_dir() / QUANTISED_CACHE / "blocks"
    cache.mkdir(parents=True)
    (cache / "0.safetensors").write_bytes(bytes(60 << 20))
    model_catalog.refresh()
    assert "clean" in buttons(told("")[0]["models"]["value"])
    click_handlers.handle_click("", {"do": "clean"})
    drawn = told("")[0]["models"]["value"]
    assert "0.1 GB freed" in drawn and "clean" not in buttons(drawn) and not cache.exists()


def test_a_data_folder_that_cannot_be_used_is_said(tmp_path):
    for folder in ("relative", str(ROOT / "assets"), ""):
        click_handlers.handle_click("", {"do": "move_data", "value": folder})
        assert model_catalog.snapshot().messages["data"]
        assert "From the next start" not in model_catalog.snapshot().messages["data"]


@pytest.mark.parametrize("state", ["missing", "partial", "ready"])
@pytest.mark.parametrize("gated", [False, True])
def test_the_distilled_model_is_offered_with_what_it_saves(tmp_path, state, gated):
    (image,) = (offer for offer in sources.list_models() if offer.model == "z-image")
    changes = {"state": state, "gated": gated, "fits": True, "free_gib": 100.0}
    sibling = dataclasses.replace(image.sibling, **changes)
    ready = dataclasses.replace(image, state="ready", where="there", sibling=sibling)
    drawn = model_view.models(ModelCatalog((ready,), {}, {}, USAGE, tmp_path, False), "z-image")
    assert "Z-Image-Turbo" in drawn and "8 passes of the model instead of 56" in drawn
    offered = {"fetch", "token"} & set(buttons(drawn))
    assert offered == (set() if state == "ready" else {"token" if gated else "fetch"})
    if "fetch" in offered:
        assert 'data-model="z-image-turbo-transformer"' in drawn
    missing = dataclasses.replace(ready, state="missing")
    drawn = model_view.models(ModelCatalog((missing,), {}, {}, USAGE, tmp_path, False), "z-image")
    assert "Turbo" not in drawn, "first the model itself"


def test_a_training_adapter_is_named_with_its_licence(tmp_path):
    (turbo,) = (offer for offer in sources.list_models() if offer.model == "z-image-turbo")
    drawn = model_view.models(ModelCatalog((turbo,), {}, {}, USAGE, tmp_path, False), turbo.model)
    assert "Training adapter for Z-Image-Turbo (ostris)" in drawn
    assert drawn.count("Licence: Apache-2.0") == 2 and "training_adapter" in drawn


def test_a_folder_is_chosen_in_the_systems_dialog(tmp_path, monkeypatch):
    """What the dialog prints is used; closed, nothing happens; without one, there is no button."""
    asked, used = [], []

    def run(words, **options):
        asked.append(words)
        return SimpleNamespace(stdout=answers.pop().encode())

    monkeypatch.setattr(folder_dialog.subprocess, "run", run)
    monkeypatch.setattr(model_catalog, "use_comfyui", used.append)
    monkeypatch.setattr(folder_dialog, "is_possible", lambda: True)
    answers = ["", f"{tmp_path / 'gone'}\n", f"{tmp_path}\n"]
    for _ in range(3):
        click_handlers.handle_click("", {"do": "pick_comfyui"})
    assert used == [str(tmp_path)] and asked[0][-1] == strings.COMFYUI_FOLDER
    for possible in (True, False):
        monkeypatch.setattr(folder_dialog, "is_possible", lambda possible=possible: possible)
        assert ("pick_comfyui" in buttons(offered(tmp_path))) == possible
