"""`mnemotrace measure`: scores of a model before and after an edit."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mnemotrace.cli._inputs import Network, batching, named, open_network, read_examples
from mnemotrace.cli._options import verb
from mnemotrace.cli._scores import Scoring, choose, scoring
from mnemotrace.cli._session import Session

if TYPE_CHECKING:
    from mnemotrace.adapters.examples import Example

Values = Callable[[Any, Any], Any]


@verb(
    "measure",
    "mnemotrace measure funes edit.safetensors --on fact=fact.jsonl --on others=others.jsonl --score nll",
    "mnemotrace measure encoder edit.safetensors --on rest=rest.jsonl --score similarity",
)
@click.argument("model")
@click.argument("edit", metavar="EDIT", type=click.Path(path_type=Path))
@click.option(
    "--on",
    "data",
    required=True,
    multiple=True,
    metavar="NAME=FILE.jsonl",
    callback=named,
    help="What to score; repeatable.",
)
@scoring("nll", "similarity", help=" similarity: what is kept of the similarities between the embeddings of examples.")
@click.option("--force", is_flag=True, help="Also on another model than the edit was made on.")
@batching
def measure(
    session: Session,
    *,
    model: str,
    edit: Path,
    data: dict[str, str],
    score: str,
    probe: str | None,
    force: bool,
    max_length: int | None,
    batch_size: int,
) -> None:
    """Measure a model on examples before and after an edit: the mean score of each file.

    The edit is applied in memory and taken back; nothing is written.
    """
    from mnemotrace.core.applying import applied
    from mnemotrace.core.artifact import read
    from mnemotrace.core.edit import Edit

    change = Edit.unpack(read(edit, "edit"))
    network = open_network(model)
    network.require_base(change, "an edit", force=force)
    examples = {name: read_examples(file) for name, file in data.items()}
    how = Scoring(score, probe, batch_size, max_length)
    name, values_of = _similarity(network, how) if score == "similarity" else _scored(network, how, examples)
    with session.progress("measuring"):
        before = {key: values_of(network.model, part) for key, part in examples.items()}
        with applied(network.model, change):
            after = {key: values_of(network.model, part) for key, part in examples.items()}
    session.tell(*_result(name, examples, before, after))


def _scored(network: Network, how: Scoring, examples: "dict[str, list[Example]]") -> tuple[str, Values]:
    everything = [example for part in examples.values() for example in part]
    chosen = choose(network, how, everything)
    return chosen.name, lambda model, part: chosen.function(model, part).double()


def _similarity(network: Network, how: Scoring) -> tuple[str, Values]:
    from mnemotrace.adapters.hf import batches, embed

    options: dict[str, Any] = {"batch_size": how.batch_size, "max_length": how.max_length, "positions": "all"}
    return "similarity", lambda model, part: embed(model, batches(network.tokenizer, part, **options))


def _result(
    name: str, examples: "dict[str, list[Example]]", before: dict[str, Any], after: dict[str, Any]
) -> tuple[dict[str, Any], list[tuple[str, ...]], tuple[str, ...]]:
    from mnemotrace.evaluation.encoder import similarity_kept

    counts = {key: len(part) for key, part in examples.items()}
    if name == "similarity":
        kept = {key: similarity_kept(before[key], after[key]) for key in before}
        rows = [(key, str(counts[key]), f"{value:.4f}") for key, value in kept.items()]
        values: dict[str, Any] = {key: {"n": counts[key], "kept": value} for key, value in kept.items()}
        return {"score": name, **{"on": values}}, rows, ("data", "examples", "similarity kept")
    means = {key: (float(before[key].mean()), float(after[key].mean())) for key in before}
    values = {key: {"n": counts[key], "before": first, "after": last} for key, (first, last) in means.items()}
    rows = [(key, str(counts[key]), f"{first:.4f}", f"{last:.4f}") for key, (first, last) in means.items()]
    return {"score": name, "on": values}, rows, ("data", "examples", f"{name} before", "after")
