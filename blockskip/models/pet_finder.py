"""Look for pets in photos with the tool “detector” (presets/tools.toml), in a process of its own: on
the processor, at low priority, without network.

    python -m blockskip.models.pet_finder FOLDER

FOLDER/wanted.json names the photos; it may change while the process runs, which ends when all were
looked at. What was seen in a photo is written at once, to a file named by the photo's hash, so a
photo is looked at only once, whatever pet is looked for (data/sightings.py). Those who ask do not
import torch.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from blockskip.core import files, processes
from blockskip.core.errors import Unexpected, UserError, from_kind
from blockskip.core.repositories import tool_row
from blockskip.core.shortage import shortage
from blockskip.data.photos import file_sha, open_photo
from blockskip.data.sightings import LEAST_SCORE, Seen, Sighting, clean, look
from blockskip.models.sources.tools import find_tool, load_tool

if TYPE_CHECKING:
    from PIL import Image
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)
TOOL = "detector"
Progress = Callable[[int, int], None]
_POLL_S = 0.1
_VERSION = 1  # of what is written; photos with other versions are looked at again


def search(photos: Sequence[Path], folder: Path) -> None:
    """Have photos looked at, by the process that runs or by a new one. Does nothing if all were.

    After a failure nothing is started until other photos are asked for, or `forget_problem` is
    called. Raises UserError if no process can be started.
    """
    wanted = [str(photo.absolute()) for photo in photos]
    if _wanted(folder) != wanted:
        files.write_json(_wanted_file(folder), wanted)
        if not is_running(folder):
            forget_problem(folder)
    missing = any(seen_in(photo, folder) is None for photo in photos)
    if missing and not is_running(folder) and problem(folder) is None:
        module, log_file = "blockskip.models.pet_finder", folder / "finder.log"
        processes.start_holder(module, [str(folder)], log_file)


def seen_in(photo: Path, folder: Path) -> tuple[Seen, ...] | None:
    """Return what was seen in a photo, surest first, None if it was not looked at yet."""
    try:
        stat = photo.stat()
        return _known(folder / _result_name(photo, stat.st_size, stat.st_mtime_ns))
    except (OSError, ValueError):
        return None


def sightings(photos: Sequence[Path], kind: str, folder: Path) -> dict[Path, Sighting]:
    """Return what is known of a kind of pet, for the photos that were looked at."""
    known = ((photo, seen_in(photo, folder)) for photo in photos)
    return {photo: look(seen, kind) for photo, seen in known if seen is not None}


def wait(photos: Sequence[Path], folder: Path, progress: Progress = lambda *_: None) -> None:
    """Have photos looked at, and return when all were, or when it failed (`problem`). progress:
    called with the number of the photo that is looked at, and how many there are."""
    while (seen := len(sightings(photos, "", folder))) < len(photos):
        progress(seen + 1, len(photos))
        search(photos, folder)
        if problem(folder) is not None and not is_running(folder):
            return
        time.sleep(_POLL_S)


def is_running(folder: Path) -> bool:
    """Return whether a process looks at photos."""
    return processes.is_locked(_lock(folder))


def stop(folder: Path) -> None:
    """End the process, if one runs. What it has seen is kept."""
    processes.kill(processes.holder(_lock(folder)))
    forget_problem(folder)


def problem(folder: Path) -> UserError | None:
    """Return why the last process looked at no more photos, None if it ended well."""
    try:
        told = files.read_json(_problem_file(folder), dict[str, str])
        return from_kind(told["kind"], told["error"], told["remedy"])
    except (OSError, ValueError, KeyError):
        return None


def forget_problem(folder: Path) -> None:
    """Let the next `search` try again."""
    files.remove(_problem_file(folder))


def _lock(folder: Path) -> Path:
    return folder / "finder.lock"


def _wanted_file(folder: Path) -> Path:
    return folder / "wanted.json"


def _problem_file(folder: Path) -> Path:
    return folder / "problem.json"


def _wanted(folder: Path) -> list[str] | None:
    try:
        return files.read_json(_wanted_file(folder), list[str])
    except (OSError, ValueError):
        return None


@lru_cache(maxsize=1024)
def _result_name(photo: Path, size_bytes: int, changed_ns: int) -> str:
    detector = files.fingerprint(tool_row(TOOL).source, _VERSION)[:8]
    return f"{file_sha(photo)}-{detector}.json"


@lru_cache(maxsize=1024)
def _known(path: Path) -> tuple[Seen, ...]:
    """Return what a file tells, which is never changed. Raises OSError, ValueError."""
    return tuple(clean(files.read_json(path, list[Seen])))


def look_at(image: Image.Image, model: PreTrainedModel) -> list[Seen]:
    """Return what a detector sees in an upright RGB photo, surest first."""
    import torch
    from transformers import RTDetrImageProcessorPil

    processor = RTDetrImageProcessorPil()  # to 640 × 640 whatever the shape, as D-FINE's too
    with torch.inference_mode():
        outputs = model(**processor(images=image, return_tensors="pt"))
    return read_outputs(outputs, model.config.id2label)


def read_outputs(outputs: object, names: dict[int, str]) -> list[Seen]:
    """Convert a detector's output for one photo. outputs: has `logits` (1, queries, labels) and
    `pred_boxes` (1, queries, 4) as shares of the photo. names: by label."""
    from transformers import RTDetrImageProcessorPil

    (found,) = RTDetrImageProcessorPil().post_process_object_detection(outputs, LEAST_SCORE)
    values = (found[key].tolist() for key in ("labels", "scores", "boxes"))
    return clean(
        Seen(names[label], score, tuple(box)) for label, score, box in zip(*values, strict=True)
    )


def _look_at_all(folder: Path) -> None:
    """Look at all wanted photos. Raises UserError."""
    processes.lower_priority(5)
    detector = find_tool(TOOL)
    from transformers import AutoModelForObjectDetection

    model = load_tool(AutoModelForObjectDetection, detector)
    tried: set[Path] = set()
    while (photo := _next(folder, tried)) is not None:
        tried.add(photo)
        with suppress(OSError):  # it was removed meanwhile
            stat = photo.stat()
            name = _result_name(photo, stat.st_size, stat.st_mtime_ns)
            files.write_json(folder / name, [asdict(one) for one in _look(photo, model)])
    unseen = [path for path in _wanted(folder) or [] if seen_in(Path(path), folder) is None]
    if tried & set(map(Path, unseen)):  # or it would be tried for ever
        raise Unexpected("Not all photos could be looked at.", "Remove them, and add them again.")


def _look(photo: Path, model: PreTrainedModel) -> list[Seen]:
    try:
        return look_at(open_photo(photo), model)
    except UserError as error:  # a photo that cannot be opened shows nothing
        log.warning("%s", error)
        return []


def _next(folder: Path, tried: Iterable[Path]) -> Path | None:
    wanted = map(Path, _wanted(folder) or [])
    return next((p for p in wanted if p not in tried and seen_in(p, folder) is None), None)


def main(folder: Path) -> int:
    """Run the child process. Returns 0, or 1 after writing the problem."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    broken = Unexpected(
        "Looking for the pet broke off.", f"Details are in {folder / 'finder.log'}."
    )

    def prepare() -> None:  # what is told if the system ends this process
        files.write_json(_problem_file(folder), broken.to_dict())

    with processes.holding(_lock(folder), prepare) as ours:
        if not ours:
            return 0
        try:
            _look_at_all(folder)
        except Exception as error:
            log.exception("failed")
            told = error if isinstance(error, UserError) else shortage(error) or broken
            files.write_json(_problem_file(folder), told.to_dict())
            return 1
        forget_problem(folder)
        return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
