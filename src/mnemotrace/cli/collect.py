"""`mnemotrace collect`: second moments of what sites read."""

from pathlib import Path
from typing import Any

import click

from mnemotrace.cli._inputs import Network, Reading, open_network, read_examples, reading
from mnemotrace.cli._options import output, verb
from mnemotrace.cli._session import Session


@verb(
    "collect",
    "mnemotrace collect funes facts.jsonl -o reference.safetensors --site mlp.c_proj",
    "mnemotrace collect path/to/model facts.jsonl --dry-run",
)
@click.argument("model")
@click.argument("data", metavar="DATA.jsonl")
@output(".safetensors", required=False)
@reading(reference=False)
@click.option("--resume", is_flag=True, help="Keep a checkpoint beside the output, and go on from one that is there.")
@click.option("--every", type=click.IntRange(min=1), default=50, show_default=True, help="Batches between checkpoints.")
@click.option("--dry-run", is_flag=True, help="Only list the sites and what memory the sums need at most.")
def collect(
    session: Session,
    *,
    model: str,
    data: str,
    path: Path | None,
    resume: bool,
    every: int,
    dry_run: bool,
    **options: Any,
) -> None:
    """Collect statistics of what the linear maps of a model read.

    MODEL is a Hugging Face directory, a name in its local cache, or `funes`. DATA holds one object a line,
    {"text": ...} or {"prompt": ..., "answer": ...}; - reads stdin. All sites are listened to in one forward pass.
    """
    how = Reading(**options)
    if path is None and not dry_run:
        raise click.UsageError("got no -o; expected where to write, or --dry-run")
    network = open_network(model)
    if path is None or dry_run:
        _plan(session, network, how)
        return
    examples = read_examples(data)
    checkpoint = path.with_name(path.name + ".part") if resume else None
    with session.progress("collecting") as progress:
        found = how.collect(network, examples, checkpoint=checkpoint, every=every, progress=progress)
    session.save(found, path)
    rows = max(moments.n for moments in found.values())
    session.made(path, sites=len(found), examples=len(examples), rows=rows)


def _plan(session: Session, network: Network, how: Reading) -> None:
    """List the sites and what their sums need."""
    import torch

    from mnemotrace.stats.collect import memory_estimate

    dtype = getattr(torch, how.dtype)
    chosen = how.sites(network.model)
    total = memory_estimate(chosen, dtype)
    sites = {name: {"o": site.o, "d": site.d, "bias": site.bias is not None} for name, site in chosen.items()}
    size = dtype.itemsize
    rows = [(name, f"{site.o} x {site.d}", f"{site.d**2 * size / 1e6:,.1f} MB") for name, site in chosen.items()]
    session.tell(
        {"sites": sites, "bytes_at_most": total, "dtype": how.dtype},
        [*rows, (f"{len(chosen)} sites", "", f"{total / 1e6:,.1f} MB; less where sites read the same input")],
        ("site", "shape", "memory at most"),
    )
