"""A comparison of methods: a panel a measure, a row a method, each value with its interval and its random control.

In a panel of answers the filled dot is what the network says by itself, the hollow one teacher-forced, the stroke the
probability: how far they lie apart is how far the last two flatter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import canvas
from mnemotrace.view.canvas import ROOMY, SMALL, handle, legend, short
from mnemotrace.view.figure import CONTROL, RULE, SECOND, TRACE, Figure
from mnemotrace.view.values import CRITERIA, NONE, finite, interval, number, part, size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Sheet

ANSWERS = ("efficacy", "paraphrase", "neighbourhood", "portability")
COLUMNS = ("probability", "forced", "free")
ENDS = ("untouched", "random")
ROW, HEAD, FOOT, GUTTER, GAP = 20, 26, 24, 30, 14
Rows = list[tuple[str, ...]]


@dataclass(frozen=True)
class Mark:
    """One method in one panel; what was not measured is None or empty."""

    value: float | None
    bounds: tuple[float, ...] = ()
    control: float | None = None
    forced: float | None = None
    probability: float | None = None


def writing(artifact: Artifact) -> Figure | None:
    """Show the methods that write a new answer."""
    return _figure(artifact, "writing", "Methods that write, measure by measure", writes=True)


def erasing(artifact: Artifact) -> Figure | None:
    """Show the methods that take an answer away."""
    return _figure(artifact, "erasing", "Methods that erase, measure by measure", writes=False)


def rows_of(artifact: Artifact, *, writes: bool) -> list[Mapping[str, Any]]:
    """Return the rows of one block."""
    return [row for row in artifact.header.get("rows") or [] if bool(row.get("writes")) is writes]


def _figure(artifact: Artifact, name: str, title: str, *, writes: bool) -> Figure | None:
    methods = rows_of(artifact, writes=writes)
    every = {measure: [_mark(row, measure) for row in methods] for measure in (*ANSWERS, *CRITERIA)}
    panels = {measure: marks for measure, marks in every.items() if any(one.value is not None for one in marks)}
    if not panels:
        return None
    names = [str(row.get("name")) for row in methods]
    best = {m: max(zip(names, marks, strict=True), key=_height)[0] for m, marks in panels.items()}
    told = "; ".join(f"{m} highest for {who}" for m, who in best.items())
    numbers = tuple(
        (method, measure, one.value, *(one.bounds or (None, None)), one.control, one.forced, one.probability)
        for measure, marks in panels.items()
        for method, one in zip(names, marks, strict=True)
        if one.value is not None
    )
    return Figure(
        name=name,
        title=title,
        label=f"{len(names)} rows, {len(panels)} measures: {told}.",
        columns=("method", "measure", "value", "low", "high", "random control", "teacher-forced", "probability"),
        rows=numbers,
        paint=lambda width: _paint(width, names, panels),
    )


def _height(pair: tuple[str, Mark]) -> float:
    return float("-inf") if pair[1].value is None or pair[0] in ENDS else pair[1].value


def _mark(row: Mapping[str, Any], measure: str) -> Mark:
    seen = part(part(row, "criteria"), measure)
    if seen:
        return Mark(finite(seen.get("value")), _bounds(seen), finite(seen.get("control")))
    by = part(part(row, "measures"), measure)
    probability, forced, free = (finite(part(by, column).get("value")) for column in COLUMNS)
    return Mark(free, _bounds(part(by, "free")), None, forced, probability)


def _bounds(seen: Mapping[str, Any]) -> tuple[float, ...]:
    known = tuple(value for value in map(finite, seen.get("interval") or ()) if value is not None)
    return known if len(known) == 2 else ()


def _paint(width: int, names: Sequence[str], panels: Mapping[str, Sequence[Mark]]) -> Sheet:
    across, label = (4, canvas.label_room(names, width // 2)) if width >= ROOMY else (2, canvas.label_room(names, 260))
    entries = _entries(panels)
    columns = len(entries) if width >= ROOMY else 2
    top, block = canvas.legend_height(len(entries), columns) + 8, HEAD + ROW * len(names) + FOOT
    room = (width - label) / across - GAP
    lines = [line for group in (ANSWERS, CRITERIA) for line in _lines([m for m in group if m in panels], across)]
    paper = canvas.sheet(width, top + block * len(lines))
    key = canvas.panel(paper, 6, top, width - 12, 1)
    key.set_axis_off()
    legend(key, entries, columns, gap=4)
    for down, line in enumerate(lines):
        for right, measure in enumerate(line):
            left = label + GAP / 2 + right * (room + GAP)
            axes = canvas.panel(paper, left, top + block * down + HEAD, room - GUTTER, ROW * len(names))
            canvas.rows(axes, [""] * len(names) if right else names, label)
            axes.set_title(measure, loc="left", fontsize=11, pad=5)
            _marks(axes, panels[measure])
    return paper


def _lines(measures: Sequence[str], across: int) -> list[Sequence[str]]:
    return [measures[start : start + across] for start in range(0, len(measures), across)]


def _entries(panels: Mapping[str, Sequence[Mark]]) -> list[Any]:
    """Explain the marks that there are."""
    marks = [one for row in panels.values() for one in row]
    entries = [handle("by itself; criterion", TRACE, "o", 6)]
    if any(one.forced is not None for one in marks):
        entries += [handle("teacher-forced", TRACE, "o", 9), handle("probability", SECOND, "|", 10)]
        entries[1].set_markerfacecolor("none")
    if any(one.control is not None for one in marks):
        entries.append(handle("random control", CONTROL, "D", 5))
    return entries


def _marks(axes: Axes, marks: Sequence[Mark]) -> None:
    known = [n for one in marks for n in (one.value, one.control) if n is not None]
    low, high = max(-1.0, min(0.0, *known, 0.0)), min(2.0, max(1.0, *known, 1.0))  # far outliers stand at the edge

    def dot(value: float | None, row: int, **look: Any) -> None:
        if value is not None:
            axes.plot([min(max(value, low), high)], [row], linestyle="", clip_on=False, **look)

    for edge in (0.0, 1.0):
        axes.axvline(edge, color=RULE, linewidth=1, zorder=0)
    for row, one in enumerate(marks):
        if one.bounds:
            ends = [min(max(n, low), high) for n in one.bounds]
            axes.plot(ends, [row, row], color=TRACE, linewidth=2.2, alpha=0.5, clip_on=False)
        dot(one.control, row, color=CONTROL, marker="D", markersize=5)
        dot(one.probability, row, color=SECOND, marker="|", markersize=10)
        dot(one.forced, row, color=TRACE, marker="o", markersize=9, markerfacecolor="none")
        dot(one.value, row, color=TRACE, marker="o", markersize=6)
        place: Any = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        axes.annotate(short(one.value), (1, row), (GUTTER, 0), va="center", ha="right", fontsize=SMALL, **place)
    margin = 0.06 * (high - low)
    axes.set_xlim(low - margin, high + margin)
    axes.set_xticks([0, 1])


def answers(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out what the network answers, in all three readings, and what a method costs."""
    rows: Rows = []
    for row in [*rows_of(artifact, writes=True), *rows_of(artifact, writes=False)]:
        told = [
            " / ".join(number(part(part(part(row, "measures"), m), c).get("value")) for c in COLUMNS) for m in ANSWERS
        ]
        told = [NONE if text == f"{NONE} / {NONE} / {NONE}" else text for text in told]
        ratio = part(row, "perplexity")
        weight = size(row["nbytes"]) if row.get("nbytes") else NONE
        costs = (number(ratio.get("value")), interval(ratio.get("interval")), weight, number(row.get("norm") or None))
        does = "writes" if row.get("writes") else "erases"
        rows.append((str(row.get("name")), does, *told, *costs, number(row.get("seconds"))))
    return ("method", "", *ANSWERS, "perplexity, ratio", "its interval", "size", "norm", "seconds"), rows


def evidence(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out the criteria of each method, the control in brackets, or why there are none."""
    rows: Rows = []
    for row in [*rows_of(artifact, writes=True), *rows_of(artifact, writes=False)]:
        seen = [part(part(row, "criteria"), name) for name in CRITERIA]
        cells = [f"{number(one.get('value'))} ({number(one.get('control'))})" if one else NONE for one in seen]
        absent = part(row, "absent")
        why = [str(absent[key]) for key in ("criteria", "reactivation") if key in absent]
        rows.append((str(row.get("name")), *cells, "; ".join(why)))
    return ("method", *CRITERIA, "absent because"), rows


def remarks(artifact: Artifact) -> list[str]:
    """Say which methods are best, and which are no better than a random edit of the same size."""
    told: list[str] = []
    for writes, does in ((True, "write"), (False, "erase")):
        methods = rows_of(artifact, writes=writes)
        own = [row for row in methods if row.get("name") not in ENDS]
        random = next((_mark(row, "efficacy") for row in methods if row.get("name") == "random"), Mark(None))
        known = [(str(row.get("name")), one) for row in own if (one := _mark(row, "efficacy")).value is not None]
        if not known:
            continue
        name, best = max(known, key=lambda pair: pair[1].value or 0.0)
        told.append(f"Of the methods that {does}, {name} has the highest efficacy: {number(best.value)} by itself.")
        if random.bounds:
            weak = [name for name, one in known if one.bounds and one.bounds[0] <= random.bounds[1]]
            told += [f"Not apart from a random edit of the same size: {', '.join(weak)}."] if weak else []
    return told


def summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Describe a comparison in a few labelled values."""
    header = artifact.header
    own = [row for row in header.get("rows") or [] if row.get("name") not in ENDS]
    found = [("methods", number(len(own))), ("facts", number(header.get("facts")))]
    for row in own:
        free = part(part(part(row, "measures"), "efficacy"), "free").get("value")
        does = "writes" if row.get("writes") else "erases"
        found.append((str(row.get("name")), f"{does}, efficacy {number(free)}"))
    return found
