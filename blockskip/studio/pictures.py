"""HTTP routes for the page's pictures: draft photos, their crops, a run's photos and pictures.

Gradio can only serve files from folders that are opened to the browser as a whole. Here a picture
is named by run and file, looked up in one folder, decoded as an image and encoded again.
"""

from __future__ import annotations

import html
import io
from functools import lru_cache
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from PIL import Image
from pydantic import Field
from pydantic.dataclasses import dataclass
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from blockskip.core.errors import UserError
from blockskip.core.presets import ModelRow, model_row
from blockskip.core.settings import Patches, Seed, Settings
from blockskip.core.validation import validated
from blockskip.data import crops
from blockskip.data.photos import Photo, open_photo, open_small
from blockskip.data.subject_boxes import Box
from blockskip.memory.planning.model_stats import model_stats
from blockskip.runs.run import list_runs
from blockskip.studio import draft

ROOT_URL = "/blockskip/picture"
CROPS_URL = "/blockskip/crops"
DRAFT = "draft"
SIZES = (320, 1024)
MAX_PX = 2048  # side of a crop
CropSide = Annotated[int, Field(ge=1, le=MAX_PX)]
NOISE = (0.9, 0.5, 0.1)  # of the crops shown, high to low


@dataclass
class CropQuery:
    """What the page asks of a photo's crops. box: four edges with commas between them, or ""."""

    low: CropSide
    high: CropSide
    seed: Seed
    patches: Patches
    model: str
    box: str = ""


def url(
    kind: str, run: str, file: str, size: int = SIZES[0], version: str = "", escape: bool = True
) -> str:
    """Return the URL of a picture, escaped for an attribute unless `escape` is False.

    kind: draft | photos | previews | pictures. size: longest side in pixels, one of SIZES. version:
    changes when the file does.
    """
    address = (
        f"{ROOT_URL}/{kind}/{quote(run or '-', safe='')}/{quote(file)}"
        f"?size={size}&v={quote(version, safe='')}"
    )
    return html.escape(address) if escape else address


def routes() -> list[Route]:
    """Return the routes to add to the web app."""
    return [
        Route(f"{ROOT_URL}/{{kind}}/{{run}}/{{file:path}}", _serve, methods=["GET"]),
        Route(f"{CROPS_URL}/{{file}}", _serve_crops, methods=["GET"]),
    ]


def find(kind: str, run: str, file: str) -> Path | None:
    """Return the path of a picture, None for anything that is not one of the studio's pictures."""
    if kind == DRAFT:
        folder = draft.photos_dir()
    else:
        owner = next((r for r in list_runs() if r.name == run), None)
        if owner is None or kind not in ("photos", "previews", "pictures"):
            return None
        folder = owner.folder / kind
    try:
        path = (folder / file).resolve()
        inside = path.is_relative_to(folder.resolve()) and path.is_file()
    except (OSError, RuntimeError, ValueError):  # no name, such as one with %00, or a loop of links
        return None
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
    """Return the crops that training would use of a draft photo at each of NOISE, side by side."""
    path = find(DRAFT, "", request.path_params["file"])
    try:
        query = validated(CropQuery, dict(request.query_params), "The crops")
        if path is None:
            return Response(status_code=404)
        box = Box(*map(float, query.box.split(","))) if query.box else None
        settings = Settings.of(
            patches=query.patches, s_min_px=query.low, s_max_px=query.high, model=query.model
        )
        return _response(*_strip(path, path.stat().st_mtime_ns, box, settings, query.seed))
    except (UserError, OSError, ValueError, TypeError):
        return Response(status_code=404)


@lru_cache(maxsize=64)
def _strip(
    path: Path, changed: int, box: Box | None, settings: Settings, seed: int
) -> tuple[bytes, str]:
    """Return the crops as one picture. changed: the photo's modification time, for the cache."""
    photo = Photo(path, "", *open_photo(path).size, "", box)
    step = _step_px(model_row(settings.model))
    shown = [image for _, image in crops.crops_at(photo, settings, step, NOISE, seed)]
    side = min(320, max(192, shown[0].width))
    strip = Image.new("RGB", (side * len(shown), side))
    for index, image in enumerate(shown):
        strip.paste(image.resize((side, side), Image.Resampling.LANCZOS), (index * side, 0))
    return _encoded(strip)


def _step_px(row: ModelRow) -> int:
    """Return the step between crop sides in pixels."""
    return model_stats(row.name).pixels_a_token


@lru_cache(maxsize=256)
def _picture(path: Path, changed: int, size: int) -> tuple[bytes, str]:
    """Return (bytes, media type) of a picture, at most `size` pixels a side.

    Pictures up to 256 pixels are lossless. changed: the file's modification time, for the cache.
    """
    image, whole = open_small(path, size)
    image.thumbnail((size, size))
    return _encoded(image.convert("RGB"), max(whole) <= 256)


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
