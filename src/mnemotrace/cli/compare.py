"""`mnemotrace compare`: every method on the same memories under the same four criteria."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mnemotrace.cli._inputs import Network, named, open_network, read_examples
from mnemotrace.cli._options import output, verb
from mnemotrace.cli._session import Session

if TYPE_CHECKING:
    from mnemotrace.core.edit import Edit
    from mnemotrace.evaluation.comparison import Comparison


@verb(
    "compare",
    "mnemotrace compare funes --facts facts.jsonl --edit rome=rome.safetensors --edit memit=memit.safetensors "
    "--texts general.jsonl -o comparison.safetensors",
    "mnemotrace compare funes --facts facts.jsonl --edit rome=rome.safetensors --edit engram=erase.safetensors "
    "--erases engram -o comparison.safetensors",
)
@click.argument("model")
@click.option(
    "--facts", required=True, metavar="FILE.jsonl",
    help="The memories: JSON lines with prompt, neighbours, and target (to write) or answer (to erase).",
)  # fmt: skip
@click.option(
    "--edit", "edits", required=True, multiple=True, metavar="NAME=FILE", callback=named,
    help="What a method did to all facts; repeatable.",
)  # fmt: skip
@click.option("--erases", multiple=True, metavar="NAME", help="A method that takes the answer away; repeatable.")
@click.option("--texts", metavar="FILE.jsonl", help="General texts, for the ratio of perplexities.")
@output(".safetensors")
@click.option("--draws", type=click.IntRange(min=1), default=3, show_default=True, help="Random edits beside it.")
@click.option("--force", is_flag=True, help="Also on another model than the edits were made on.")
def compare(
    session: Session,
    *,
    model: str,
    facts: str,
    edits: dict[str, str],
    erases: tuple[str, ...],
    texts: str | None,
    path: Path,
    draws: int,
    force: bool,
) -> None:
    """Judge methods on the same memories under the same four criteria.

    Beside them stand what the network then answers, in three readings, what it costs, the untouched network in the
    first row and a random edit of the same size in the last. `mnemotrace report` makes it a page.
    """
    import torch

    from mnemotrace.adapters.facts import read_facts
    from mnemotrace.evaluation.comparison import compare as judge

    unknown = [name for name in erases if name not in edits]
    if unknown:
        raise click.UsageError(f"got --erases {unknown[0]}; expected one of {', '.join(edits)}, as --edit names them")
    memories = read_facts(facts)
    general = [example.joined for example in read_examples(texts)] if texts is not None else []
    network = open_network(model)
    changes = {name: _edit(network, file, force=force) for name, file in edits.items()}
    with session.progress("comparing") as progress:
        found = judge(
            network.model,
            network.tokenizer,
            changes,
            memories,
            texts=general,
            writes={name: name not in erases for name in changes},
            draws=draws,
            generator=torch.Generator().manual_seed(session.seed),
            progress=progress,
        )
    session.save(found, path)
    session.made(path, facts=found.facts, methods=_values(found))


def _edit(network: Network, file: str, *, force: bool) -> "Edit":
    from mnemotrace.core.artifact import read
    from mnemotrace.core.edit import Edit

    edit = Edit.unpack(read(file, "edit"))
    network.require_base(edit, "an edit", force=force)
    return edit


def _values(found: "Comparison") -> list[dict[str, object]]:
    """Return a row a method: each criterion, each measure as the network goes on by itself, and the costs."""
    return [
        {
            "name": row.name,
            "writes": row.writes,
            **{name: row.value(name) for name in (*row.measures, *row.criteria)},
            "perplexity_ratio": row.perplexity.value if row.perplexity else None,
            "bytes": row.nbytes,
            "absent": dict(row.absent),
        }
        for row in found.rows
    ]
