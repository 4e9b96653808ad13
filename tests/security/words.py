"""Names, captions and answers of others, in all places where they are shown: the page, the terminal
and the exported files. They are shown as the characters they are, and command nothing."""

from __future__ import annotations

import contextlib
import html.parser
import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from corpus.cases import Case, demand, numbered, refusal, replaced
from corpus.house import opened, page, words_of
from helpers import fake_feed
from security.watched_studio import LET_THROUGH

from blockskip.core import files
from blockskip.core.errors import BadFile
from blockskip.runs.run import Run
from blockskip.studio import draft, run_preferences

WORDS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)' x='",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "</textarea><script>alert(1)</script>",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<a href=javascript:alert(1)>x</a>",
    "[x](javascript:alert(1))",
    "![x](https://evil.example/x.png)",
    "{{constructor.constructor('alert(1)')()}}",
    "${alert(1)}",
    "<style>@import '//evil.example'</style>",
    "<meta http-equiv=refresh content=0;url=//evil.example>",
    "--><script>alert(1)</script><!--",
    "\x1b]0;evil\x07\x1b[31mred",
    "\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "\x1b[2J\x1b[H\x1bc",
    "\x9b31mred\x9d0;evil\x9c",
    "a\rb\x08\x08c\x7f",
    "\u202egnp.exe",
    "\u2066a\u2069\u202b",
    "[bold red]x[/]",
    "[link=http://evil.example]x[/link]",
    "=cmd|'/c calc'!A1",
    "+1+1",
    "@SUM(1)",
    "%s%n%x",
    "a\nb\n\nc",
)
COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
# what our own page has; anything else of these kinds came from a word
ACTIVE = {"script", "iframe", "object", "embed", "meta", "link", "base", "form", "style"}


def cases(seed: int) -> list[Case]:
    """Return words in every place."""
    return [
        *numbered("page", "names and captions on the page", _on_the_page()),
        *numbered("terminal", "names and answers in the terminal", _in_the_terminal()),
        *numbered("export", "names and captions in exported files", _in_exports()),
    ]


class _Tags(html.parser.HTMLParser):
    """Collects what a browser would do something with."""

    def __init__(self) -> None:
        super().__init__()
        self.active: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attributes if name.startswith("on")]
        places = [
            v or "" for k, v in attributes if k in ("href", "src", "action", "srcdoc", "srcset")
        ]
        away = [
            v
            for v in places
            if not v.startswith(
                (
                    "/",
                    "#",
                    "data:image/",
                    "https://huggingface.co/",
                    "https://github.com/",
                    ""[:0] or "?",
                )
            )
        ]
        if tag in ACTIVE or names or any("javascript:" in v or "evil" in v for v in away):
            self.active.append(f"<{tag} {dict(attributes)}>")


def _on_the_page() -> Iterator[tuple[Callable, Callable]]:
    for word in WORDS:

        def check(folder: Path, word: str = word) -> None:
            with opened(folder / "data"):
                run = _run_called(folder, word)
                _draft_of(folder, word)
                for view in ("", "*", run.name):
                    found = _Tags()
                    found.feed(words_of(page(view)))
                    demand(not found.active, f"{view or 'setup'}: {found.active}", LET_THROUGH)

        yield lambda folder: folder, check


def _run_called(folder: Path, word: str) -> Run:
    """Return a run whose texts are the word: pet, trigger, captions, prompts, notes and failures."""
    from blockskip.core import events

    run = fake_feed.make_run(fake_feed.make_photos(folder / "p", 2, 48), 12, "a-run", word)
    fake_feed.feed(run, 12)
    fake_feed.keep(run, 6, 12)
    text = (run.folder / "run.toml").read_text(encoding="utf-8")
    files.write_text(run.folder / "run.toml", text.replace('"momo"', json.dumps(word), 1))
    for photo in run.photos_dir.glob("*.png"):
        files.write_text(photo.with_suffix(".txt"), word)
    run_preferences.save(run, pet=word, drawn=True)
    run.append(events.Note(text=word, level="warning"))
    run.append(events.Failed(title=word, remedy=word, kind="BadFile"))
    (run.folder / "worker.log").write_text(word, encoding="utf-8", errors="replace")
    return run


def _file_name(word: str) -> str:
    return re.sub("[/\\0]", "_", word)[:60]


def _draft_of(folder: Path, word: str) -> None:
    photos = fake_feed.make_photos(folder / "q", 2, 48)
    named = folder / "q" / f"{_file_name(word)}.png"
    with contextlib.suppress(OSError, ValueError):  # no file can have it here
        photos.append(photos[0].rename(named))
        photos.pop(0)
        (folder / "q" / f"{named.stem} 2.png").write_bytes(b"no photo")
        photos.append(folder / "q" / f"{named.stem} 2.png")
    draft.add(photos)
    for photo in draft.load().photos:
        draft.edit_photo(photo.file, word, None)
    draft.save_answers(name=word, kind=word)


def _in_the_terminal() -> Iterator[tuple[Callable, Callable]]:
    for word in WORDS:
        for say in _sayings(word):

            def check(folder: Path, say: Callable[[Path], None] = say, word: str = word) -> None:
                with opened(folder / "data"):
                    said = _said(lambda: say(folder))
                demand(said.strip(), "nothing is said")
                found = COMMANDS.findall(said)
                demand(not found, f"{word!r} reaches the terminal: {found}", LET_THROUGH)
                demand("[link" in said or "[link" not in word or "x" in said, "marked up")

            yield lambda folder: folder, check


def _said(say: Callable[[], object]) -> str:
    """Return what a command writes to a terminal of its own, without colours."""
    from blockskip.cli import app, errors

    out = io.StringIO()
    console = errors.new_console()
    modules = [
        module
        for name, module in sys.modules.items()
        if name.startswith("blockskip.cli") and hasattr(module, "console")
    ]
    with (
        replaced(*((module, "console", console) for module in modules)),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(out),
    ):
        assert app.console is console
        say()
    return out.getvalue()


def _sayings(word: str) -> list[Callable[[Path], None]]:
    """Return what makes the program say a word: an error, a list, a note, a caption, a progress."""
    from blockskip.cli import app, errors

    def command(*words: str) -> None:
        with replaced((sys, "argv", ["blockskip", *words])):
            app.main()

    def error(folder: Path) -> None:
        def fail() -> None:
            raise BadFile(f"{word} cannot be read: {word}.", word)

        errors.exit_code_of(fail)

    def listed(folder: Path) -> None:
        _run_called(folder, word)
        command("runs", "list")

    def photo(folder: Path) -> None:
        _draft_like(folder, word)
        with replaced((Run, "start", _interrupted)):
            command("train", str(folder / "q"), "--trigger", "momo", "--out", "r")

    def watched(folder: Path) -> None:
        from blockskip.cli import progress

        run = _run_called(folder, word)
        display = progress.RunDisplay(errors.new_console(), False)
        for event in run.events(0)[0]:
            display.show(event)
        errors.console.print("done")
        progress._print_result(run, display, False, display.console)

    return [error, listed, photo, watched]


def _interrupted(run: Run) -> None:
    raise KeyboardInterrupt


def _draft_like(folder: Path, word: str) -> None:
    fake_feed.make_photos(folder / "q", 2, 48)
    name = _file_name(word)
    with contextlib.suppress(OSError, ValueError):
        (folder / "q" / f"{name}.png").write_bytes(b"no photo")
        (folder / "q" / "photo 1.txt").write_text(word, encoding="utf-8", errors="replace")


def _in_exports() -> Iterator[tuple[Callable, Callable]]:
    """The header is one JSON object of texts, and the workflow has the words in its text fields."""
    for word in WORDS:

        def check(folder: Path, word: str = word) -> None:
            from blockskip.core import presets
            from blockskip.core.settings import Settings
            from blockskip.models.lora.comfyui_workflow import workflow
            from blockskip.models.lora.metadata import metadata

            made: list[Settings] = []
            refused = refusal(lambda: made.append(_settings(word)))
            if refused is not None:
                demand(not COMMANDS.findall(str(refused)), "the refusal commands", LET_THROUGH)
                return
            row = presets.model_row("flux-dev")
            import torch

            told = metadata({"a": torch.zeros(1)}, "comfyui", made[0], row, "now", 5, 9, "x")
            demand(
                all(isinstance(v, str) for v in told.values()),
                "the header is not texts",
                LET_THROUGH,
            )
            demand(json.loads(json.dumps(told)) == told, "the header changes", LET_THROUGH)
            graph = workflow("x.safetensors", made[0].subject_caption, row)
            demand(json.loads(json.dumps(graph)) == graph, "the workflow changes", LET_THROUGH)
            notes = [node for node in graph["nodes"] if node["type"] == "MarkdownNote"]
            demand(notes and "evil" not in json.dumps(notes), "the note has it", LET_THROUGH)

        yield lambda folder: folder, check
    yield lambda folder: folder, _no_tables


def _settings(word: str):  # noqa: ANN202
    from blockskip.core.settings import Settings

    return Settings.of(model="flux-dev", trigger=word, class_name=word, caption=word)


def _no_tables(folder: Path) -> None:
    """Nothing is exported that a spreadsheet would compute."""
    root = Path(__file__).resolve().parents[2] / "blockskip"
    for path in root.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for word in ("csv.writer", "DictWriter", ".to_csv", ".xlsx", "openpyxl"):
            demand(word not in text, f"{path.name} writes tables", LET_THROUGH)
