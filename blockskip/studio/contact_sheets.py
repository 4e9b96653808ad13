"""Several pictures of a training as one PNG with captions, to be saved and shared.

Photos of the user are never on it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from PIL import Image, ImageDraw, ImageFont
from pydantic import Field
from pydantic.dataclasses import dataclass as checked
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from blockskip.core import presets
from blockskip.core.errors import NotFound, UserError
from blockskip.core.names import safe_name
from blockskip.core.validation import validated
from blockskip.data.photos import open_photo
from blockskip.runs import image_requests
from blockskip.runs.run import Run
from blockskip.studio import run_preferences, run_state, strings
from blockskip.studio.actions import find_run
from blockskip.studio.run_view import preview_prompts, step_label
from blockskip.studio.sheet_view import URL, Kind

CELL_PX, GAP_PX, LABEL_PX = 384, 14, 260
MOST_COLUMNS, MOST_ROWS = 8, 24
_PAPER, _INK, _FAINT, _BLANK = "#faf9f7", "#1d1b19", "#6f675f", "#e9e5e0"


@checked
class Query:
    """What is on the sheet. kind: one prompt before and after | all steps | own pictures. step,
    prompt: of a pair; the prompt's place in the settings."""

    kind: Kind
    step: int = Field(default=0, ge=0)
    prompt: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class Sheet:
    """rows: (label, picture or None for each column). name: of the file, without its ending."""

    title: str
    about: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Path | None]]]
    name: str


def route() -> Route:
    """Return the route to add to the web app."""
    return Route(f"{URL}/{{run}}", _serve, methods=["GET"])


async def _serve(request: Request) -> Response:
    return await run_in_threadpool(_answer, request)


def _answer(request: Request) -> Response:
    try:
        sent = {key: _number(value) for key, value in request.query_params.items()}
        made = sheet(find_run(request.path_params["run"]), validated(Query, sent, "The picture"))
        data = draw(made)
    except (UserError, OSError):
        return Response(status_code=404)
    named = f"attachment; filename*=utf-8''{quote(made.name)}.png"
    headers = {"content-disposition": named, "cache-control": "no-store"}
    return Response(data, media_type="image/png", headers=headers)


def _number(text: str) -> int | str:
    return int(text) if text.isdecimal() and len(text) < 10 else text


def sheet(run: Run, query: Query) -> Sheet:
    """Return what is on a sheet of a training. Raises UserError if there are no such pictures."""
    settings, pet = run.settings(), run_preferences.pet_name(run)
    if query.kind == "own":
        columns: list[str] = [strings.COMPARE["before"], strings.COMPARE["after"]]
        rows = _own_rows(run)
    else:
        columns, rows = _preview_rows(run, query)
    if not rows:
        raise NotFound(strings.SHEET_EMPTY, "")
    about = strings.SHEET_ABOUT.format(model=presets.model_row(settings.model).title)
    title = strings.SHEET_TITLE.format(name=pet)
    name = strings.SHEET_NAMES[query.kind].format(name=pet, step=query.step)
    return Sheet(title, about, columns, rows, safe_name(name, run.name))


def _preview_rows(run: Run, query: Query) -> tuple[list[str], list]:
    """Return the columns and the rows of pictures made while training."""
    state, prompts = run_state.read(run), preview_prompts(run.settings())
    steps = sorted({step for step, _ in state.images})
    if query.kind == "pair":
        steps = [step for step in steps if step in (0, query.step)]
        shown = [query.prompt] if query.prompt < len(prompts) else []
    else:
        steps = steps[:1] + steps[1:][1 - MOST_COLUMNS :]
        shown = list(range(len(prompts)))[:MOST_ROWS]
    rows = []
    for index in shown:
        made = [state.images.get((step, index)) for step in steps]
        paths = [run.folder / image.path if image else None for image in made]
        if any(paths):
            rows.append((prompts[index], paths))
    return [step_label(step) for step in steps], rows


def _own_rows(run: Run) -> list[tuple[str, list[Path | None]]]:
    done = [one for one in image_requests.all_requests(run) if one.state == "done"]
    folder = run.folder / "pictures"
    return [
        (one.prompt, [folder / one.id / f"{kind}.png" for kind in ("base", "tuned")])
        for one in done[:MOST_ROWS]
    ]


def draw(sheet: Sheet) -> bytes:
    """Return the sheet as PNG."""
    width = LABEL_PX + len(sheet.columns) * (CELL_PX + GAP_PX) + GAP_PX
    top = 118
    page = Image.new("RGB", (width, top + len(sheet.rows) * (CELL_PX + GAP_PX) + GAP_PX), _PAPER)
    pen = ImageDraw.Draw(page)
    pen.text((GAP_PX * 2, 20), sheet.title, _INK, _font(30))
    pen.text((GAP_PX * 2, 62), sheet.about, _FAINT, _font(17))
    for index, words in enumerate(sheet.columns):
        pen.text((_left(index), 90), words, _FAINT, _font(18))
    for place, (label, pictures) in enumerate(sheet.rows):
        y = top + place * (CELL_PX + GAP_PX)
        lines = list(_wrapped(label, _font(20), LABEL_PX - GAP_PX * 4))[:12]
        pen.multiline_text((GAP_PX * 2, y + 8), "\n".join(lines), _INK, _font(20), spacing=8)
        for index, path in enumerate(pictures):
            page.paste(_cell(path), (_left(index), y))
    file = io.BytesIO()
    page.save(file, "PNG")
    return file.getvalue()


def _left(column: int) -> int:
    return LABEL_PX + column * (CELL_PX + GAP_PX)


def _cell(path: Path | None) -> Image.Image:
    cell = Image.new("RGB", (CELL_PX, CELL_PX), _BLANK)
    if path is None:
        return cell
    try:
        image = open_photo(path)
    except UserError:
        return cell
    scale = CELL_PX / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    image = image.resize(size, Image.Resampling.LANCZOS)
    cell.paste(image, ((CELL_PX - size[0]) // 2, (CELL_PX - size[1]) // 2))
    return cell


def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)


def _wrapped(
    text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, px: int
) -> Iterator[str]:
    """Yield lines of at most `px` pixels, where words allow it."""
    line = ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and font.getlength(longer) > px:
            yield line
            line = word
        else:
            line = longer
    yield line
