"""`mnemotrace compose`: sums of engrams, sums of edits."""

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
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@output(".safetensors")
@click.option("--weights", metavar="A,B,...", callback=numbers, help="A factor for each file; 1 otherwise.")
@click.option("--force", is_flag=True, help="Also when the files were made on different models.")
def compose(
    session: Session, files: tuple[Path, ...], path: Path, weights: tuple[float, ...] | None, force: bool
) -> None:
    """Compose engrams, or edits: the weighted sum of the files.

    Sums commute. One that erases several memories is the erasure of the sum of their engrams.
    """
    from mnemotrace.core.artifact import read

    factors = weights or (1.0,) * len(files)
    if len(factors) != len(files):
        raise click.UsageError(f"got {len(factors)} weights for {len(files)} files; expected one a file")
    kinds = [read(file).kind for file in files]
    if len(set(kinds)) > 1 or kinds[0] not in ("engram", "edit"):
        raise ValueError(f"got {', '.join(kinds)}; expected engrams only, or edits only; erase the engrams first")
    parts = [_unpack(file) for file in files]
    _check_bases(parts, force)
    total = parts[0] * factors[0]
    for part, factor in zip(parts[1:], factors[1:], strict=True):
        total = total + part * factor
    session.save(total, path)
    session.made(path, parts=[str(file) for file in files], weights=list(factors), norms=total.norms())


def _unpack(path: Path) -> Any:
    import mnemotrace as mt

    return mt.load(path)


def _check_bases(parts: list[Any], force: bool) -> None:
    bases = {str(part.manifest["base"]) for part in parts if part.manifest.get("base")}
    if len(bases) > 1 and not force:
        raise ValueError(
            f"got files made on {len(bases)} models; expected one, for features differ between models; use --force "
            "for copies and kin"
        )
