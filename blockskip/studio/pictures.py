"""Serves the pictures the page shows: photos of the draft, photos and previews of a run, nothing
else.

Gradio could only show files from folders opened to the browser as a whole. Here a picture is named
by run and file, looked up below its one folder, read as an image and sent as a fresh one.
"""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from blockskip import runs
from blockskip.events import UserError
from blockskip.photos import open_photo
from blockskip.studio import draft

ROOT_URL = "/blockskip/picture"
DRAFT = "draft"
SIZES = (320, 1024)


def url(kind: str, run: str, file: str, size: int = SIZES[0], version: str = "") -> str:
    """The address of a picture. kind: draft | photos | previews. version: changes when the file
    does."""
    return (
        f"{ROOT_URL}/{kind}/{quote(run or '-', safe='')}/{quote(file)}"
        f"?size={size}&amp;v={quote(version, safe='')}"
    )


def routes() -> list[Route]:
    """The route to add to the web app."""
    return [Route(f"{ROOT_URL}/{{kind}}/{{run}}/{{file:path}}", _serve, methods=["GET"])]


def find(kind: str, run: str, file: str) -> Path | None:
    """The picture's file, None for anything that is no picture of the studio."""
    if kind == DRAFT:
        folder = draft.photos_dir()
    else:
        found = next((r for r in runs.list_runs() if r.name == run), None)
        if found is None or kind not in ("photos", "previews"):
            return None
        folder = found.photos_dir if kind == "photos" else found.previews_dir
    path = (folder / file).resolve()
    inside = path.is_relative_to(folder.resolve()) and path.is_file()
    return path if inside else None


def _serve(request: Request) -> Response:
    path = find(**request.path_params)
    size = int(request.query_params.get("size", "0")) if path else 0
    if path is None or size not in SIZES:
        return Response(status_code=404)
    try:
        data, media = _picture(path, path.stat().st_mtime_ns, size)
    except (UserError, OSError):
        return Response(status_code=404)
    return Response(
        data,
        media_type=media,
        headers={
            "cache-control": "private, max-age=86400",
            "content-security-policy": "default-src 'none'",
        },
    )


@lru_cache(maxsize=256)
def _picture(path: Path, changed: int, size: int) -> tuple[bytes, str]:
    """The picture as bytes, at most `size` pixels a side; small ones lose nothing. changed: its
    time."""
    image = open_photo(path).convert("RGB")
    small = max(image.size) <= 256
    image.thumbnail((size, size))
    file = io.BytesIO()
    if small:
        image.save(file, "PNG")
    else:
        image.save(file, "JPEG", quality=88)
    return file.getvalue(), "image/png" if small else "image/jpeg"
