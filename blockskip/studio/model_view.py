"""The models to choose from: what each is, whether it is available, and how to get it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from blockskip.core.units import GIB
from blockskip.models.sources import ModelStatus, hub_api
from blockskip.models.sources.download_process import Download
from blockskip.models.sources.tools import ToolStatus
from blockskip.runs.storage import Usage
from blockskip.studio import folder_dialog, strings
from blockskip.studio.formatting import action_button, e, in_words, time_left, without_commands


@dataclass(frozen=True)
class ModelCatalog:
    """The state of all models and of the data folder.

    comfyui_folders: model → ComfyUI folders that contain it, each with a note on its files.
    """

    list_models: Sequence[ModelStatus]
    downloads: Mapping[str, Download | None]
    comfyui_folders: Mapping[str, Sequence[tuple[Path, str]]]
    usage: Usage
    folder: Path
    token_saved: bool = False
    messages: Mapping[str, str] = field(default_factory=dict)  # result of the last click, by topic
    recommended: str = ""  # the model that suits this computer


def models(catalog: ModelCatalog, chosen: str) -> str:
    """Return one row per model, the chosen one with what it needs, then the data folder."""
    listed: list[str] = []
    folded: list[str] = []
    for offer in catalog.list_models:
        begun = offer.state != "missing" or catalog.downloads.get(offer.model) is not None
        begun = begun and not offer.demo  # demo models are always available
        known = offer.common or begun or offer.model == chosen
        known = known or offer.model == catalog.recommended
        (listed if known else folded).append(_row(offer, catalog, offer.model == chosen))
    details = f"<details><summary>{strings.MODEL_MORE}</summary>{''.join(folded)}</details>"
    details = details if folded else ""
    return (
        f'<div class="models" role="radiogroup" aria-label="{strings.MODEL_TITLE}">{"".join(listed)}{details}'
        f"</div>{_comfyui(catalog)}{_data_folder(catalog)}"
    )


def _row(offer: ModelStatus, catalog: ModelCatalog, chosen: bool) -> str:
    download = catalog.downloads.get(offer.model)
    bar = progress_bar(download) if download and download.state == "running" else ""
    state = strings.MODEL_STATES[offer.state].format(need=offer.download_gib)
    needs = _needs(offer, catalog, download) if chosen else ""
    suits = f" <small>{strings.MODEL_SUITS}</small>" if offer.model == catalog.recommended else ""
    return (
        f'<div class="model{" chosen" if chosen else ""}">'
        f'<button type="button" role="radio" aria-checked="{str(chosen).lower()}" class="press pick" '
        f'data-do="model" data-model="{e(offer.model)}"><b>{e(strings.translated(offer.title))}{suits}</b>'
        f'<span class="pill {offer.state}">{e(state)}</span></button>'
        f"{bar}{needs}</div>"
    )


def _needs(offer: ModelStatus, catalog: ModelCatalog, download: Download | None) -> str:
    """Return what the chosen model is, and what must be done before it can be trained."""
    if offer.demo:
        return f'<p class="hint">{strings.MODEL_DEMO}</p>'
    about = f'<p class="hint">{e(strings.translated(offer.about))}</p>{licence_line(offer)}'
    if offer.adapter:
        words = strings.MODEL_ADAPTER.format(title=offer.adapter.title)
        about += f'<p class="hint">{e(words)}</p>{licence_line(offer.adapter)}'
    if offer.state == "ready":
        where = strings.MODEL_READY.format(where=offer.where)
        return f'{about}<p class="hint path">{e(where)}</p>{_sibling(offer, catalog)}'
    problem = offer.problem
    if download is not None and download.state == "failed":
        problem = in_words(download)
    parts = [about, _problem(problem)]
    found = catalog.comfyui_folders.get(offer.model, ())
    for folder, note in found:
        where = f"{folder} ({strings.translated(note)})"
        parts.append(
            f'<p class="hint path">{e(strings.MODEL_FOUND.format(where=where))}</p>'
            + action_button(
                "use_comfyui", strings.MODEL_USE_FOUND, "primary", folder=folder, slow=1
            )
        )
    return "".join(parts) + _download(offer, catalog, download, "" if found else "primary")


def _sibling(offer: ModelStatus, catalog: ModelCatalog) -> str:
    """Return what the distilled model for pictures saves, and its download if it is not here."""
    sibling = offer.sibling
    if sibling is None:
        return ""
    values = {"title": sibling.title, "passes": sibling.passes, "own": offer.passes}
    if sibling.state == "ready":
        return f'<p class="hint">{e(strings.SIBLING_READY.format(**values))}</p>'
    download = catalog.downloads.get(sibling.model)
    return folded_offer(
        strings.SIBLING_TITLE.format(times=round(offer.passes / sibling.passes)),
        strings.SIBLING_OFFER.format(**values),
        sibling,
        download,
        _download(sibling, catalog, download, "", strings.SIBLING_NEEDS),
    )


def folded_offer(
    summary: str,
    about: str,
    offer: ModelStatus | ToolStatus,
    download: Download | None,
    buttons: str,
) -> str:
    """Return the offer of a download that is not necessary, folded until it has begun or failed.

    summary: the line that is shown while it is folded. buttons: HTML.
    """
    running = download is not None and download.state == "running"
    problem = offer.problem
    if download is not None and download.state == "failed":
        problem = in_words(download)
    parts = (
        f'<p class="hint">{e(about)}</p>{licence_line(offer)}',
        _problem(problem),
        progress_bar(download) if download and running else "",
        buttons,
    )
    opened = " open" if running or problem or offer.state == "partial" else ""
    return f"<details{opened}><summary>{e(summary)}</summary>{''.join(parts)}</details>"


def _download(
    offer: ModelStatus,
    catalog: ModelCatalog,
    download: Download | None,
    style: str = "primary",
    needs: str = "",
) -> str:
    if download is not None and download.state == "running":
        return action_button("fetch_stop", strings.MODEL_FETCH_STOP, model=offer.model)
    text = (needs or strings.MODEL_NEEDS) if offer.fits else strings.MODEL_NO_ROOM
    words = text.format(need=offer.download_gib, free=offer.free_gib)
    if not offer.fits:
        return f'<p class="hint warn">{e(words)}</p>'
    failed = download is not None and download.state == "failed"
    button = strings.MODEL_FETCH_MORE if offer.state == "partial" else strings.MODEL_FETCH
    button = strings.MODEL_FETCH_AGAIN if failed else button.format(need=offer.download_gib)
    token = _token(offer, catalog, failed) if offer.gated else ""
    ready = not offer.gated or catalog.token_saved
    fetch = action_button("fetch", button, style, model=offer.model) if ready else ""
    return f'<p class="hint">{e(words)}</p>{token}{fetch}'


def _problem(text: str) -> str:
    """Return why a model cannot be used, or its download failed."""
    return (
        f'<p class="hint warn" role="status">{e(without_commands(strings.translated(text)))}</p>'
        if text
        else ""
    )


def _token(offer: ModelStatus, catalog: ModelCatalog, failed: bool) -> str:
    """Return the way to a model whose makers ask for an account, step by step. failed: whether its
    download did, so that the steps are shown again."""
    message = catalog.messages.get("token", "")
    ask = text_field("token", strings.MODEL_TOKEN, secret=True, model=offer.model)
    ask += action_button(
        "token", strings.MODEL_TOKEN_TEST, field="token", model=offer.model, slow=1
    )
    if catalog.token_saved:
        ask = f"<details><summary>{strings.MODEL_TOKEN_OTHER}</summary>{ask}</details>"
    status = f'<p class="hint" role="status">{e(message)}</p>' if message else ""
    kept = f'<p class="hint">{strings.MODEL_TOKEN_KEPT}</p>' if catalog.token_saved else ""
    if catalog.token_saved and not failed:
        return f"{kept}{ask}{status}"
    links = zip(
        strings.MODEL_GATED_STEPS, (hub_api.JOIN_PAGE, offer.page, hub_api.TOKEN_PAGE), strict=True
    )
    steps = "".join(
        f'<li>{words} <a href="{e(page)}" target="_blank" rel="noopener">{e(page.partition("//")[2])}</a></li>'
        for words, page in links
    )
    about = f'<p class="hint">{strings.MODEL_GATED}</p>'
    last = f"<li>{strings.MODEL_GATED_PASTE}{ask}{status}{kept}</li>"
    return f'{about}<ol class="way">{steps}{last}</ol>'


def licence_line(offer: ModelStatus | ToolStatus) -> str:
    """Return a line with the licence, linked to its text."""
    words = e(strings.MODEL_LICENCE.format(licence=offer.licence))
    if not offer.licence_url.startswith("https://"):
        return f'<p class="hint">{words}</p>'
    return f'<p class="hint"><a href="{e(offer.licence_url)}" target="_blank" rel="noopener">{words}</a></p>'


def progress_bar(download: Download) -> str:
    """Return a running download's bar, with its size, speed and the time left."""
    unit, name = (GIB, "GB") if download.bytes_total >= GIB else (2**20, "MB")
    done, total = download.bytes_done / unit, max(download.bytes_total, 1) / unit
    speed = strings.MODEL_FETCH_SPEED.format(speed=max(0.0, download.bytes_per_s) / 1e6)
    left = time_left(download.eta_s) if download.eta_s >= 0 else ""
    words = strings.MODEL_FETCHING.format(
        done=done, total=total, unit=name, speed=speed, left=left
    ).strip(" ·")
    share = int(100 * done / total)
    return (
        f'<progress class="bar working" max="100" value="{share}" aria-label="{e(words)}"></progress>'
        f'<p class="hint">{e(words)}</p>'
    )


def _comfyui(catalog: ModelCatalog) -> str:
    """Return a field for the user's ComfyUI folder."""
    message = catalog.messages.get("comfyui", "")
    return (
        f"<details><summary>{strings.COMFYUI_FOLDER}</summary>"
        f'<p class="hint">{strings.COMFYUI_FOLDER_ABOUT}</p>'
        f"{text_field('comfyui', strings.COMFYUI_FOLDER)}"
        f"{action_button('use_comfyui', strings.COMFYUI_USE, field='comfyui', slow=1)}"
        f"{_picker('pick_comfyui')}"
        f"{f'<p class=hint role=status>{e(message)}</p>' if message else ''}</details>"
    )


def _data_folder(catalog: ModelCatalog) -> str:
    """Return where models and trainings are kept, their sizes, and a button that frees caches."""
    usage = catalog.usage
    about = strings.DATA_ABOUT.format(
        folder=catalog.folder,
        free=usage.free_gib,
        models=usage.models_gib,
        runs=usage.runs_gib,
        caches=usage.caches_gib,
    )
    clean = ""
    if usage.caches_gib >= 0.05:
        clean = action_button("clean", strings.DATA_CLEAN.format(caches=usage.caches_gib))
    message = catalog.messages.get("data", "")
    return (
        f'<details><summary>{strings.DATA_TITLE}</summary><p class="hint path">{e(about)}</p>{clean}'
        f"{text_field('folder', strings.DATA_MOVE)}<p class='hint'>{strings.DATA_MOVE_ABOUT}</p>"
        f"{action_button('move_data', strings.DATA_MOVE_DO, field='folder')}{_picker('pick_data')}"
        f"{f'<p class=hint role=status>{e(message)}</p>' if message else ''}</details>"
    )


def _picker(action: str) -> str:
    """Return a button that opens the system's dialog, where there is one."""
    return action_button(action, strings.FOLDER_PICK, "link") if folder_dialog.is_possible() else ""


def text_field(name: str, label: str, secret: bool = False, value: str = "", **data: str) -> str:
    """Return a text field. studio.js sends its value with a click on the button that names it."""
    kind = "password" if secret else "text"
    extra = "".join(f' data-{key}="{e(value)}"' for key, value in data.items())
    given = f' value="{e(value)}"' if value else ""
    return (
        f'<label class="field">{e(label)}<input type="{kind}" name="{name}" autocomplete="off" '
        f'spellcheck="false"{given}{extra}></label>'
    )
