"""The pictures by which the steps of a run are compared: its previews, and more of the same prompts.

`likeness/step-NNNNN/` in the run's folder holds those that were made to measure. A round is one
more picture of every prompt at every step and before the first, with a seed of its own. What was
made of a round that was broken off is kept, and goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from PIL import Image

from blockskip.core import events, files, processes, stages
from blockskip.core.errors import WrongState
from blockskip.runs import image_requests
from blockskip.runs.checkpoints import saved_steps
from blockskip.runs.folders import by_step
from blockskip.runs.likeness_types import ImageKey
from blockskip.runs.run import Run, list_runs

FIRST_SEED = 2000
MAX_ROUNDS = 4  # made at once
_LIMIT_S = 600.0  # time for more than one round

KeyedImages = dict[ImageKey, Image.Image]
Progress = Callable[[int, int], None]


def previews(run: Run) -> dict[int, KeyedImages]:
    """Load the run's preview pictures by step. Their index serves as the seed in the key, since it
    stands for the same noise at every step."""
    return {
        step: {(key[0], int(path.stem)): image for path, key, image in _load(folder)}
        for step, folder in by_step(run.previews_dir, "").items()
    }


def compared(run: Run) -> dict[int, KeyedImages]:
    """Return the previews by step, with the pictures of complete rounds, whose seeds begin at
    FIRST_SEED."""
    pictures = previews(run)
    made = _made(run)
    for seed in _complete_seeds(run, made):
        for step in _steps(run):
            extra = {key: image for key, image in made[step].items() if key[1] == seed}
            pictures.setdefault(step, {}).update(extra)
    return pictures


def next_rounds(run: Run) -> tuple[int, float | None]:
    """Return how many rounds to make next, and the seconds that they will take, None if unknown:
    as many as fit ten minutes, one at least."""
    num = len(_steps(run)) * len(_prompts(run))
    each = _seconds_per_picture(run)
    if each is None:
        return 1, None
    rounds = min(MAX_ROUNDS, max(1, math.floor(_LIMIT_S / max(1e-6, each * num))))
    return rounds, rounds * num * each


def make_rounds(run: Run, rounds: int, progress: Progress) -> None:
    """Make `rounds` more rounds, or what is left of them. progress(n, total) after each step's.

    The model is opened here, and gone afterwards. The start of a training ends this process, as it
    ends the one for own pictures, whose lock it holds meanwhile. Raises UserError if a model is at
    work already.
    """
    with processes.held(image_requests.lock(run)) as ours:
        others = [other for other in list_runs() if other.folder != run.folder]
        busy = run.worker() or any(other.worker() or other.image_worker() for other in others)
        if not ours or busy:
            raise WrongState(
                "Another model is at work: there is room for one at a time.",
                "Wait until it is done, then ask for more pictures again.",
            )
        made = _made(run)
        first = FIRST_SEED + len(_complete_seeds(run, made))
        wanted = [
            (step, [key for key in _keys(run, seed) if key not in made.get(step, {})])
            for seed in range(first, first + rounds)
            for step in _steps(run)
        ]
        _sample(run, [(step, keys) for step, keys in wanted if keys], progress)


def _sample(run: Run, wanted: Sequence[tuple[int, list[ImageKey]]], progress: Progress) -> None:
    import torch

    from blockskip.memory.placement import free_memory
    from blockskip.runs.image_session import ImageSession

    if not wanted:
        return
    if threads := run.settings().threads:
        torch.set_num_threads(threads)
    done, total = 0, sum(len(keys) for _, keys in wanted)
    progress(done, total)
    session, px = ImageSession(run, exact=True), run.settings().progress_px
    for step, keys in wanted:
        prompts, seeds = [prompt for prompt, _ in keys], [seed for _, seed in keys]
        strength = 1.0 if step else 0.0  # of step 0 no LoRA is kept
        images = session.generate(prompts, seeds, step or None, strength, px=px)
        for (prompt, seed), image in zip(keys, images, strict=True):
            name = f"{_prompts(run).index(prompt):02d}-{seed}.png"
            path = run.likeness_dir / f"step-{step:05d}" / name
            files.write_bytes(path, image_requests.png_bytes(image, prompt, seed))
        done += len(keys)
        progress(done, total)
    del session
    free_memory()


def _made(run: Run) -> dict[int, KeyedImages]:
    return {
        step: {key: image for _, key, image in _load(folder)}
        for step, folder in by_step(run.likeness_dir, "").items()
    }


def _load(folder: Path) -> list[tuple[Path, ImageKey, Image.Image]]:
    """Return (path, (prompt, seed), picture) of each picture of a folder that this program made, as
    far as they can be read."""
    loaded = []
    for path in sorted(folder.glob("[0-9]*.png")):
        with suppress(OSError, ValueError, KeyError), Image.open(path) as image:
            key = str(image.info["prompt"]), int(image.info["seed"])
            loaded.append((path, key, image.convert("RGB")))
    return loaded


def _complete_seeds(run: Run, made: dict[int, KeyedImages]) -> list[int]:
    """Return the seeds, in order from the first, of which every picture was made."""
    seeds, seed = [], FIRST_SEED
    while _prompts(run) and all(
        key in made.get(step, {}) for step in _steps(run) for key in _keys(run, seed)
    ):
        seeds.append(seed)
        seed += 1
    return seeds


def _keys(run: Run, seed: int) -> list[ImageKey]:
    return [(prompt, seed) for prompt in _prompts(run)]


def _prompts(run: Run) -> list[str]:
    return list(dict.fromkeys(run.settings().preview_prompts))


def _steps(run: Run) -> list[int]:
    """Return the steps that have previews and a LoRA, and 0."""
    shown = by_step(run.previews_dir, "")
    return [0, *(step for step in saved_steps(run) if step in shown)]


def _seconds_per_picture(run: Run) -> float | None:
    """Return what a preview took when the run was done, None if that is not known."""
    try:
        size_bytes = run.events_path.stat().st_size
    except OSError:
        return None
    return _preview_seconds(run, size_bytes)


@lru_cache(maxsize=32)  # the page asks several times a second
def _preview_seconds(run: Run, size_bytes: int) -> float | None:
    seen, _ = run.events()
    start = max((i for i, e in enumerate(seen) if isinstance(e, events.Started)), default=0)
    images = sum(isinstance(e, events.Image) and not e.large for e in seen[start:])
    done = next((e for e in seen[start:] if isinstance(e, events.Done)), None)
    spent = done.stages.get(stages.PREVIEW, 0.0) if done else 0.0
    return spent / images if spent and images else None
