"""`mnemotrace show`: what is in an artifact."""

from pathlib import Path

import click

from mnemotrace.cli._options import verb
from mnemotrace.cli._session import Session, print_table


@verb("show", "mnemotrace show engram.safetensors", "mnemotrace show criteria.safetensors --json")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
def show(session: Session, path: Path) -> None:
    """Show what an artifact holds and how it was made."""
    from mnemotrace.core.artifact import read, read_header
    from mnemotrace.view.tables import summary, table

    artifact, header = read(path), read_header(path)
    values = {key: header[key] for key in ("kind", "schema", "version")}
    session.tell(
        {"path": str(path), "bytes": path.stat().st_size, **values, **artifact.header},
        [("path", str(path)), *summary(artifact)],
    )
    if not session.as_json:
        headings, rows = table(artifact)
        print_table(rows, headings)
