"""What a capacity curve says: how often memories give back what was stored, beside the nearest stored pattern."""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import charts
from mnemotrace.view.charts import Line
from mnemotrace.view.figure import CONTROL, Figure
from mnemotrace.view.together import headers, names
from mnemotrace.view.values import finite, interval, number, part

Rows = list[tuple[str, ...]]
Step = Mapping[str, Any]
COLUMNS = ("memory", "patterns", "a feature", "recalled", "95 % interval", "nearest stored", "features right",
           "overlap", "at rest", "cues")  # fmt: skip
HALF = 0.5


def summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Say for each memory how many patterns were tried, and at how many half are left."""
    found: list[tuple[str, str]] = []
    for name, header in _each(artifact):
        counts = [step.get("count") for step in _steps(header)]
        found += [
            (f"{name}, features", number(header.get("d"))),
            (f"{name}, patterns", number(counts)),
            (f"{name}, half is left at", _half(header)),
        ]
    return found


def table(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out every number of patterns of every memory."""
    rows: Rows = []
    for name, header in _each(artifact):
        for step in _steps(header):
            exact, d, count = part(step, "exact"), finite(header.get("d")), finite(step.get("count"))
            load = None if d is None or count is None or not d else count / d
            rows.append(
                (name, number(count), number(load), number(finite(exact.get("value"))), _interval(exact),
                 number(finite(part(step, "ceiling").get("value"))),
                 *(number(finite(step.get(key))) for key in ("bits", "overlap", "converged", "cues")))
            )  # fmt: skip
    return COLUMNS, rows


def remarks(artifact: Artifact) -> list[str]:
    """Say where recall falls to one half, and from where on it is apart from the ceiling."""
    told: list[str] = []
    for name, header in _each(artifact):
        if not _steps(header):
            continue
        below = [step.get("count") for step in _steps(header) if _apart(step)]
        apart = (
            f"below the nearest stored pattern from {number(below[0])} on"
            if below
            else "nowhere apart from the nearest stored pattern"
        )
        told.append(f"{name[:1].upper()}{name[1:]}: half is recalled at {_half(header)} patterns; {apart}.")
    return told


def figure(artifact: Artifact) -> Figure | None:
    """Draw recalled shares over the number of patterns, a line a memory, with the ceiling dashed."""
    rows, drawn, dashed = [], list[Line](), dict[tuple[charts.Spot, ...], Line]()
    for index, (name, header) in enumerate(_each(artifact)):
        steps = [step for step in _steps(header) if None not in (_value(step, "exact"), finite(step.get("count")))]
        colour, marker = charts.look(index)
        spots = [(float(step["count"]), float(_value(step, "exact") or 0)) for step in steps]
        ceiling = tuple((float(s["count"]), top) for s in steps if (top := _value(s, "ceiling")) is not None)
        if not spots:
            continue
        drawn.append(Line(name, spots, colour, marker, bounds=[_bounds(part(step, "exact")) for step in steps]))
        if ceiling and ceiling not in dashed:
            dashed[ceiling] = Line(f"nearest stored, {name}", ceiling, colour, style="--")
        rows += [
            (name, s["count"], _value(s, "exact"), *(_bounds(part(s, "exact")) or (None, None)), _value(s, "ceiling"))
            for s in steps
        ]
    if not drawn:
        return None
    tops = list(dashed.values())
    if len(tops) == 1:  # the same cues for all
        tops = [Line("nearest stored pattern", tops[0].spots, CONTROL, style="--")]
    return Figure(
        name="capacity",
        title="How much is recalled of how much is stored",
        label="; ".join(f"{name}: half is recalled at {_half(header)} patterns" for name, header in _each(artifact)),
        columns=("memory", "patterns", "recalled", "low", "high", "nearest stored pattern"),
        rows=tuple(rows),
        paint=lambda width: charts.lines(
            width, [*tops, *drawn], x="patterns stored", y="share of cues recalled exactly", scale="shares"
        ),
    )


def _each(artifact: Artifact) -> list[tuple[str, Mapping[str, Any]]]:
    return list(zip(names(artifact), headers(artifact), strict=True))


def _steps(header: Mapping[str, Any]) -> list[Step]:
    return [step for step in header.get("steps") or [] if isinstance(step, Mapping)]


def _value(step: Step, key: str) -> float | None:
    return finite(part(step, key).get("value"))


def _bounds(rate: Mapping[str, Any]) -> tuple[float, float] | None:
    low, high = finite(rate.get("low")), finite(rate.get("high"))
    return None if low is None or high is None else (low, high)


def _interval(rate: Mapping[str, Any]) -> str:
    return interval(_bounds(rate))


def _apart(step: Step) -> bool:
    bounds, top = _bounds(part(step, "exact")), _value(step, "ceiling")
    return bounds is not None and top is not None and bounds[1] < top


def _half(header: Mapping[str, Any]) -> str:
    """Say at how many patterns one half is recalled: between counts on a logarithmic scale, or beyond their ends."""
    known = [
        (float(count), value)
        for step in _steps(header)
        if (count := finite(step.get("count"))) and (value := _value(step, "exact")) is not None
    ]
    for (first, above), (second, below) in pairwise(known):
        if above >= HALF > below:
            share = (above - HALF) / (above - below)
            return number(round(math.exp((1 - share) * math.log(first) + share * math.log(second)), 1))
    if not known:
        return number(None)
    return f"more than {number(known[-1][0])}" if known[-1][1] >= HALF else f"fewer than {number(known[0][0])}"
