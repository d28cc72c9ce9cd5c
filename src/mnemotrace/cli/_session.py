"""One run of a command: what it prints and where, how it fails, how it shows progress.

Data goes to stdout, everything else to stderr. An exception becomes one line and exit code 1, an interrupt exit code
130; what the library warns of or logs becomes one line each.
"""

import json
import logging
import math
import os
import shlex
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from mnemotrace.core.progress import Progress

Rows = Sequence[tuple[str, ...]]
INTERRUPTED = 130
ENDLESS = 10_000
_QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
}


@dataclass(frozen=True)
class Session:
    """What every command is given.

    Attributes:
        as_json: print one JSON object instead of a table.
        quiet: no progress and no remarks.
        debug: show tracebacks.
        threads: of torch; None leaves its own choice.
        seed: of every random draw.
        command: the command line, for the manifest of what it makes.
    """

    as_json: bool = False
    quiet: bool = False
    debug: bool = False
    threads: int | None = None
    seed: int = 0
    command: str = "mnemotrace"

    def say(self, text: str) -> None:
        """Remark on something, on stderr."""
        if not self.quiet:
            click.echo(text, err=True)

    def save(self, thing: Any, path: Path) -> Path:
        """Write an artifact with this command in its manifest."""
        import mnemotrace as mt

        return mt.save(replace(thing, manifest={**thing.manifest, "command": self.command}), path)

    def made(self, path: Path, **values: Any) -> None:
        """Tell about an artifact that was written: path, kind, size, and the numbers that matter."""
        from mnemotrace.core.artifact import read
        from mnemotrace.view.tables import summary

        artifact = read(path)
        known = {"path": str(path), "kind": artifact.kind, "bytes": path.stat().st_size}
        self.tell({**known, **values}, [("path", str(path)), *summary(artifact)])

    def tell(self, values: Mapping[str, Any], rows: Rows, headings: Sequence[str] = ()) -> None:
        """Print the result: the values as one JSON object, or the rows as a table."""
        if self.as_json:
            click.echo(json.dumps(plain(values), allow_nan=False))
        else:
            print_table(rows, headings)

    @contextmanager
    def progress(self, title: str) -> "Generator[Progress | None, None, None]":
        """Draw a progress bar on stderr while the block runs, if that is a terminal."""
        if self.quiet or not sys.stderr.isatty():
            yield None
            return
        from rich.console import Console
        from rich.progress import Progress as Bar

        with Bar(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(title, total=None)

            def report(done: int, total: int | None, what: str) -> None:
                bar.update(task, completed=done, total=total, description=f"{title} ({what})")

            yield report

    @contextmanager
    def running(self) -> Generator[None, None, None]:
        """Run a command's body: quiet libraries, chosen threads, one line a warning, one line an error."""
        os.environ.update({name: os.environ.get(name, value) for name, value in _QUIET.items()})
        try:
            with self._remarks():
                self._set_threads()
                yield
        except KeyboardInterrupt:
            click.echo("interrupted; nothing half-written is left", err=True)
            raise click.exceptions.Exit(INTERRUPTED) from None
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            if self.debug:
                traceback.print_exc()
            click.echo(f"error: {one_line(error)}", err=True)
            raise click.exceptions.Exit(1) from error

    def _set_threads(self) -> None:
        if self.threads is not None:
            import torch

            torch.set_num_threads(self.threads)

    @contextmanager
    def _remarks(self) -> Generator[None, None, None]:
        said: set[str] = set()

        def warn(message: Warning | str) -> None:
            """Say each thing once: a score that runs a hundred times has the same remark each time."""
            text = one_line(message)
            if text not in said:
                said.add(text)
                self.say(f"warning: {text}")

        handler = _Remarks(warn)
        logger = logging.getLogger("mnemotrace")
        logger.addHandler(handler)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                warnings.simplefilter("always", UserWarning)
                warnings.showwarning = lambda message, *_, **__: warn(message)
                yield
        finally:
            logger.removeHandler(handler)


class _Remarks(logging.Handler):
    """Hands warnings of the log to a callable."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        """Pass one record on."""
        self._say(record.getMessage())


def one_line(message: Exception | Warning | str) -> str:
    """Put a message on one line; an exception without a message is named."""
    return " ".join(str(message).split()) or type(message).__name__


def plain(value: Any) -> Any:
    """Turn a value into JSON: numbers that are not finite become strings, tuples lists, paths strings."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return str(value) if isinstance(value, Path) else value


def print_table(rows: Rows, headings: Sequence[str] = ()) -> None:
    """Print rows in columns: as wide as they need in a file or pipe, folded into the window of a terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else ENDLESS
    table = Table(*headings, show_header=bool(headings), box=SIMPLE_HEAD if headings else None, pad_edge=False)
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console(file=StringIO(), width=width, highlight=False)
    with console.capture() as printed:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in printed.get().strip("\n").splitlines()))


def command_line(arguments: Sequence[str]) -> str:
    """Return the command as one would type it."""
    return shlex.join(["mnemotrace", *arguments])
