"""What became of retrieved memories: how surprising each observation was, and what it did."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import charts
from mnemotrace.view.charts import Line
from mnemotrace.view.figure import ALARM, CONTROL, SERIES, Figure
from mnemotrace.view.values import finite, number, part

Rows = list[tuple[str, ...]]
COLUMNS = ("time", "what happened", "memory", "squared surprise", "content moves between", "moved by", "open window")
MOST = 40
COLOURS = {"strengthened": (SERIES[0], "o"), "updated": (SERIES[1], "s"), "stored": (ALARM, "D")}


def summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Say how many memories there are, and how often each thing happened."""
    values, log = artifact.tensors.get("memory.values"), _log(artifact)
    counts = Counter(str(entry.get("regime")) for entry in log)
    store = part(artifact.header, "memory").get("kind")
    happened = [(name, number(counts[name])) for name in ("retrieved", *COLOURS, "ignored")]
    return [("memory", number(store)), ("memories", number(None if values is None else len(values))), *happened]


def table(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out the last entries of the log, in order."""
    log = _log(artifact)
    first = max(len(log) - MOST, 0)
    return COLUMNS, [_row(artifact, i, log[i]) for i in range(first, len(log))]


def remarks(artifact: Artifact) -> list[str]:
    """Say where observations had no effect, and how many memories are new."""
    counts = Counter(str(entry.get("regime")) for entry in _log(artifact))
    told = []
    if counts["ignored"]:
        told.append(f"{counts['ignored']} observations came while no memory was labile, and changed nothing.")
    if counts["stored"]:
        told.append(f"{counts['stored']} observations were too surprising to be changes, and became memories.")
    return told


def surprise(artifact: Artifact) -> Figure | None:
    """Draw the squared surprise of each observation over time, with the two bounds between which content moves.

    What is far beyond the upper bound is drawn at twice the bound, so that the rest can be seen; the data hold it all.
    """
    seen = [(entry, finite(entry.get("surprise")), finite(entry.get("time"))) for entry in _log(artifact)]
    shown = [(e, float(s), float(t)) for e, s, t in seen if s is not None and t is not None and e.get("bounds")]
    if not shown:
        return None
    bounds = [
        Line(name, [(t, float(e["bounds"][i])) for e, _, t in shown], CONTROL, style=style)
        for i, (name, style) in enumerate((("content moves from", ":"), ("a new memory from", "--")))
    ]
    points = [
        Line(
            name,
            [(t, min(s, 2 * e["bounds"][1])) for e, s, t in shown if e.get("regime") == name],
            colour,
            marker,
            style="none",
        )
        for name, (colour, marker) in COLOURS.items()
        if any(e.get("regime") == name for e, _, _ in shown)
    ]
    return Figure(
        name="surprise",
        title="What each surprise did",
        label="; ".join(f"{term}: {value}" for term, value in summary(artifact)),
        columns=("time", "squared surprise", "content moves from", "new memory from", "what happened"),
        rows=tuple((t, s, *e["bounds"], e.get("regime")) for e, s, t in shown),
        paint=lambda width: charts.lines(
            width, [*bounds, *points], x="time", y="squared surprise, up to twice the upper bound"
        ),
    )


def _log(artifact: Artifact) -> list[Mapping[str, Any]]:
    return list(artifact.header.get("log") or [])


def _row(artifact: Artifact, i: int, entry: Mapping[str, Any]) -> tuple[str, ...]:
    before, after = (artifact.tensors.get(f"log.{i}.{name}") for name in ("before", "after"))
    moved = None if before is None or after is None else float((after - before).norm())
    bounds = entry.get("bounds")
    between = f"{number(bounds[0])} and {number(bounds[1])}" if bounds else number(None)
    told = (number(entry.get(name)) for name in ("time", "regime", "handle", "surprise"))
    return (*told, between, number(moved), number(entry.get("gain")))
