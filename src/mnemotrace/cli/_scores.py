"""The score that a command measures by: named, or chosen by the model and the data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from mnemotrace.cli._inputs import Network
from mnemotrace.cli._options import Function

if TYPE_CHECKING:
    from mnemotrace.adapters.examples import Example

KINDS = ("auto", "recall", "likelihood", "probe", "fixed-probe")
PROBES = KINDS[-2:]


@dataclass(frozen=True)
class Scoring:
    """The options that `scoring` adds to a command: which score, and what a probe learns from."""

    score: str
    probe: str | None
    batch_size: int
    max_length: int | None


@dataclass(frozen=True)
class Chosen:
    """A score with its name and what a guesser gets."""

    name: str
    function: Callable[[Any, Any], Any]
    chance: float = 0.0


def choose(
    network: Network,
    how: Scoring,
    examples: Sequence["Example"],
    train: Sequence["Example"] = (),
) -> Chosen:
    """Choose the score.

    Args:
        network: what will be scored.
        how: the options.
        examples: all that will be scored.
        train: what a probe learns from when no file says it.

    Raises:
        ValueError: the score does not go with the model or the data.
    """
    name = _kind(network, examples) if how.score == "auto" else how.score
    if name in PROBES:
        return _probe(network, how, train, name)
    if not network.speaks:
        raise ValueError(
            f"got --score {name} and a {type(network.model).__name__} without a language head; expected a causal "
            "language model; use --score probe with labelled examples"
        )
    from mnemotrace.adapters.scores import LanguageScore

    return Chosen(name, LanguageScore(network.tokenizer, name, how.batch_size, how.max_length))


def _kind(network: Network, examples: Sequence["Example"]) -> str:
    """Take the probe for encoders, recall for answers, likelihood for texts."""
    if not network.speaks:
        return "probe"
    return "recall" if all(example.answer is not None for example in examples) else "likelihood"


def _probe(network: Network, how: Scoring, train: Sequence["Example"], name: str) -> Chosen:
    from mnemotrace.cli._inputs import read_examples
    from mnemotrace.evaluation.encoder import ProbeScore

    learned = read_examples(how.probe) if how.probe is not None else train
    if not learned:
        raise ValueError(f"got --score {name} without examples to train it on; expected --probe FILE.jsonl with labels")
    score = ProbeScore(network.tokenizer, learned, name == "probe", how.batch_size, how.max_length)
    return Chosen(name, score, score.chance)


def scoring(*more: str, help: str = "") -> Callable[[Function], Function]:  # noqa: A002
    """Add the options that choose a score: the usual ones and `more`, which `help` explains."""

    def decorate(function: Function) -> Function:
        probe = click.option("--probe", metavar="FILE.jsonl", help="Labelled examples that a probe is trained on.")
        score = click.option(
            "--score",
            type=click.Choice([*KINDS, *more]),
            default="auto",
            show_default=True,
            help="auto: recall for answers, likelihood for texts, probe for encoders. A probe is trained on the edited "
            f"model afresh, a fixed one on the model as it was.{help}",
        )
        return score(probe(function))

    return decorate
