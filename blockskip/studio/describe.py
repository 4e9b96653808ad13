"""Describing the draft's photos: the user's choices, the process, and captions as they come.

`describe/choices.json` in the data folder has the choices. The network is used only by the two
buttons that look for a server's models and that describe.
"""

from __future__ import annotations

import threading
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated

from pydantic import Field

from blockskip.core import files
from blockskip.core.errors import BadInput, ModelMissing, UserError
from blockskip.core.validation import validated
from blockskip.data.descriptions import INSTRUCTION, MAX_INSTRUCTION
from blockskip.models.captioners import found, jobs
from blockskip.models.captioners.found import Captioner
from blockskip.models.captioners.jobs import Job, Progress, ServerChoice
from blockskip.models.captioners.server import OtherComputer, Server, url_of
from blockskip.runs import describing
from blockskip.studio import actions, draft, run_state, strings
from blockskip.studio.formatting import in_words

SERVER = "server"  # the choice of a server, among the names of captioners
REFRESH_S = 5.0
_lock = threading.RLock()
_cached: tuple[float, list[Captioner]] | None = None
_asked: dict[str, list[str] | str] = {}  # of the last look at a server: models, message, allow
_applied: tuple[Job, int] | None = None  # how many lines of a job are in the draft

Typed = Annotated[str, Field(max_length=MAX_INSTRUCTION)]


@dataclass(frozen=True)
class Choices:
    """What the user chose. captioner: a name, SERVER, or "" = the best one. instruction: "" = the
    usual one."""

    captioner: Typed = ""
    instruction: Typed = ""
    server: ServerChoice = field(default_factory=lambda: ServerChoice(""))


@dataclass(frozen=True, kw_only=True)
class Describing:
    """What the page shows. captioner: the one in use, None if there is none, or a server is. ready:
    whether photos can be described. models, message, allow: of the last look at a server; allow:
    the address that the user may allow. progress: of the draft's photos."""

    choices: Choices
    list_captioners: list[Captioner]
    captioner: Captioner | None
    ready: bool
    training: bool
    models: list[str]
    message: str
    allow: str
    progress: Progress | None


def state() -> Describing:
    """Return what the page shows, after adding finished captions to the draft."""
    progress, choices, here = _apply(), load(), _captioners()
    chosen = _in_use(choices, here)
    server = choices.server
    return Describing(
        choices=choices,
        list_captioners=here,
        captioner=chosen,
        ready=chosen is not None
        or (choices.captioner == SERVER and bool(server.address and server.model)),
        training=run_state.running() is not None,
        models=list(_asked.get("models", ())),
        message=str(_asked.get("message", "")),
        allow=str(_asked.get("allow", "")),
        progress=progress,
    )


def _in_use(choices: Choices, here: list[Captioner]) -> Captioner | None:
    if choices.captioner == SERVER:
        return None
    named = next((one for one in here if one.name == choices.captioner), None)
    return named or (found.best(here) if here else None)


def load() -> Choices:
    """Return the user's choices."""
    try:
        return files.read_json(_choices_file(), Choices)
    except (OSError, ValueError):
        return Choices()


def start(anyway: bool = False) -> None:
    """Describe the draft's photos that have no caption. anyway: even while a run trains. Raises
    UserError."""
    now, choices = draft.load(), load()
    photos = [draft.photos_dir() / photo.file for photo in now.photos if not photo.caption]
    if not photos:
        raise BadInput(strings.DESCRIBE_NONE, strings.DESCRIBE_NONE_REMEDY)
    server = choices.server if choices.captioner == SERVER else None
    chosen = _in_use(choices, _captioners())
    if server is None and chosen is None:
        raise ModelMissing(strings.DESCRIBE_NOBODY, strings.DESCRIBE_NOBODY_REMEDY)
    job = Job(
        photos=tuple(map(str, photos)),
        class_name=actions.class_word(actions.current_answers()["kind"]) or "pet",
        instruction=choices.instruction,
        captioner=chosen.name if chosen else "",
        server=server,
    )
    describing.start(job, anyway)


def stop() -> None:
    """Stop describing. The captions that are there stay."""
    jobs.stop()


def choose(captioner: str) -> None:
    """Choose a captioner by name, or a server."""
    _save(captioner=captioner)


def choose_server_model(model: str) -> None:
    """Describe with a model of the server that was looked at."""
    _save(captioner=SERVER, server=replace(load().server, model=model))


def ask_for(instruction: str) -> None:
    """Set what captioners are asked; blank, or the usual words: the usual."""
    text = " ".join(instruction.split())
    _save(instruction="" if text == INSTRUCTION else text)


def look_for_models(address: str, elsewhere: bool = False) -> None:
    """Ask a server for its models, and remember its address. elsewhere: the user allows this
    address to be another computer. Shows the error as a message."""
    old = load().server
    same = old.address == address.strip()
    server = ServerChoice(address.strip(), old.model if same else "", elsewhere)
    with _lock:
        _asked.clear()
    try:
        url_of(server.address)
        names = Server(server).models()
    except OtherComputer as error:
        told: dict[str, list[str] | str] = {"message": error.title, "allow": server.address}
    except UserError as error:
        told = {"message": in_words(error)}
    else:
        model = server.model if server.model in names else names[0] if len(names) == 1 else ""
        _save(captioner=SERVER, server=replace(server, model=model))
        told = {"models": names, "message": "" if names else strings.SERVER_EMPTY}
    with _lock:
        _asked.update(told)


def refresh() -> None:
    """Forget what is known of captioners and servers."""
    global _cached, _applied
    with _lock:
        _cached = _applied = None
        _asked.clear()


def _captioners() -> list[Captioner]:
    global _cached
    with _lock:
        if _cached is None or time.monotonic() - _cached[0] > REFRESH_S:
            _cached = time.monotonic(), found.captioners()
        return _cached[1]


def _apply() -> Progress | None:
    """Add new captions to the draft, each once, so that one that the user removes stays away. Return
    the progress, None if other photos are described."""
    global _applied
    with _lock:
        progress = jobs.progress()
        folder = draft.photos_dir()
        if progress is None or any(Path(path).parent != folder for path in progress.job.photos):
            return None
        job, count = _applied or (progress.job, 0)
        if job != progress.job or count > len(progress.lines):
            count = 0
        if new := progress.lines[count:]:
            draft.add_captions({Path(line.photo).name: line.caption for line in new})
        _applied = progress.job, len(progress.lines)
        return progress


def _save(**chosen: object) -> None:
    with _lock:
        kept = validated(Choices, asdict(load()) | _plain(chosen), "describe")
        files.write_json(_choices_file(), asdict(kept))


def _plain(chosen: dict[str, object]) -> dict[str, object]:
    return {
        key: asdict(value) if isinstance(value, ServerChoice) else value
        for key, value in chosen.items()
    }


def _choices_file() -> Path:
    return jobs.folder() / "choices.json"
