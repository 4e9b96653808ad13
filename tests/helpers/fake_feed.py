"""Untrained runs for studio tests: real run folders with real events.

`make_run` writes the folder as `create_run` does. `feed` appends the events of a training up to a
step, and then an end if one is given.
"""

from __future__ import annotations

import math
import random
from pathlib import Path

import psutil
from PIL import Image as Picture

from blockskip.core import events, files
from blockskip.memory.planning import planner
from blockskip.runs import checkpoints, image_requests
from blockskip.runs.run import Run, create_run
from blockskip.studio import run_preferences

PROMPTS = (
    "a photo of momo cat",
    "a photo of momo cat on the beach",
    "a photo of momo cat in the snow",
    "a photo of a cat",
)


def make_photos(folder: Path, count: int = 5, side: int = 64) -> list[Path]:
    """Write small distinct pictures, each a coloured blob on a coloured background."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(count):
        picture = Picture.new(
            "RGB", (side, side), (90 + 25 * index % 160, 150, 190 - 20 * index % 90)
        )
        blob = Picture.new("RGB", (side // 2, side // 2), (200, 120 + 12 * index % 100, 70))
        picture.paste(blob, (side // 4, side // 4 + index % 5))
        paths.append(folder / f"photo {index + 1}.png")
        picture.save(paths[-1])
    return paths


def make_run(
    photos: list[Path], steps: int = 300, name: str = "", pet: str = "Momo", drawn: bool = True
) -> Run:
    """Create a run without a worker."""
    settings = planner.choose_settings(
        trigger="momo",
        class_name="cat",
        steps=steps,
        preview_every=max(1, steps // 4),
        preview_prompts=PROMPTS,
    )
    run = create_run(settings, photos, name)
    run_preferences.save(run, pet=pet, drawn=drawn)
    return run


def change_model(run: Run, model: str, before: str = "demo") -> None:
    """Let the run be one of another model."""
    file = run.folder / "run.toml"
    text = file.read_text(encoding="utf-8")
    assert text.count(f'model = "{before}"') == 1
    files.write_text(file, text.replace(f'model = "{before}"', f'model = "{model}"'))


def feed(
    run: Run,
    until: int,
    end: events.Event | None = None,
    seconds: float = 0.4,
    begin: float = 1.8e9,
) -> None:
    """Append the events of a training up to step `until`, then `end` if given."""
    settings, now = run.settings(), begin
    run.append(events.Started(steps=settings.steps, time=now))
    for stage, total in (("photos", 5), ("text", 5), ("latents", 40)):
        now += seconds
        run.append(events.Progress(stage=stage, n=total, total=total, time=now))
    learn(run, 0, until, now, seconds)
    if end is not None:
        run.append(end)


def done(run: Run) -> events.Done:
    """Return the final event of a successful training, and write its exported file (as text)."""
    path = run.exports_dir / f"{run.name}.safetensors"
    files.write_text(path, "not a real LoRA")
    relative = path.relative_to(run.folder).as_posix()
    steps = run.settings().steps
    run.append(events.Saved(kind="export", path=relative, step=steps))
    return events.Done(
        adapter="checkpoints/step-00300.safetensors",
        exported=relative,
        steps=steps,
        seconds=95.0,
        stages={"train": 90.0},
        final_loss=0.29,
        peak_rss_gib=1.6,
        peak_vram_gib=-1.0,
    )


def learn(run: Run, first: int, last: int, now: float, seconds: float = 0.4) -> None:
    """Append the events of training from step `first` to step `last`, pictures included."""
    settings, chance = run.settings(), random.Random(first)
    for step in range(first, last + 1):
        now += seconds
        if step % settings.preview_every == 0 or step == settings.steps:
            _pictures(run, step, now)
        if step == 0:
            continue
        loss = 0.25 + 0.35 * math.exp(-step / 60) + 0.08 * chance.random()
        run.append(events.Loss(step=step, loss=loss, seconds=seconds, time=now))
        run.append(
            events.Progress(
                stage="train",
                n=step,
                total=settings.steps,
                time=now,
                eta_s=seconds * (settings.steps - step),
            )
        )
        run.append(
            events.Memory(
                rss_gib=1.1 + 0.5 * (1 - math.exp(-step / 9)),
                time=now,
                ram_used_gib=7.5,
                ram_total_gib=16.0,
            )
        )


def keep(run: Run, *steps: int) -> None:
    """Write LoRAs of these steps (as text), and the last as the newest checkpoint too."""
    for step in steps:
        files.write_text(checkpoints.adapter_path(run, step), f"the LoRA of step {step}")
    files.write_text(run.checkpoints_dir / f"step-{steps[-1]:05d}.safetensors", "not real either")


def feed_long(run: Run, lines: int, begin: float = 1.8e9) -> None:
    """Append a training of about `lines` events quickly, with the bytes of `feed`'s events but no
    pictures."""
    loss = events.to_json(events.Loss(step=111111, loss=0.25, seconds=0.4, time=222222))
    progress = events.to_json(
        events.Progress(stage="train", n=111111, total=333333, time=222222, eta_s=9.0)
    )
    memory = events.to_json(
        events.Memory(
            rss_gib=1.5,
            ram_used_gib=7.5,
            ram_total_gib=16.0,
            vram_gib=6.125,
            vram_used_gib=7.25,
            vram_total_gib=12.0,
            disk_free_gib=90.0,
            disk_run_gib=0.375,
            time=222222,
        )
    )
    steps = lines // 3
    both = "\n".join((loss, progress, memory, "")).replace("333333", str(steps))
    run.append(events.Started(steps=steps, time=begin))
    with open(run.events_path, "a", encoding="utf-8", newline="\n") as file:
        for step in range(1, steps + 1):
            now = f"{begin + step * 0.4:.1f}"
            file.write(both.replace("111111", str(step)).replace("222222", now))


def seem_alive(run: Run) -> None:
    """Register this process as the run's worker, so that the run counts as running."""
    me = psutil.Process()
    files.write_json(run.folder / "worker.json", {"pid": me.pid, "create_time": me.create_time()})


def _pictures(run: Run, step: int, now: float) -> None:
    photo = Picture.open(sorted(run.photos_dir.iterdir())[0]).convert("RGB")
    for index, prompt in enumerate(PROMPTS):
        path = run.previews_dir / f"step-{step:05d}" / f"{index:02d}.png"
        noise = Picture.effect_noise(photo.size, 70).convert("RGB")
        mixed = Picture.blend(noise, photo, min(1.0, step / run.settings().steps))
        files.write_bytes(path, image_requests.png_bytes(mixed, prompt, index))
        run.append(
            events.Image(
                step=step,
                prompt=prompt,
                index=index,
                time=now,
                path=path.relative_to(run.folder).as_posix(),
            )
        )
