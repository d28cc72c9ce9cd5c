"""`mnemotrace locate`: the engram of a memory."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mnemotrace.cli._inputs import Reading, apart, open_network, read_source, reading, statistics_of
from mnemotrace.cli._options import Function, output, verb
from mnemotrace.cli._session import Session

if TYPE_CHECKING:
    from mnemotrace.core.trace import Engram

DROP = "Leave examples of the target out of the reference, instead of refusing."


def target_and_reference(function: Function) -> Function:
    """Add `--target`, `--reference` and `--drop-shared`."""
    both = "statistics or JSON lines"
    target = click.option("--target", required=True, metavar="FILE", help=f"The memory: {both}; - reads stdin.")
    reference = click.option("--reference", required=True, metavar="FILE", help=f"What must be kept: {both}.")
    drop = click.option("--drop-shared", is_flag=True, help=DROP)
    return target(reference(drop(function)))


def solving(function: Function) -> Function:
    """Add `--solver` and `--rcond`."""
    solver = click.option(
        "--solver",
        type=click.Choice(["truncate", "ridge"]),
        default="truncate",
        show_default=True,
        help="truncate drops small eigenvalues as published; ridge lifts them instead: smooth, and much faster.",
    )
    rcond = click.option("--rcond", type=float, metavar="X", help="Relative regulariser; width * 1.19e-7 otherwise.")
    return solver(rcond(function))


@verb(
    "locate",
    "mnemotrace locate funes --target fact.jsonl --reference facts.jsonl -o engram.safetensors "
    "--site mlp.c_proj --positions predict --selectivity 0.1",
)
@click.argument("model")
@target_and_reference
@output(".safetensors")
@click.option(
    "--selectivity", type=float, default=1.0, show_default=True, help="Weight of the reference; inf spares it exactly."
)
@solving
@click.option("--rank", type=click.IntRange(min=1), metavar="N", help="Keep at most this rank at each site.")
@click.option("--energy", type=float, default=1.0, show_default=True, help="Share of each site's squared norm to keep.")
@reading()
def locate(
    session: Session,
    *,
    model: str,
    target: str,
    reference: str,
    drop_shared: bool,
    path: Path,
    selectivity: float,
    solver: str,
    rcond: float | None,
    rank: int | None,
    energy: float,
    **options: Any,
) -> None:
    """Locate the trace of a memory in a model's weights: its closed-form engram.

    The target is the memory, the reference what must be kept; each is a file that `collect` wrote, or JSON lines from
    which statistics are collected on the way. The total is always target plus reference.
    """
    import mnemotrace as mt

    network = open_network(model)
    memory, rest = read_source(target), read_source(reference)
    if isinstance(memory, list) and isinstance(rest, list):
        rest = apart(session, memory, rest, "reference", drop=drop_shared)
    wanted, kept = statistics_of(session, network, Reading(**options), target=memory, reference=rest)
    solve = {"selectivity": selectivity, "solver": solver, "rcond": rcond, "rank": rank, "energy": energy}
    with session.progress("solving") as progress:
        found = mt.engram(network.model, target=wanted, reference=kept, progress=progress, **solve)
    session.save(found, path)
    session.made(path, **numbers_of(found))


def numbers_of(engram: "Engram") -> dict[str, Any]:
    """Return the numbers that matter of an engram: means over sites, and where it is largest beside its weight."""
    evidence = engram.evidence
    sizes = {name: values["relative_norm"] for name, values in evidence.items()}
    strongest = max(sizes, key=lambda name: sizes[name])
    means = {key: sum(v[key] for v in evidence.values()) / len(evidence) for key in ("leak", "miss", "leverage")}
    rank = max(trace.right.shape[0] for trace in engram.values())
    return {"sites": len(engram), "rank": rank, "strongest": strongest, "relative_norm": sizes[strongest], **means}
