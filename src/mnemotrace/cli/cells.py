"""`mnemotrace cells`: units of a model that answer to one concept in every view."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mnemotrace.cli._inputs import Network, open_network, read_examples
from mnemotrace.cli._options import output, verb
from mnemotrace.cli._session import Session

if TYPE_CHECKING:
    from mnemotrace.localisation.stimuli import Stimuli

SHOWN = 20
share = click.FloatRange(0, 1, min_open=True)


@verb(
    "cells",
    "mnemotrace cells funes one.jsonl another.jsonl --module transformer.h.3.mlp.act -o cells.safetensors",
    "mnemotrace cells path/to/encoder topics.jsonl --module encoder.layer.5 --reduce mean -o cells.safetensors",
)
@click.argument("model")
@click.argument("views", metavar="VIEW.jsonl...", nargs=-1, required=True)
@output(".safetensors")
@click.option("--module", "modules", multiple=True, required=True, help="Whole name of a module; may be repeated.")
@click.option("--auroc", type=share, default=0.95, show_default=True, help="Least of a cell, on held-out stimuli.")
@click.option("--invariance", type=share, default=0.9, show_default=True, help="Least of a cell in any view.")
@click.option("--shuffles", type=click.IntRange(min=19), default=99, show_default=True, help="Of the labels.")
@click.option(
    "--reduce", type=click.Choice(("max", "mean", "last")), default="max", show_default=True, help="Over tokens."
)
@click.option("--no-twin", is_flag=True, help="Do not run an untrained twin beside; cells may be due to wiring then.")
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Texts a forward pass.")
def cells(
    session: Session,
    *,
    model: str,
    views: tuple[str, ...],
    path: Path,
    modules: tuple[str, ...],
    no_twin: bool,
    batch_size: int,
    **options: Any,
) -> None:
    """Find concept cells: units that tell one concept from all others, in every view, beyond three nulls.

    MODEL is a Hugging Face directory, a name in its local cache, or `funes`. Each VIEW.jsonl holds one phrasing,
    language or source of all concepts, one object a line: {"text": ..., "label": concept}; of a prompt with an answer
    the prompt is read. Every concept must come at least twice in every view.
    """
    import torch

    from mnemotrace.core.progress import silent
    from mnemotrace.localisation.cells import cells as scan

    network = open_network(model)
    shown = _stimuli(network, views, batch_size)
    generator = torch.Generator().manual_seed(session.seed)
    with session.progress("scanning") as progress:
        found = scan(
            network.model,
            shown,
            sites=modules,
            untrained=False if no_twin else None,
            generator=generator,
            **options,
            progress=progress or silent,
        )
    session.save(found, path)
    listed = found.cells()
    told = [f"{c.site} {c.unit}: {c.name} {c.auroc:.2f}" for c in listed[:SHOWN]]
    session.made(path, cells=len(listed), concepts=len({c.name for c in listed}), best=told)


def _stimuli(network: Network, views: tuple[str, ...], batch_size: int) -> "Stimuli":
    import torch

    from mnemotrace.adapters.examples import Example, batches
    from mnemotrace.localisation.stimuli import Stimuli

    read = [(view, example) for view, name in enumerate(views) for example in read_examples(name)]
    without = sum(example.label is None for _, example in read)
    if without:
        raise ValueError(
            f"got {without} of {len(read)} lines without a label; expected the concept of each; write "
            '{"text": "...", "label": "..."}'
        )
    names = sorted({str(example.label) for _, example in read})
    texts = [Example(text=example.prompt or example.text) for _, example in read]
    return Stimuli(
        batches(network.tokenizer, texts, batch_size=batch_size),
        torch.tensor([names.index(str(example.label)) for _, example in read]),
        torch.tensor([view for view, _ in read]),
        tuple(names),
    )
