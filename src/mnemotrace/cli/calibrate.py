"""`mnemotrace calibrate`: where to act and how strongly."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mnemotrace.cli._inputs import (
    Reading,
    apart,
    named,
    numbers,
    open_network,
    read_examples,
    read_source,
    reading,
    statistics_of,
)
from mnemotrace.cli._options import output, verb
from mnemotrace.cli._scores import Scoring, choose, scoring
from mnemotrace.cli._session import Session
from mnemotrace.cli.locate import solving, target_and_reference

if TYPE_CHECKING:
    from mnemotrace.adapters.examples import Example
    from mnemotrace.evaluation.calibration import Point
    from mnemotrace.stats.moments import Statistics

HELD_OUT = 0.2


@verb(
    "calibrate",
    "mnemotrace calibrate funes --target fact.jsonl --reference facts.jsonl --forget paraphrases.jsonl "
    "--keep others=others.jsonl -o calibration.safetensors --positions predict",
)
@click.argument("model")
@target_and_reference
@click.option("--forget", metavar="FILE.jsonl", help="Held-out examples of the memory; the target itself otherwise.")
@click.option(
    "--keep",
    metavar="NAME=FILE.jsonl",
    multiple=True,
    callback=named,
    help="Held-out examples of what must not suffer.",
)
@output(".safetensors")
@scoring()
@click.option(
    "--budget", metavar="X[,NAME=X...]", default="0.02", show_default=True, help="Allowed loss of each kept score."
)
@click.option("--goal", type=float, default=0.05, show_default=True, help="Wanted score of the memory.")
@click.option(
    "--strengths",
    metavar="A,B,...",
    default="0.5,1,1.5,2",
    show_default=True,
    callback=numbers,
    help="Factors of the engram to try.",
)
@click.option(
    "--selectivities",
    metavar="A,B,...",
    default="0.1,0.3,1,3",
    show_default=True,
    callback=numbers,
    help="Weights of the reference to try.",
)
@solving
@reading()
def calibrate(
    session: Session,
    *,
    model: str,
    target: str,
    reference: str,
    drop_shared: bool,
    forget: str | None,
    keep: dict[str, str],
    path: Path,
    score: str,
    probe: str | None,
    budget: str,
    goal: float,
    strengths: tuple[float, ...],
    selectivities: tuple[float, ...],
    solver: str,
    rcond: float | None,
    **options: Any,
) -> None:
    """Search sites, strength and selectivity for the edit that erases most within a budget of loss elsewhere.

    Without --keep a fifth of the reference is drawn, left out of it and measured instead. A probe learns from --probe,
    or from the target and the reference where these are labelled JSON lines.
    """
    import mnemotrace as mt

    how = Reading(**options)
    allowed = _budget(budget)
    network = open_network(model)
    data = _read(session, target, reference, forget, keep, drop=drop_shared)
    wanted, rest = statistics_of(session, network, how, target=data.target, reference=data.reference)
    everything = [*data.forget, *(example for examples in data.keep.values() for example in examples)]
    known = [example for part in (data.target, data.reference) if isinstance(part, list) for example in part]
    chosen = choose(network, Scoring(score, probe, how.batch_size, how.max_length), everything, known)
    with session.progress("calibrating") as progress:
        found = mt.calibrate(
            network.model,
            target=wanted,
            reference=rest,
            score=chosen.function,
            forget=data.forget,
            keep=data.keep,
            budget={name: allowed.get(name, allowed.get("", 0.0)) for name in data.keep},
            goal=goal,
            strengths=strengths,
            selectivities=selectivities,
            solver=solver,
            rcond=rcond,
            progress=progress,
        )
    session.save(found, path)
    best = None if found.chosen is None else found.points[found.chosen]
    published = None if found.published is None else found.points[found.published]
    if best is None:
        session.say("no edit is within the budget; raise it, or try smaller strengths")
    session.made(
        path,
        score=chosen.name,
        points=len(found.points),
        untouched=found.untouched,
        chosen=_point(best),
        published=_point(published),
    )


@dataclass(frozen=True)
class _Data:
    target: "Statistics | list[Example]"
    reference: "Statistics | list[Example]"
    forget: "Sequence[Example]"
    keep: "dict[str, list[Example]]"


def _read(
    session: Session, target: str, reference: str, forget: str | None, keep: dict[str, str], *, drop: bool
) -> _Data:
    """Read all data, hold some out where none was given, and see that nothing is both erased and kept."""
    memory, rest = read_source(target), read_source(reference)
    held = {name: read_examples(file) for name, file in keep.items()}
    if forget is not None:
        asked = read_examples(forget)
    elif isinstance(memory, list):
        asked = memory
        session.say("no --forget: the memory is asked for in the words of the target")
    else:
        raise click.UsageError("got statistics as target and no --forget; expected the memory as JSON lines too")
    known = [*asked, *(memory if isinstance(memory, list) else [])]
    if isinstance(rest, list):
        rest = apart(session, known, rest, "reference", drop=drop)
    held = {name: apart(session, known, examples, f"{name} to keep", drop=False) for name, examples in held.items()}
    if not held:
        if not isinstance(rest, list):
            raise click.UsageError(
                "got statistics as reference and no --keep; expected what must be kept as JSON lines"
            )
        rest, held["reference"] = _held_out(rest, session.seed)
        session.say(
            f"no --keep: {len(held['reference'])} examples were held out of the reference, {len(rest)} stay in it"
        )
    return _Data(memory, rest, asked, held)


def _held_out(examples: "list[Example]", seed: int) -> "tuple[list[Example], list[Example]]":
    import torch

    if len(examples) < 2:
        raise ValueError("got a reference of one example and no --keep; expected more, to hold some out")
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(seed)).tolist()
    count = max(1, round(HELD_OUT * len(examples)))
    return [examples[i] for i in sorted(order[count:])], [examples[i] for i in sorted(order[:count])]


def _budget(text: str) -> dict[str, float]:
    """Parse `0.02` or `0.02,others=0.01`; the number without a name is under the empty one."""
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = part.rpartition("=")
        try:
            found[name if equals else ""] = float(value)
        except ValueError:
            raise click.BadParameter(f"got --budget {text!r}; expected numbers such as 0.02 or others=0.01") from None
    return found


def _point(point: "Point | None") -> dict[str, Any] | None:
    return None if point is None else {key: value for key, value in asdict(point).items() if key != "depth"}
