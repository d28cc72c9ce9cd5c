"""`mnemotrace compose`: sums of engrams, of edits, of statistics."""

import functools
import operator
from pathlib import Path
from typing import Any

import click

from mnemotrace.cli._inputs import numbers
from mnemotrace.cli._options import output, verb
from mnemotrace.cli._session import Session


@verb(
    "compose",
    "mnemotrace compose ada.safetensors berta.safetensors -o both.safetensors",
    "mnemotrace compose all.safetensors one.safetensors --weights 1,-1 -o others.safetensors",
    "mnemotrace compose reference.safetensors near.safetensors --weights 1,10 -o kept.safetensors",
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@output(".safetensors")
@click.option("--weights", metavar="A,B,...", callback=numbers, help="A factor for each file; 1 otherwise.")
@click.option("--force", is_flag=True, help="Also when the files were made on different models.")
def compose(
    session: Session, files: tuple[Path, ...], path: Path, weights: tuple[float, ...] | None, force: bool
) -> None:
    """Compose engrams, edits or statistics: the weighted sum of the files.

    The edit that erases several memories is the sum of their edits. A weight of statistics says how many times each row
    counts, so that some of what must be kept can be kept with more force.
    """
    from mnemotrace.core.artifact import read

    factors = weights or (1.0,) * len(files)
    if len(factors) != len(files):
        raise click.UsageError(f"got {len(factors)} weights for {len(files)} files; expected one a file")
    kinds = [read(file).kind for file in files]
    if len(set(kinds)) > 1 or kinds[0] not in ("engram", "edit", "statistics"):
        raise ValueError(
            f"got {', '.join(kinds)}; expected one kind: engrams, edits or statistics; erase makes an edit of an engram"
        )
    parts = [_unpack(file) for file in files]
    _check_bases(parts, force)
    weighted = [_times(part, factor) for part, factor in zip(parts, factors, strict=True)]
    total = functools.reduce(operator.add, weighted)
    session.save(total, path)
    norms = {"norms": total.norms()} if kinds[0] != "statistics" else {}
    session.made(path, parts=[str(file) for file in files], weights=list(factors), **norms)


def _unpack(path: Path) -> Any:
    import mnemotrace as mt

    return mt.load(path)


def _times(part: Any, factor: float) -> Any:
    if factor == 1:
        return part
    return part.weighted(factor) if part.kind == "statistics" else part * factor


def _check_bases(parts: list[Any], force: bool) -> None:
    bases = {str(part.manifest["base"]) for part in parts if part.manifest.get("base")}
    if len(bases) > 1 and not force:
        raise ValueError(
            f"got files made on {len(bases)} models; expected one, for features differ between models; use --force "
            "for copies and kin"
        )
