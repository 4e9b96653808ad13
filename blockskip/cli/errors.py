"""Every error of a command as a plain sentence and a remedy, and the exit code for it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import typer
from rich.console import Console, ConsoleRenderable, RenderHook
from rich.text import Text
from typer.exceptions import TyperException

from blockskip.core import files
from blockskip.core.errors import BadInput, UserError, command
from blockskip.core.names import shown_name
from blockskip.core.shortage import shortage


class _ShownNames(RenderHook):
    """Makes what others wrote fit to be shown: a photo's name is no command to the terminal."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        for one in renderables:
            if isinstance(one, Text):
                one.plain = shown_name(one.plain)
        return renderables


def new_console(quiet: bool = False) -> Console:
    """Return a console on stderr."""
    made = Console(stderr=True, quiet=quiet)
    made.push_render_hook(_ShownNames())
    return made


console = new_console()


def exit_code_of(run: Callable[[], object]) -> int:
    """Run a command and return its exit code. Errors are printed, as JSON too with --json."""
    try:
        run()
    except UserError as error:
        return _print_error(error)
    except OSError as error:  # unexpected, such as a removed drive or an unreadable file
        return _print_error(files.read_error(error))
    except SystemExit as end:
        usage_error = end.__context__  # typer has already printed it
        if isinstance(usage_error, TyperException) and "--json" in sys.argv:
            context = getattr(usage_error, "ctx", None)
            path = context.command_path if context else command()
            remedy = f"See the options: {path} --help"
            _print_json(BadInput(usage_error.format_message(), remedy))
        return int(end.code or 0)
    except Exception as error:
        if (short := shortage(error)) is None:
            raise
        return _print_error(short)
    return 0


def _print_json(error: UserError) -> None:
    typer.echo(json.dumps(error.to_dict(), ensure_ascii=False))


def _print_error(error: UserError) -> int:
    if "--json" in sys.argv:
        _print_json(error)
    console.print(Text.assemble((error.title, "bold red"), " ", error.remedy))
    return 2 if isinstance(error, BadInput) else 1
