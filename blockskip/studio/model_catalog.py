"""The state of models and of the data folder for the page, and the actions on them."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from blockskip.core import files, presets
from blockskip.core.errors import UserError
from blockskip.core.paths import data_dir, set_data_dir
from blockskip.core.repositories import repository
from blockskip.core.units import GIB
from blockskip.models import sources
from blockskip.models.sources import download_process, hub
from blockskip.runs import storage
from blockskip.studio import draft, plans, strings
from blockskip.studio.formatting import in_words
from blockskip.studio.model_view import ModelCatalog

REFRESH_S = 5.0
_lock = threading.Lock()
_messages: dict[str, str] = {}
_comfyui_folders: dict[str, list[tuple[Path, str]]] = {}
_cached: tuple[float, ModelCatalog] | None = None


def snapshot() -> ModelCatalog:
    """Return the catalog: files as of the last REFRESH_S seconds, downloads as of now."""
    cached = _catalog()
    siblings = [offer.sibling for offer in cached.list_models if offer.sibling]
    downloads = {
        offer.model: download_process.progress(presets.model_row(offer.model))
        for offer in (*cached.list_models, *siblings)
    }
    return ModelCatalog(
        cached.list_models,
        downloads,
        cached.comfyui_folders,
        cached.usage,
        cached.folder,
        cached.token_saved,
        dict(_messages),
        cached.recommended,
    )


def ready_models() -> list[str]:
    """Return the models of real pictures that are on this machine, as of the last REFRESH_S
    seconds."""
    return [o.model for o in _catalog().list_models if o.state == "ready" and not o.demo]


def refresh() -> None:
    """Discard the cached catalog."""
    global _cached
    with _lock:
        _cached = None


def _catalog() -> ModelCatalog:
    global _cached
    with _lock:
        if _cached is None or time.monotonic() - _cached[0] > REFRESH_S:
            _cached = time.monotonic(), _read_catalog()
        return _cached[1]


def _read_catalog() -> ModelCatalog:
    list_models = sources.list_models()
    for offer in list_models:
        if offer.state != "ready" and offer.model not in _comfyui_folders:
            row = presets.model_row(offer.model)
            _comfyui_folders[offer.model] = sources.find_in_comfyui(row)
    return ModelCatalog(
        list_models,
        {},
        dict(_comfyui_folders),
        storage.usage(),
        data_dir(),
        hub.token_state() == "kept",
        recommended=plans.recommended_model(),
    )


def use_comfyui(folder: str) -> None:
    """Use the models of a ComfyUI folder that the user named."""
    try:
        path = files.user_path(folder.strip().strip('"'))
        unreadable = sources.select_comfyui_in_subprocess(path)
        ready = [o for o in sources.list_models() if o.state == "ready" and not o.demo]
        found = "; ".join(f"{offer.title}: {offer.where}" for offer in ready)
        _messages["comfyui"] = " ".join([found, *map(strings.translated, unreadable)])
        if ready and draft.load().answers.get("model") not in [offer.model for offer in ready]:
            draft.save_answers(model=ready[0].model)
    except UserError as error:
        _messages["comfyui"] = in_words(error)
    refresh()


def fetch(model: str) -> None:
    """Start or resume the download of a model or a tool."""
    download_process.start(repository(model))
    refresh()


def fetch_stop(model: str) -> None:
    """Pause a download. The part already downloaded is kept."""
    download_process.stop(repository(model))
    refresh()


def try_token(model: str, token: str) -> None:
    """Test a token with the hub and save it if it gives access to the model."""
    try:
        hub.try_token(presets.model_row(model), token.strip())
        _messages["token"] = strings.MODEL_TOKEN_GOOD
    except UserError as error:
        _messages["token"] = in_words(error)
    refresh()


def clean() -> None:
    """Free the caches."""
    freed = storage.clean_all()
    _messages["data"] = strings.DATA_CLEANED.format(freed=freed / GIB)
    refresh()


def move_data(folder: str) -> None:
    """Use another data folder from the next start."""
    try:
        path = files.user_path(folder.strip().strip('"'))
        set_data_dir(path)
        _messages["data"] = strings.DATA_MOVED.format(folder=path)
    except UserError as error:
        _messages["data"] = in_words(error)
