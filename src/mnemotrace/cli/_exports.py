"""What commands that make an edit write beside it: a LoRA adapter, the edited model; and how large the edit is."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mnemotrace.cli._inputs import Network
from mnemotrace.cli._options import Function

if TYPE_CHECKING:
    from mnemotrace.core.edit import Edit


def exporting(function: Function) -> Function:
    """Add `--peft`, `--merge` and `--overwrite`."""
    folder = click.Path(path_type=Path)
    peft = click.option("--peft", type=folder, metavar="DIR", help="Write a LoRA adapter too.")
    merge = click.option("--merge", type=folder, metavar="DIR", help="Write the edited model too.")
    replace = "Replace folders that --peft or --merge wrote before."
    return peft(merge(click.option("--overwrite", is_flag=True, help=replace)(function)))


def export(network: Network, edit: "Edit", peft: Path | None, merge: Path | None, *, overwrite: bool) -> dict[str, str]:
    """Write what was asked for and return where it is."""
    import mnemotrace as mt

    written: dict[str, str] = {}
    if peft is not None:
        written["peft"] = str(edit.to_peft(peft, network.model, overwrite=overwrite))
    if merge is not None:
        made = mt.merge(network.model, edit, merge, tokenizer=network.tokenizer, overwrite=overwrite)
        written["merge"] = str(made)
    return written


def sizes(network: Network, edit: "Edit") -> dict[str, Any]:
    """Return how large the edit is beside what it changes, by site."""
    from mnemotrace.adapters.linear import weight_of
    from mnemotrace.core.lowrank import LowRank

    changes = [change for change in edit.changes if isinstance(change, LowRank)]
    norms = {c.site.name: c.norm() / float(weight_of(network.model, c.site).float().norm()) for c in changes}
    return {"parameters": list(edit.parameters), "relative_norms": norms}
