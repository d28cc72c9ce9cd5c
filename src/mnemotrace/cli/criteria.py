"""`mnemotrace criteria`: the four criteria of an engram."""

from pathlib import Path

import click

from mnemotrace.cli._inputs import apart, batching, open_network, read_examples
from mnemotrace.cli._options import output, verb
from mnemotrace.cli._scores import Scoring, choose, scoring
from mnemotrace.cli._session import Session


@verb(
    "criteria",
    "mnemotrace criteria funes engram.safetensors --target fact.jsonl --control others.jsonl -o criteria.safetensors",
)
@click.argument("model")
@click.argument("engram", metavar="ENGRAM", type=click.Path(path_type=Path))
@click.option(
    "--target", required=True, metavar="FILE.jsonl", help="The memory, best in words that were not collected."
)
@click.option("--control", required=True, metavar="FILE.jsonl", help="What must be kept.")
@output(".safetensors")
@scoring()
@click.option("--strength", type=float, default=1.0, show_default=True, help="At which the trace is erased.")
@click.option("--chance", type=float, metavar="X", help="Score of a guesser; 0 otherwise, for probes one label in all.")
@click.option("--draws", type=click.IntRange(min=1), default=5, show_default=True, help="Random traces beside it.")
@click.option("--force", is_flag=True, help="Also on another model than the engram was made on.")
@batching
def criteria(
    session: Session,
    *,
    model: str,
    engram: Path,
    target: str,
    control: str,
    path: Path,
    score: str,
    probe: str | None,
    strength: float,
    chance: float | None,
    draws: int,
    force: bool,
    max_length: int | None,
    batch_size: int,
) -> None:
    """Prove a trace: specificity, reactivation, sufficiency and necessity, beside random traces of equal size.

    Each criterion has a 95 % bootstrap interval over examples and stands beside the mean of traces of equal rank, norm
    and spectrum whose directions are random.
    """
    import torch

    import mnemotrace as mt
    from mnemotrace.core.artifact import read
    from mnemotrace.core.trace import Engram

    trace = Engram.unpack(read(engram, "engram"))
    network = open_network(model)
    network.require_base(trace, "an engram", force=force)
    memory = read_examples(target)
    kept = apart(session, memory, read_examples(control), "control", drop=False)
    chosen = choose(network, Scoring(score, probe, batch_size, max_length), [*memory, *kept])
    with session.progress("criteria") as progress:
        found = mt.criteria(
            network.model,
            trace,
            score=chosen.function,
            target=memory,
            control=kept,
            strength=strength,
            chance=chosen.chance if chance is None else chance,
            draws=draws,
            generator=torch.Generator().manual_seed(session.seed),
            progress=progress,
        )
    session.save(found, path)
    values = {
        name: {"value": c.value, "interval": c.interval, "control": c.control, "control_interval": c.control_interval}
        for name, c in found.items()
    }
    session.made(path, score=chosen.name, criteria=values, behaviour=found.behaviour)
