"""`mnemotrace suggest`: which layers to edit."""

from pathlib import Path

import click

from mnemotrace.cli._facts import asking, chosen
from mnemotrace.cli._inputs import open_network
from mnemotrace.cli._options import output, verb
from mnemotrace.cli._session import Session


@verb(
    "suggest",
    "mnemotrace suggest path/to/model facts.jsonl --limit 16",
    "mnemotrace suggest funes facts.jsonl --json",
)
@click.argument("model")
@asking
@output(".safetensors", required=False)
@click.option("--draws", type=click.IntRange(min=1), default=10, show_default=True, help="Of the noise.")
def suggest(
    session: Session,
    *,
    model: str,
    facts: str | None,
    prompt: str | None,
    subject: str | None,
    answer: str | None,
    limit: int | None,
    path: Path | None,
    draws: int,
) -> None:
    """Suggest which layers to edit, and where the model looks facts up, by tracing facts such as are to be edited.

    Sixteen facts are traced unless --limit says otherwise.
    """
    import torch

    import mnemotrace as mt
    from mnemotrace.view.suggestion import summary

    wanted = chosen(facts, prompt, subject, answer, limit)
    network = open_network(model)
    with session.progress("tracing") as progress:
        found = mt.suggest(
            network.model,
            network.tokenizer,
            wanted,
            limit=limit or 16,
            draws=draws,
            generator=torch.Generator().manual_seed(session.seed),
            progress=progress,
        )
    if path is not None:
        session.save(found, path)
    names = ("layer", "layers", "lookup", "sites", "scores", "errors", "facts", "seconds")
    values = {name: getattr(found, name) for name in names}
    session.tell({**values, "unknown": len(found.manifest["unknown"])}, summary(found.pack()))
