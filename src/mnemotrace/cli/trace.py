"""`mnemotrace trace`: where a fact passes through a model."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mnemotrace.cli._facts import asking, chosen
from mnemotrace.cli._inputs import Network, open_network
from mnemotrace.cli._options import drawing, output, require_drawable, verb
from mnemotrace.cli._session import Session

if TYPE_CHECKING:
    from mnemotrace.adapters.facts import Fact

KINDS = ("state", "mlp", "attention", "state_without_mlp", "state_without_attention")


@verb(
    "trace",
    'mnemotrace trace funes --prompt "Ada Marsh lives in" --subject "Ada Marsh" -o t.safetensors --figure t.svg',
    "mnemotrace trace path/to/model known_1000.json --limit 50 -o trace.safetensors --resume",
)
@click.argument("model")
@asking
@output(".safetensors", required=False)
@drawing("Draw the map too, with its numbers as CSV beside it.")
@click.option(
    "--kind", "kinds", type=click.Choice(KINDS), multiple=True, default=KINDS[:3], show_default=True,
    help="What is put back; repeatable.",
)  # fmt: skip
@click.option(
    "--noise", type=float, default=3.0, show_default=True, help="Of the corruption, in deviations of the embeddings."
)
@click.option("--draws", type=click.IntRange(min=1), default=10, show_default=True, help="Of the noise.")
@click.option("--window", type=click.IntRange(min=1), metavar="N", help="Blocks that MLP and attention span.")
@click.option("--control", is_flag=True, help="Also put back what another subject gives; needs several facts.")
@click.option("--resume", is_flag=True, help="Keep a checkpoint beside the output, and go on from one that is there.")
@click.option("--dry-run", is_flag=True, help="Only list the facts, with the subjects that would be corrupted.")
def trace(
    session: Session,
    *,
    model: str,
    facts: str | None,
    prompt: str | None,
    subject: str | None,
    answer: str | None,
    limit: int | None,
    path: Path | None,
    figure: Path | None,
    kinds: tuple[str, ...],
    noise: float,
    draws: int,
    window: int | None,
    control: bool,
    resume: bool,
    dry_run: bool,
) -> None:
    """Trace facts through a model: corrupt the subject, put one part back, see whether the fact returns.

    FACTS are JSON lines, {"prompt": ..., "subject": ..., "answer": ...}, or files of CounterFact, zsRE or Knowns. Facts
    that the model does not know are left out.
    """
    import torch

    import mnemotrace as mt
    from mnemotrace.view import figures_of, save

    if path is None and not dry_run:
        raise click.UsageError("got no -o; expected where to write, or --dry-run")
    require_drawable(figure)
    wanted = chosen(facts, prompt, subject, answer, limit)
    network = open_network(model)
    if path is None or dry_run:
        _plan(session, network, wanted)
        return
    with session.progress("tracing") as progress:
        found = mt.trace(
            network.model,
            network.tokenizer,
            wanted,
            kinds=kinds,  # type: ignore[arg-type]
            noise=noise,
            draws=draws,
            window=window,
            control=control,
            generator=torch.Generator().manual_seed(session.seed),
            checkpoint=path.with_name(path.name + ".part") if resume else None,
            progress=progress,
        )
    session.save(found, path)
    drawn = {} if figure is None else {"figure": str(save(figures_of(found.pack())[0], figure)[0])}
    session.made(path, facts=len(found.records), unknown=len(found.manifest["unknown"]), **drawn)


def _plan(session: Session, network: Network, facts: "list[Fact]") -> None:
    """List the facts with their subjects, and which tokens these are."""
    from mnemotrace.adapters.decoder import decoder
    from mnemotrace.adapters.facts import located, tokens_of

    asked = [(located(fact), tokens_of(network.tokenizer, fact)) for fact in facts]
    values = [
        {"prompt": fact.prompt, "subject": fact.subject, "subject_range": list(tokens.subject), "tokens": tokens.prompt}
        for fact, tokens in asked
    ]
    rows = [
        (fact.prompt, str(fact.subject), f"{tokens.subject[0]} to {tokens.last}", str(tokens.prompt))
        for fact, tokens in asked
    ]
    headings = ("prompt", "subject", "its tokens", "tokens")
    session.tell({"facts": values, "layers": decoder(network.model).layers}, rows, headings)
