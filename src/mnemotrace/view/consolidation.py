"""What a night of replay says: how many episodes it was about, which, what it left of them, and how the loss fell."""

from typing import Any

from torch import Tensor

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import charts, drawing
from mnemotrace.view.charts import Line
from mnemotrace.view.figure import ALARM, CONTROL, TRACE, Figure
from mnemotrace.view.training import losses_of
from mnemotrace.view.values import finite, number, part

Rows = list[tuple[str, ...]]
MOST, COLLAPSED = 20, 1 / 4  # replay of fewer than this share of the episodes is called a collapse
COLUMNS = ("episode", "replays", "probability at the end", "left of its trace")


def summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Say how many episodes there were and are in effect, how often they were replayed, and how the loss fell."""
    counts, losses = artifact.tensors.get("counts"), [v for v in map(finite, losses_of(artifact)) if v is not None]
    effective = _effective(artifact)
    return [
        ("episodes", number(None if counts is None else len(counts))),
        ("replays", number(None if counts is None else int(counts.sum()))),
        ("effective episodes at the end", number(effective[-1][1] if effective else None)),
        ("collapsed", number(_collapsed(artifact))),
        ("loss", f"{number(losses[0])} → {number(losses[-1])}" if losses else number(None)),
    ]


def table(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out the episodes that were replayed most."""
    return COLUMNS, [tuple(map(number, row)) for row in _episodes(artifact)]


def remarks(artifact: Artifact) -> list[str]:
    """Warn of a collapse, say how unevenly episodes were replayed, and how much of their traces is left."""
    counts, left, effective = artifact.tensors.get("counts"), _left(artifact), _effective(artifact)
    told: list[str] = []
    if counts is None or not len(counts):
        return told
    if _collapsed(artifact):
        told.append(
            f"Collapse: in the end replay is about {number(effective[-1][1])} of {number(len(counts))} episodes in "
            "effect; the others are forgotten. Lower gamma, to at most 1 for count, or raise floor."
        )
    told.append(f"An episode was replayed {number(int(counts.min()))} to {number(int(counts.max()))} times.")
    if left is not None and len(left) and float(left.min()) < float(left.max()):
        told.append(f"What is left of a trace is between {number(float(left.min()))} and {number(float(left.max()))}.")
    return told


def effective(artifact: Artifact) -> Figure | None:
    """Draw the effective number of episodes over the steps, between all of them and the line of collapse."""
    spots, counts = _effective(artifact), artifact.tensors.get("counts")
    if not spots:
        return None
    levels: list[Line] = []
    if counts is not None:
        for name, level, colour in (("all episodes", 1.0, CONTROL), ("collapse is below", COLLAPSED, ALARM)):
            flat = [(spot[0], level * len(counts)) for spot in (spots[0], spots[-1])]
            levels.append(Line(name, flat, colour, style="--"))
    return Figure(
        name="effective",
        title="How many episodes replay is about",
        label=f"Effective number of episodes: from {number(spots[0][1])} to {number(spots[-1][1])}"
        + ("." if counts is None else f" of {number(len(counts))}."),
        columns=("steps", "effective episodes"),
        rows=tuple(spots),
        paint=lambda width: charts.lines(
            width, [*levels, Line("effective number", spots, TRACE)], x="steps", y="episodes"
        ),
    )


def replays(artifact: Artifact) -> Figure | None:
    """Draw the episodes that were replayed most, with their probability at the end and what is left of their traces."""
    rows = _episodes(artifact)
    if not rows:
        return None
    # what is the same for all needs no bars
    shown = [1, *(i for i in range(2, len(COLUMNS)) if len({row[i] for row in rows} - {None}) > 1)]
    return Figure(
        name="replays",
        title="How often episodes were replayed"
        if len(rows) < MOST
        else f"The {MOST} episodes that were replayed most",
        label=f"Episode {rows[0][0]} was replayed most, {number(rows[0][1])} times.",
        columns=COLUMNS,
        rows=tuple(rows),
        paint=lambda width: drawing.bars(
            width, [f"episode {row[0]}" for row in rows], {COLUMNS[i]: [row[i] for row in rows] for i in shown}
        ),
    )


def _left(artifact: Artifact) -> Tensor | None:
    return artifact.tensors.get("hippocampus.weights")


def _effective(artifact: Artifact) -> list[tuple[float, float]]:
    history = part(artifact.header, "history")
    pairs = zip(history.get("steps") or [], history.get("effective") or [], strict=False)
    return [(x, y) for step, value in pairs if (x := finite(step)) is not None and (y := finite(value)) is not None]


def _collapsed(artifact: Artifact) -> bool | None:
    found, counts = _effective(artifact), artifact.tensors.get("counts")
    return None if not found or counts is None else found[-1][1] < COLLAPSED * len(counts)


def _episodes(artifact: Artifact) -> list[tuple[Any, ...]]:
    counts = artifact.tensors.get("counts")
    if counts is None:
        return []
    chances, left = artifact.tensors.get("probability"), _left(artifact)
    order = counts.argsort(descending=True, stable=True)[:MOST].tolist()
    return [(i, int(counts[i]), *(None if t is None else finite(float(t[i])) for t in (chances, left))) for i in order]
