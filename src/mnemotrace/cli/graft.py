"""`mnemotrace graft`: the few weights of a fine-tuned model that hold its skill."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mnemotrace.cli._inputs import Network, batching, open_network, read_examples
from mnemotrace.cli._options import output, verb
from mnemotrace.cli._session import Session

if TYPE_CHECKING:
    from mnemotrace.core.mask import Mask


@verb(
    "graft",
    "mnemotrace graft base tuned --on skill.jsonl --held-out other.jsonl --budget 0.01 -o mask.safetensors",
    "mnemotrace graft base tuned --on skill.jsonl --held-out other.jsonl --budget 0.01 -o second.safetensors "
    "--protect mask.safetensors --edit edit.safetensors",
)
@click.argument("base")
@click.argument("tuned")
@click.option(
    "--on", "data", required=True, metavar="FILE.jsonl", help="Examples of the skill, to learn the mask from."
)
@click.option(
    "--held-out", required=True, metavar="FILE.jsonl", help="Other examples of it, to choose the best mask by."
)
@click.option(
    "--budget", required=True, type=click.FloatRange(min=0, min_open=True), metavar="X",
    help="Entries: a share below 1 of the eligible ones, or a number.",
)  # fmt: skip
@output(".safetensors")
@click.option("--edit", "edit_path", type=click.Path(path_type=Path), metavar="FILE", help="Write the edit too.")
@click.option(
    "--protect", multiple=True, type=click.Path(path_type=Path), metavar="MASK", help="Keep apart from it; repeatable."
)
@click.option(
    "--method",
    type=click.Choice(["learned", "movers", "random"]),
    default="learned",
    show_default=True,
    help="Learn the mask, or take a control: the largest movers, or any.",
)
@click.option(
    "--parameters", "select", metavar="REGEX", help="Whole names of parameters; all but embeddings and head otherwise."
)
@click.option(
    "--candidates", type=click.FloatRange(min=1), default=20.0, show_default=True, help="Scored, times the budget."
)
@click.option("--steps", type=click.IntRange(min=1), default=100, show_default=True, help="Of learning.")
@click.option("--learning-rate", type=float, default=0.1, show_default=True, help="Of the scores.")
@batching
def graft(
    session: Session,
    *,
    base: str,
    tuned: str,
    data: str,
    held_out: str,
    path: Path,
    edit_path: Path | None,
    protect: tuple[Path, ...],
    max_length: int | None,
    batch_size: int,
    **options: Any,
) -> None:
    """Find the few weights of TUNED that give BASE its new skill, and write them as a mask.

    TUNED is a copy of BASE after fine-tuning; neither is changed. The mask stands beside two controls of equal size,
    the largest movers and random ones, each scored on the held-out examples by minus the loss.
    """
    import torch

    from mnemotrace.adapters.examples import batches
    from mnemotrace.localisation import grafting

    taken = _union(protect)
    first, second = open_network(base), open_network(tuned)
    _check(first, held_out, data)
    parts = (
        batches(first.tokenizer, read_examples(file), batch_size=batch_size, max_length=max_length)
        for file in (data, held_out)
    )
    ready, judged = parts
    with session.progress("graft") as progress:
        mask = grafting.graft(
            first.model,
            second.model,
            ready,
            held_out=judged,
            protected=taken,
            generator=torch.Generator().manual_seed(session.seed),
            progress=progress,
            **options,
        )
    session.save(mask, path)
    written = {} if edit_path is None else {"edit": str(session.save(mask.edit(), edit_path))}
    session.made(path, entries=len(mask), fraction=mask.fraction, evidence=mask.manifest["evidence"], **written)


def _union(paths: tuple[Path, ...]) -> "Mask | None":
    from mnemotrace.core.artifact import read
    from mnemotrace.core.mask import Mask

    joined: Mask | None = None
    for path in paths:
        mask = Mask.unpack(read(path, "mask"))
        joined = mask if joined is None else joined | mask
    return joined


def _check(network: Network, held_out: str, data: str) -> None:
    if not network.speaks:
        raise ValueError(
            f"got a {type(network.model).__name__} without a language head; expected a causal language model; "
            "call mt.graft with a loss of your own for other networks"
        )
    if held_out == data:
        raise ValueError(f"got {data} twice; expected other examples to choose the mask by; split the file in two")
