"""Options that several commands share, and the frame that makes a function a command."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mnemotrace.cli._session import Session, command_line

ARGUMENTS = "mnemotrace.arguments"
ENDINGS = (".svg", ".png")
Function = Callable[..., None]


class Main(click.Group):
    """A group that remembers what was typed, for the manifest of what a command makes."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the arguments down before they are parsed."""
        ctx.meta[ARGUMENTS] = list(args)
        return super().parse_args(ctx, args)


def verb(name: str, *examples: str) -> Callable[[Function], click.Command]:
    """Make a command of `function(session, **options)`, with the options that every command has.

    Args:
        name: of the command.
        examples: command lines, shown at the end of its help.
    """

    def decorate(function: Function) -> click.Command:
        @functools.wraps(function)
        def run(*, as_json: bool, quiet: bool, debug: bool, threads: int | None, seed: int, **options: Any) -> None:
            typed = click.get_current_context().meta.get(ARGUMENTS, [name])
            session = Session(as_json, quiet, debug, threads, seed, command_line(typed))
            with session.running():
                function(session, **options)

        shown = "\n".join(f"  {line}" for line in examples)
        text = f"{inspect.cleandoc(function.__doc__ or '')}\n\n\b\nFor example:\n{shown}"
        command = click.command(name, help=text)(run)
        command.params += _everywhere()
        return command

    return decorate


def _everywhere() -> list[click.Parameter]:
    whole = click.IntRange(min=1)
    return [
        click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON object instead of a table."),
        click.Option(["--silent", "quiet"], is_flag=True, help="No progress bar and no remarks."),
        click.Option(["--threads"], type=whole, metavar="N", help="Threads to compute on; torch's choice otherwise."),
        click.Option(["--seed"], type=int, default=0, show_default=True, help="Of every random draw."),
        click.Option(["--debug"], is_flag=True, help="Show the traceback of an error."),
    ]


def output(suffix: str, *, required: bool = True) -> Callable[[Function], Function]:
    """`-o`: where the artifact goes."""
    return click.option(
        "-o",
        "--output",
        "path",
        type=click.Path(path_type=Path, dir_okay=False),
        required=required,
        callback=in_a_folder,
        metavar=f"FILE{suffix}",
        help="Where to write; the file appears whole or not at all.",
    )


def drawing(help_text: str) -> Callable[[Function], Function]:
    """`--figure`: where a drawing goes; one that could not be written is refused before anything is computed."""
    return click.option(
        "--figure",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE.svg|png",
        callback=_drawn,
        help=help_text,
    )


def require_drawable(figure: Path | None) -> None:
    """Refuse, before anything is computed, a figure without matplotlib.

    Raises:
        ImportError: a figure is asked for, and matplotlib is absent.
    """
    from mnemotrace.view.figure import EXTRA, drawable

    if figure is not None and not drawable():
        raise ImportError(f"got --figure and no matplotlib; expected it, because figures are drawn with it; {EXTRA}")


def _drawn(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    if path is not None and path.suffix not in ENDINGS:
        raise click.BadParameter(f"got {path.name}; expected a name that ends in .svg or .png; choose one of the two")
    return in_a_folder(context, parameter, path)


def in_a_folder(_: click.Context, __: click.Parameter, path: Path | None) -> Path | None:
    """Refuse, before anything is computed, a file in a folder that does not exist."""
    if path is not None and not path.parent.is_dir():
        raise click.BadParameter(f"got {path}, whose folder does not exist; expected one that does; make it first")
    return path
