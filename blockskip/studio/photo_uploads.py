"""The HTTP route by which the page adds the photos that it has uploaded.

The page uploads photos in small parts, to Gradio's route for uploads, and names each part here once
it has arrived (assets/photos.js). A photo is in the draft a moment after it was dropped, and what
is read is not lost when the tab is closed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from pydantic import StrictBool
from pydantic.dataclasses import dataclass
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from blockskip.core.errors import BadInput, UserError
from blockskip.core.validation import validated
from blockskip.studio import draft, measuring
from blockskip.studio.formatting import in_words
from blockskip.studio.inputs import UploadPath

URL = "/blockskip/photos"


@dataclass
class Part:
    """Some uploaded files. first: whether they begin an addition."""

    uploads: list[UploadPath]
    first: StrictBool


def route() -> Route:
    """Return the route to add to the web app."""
    return Route(URL, _serve, methods=["POST"])


async def _serve(request: Request) -> Response:
    return await run_in_threadpool(_answer, await request.body())


def _answer(body: bytes) -> Response:
    """Add the files of one part, and answer with the draft's number of photos, or the problem."""
    measuring.press()
    try:
        sent = validated(dict, json.loads(body), "photos")
        added = add(sent.get("uploads"), sent.get("first", True))
        return JSONResponse({"photos": len(added.photos)})
    except UserError as error:
        return JSONResponse({"problem": in_words(error)}, 400)
    except (ValueError, RecursionError):
        return JSONResponse({"problem": "photos: this is not what the page sends."}, 400)


def add(uploads: list[str], first: bool = True) -> draft.Draft:
    """Add uploaded photos and captions to the draft and delete the uploaded files.

    first: False for a later part of one addition. Raises UserError for a path that is no upload.
    """
    part = validated(Part, {"uploads": uploads, "first": first}, "photos")
    paths = [Path(path) for path in part.uploads]
    if not all(map(_is_upload, paths)):
        raise BadInput("photos: one of the paths is not that of an upload.")
    try:
        return draft.add(paths, first=part.first)
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


def _is_upload(path: Path) -> bool:
    """Return whether a file lies where Gradio writes uploads, each in a folder of its own."""
    try:
        folder = Path(os.environ["GRADIO_TEMP_DIR"]).resolve()
        return path.resolve().parent.parent == folder and path.is_file()
    except (OSError, RuntimeError, ValueError, KeyError):
        return False
