"""`mnemotrace report`: one page about artifacts."""

from pathlib import Path

import click

from mnemotrace.cli._options import output, verb
from mnemotrace.cli._session import Session


@verb("report", "mnemotrace report engram.safetensors criteria.safetensors edit.safetensors -o report.html")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@output(".html")
@click.option("--title", metavar="TEXT", help="Heading of the page.")
def report(session: Session, files: tuple[Path, ...], path: Path, title: str | None) -> None:
    """Write one self-contained HTML page about artifacts; needs no model."""
    from mnemotrace.core.artifact import read
    from mnemotrace.view.page import TITLE
    from mnemotrace.view.page import report as write_page

    artifacts = [read(file) for file in files]
    write_page(artifacts, path, title=title or TITLE)
    kinds = [artifact.kind for artifact in artifacts]
    size = path.stat().st_size
    values = {"path": str(path), "bytes": size, "kinds": kinds}
    session.tell(values, [("path", str(path)), ("about", ", ".join(kinds)), ("bytes", f"{size:,}")])
