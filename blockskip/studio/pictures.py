"""Serves the pictures the page shows: photos of the draft, crops of them, photos and pictures of a
run, nothing else.

Gradio could only show files from folders opened to the browser as a whole. Here a picture is named
by run and file, looked up below its one folder, read as an image and sent as a fresh one.
"""

from __future__ import annotations

import html
import io
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from blockskip.core.errors import UserError
from blockskip.core.presets import ModelRow, model_row
from blockskip.core.settings import Settings
from blockskip.data import crops
from blockskip.data.photos import Photo, open_photo
from blockskip.data.subject_boxes import Box
from blockskip.memory.planning.model_stats import model_stats
from blockskip.runs.run import list_runs
from blockskip.studio import draft

ROOT_URL = "/blockskip/picture"
CROPS_URL = "/blockskip/crops"
DRAFT = "draft"
SIZES = (320, 1024)
MAX_PX = 2048  # side of a crop
NOISE = (0.9, 0.5, 0.1)  # of the crops shown, much to little


def url(
    kind: str, run: str, file: str, size: int = SIZES[0], version: str = "", escape: bool = True
) -> str:
    """The address of a picture, for an attribute unless `escape` is off.

    kind: draft | photos | previews | pictures. version: changes when the file does.
    """
    address = (
        f"{ROOT_URL}/{kind}/{quote(run or '-', safe='')}/{quote(file)}"
        f"?size={size}&v={quote(version, safe='')}"
    )
    return html.escape(address) if escape else address


def routes() -> list[Route]:
    """The routes to add to the web app."""
    return [
        Route(f"{ROOT_URL}/{{kind}}/{{run}}/{{file:path}}", _serve, methods=["GET"]),
        Route(f"{CROPS_URL}/{{file}}", _serve_crops, methods=["GET"]),
    ]


def find(kind: str, run: str, file: str) -> Path | None:
    """The picture's file, None for anything that is no picture of the studio."""
    if kind == DRAFT:
        folder = draft.photos_dir()
    else:
        found = next((r for r in list_runs() if r.name == run), None)
        if found is None or kind not in ("photos", "previews", "pictures"):
            return None
        folder = found.folder / kind
    path = (folder / file).resolve()
    inside = path.is_relative_to(folder.resolve()) and path.is_file()
    return path if inside else None


async def _serve(request: Request) -> Response:
    return await run_in_threadpool(_answer, request)


def _answer(request: Request) -> Response:
    path = find(**request.path_params)
    size = request.query_params.get("size", "")
    if path is None or size not in map(str, SIZES):
        return Response(status_code=404)
    try:
        return _response(*_picture(path, path.stat().st_mtime_ns, int(size)))
    except (UserError, OSError):
        return Response(status_code=404)


async def _serve_crops(request: Request) -> Response:
    return await run_in_threadpool(_crops, request)


def _crops(request: Request) -> Response:
    """What the trainer would see of a photo of the draft, with the frame and the crops given: one
    picture of NOISE's crops, side by side."""
    asked = request.query_params
    path = find(DRAFT, "", request.path_params["file"])
    try:
        box = Box(*map(float, asked["box"].split(","))) if asked.get("box") else None
        low, high, seed = (int(asked[name]) for name in ("low", "high", "seed"))
        if path is None or not 0 < low <= high <= MAX_PX or seed < 0:
            return Response(status_code=404)
        settings = Settings.of(
            patches=asked["patches"], s_min_px=low, s_max_px=high, model=asked["model"]
        )
        return _response(*_strip(path, path.stat().st_mtime_ns, box, settings, seed))
    except (UserError, OSError, ValueError, KeyError, TypeError):
        return Response(status_code=404)


@lru_cache(maxsize=64)
def _strip(
    path: Path, changed: int, box: Box | None, settings: Settings, seed: int
) -> tuple[bytes, str]:
    """The crops as one picture. changed: the photo's time."""
    photo = Photo(path, "", *open_photo(path).size, "", box)
    step = _step_px(model_row(settings.model))
    shown = [image for _, image in crops.crops_at(photo, settings, step, NOISE, seed)]
    side = min(320, max(192, shown[0].width))
    strip = Image.new("RGB", (side * len(shown), side))
    for place, image in enumerate(shown):
        strip.paste(image.resize((side, side), Image.Resampling.LANCZOS), (place * side, 0))
    return _encoded(strip)


def _step_px(row: ModelRow) -> int:
    """Between sides of crops."""
    return model_stats(row.name).pixels_a_token


@lru_cache(maxsize=256)
def _picture(path: Path, changed: int, size: int) -> tuple[bytes, str]:
    """The picture as bytes, at most `size` pixels a side; small ones lose nothing. changed: its
    time."""
    image = open_photo(path).convert("RGB")
    small = max(image.size) <= 256
    image.thumbnail((size, size))
    return _encoded(image, small)


def _encoded(image: Image.Image, lossless: bool = False) -> tuple[bytes, str]:
    file = io.BytesIO()
    if lossless or max(image.size) <= 256:
        image.save(file, "PNG")
        return file.getvalue(), "image/png"
    image.save(file, "JPEG", quality=88)
    return file.getvalue(), "image/jpeg"


def _response(data: bytes, media: str) -> Response:
    return Response(
        data,
        media_type=media,
        headers={
            "cache-control": "private, max-age=86400",
            "content-security-policy": "default-src 'none'",
        },
    )
