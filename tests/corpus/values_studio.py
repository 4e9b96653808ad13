"""Wrong values for the page's clicks, the endpoints for programs and the addresses of pictures.

Clicks, endpoints, their parameters and the routes are found by asking the program and Gradio, so
that a new one is tried without a word here.
"""

from __future__ import annotations

import inspect
import json
import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from corpus.cases import SILENT, TRACEBACK, UNEXPECTED, Case, demand, numbered, shortened
from corpus.house import GOOD, SECRET, copy_house, opened
from corpus.studio_here import Answer, Studio, opened_studio

from blockskip.studio import click_handlers, page, strings

HOSTILE: tuple[Any, ...] = (
    None,
    "",
    "x" * 100_000,
    "../../../../run.toml",
    "/etc/passwd",
    "C:\\Windows\\win.ini",
    "~nobody",
    "\0",
    "\ud800",
    "a\nb\u202e",
    "<img src=x onerror=alert(1)>",
    "nan",
    "1e309",
    -1,
    1.5,
    10**400,
    1e308,
    math.nan,
    math.inf,
    True,
    [],
    [math.nan] * 4,
    ["a", "b", "c", "d"],
    {},
    {"do": "delete"},
)
CARRIED = ("run", "file", "model", "value", "folder", "budget", "step", "id", "box", "caption")
# usual values of the endpoints' parameters
USUAL = {"run": GOOD[0], "format": "comfyui", "step": 0, "model": "demo", "budget": 8, "photos": 5}
USUAL |= {"steps": 0, "uploads": None, "kind": "cat", "name": "Momo", "seed": 0, "rank": 4}
USUAL |= {"speed": "fast", "anyway": True}
NUMBERS = ("budget", "photos", "steps", "seed", "rank", "step")
WRONG_NUMBERS: tuple[Any, ...] = ("x", "../x", [], {}, [1], -1, 10**30, 1e308, "nan", {"a": []})
PROBES = (
    *("../run.toml", "..%2frun.toml", "%2e%2e%2frun.toml", "..%252f..%252frun.toml", "....//x"),
    *(
        "%00",
        "a%00.png",
        "draft%00",
        "%ff%fe",
        "%c0%ae%c0%ae%2f",
        "%ed%a0%80",
        "%",
        "%zz",
        "a%0d%0ab",
    ),
    *("..\\run.toml", "..%5crun.toml", "C:%5cWindows%5cwin.ini", "%2fetc%2fpasswd", "//etc/passwd"),
    *("~", "~nobody", ".", "..", "%20", "x" * 300, "CON", "aux.png", "%F0%9F%90%88.png", "*", "?"),
    *("000-photo-1.png/", "000-photo-1.png%2f..%2f..%2frun.toml", "%e2%80%ae.png", "file:///x"),
)
QUERIES = ("low", "high", "seed", "box", "patches", "model", "size", "v")
WRONG_QUERIES = (
    "",
    "-1",
    "abc",
    "9" * 400,
    "1e9",
    "nan",
    "%00",
    "%ff",
    "1,2",
    "nan,0,1,1",
    "x" * 9999,
)


def cases(seed: int) -> list[Case]:
    """Return wrong clicks, values for endpoints, and addresses."""
    chance = random.Random(seed)
    return [
        *numbered("click", "clicks", _clicks(chance)),
        *numbered("api", "endpoints' parameters", _api_values(chance)),
        *numbered("route", "addresses", (_route_case(path) for path in _addresses(chance))),
    ]


def _clicks(chance: random.Random) -> list[tuple[Callable, Callable]]:
    """Every click × every key that a handler reads × hostile values."""
    source = inspect.getsource(click_handlers)
    read = re.findall(r"""payload(?:,\s*|\[|\.get\()["'](\w+)["']""", source)
    keys = sorted(set(CARRIED) | set(read))
    found = []
    for do in sorted(click_handlers.CLICK_HANDLERS):
        for value in HOSTILE:
            found.append(_click_case(do, dict.fromkeys(keys, value)))
            key = chance.choice(keys)
            found.append(_click_case(do, {"run": GOOD[0], "step": "12", key: value}))
    return found


def _click_case(do: str, carried: dict[str, Any]) -> tuple[Callable, Callable]:
    def check(data: Path) -> None:
        from blockskip.studio import actions

        with opened(data):
            press = actions.user_errors(page.on_click)
            for view in (GOOD[0], "../x"):
                said = _said_by(
                    lambda view=view: press(view, "", SimpleNamespace(_data={"do": do} | carried))
                )
                _check_words(said, f"click {do} {shortened(repr(carried), 80)}")
            for name in ("", "*"):
                page.refresh(name, "", "1")
            _check_draft(data)

    return lambda folder: copy_house(folder).folder.parent.parent, check


def _said_by(call: Callable[[], Any]) -> str:
    """Return the message of the gr.Error that a click ends with, "" if it works."""
    import gradio as gr

    try:
        call()
    except gr.Error as error:
        return str(error.message or error)
    return ""


def _check_words(said: str, what: str) -> None:
    general = strings.GENERAL_ERROR.partition("{")[0].strip()[:24]
    demand(general not in said, f"{what}: {said}", UNEXPECTED)
    demand("Traceback" not in said and "Error:" not in said, f"{what}: {said}", TRACEBACK)


def _check_draft(data: Path) -> None:
    path = data / "draft" / "draft.json"
    if path.exists():
        json.dumps(json.loads(path.read_text(encoding="utf-8")), allow_nan=False)


def _api_values(chance: random.Random) -> list[tuple[Callable, Callable]]:
    """Every parameter of every named endpoint × hostile values."""
    found = []
    for name, parameters in endpoints().items():
        for parameter in parameters:
            values = [*HOSTILE, *(WRONG_NUMBERS if parameter in NUMBERS else ())]
            for value in values:
                found.append(_api_case(name, parameters, {parameter: value}))
        for _ in range(8):  # all of them at once
            wrong = {parameter: chance.choice(HOSTILE) for parameter in parameters}
            found.append(_api_case(name, parameters, wrong))
        found.append(_api_case(name, parameters, {}, missing=True))
    return found


def endpoints() -> dict[str, list[str]]:
    """Return the endpoints for programs and the names of their parameters."""
    named = page.build().get_api_info()["named_endpoints"]
    return {name: [p["parameter_name"] for p in api["parameters"]] for name, api in named.items()}


def _certainly_wrong(wrong: dict[str, Any]) -> bool:
    """Return whether a number is of a type or size that cannot be meant."""
    if len(wrong) != 1:
        return False
    ((name, value),) = wrong.items()
    return name in NUMBERS and any(
        value == bad and type(value) is type(bad) for bad in WRONG_NUMBERS
    )


def _api_case(
    name: str, parameters: list[str], wrong: dict[str, Any], missing: bool = False
) -> tuple[Callable, Callable]:
    usual = USUAL | ({"steps": 40} if name == "/train" else {})
    values = [wrong[p] if p in wrong else usual.get(p) for p in parameters]
    values = values[:-1] if missing else values

    def check(studio: Studio) -> None:
        answer = studio.call(name, values)
        what = f"{name} {shortened(repr(wrong), 60)}"
        demand(answer.status < 500, f"{what}: status {answer.status}", TRACEBACK)
        _check_words(answer.text, what)
        taken = answer.status == 200 and answer.complete
        demand(taken or answer.text.strip(), f"{what}: refused without a word")
        if _certainly_wrong(wrong):
            demand(not taken, f"{what}: taken")
            ((parameter, value),) = wrong.items()
            words = (parameter, str(value), json.dumps(str(value)), shortened(str(value), 12)[:-1])
            named = any(word and word.lower() in answer.text.lower() for word in words)
            demand(named, f"{what}: refused without naming it: {shortened(answer.text, 120)}")

    return lambda folder: opened_studio(), check


def _addresses(chance: random.Random) -> list[str]:
    """Every route with parameters × probes, and the queries of the pictures' routes."""
    from blockskip.studio import pictures

    found = []
    for route in pictures.routes():
        holes = re.findall(r"{[^}]*}", route.path)
        for hole in holes:
            for probe in PROBES:
                path = route.path.replace(hole, probe)
                usual = {"{kind}": "photos", "{run}": GOOD[0], "{file:path}": "000-photo-1.png"}
                for name, value in (usual | {"{file}": "000-photo-1.png"}).items():
                    path = path.replace(name, value)
                found.append(f"{path}?size=320&v=")
        for name in QUERIES:
            for value in WRONG_QUERIES:
                good = {"size": "320", "low": "32", "high": "64", "seed": "0", "model": "demo"}
                query = "&".join(f"{k}={v}" for k, v in (good | {name: value}).items())
                path = route.path.replace("{kind}", "photos").replace("{run}", GOOD[0])
                path = re.sub(r"{[^}]*}", "nothing.png", path)
                found.append(f"{path}?{query}")
    gradio = ("/gradio_api/file=", "/file=", "/theme.css/", "/static/", "/assets/", "/blockskip/")
    found += [f"{prefix}{probe}" for prefix in gradio for probe in PROBES]
    return chance.sample(found, len(found))


def _route_case(path: str) -> tuple[Callable, Callable]:
    def check(studio: Studio) -> None:
        answer: Answer = studio.get(path)
        what = f"GET {shortened(path, 90)}"
        demand(answer.status < 500, f"{what}: status {answer.status}", TRACEBACK)
        demand(SECRET not in answer.text, f"{what}: it shows what is nobody's business", SILENT)
        demand("[settings]" not in answer.text, f"{what}: it shows run.toml", SILENT)
        if path.startswith("/blockskip/") and ("%00" in path or ".." in path):
            demand(answer.status in (400, 403, 404), f"{what}: status {answer.status}")
            demand("Traceback" not in answer.text, what, TRACEBACK)

    return lambda folder: opened_studio(), check
