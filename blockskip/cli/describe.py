"""The command that describes photos: captions in files beside them, as training reads them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from blockskip.cli import options
from blockskip.cli.errors import console
from blockskip.core.errors import BadInput, BadPhoto, UserError
from blockskip.core.names import is_text, shown_name
from blockskip.core.output import Json
from blockskip.core.units import duration
from blockskip.data.caption_files import captions_beside
from blockskip.data.captions import training_caption
from blockskip.data.descriptions import MAX_INSTRUCTION, caption_file, write_caption
from blockskip.models.captioners import found, jobs
from blockskip.models.captioners.jobs import Job, Line, Progress, ServerChoice
from blockskip.runs import describing


def describe(
    photos: options.Photos = None,
    class_name: Annotated[
        str, typer.Option("--class", help="The kind of animal.", callback=options.parse_word)
    ] = "cat",
    trigger: Annotated[
        str,
        typer.Option(
            help="Write captions whole, with this word for your pet. Default: training adds it.",
            callback=options.parse_words,
        ),
    ] = "",
    captioner: Annotated[
        str,
        typer.Option(
            help="Who describes: krea2, captioner … or a server's address. Default: the best here.",
            callback=options.parse_words,
        ),
    ] = "",
    captioner_model: Annotated[
        str, typer.Option(help="The server's model.", callback=options.parse_words)
    ] = "",
    other_computer: Annotated[
        bool, typer.Option("--other-computer", help="Let the server be another computer.")
    ] = False,
    instruction: Annotated[
        str, typer.Option(help="What is asked; {class} stands for the kind of animal.")
    ] = "",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Also describe photos that have a caption.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the captions. Default: beside each photo.", callback=options.folder
        ),
    ] = None,
    during_training: Annotated[
        bool, typer.Option("--during-training", help="Even while a run trains.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write captions for photos by a model that sees, in text files beside them."""
    from blockskip.data.photos import find_photos

    if not photos:
        raise BadPhoto("No photos were given.", "Name photos or a folder of them.")
    if len(instruction) > MAX_INSTRUCTION:
        raise BadInput(f"--instruction has more than {MAX_INSTRUCTION} characters.", "Shorten it.")
    paths = find_photos(photos)
    targets = {path: caption_file(path, out or path.parent, _beside(path, paths)) for path in paths}
    kept = [] if overwrite else _with_caption(targets)
    described = _Described(targets, trigger, class_name, overwrite, quiet=as_json)
    asked = [path for path in paths if path not in kept and described.can_be_named(path)]
    if asked:
        job = Job(
            photos=tuple(str(path.absolute()) for path in asked),
            class_name=class_name,
            instruction=instruction,
            **_chosen(captioner, captioner_model, other_computer),
        )
        describing.start(job, during_training)
        described.watch(dict(zip(job.photos, asked, strict=True)))
    raise typer.Exit(described.report(kept, as_json))


def _chosen(captioner: str, model: str, elsewhere: bool) -> dict:
    """Return who describes, as a job has it. Raises UserError."""
    from blockskip.models.captioners.server import url_of

    if ":" in captioner or "/" in captioner:
        url_of(captioner)
        return {"server": ServerChoice(captioner, model, elsewhere)}
    if model or elsewhere:
        raise typer.BadParameter(
            "--captioner-model and --other-computer are for a server: --captioner ADDRESS"
        )
    return {"captioner": found.find_captioner(captioner).name}


def _beside(path: Path, paths: list[Path]) -> list[Path]:
    """Return the photos of a folder: their captions must not be mistaken for one another."""
    return [one for one in paths if one.parent == path.parent]


def _with_caption(targets: dict[Path, Path]) -> list[Path]:
    """Return the photos that have a caption, or a file in its place that cannot be read."""
    captions = captions_beside(list(targets))
    return [path for path, file in targets.items() if file.exists() or captions.of(path)]


class _Described:
    """Captions as they come, written and shown."""

    def __init__(
        self, targets: dict[Path, Path], trigger: str, class_name: str, overwrite: bool, quiet: bool
    ) -> None:
        self.targets, self.trigger, self.class_name = targets, trigger, class_name
        self.overwrite, self.quiet = overwrite, quiet
        self.rows: list[dict] = []
        self.problem: UserError | None = None
        self.interrupted = False

    def can_be_named(self, path: Path) -> bool:
        """Return whether a file's name is text, and say if it is not."""
        if is_text(str(path)):
            return True
        problem = "its name is not UTF-8 text; rename it"
        self.rows.append({"photo": shown_name(str(path)), "problem": problem})
        self._say(f"{path.name} is left out: {problem}.", "yellow")
        return False

    def watch(self, paths: dict[str, Path]) -> None:
        """Write each caption of the job as it comes. paths: by their names in the job. Ctrl-C ends
        it; what is written stays."""
        try:
            for place, line, now in self._lines():
                self._take(paths[line.photo], line)
                self._say(f"{place} of {len(paths)}, {_left(now)}")
        except KeyboardInterrupt:
            self.interrupted = True
        except UserError as error:
            self.problem = error
        finally:
            jobs.stop()

    def _lines(self) -> Iterator[tuple[int, Line, Progress]]:
        taken = 0
        while True:
            now = jobs.progress()
            if now is None:
                return
            for line in now.lines[taken:]:
                taken += 1
                yield taken, line, now
            if not now.running:
                self.problem = now.problem
                return
            time.sleep(0.2)

    def _take(self, path: Path, line: Line) -> None:
        if line.unusable:
            self.rows.append({"photo": str(path), "problem": line.unusable})
            return self._say(f"{path.name} is left out: {line.unusable}.", "yellow")
        text, file = line.caption, self.targets[path]
        if self.trigger:
            text = training_caption(text, self.trigger, self.class_name)
        if file.exists() and not self.overwrite:  # written by somebody meanwhile
            self.rows.append({"photo": str(path), "problem": f"{file.name} is there by now"})
            return self._say(f"{file.name} is there by now, and is kept.", "yellow")
        if text:
            write_caption(file, text)
        self.rows.append({"photo": str(path), "caption": text, "file": str(file) if text else ""})
        return self._say(f"{path.name}: {text or '(no more than the name)'}")

    def report(self, kept: list[Path], as_json: bool) -> int:
        """Print the result. Returns the exit code."""
        done = sum("caption" in row for row in self.rows)
        report = {"captions": self.rows, "kept": [shown_name(str(path)) for path in kept]}
        if self.problem is not None:
            report |= self.problem.to_dict()
            line = Text.assemble((self.problem.title, "bold red"), " ", self.problem.remedy)
            self._say(line)
        told = f"{done} described"
        told += f", {len(kept)} had a caption and kept it (--overwrite describes them too)" * bool(
            kept
        )
        typer.echo(json.dumps(report, ensure_ascii=False) if as_json else f"{told}.")
        return 130 if self.interrupted else int(self.problem is not None)

    def _say(self, text: str | Text, style: str = "") -> None:
        if not self.quiet:
            console.print(
                text if isinstance(text, Text) else Text(text, style=style), soft_wrap=True
            )


def _left(now: Progress) -> str:
    return f"{duration(now.eta_s)} left" if now.eta_s > 0 else "done"
