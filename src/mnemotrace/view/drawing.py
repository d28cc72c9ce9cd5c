"""How figures are painted: heat maps, bars, a forest, dots, curves, a scatter. All lengths are pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Any

from mnemotrace.view import canvas
from mnemotrace.view.canvas import LETTER, ROOMY, SMALL, fit, handle, legend, short
from mnemotrace.view.figure import ALARM, CONTROL, INK, MUTED, RULE, SECOND, SERIES, TRACE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Sheet

Spot = tuple[float, float]
Values = Sequence[float | None]
MARKERS = ("o", "s", "D", "^", "v", "P")
ROW, MOST_ACROSS, DIGIT, EDGE = 20, 3, 4.9, 0.015


@dataclass(frozen=True)
class Series:
    """One curve or set of dots; a value that was not measured is None. Errors are bars about the dots of a curve."""

    name: str
    values: Values
    colour: str
    marker: str
    line: str = "-"
    errors: Values = field(default=(), kw_only=True)


@dataclass(frozen=True)
class Estimate:
    """A value with its interval, and the same of its control; an interval that is unknown is empty."""

    name: str
    value: float
    interval: Sequence[float]
    control: float | None
    control_interval: Sequence[float]


def heat_maps(
    width: int,
    names: Sequence[str],
    layers: Sequence[str],
    maps: Mapping[str, Mapping[Any, float]],
    *,
    across: str = "layer",
) -> Sheet:
    """Draw maps over the same rows and columns, as many side by side as there is room; negative cells are framed only.

    Args:
        width: of the whole drawing.
        names: rows, top first.
        layers: columns, left first.
        maps: title to `{(name, layer): value}`; a missing cell stays empty.
        across: what the columns are.
    """
    label, gap, titles = canvas.label_room(names, width), 14, [_title(*entry) for entry in maps.items()]
    beside = _across(titles, width - label + gap, gap) if width >= ROOMY else 1
    room = (width - label - gap * (beside - 1)) / beside
    cell = min(room / len(layers), 56)
    block = ROW * len(names) + 62
    paper = canvas.sheet(width, block * ceil(len(maps) / beside))
    for index, (title, cells) in enumerate(zip(titles, maps.values(), strict=True)):
        left = label + (index % beside) * (room + gap)
        axes = canvas.panel(paper, left, block * (index // beside) + 24, cell * len(layers), ROW * len(names))
        canvas.rows(axes, names if index % beside == 0 else [""] * len(names), label)
        axes.set_xlim(-0.5, len(layers) - 0.5)
        step = ceil(16 / cell)
        axes.set_xticks(range(0, len(layers), step), layers[::step])
        axes.set_xlabel(across, fontsize=SMALL, color=MUTED, loc="left", labelpad=2)
        start = 0 if len(title) * LETTER <= room else -left / (cell * len(layers))  # above the names too, if need be
        axes.set_title(title, loc="left", fontsize=11, pad=8, x=start)
        places = {(layers.index(layer), names.index(name)): value for (name, layer), value in cells.items()}
        _cells(axes, places, TRACE if index == 0 else SECOND, room=cell)
    return paper


def _title(name: str, cells: Mapping[Any, float]) -> str:
    return f"{name}, up to {short(max(cells.values(), key=abs))}"


def _across(titles: Sequence[str], room: float, gap: float) -> int:
    """Tell how many panels stand in a line: at most three that have room for their titles, in even lines."""
    most = max(1, min(MOST_ACROSS, int(room / (max(map(len, titles)) * LETTER + gap))))
    return ceil(len(titles) / ceil(len(titles) / most))


def _cells(axes: Axes, places: Mapping[tuple[int, int], float], colour: str, *, room: float) -> None:
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgba

    top = max(abs(value) for value in places.values()) or 1.0
    written = room >= max(24, DIGIT * max(len(short(value)) for value in places.values()))
    shades = [to_rgba(colour, 0.06 + 0.5 * abs(value) / top) for value in places.values()]
    clear = [value < 0 for value in places.values()]
    corners = ((-0.47, -0.46), (0.47, -0.46), (0.47, 0.46), (-0.47, 0.46))
    cells = PolyCollection(
        [[(x + right, y + down) for right, down in corners] for x, y in places],
        facecolors=["none" if framed else shade for framed, shade in zip(clear, shades, strict=True)],
        edgecolors=[shade if framed else "none" for framed, shade in zip(clear, shades, strict=True)],
        linewidths=[1.5 if framed else 0 for framed in clear],
    )
    axes.add_collection(cells, autolim=False)
    for (x, y), value in places.items() if written else ():
        axes.text(x, y, short(value), ha="center", va="center", fontsize=9)


def bars(width: int, names: Sequence[str], panels: Mapping[str, Values]) -> Sheet:
    """Draw horizontal bars, one panel per entry, side by side where there is room."""
    label, across, gap = canvas.label_room(names, width), len(panels) if width >= ROOMY else 1, 40
    room, block = (width - label - gap * across) / across, ROW * len(names) + 36
    paper = canvas.sheet(width, block * ceil(len(panels) / across))
    for index, (title, values) in enumerate(panels.items()):
        left = label + (index % across) * (room + gap)
        axes = canvas.panel(paper, left, block * (index // across) + 24, room, ROW * len(names))
        shown = [value or 0.0 for value in values]
        axes.barh(range(len(names)), shown, height=0.62, color=TRACE if index == 0 else SECOND, alpha=0.75)
        axes.set_xlim(min(0.0, *shown), max([*shown, 1e-12]))
        axes.set_xticks([])
        canvas.rows(axes, names if index % across == 0 else [""] * len(names), label)
        axes.set_title(title, loc="left", fontsize=11, pad=6)
        for row, value in enumerate(values):
            end = (max(shown[row], 0.0), row)
            axes.annotate(short(value), end, (4, 0), textcoords="offset points", va="center", fontsize=9)
    return paper


def forest(width: int, estimates: Sequence[Estimate]) -> Sheet:
    """Draw values with their intervals, each above its control."""
    step, top = 58, 26
    paper = canvas.sheet(width, step * len(estimates) + top + 26)
    axes = canvas.panel(paper, 10, top, width - 20, step * len(estimates))
    numbers = [n for e in estimates for n in (e.value, *e.interval, e.control, *e.control_interval) if n is not None]
    low, high = min(0.0, *numbers), max(1.0, *numbers)
    axes.set_xlim(low - 0.02 * (high - low), high + 0.02 * (high - low))
    axes.set_ylim(len(estimates), 0)
    axes.set_yticks([])
    across = axes.get_yaxis_transform()
    for row, one in enumerate(estimates):
        if row:
            axes.axhline(row, color=RULE, linewidth=0.6)
        axes.text(0, row + 0.24, fit(one.name, width / 2), transform=across, va="center", weight="bold")
        seen = f"{short(one.value)}, control {short(one.control)}"
        axes.text(1, row + 0.24, seen, transform=across, va="center", ha="right", fontsize=SMALL)
        _whisker(axes, row + 0.54, one.value, one.interval, TRACE)
        if one.control is not None:
            _whisker(axes, row + 0.8, one.control, one.control_interval, CONTROL)
    entries = [handle("the trace", TRACE, "o", 7), handle("random trace of same size, rank, spectrum", CONTROL, "D", 5)]
    legend(axes, entries, 2)
    return paper


def _whisker(axes: Axes, y: float, value: float, interval: Sequence[float], colour: str) -> None:
    marker, points = ("o", 8) if colour == TRACE else ("D", 6)
    if interval:
        axes.plot(interval, [y, y], color=colour, linewidth=2.2, alpha=0.65, solid_capstyle="round", clip_on=False)
    axes.plot([value], [y], marker=marker, color=colour, markersize=points, linestyle="", clip_on=False)


def dots(width: int, names: Sequence[str], series: Sequence[Series], chance: float | None) -> Sheet:
    """Draw one row per name with a dot per series, joined by a hair line; chance is a dotted line."""
    label, columns = canvas.label_room(names, width), 4 if width >= ROOMY else 2
    entries = [handle(one.name, one.colour, one.marker, 7) for one in series] + _chance(chance)
    top = canvas.legend_height(len(entries), columns) + 12
    paper = canvas.sheet(width, ROW * len(names) + top + 26)
    axes = canvas.panel(paper, label, top, width - label - 10, ROW * len(names))
    canvas.rows(axes, names, label)
    for row in range(len(names)):
        here = [value for one in series if (value := one.values[row]) is not None]
        axes.plot(here, [row] * len(here), color=RULE, linewidth=1, zorder=1)
    for one in series:
        known = [(value, row) for row, value in enumerate(one.values) if value is not None]
        axes.plot(*_axes_of(known), linestyle="", marker=one.marker, color=one.colour, markersize=7, clip_on=False)
    if chance is not None:
        axes.axvline(chance, color=MUTED, linewidth=1, linestyle=":", zorder=0)
    low, high = _limits(series)
    axes.set_xlim(low - EDGE * (high - low), high + EDGE * (high - low))
    legend(axes, entries, columns)
    return paper


def curves(
    width: int,
    steps: Sequence[float],
    series: Sequence[Series],
    chance: float | None,
    *,
    x: str = "steps of relearning",
    even: bool = False,
) -> Sheet:
    """Draw one curve per series over steps; far-reaching steps get a logarithmic axis that keeps zero, unless even."""
    columns, height = (5, 260) if width >= ROOMY else (2, 220)
    entries = [handle(one.name, one.colour, one.marker, 5, one.line) for one in series] + _chance(chance)
    top = canvas.legend_height(len(entries), columns) + 12
    paper = canvas.sheet(width, height + top + 40)
    axes = canvas.panel(paper, 34, top, width - 46, height)
    for one in series:
        known = [(step, value) for step, value in zip(steps, one.values, strict=False) if value is not None]
        axes.plot(*_axes_of(known), color=one.colour, marker=one.marker, markersize=5, linewidth=1.8,
                  linestyle=one.line, clip_on=False)  # fmt: skip
        bars = [(step, *ends) for step, ends in zip(steps, _ends(one), strict=False) if ends is not None]
        axes.vlines([b[0] for b in bars], [b[1] for b in bars], [b[2] for b in bars], color=one.colour, linewidth=1.2)
    if chance is not None:
        axes.axhline(chance, color=MUTED, linewidth=1, linestyle=":")
    positive = [step for step in steps if step > 0]
    if positive and not even and max(positive) > 20 * min(positive):
        axes.set_xscale("symlog", linthresh=min(positive), linscale=0.4)
        axes.minorticks_off()
    shown = steps[:: ceil(len(steps) / (width / 40))]
    axes.set_xticks(shown, [f"{step:g}" for step in shown])
    if len(steps) > 1:
        axes.set_xlim(min(steps), max(steps))
    axes.set_ylim(*_limits(series))
    canvas.base(axes, x)
    legend(axes, entries, columns)
    return paper


@dataclass(frozen=True)
class Cloud:
    """What a scatter shows.

    Attributes:
        groups: name to its points, (x, y).
        frontier: points to be joined, left to right.
        marks: named points.
        allowed: right and upper end of the shaded corner, None where there is no limit.
        y: name of the vertical axis.
    """

    groups: Mapping[str, Sequence[Spot]]
    frontier: Sequence[Spot]
    marks: Mapping[str, Spot]
    allowed: tuple[float | None, float | None]
    y: str


def scatter(width: int, cloud: Cloud) -> Sheet:
    """Draw faint points by group, the line through the frontier, the marks and the corner that is allowed."""
    columns, height = (3, 300) if width >= ROOMY else (1, 260)
    shaded = cloud.allowed != (None, None)
    top = canvas.legend_height(len(cloud.groups) + bool(cloud.frontier) + shaded, columns) + 34
    paper = canvas.sheet(width, height + top + 42)
    axes = canvas.panel(paper, 44, top, width - 60, height)
    spots = [spot for group in cloud.groups.values() for spot in group]
    ceiling, right = _ceiling(cloud, spots), max(x for x, _ in spots) or 1.0
    axes.set_xlim(min(0.0, *(x for x, _ in spots)) - 0.02 * right, 1.02 * right)
    axes.set_ylim(min(0.0, *(y for _, y in spots)) - 0.03 * ceiling, ceiling)
    entries = [handle("no edit is better in both", INK, line="-")] if cloud.frontier else []
    entries += [_corner(axes, cloud.allowed)] if shaded else []
    for index, (name, group) in enumerate(cloud.groups.items()):
        colour, marker = (SERIES[index], MARKERS[index]) if index < len(SERIES) else (CONTROL, "X")
        inside = [(x, min(y, ceiling)) for x, y in group]
        axes.plot(*_axes_of(inside), linestyle="", marker=marker, color=colour, alpha=0.45, markersize=6,
                  markeredgewidth=0, clip_on=False)  # fmt: skip
        entries.append(handle(fit(name, width / columns - 30), colour, marker, 6))
    if cloud.frontier:
        axes.plot(*_axes_of(cloud.frontier), color=INK, linewidth=1.4, alpha=0.8, zorder=3)
    for name, spot in cloud.marks.items():
        _mark(axes, name, spot)
    canvas.base(axes, "what is left of the memory")
    axes.annotate(
        cloud.y, (0, 1), (-36, 10), xycoords="axes fraction", textcoords="offset points", fontsize=SMALL, color=MUTED
    )
    legend(axes, entries, columns, gap=28)
    return paper


def _ceiling(cloud: Cloud, spots: Sequence[Spot]) -> float:
    """Give the top of the frame: all that matters, and at most three times of it for the rest."""
    needed = max(0.0, cloud.allowed[1] or 0.0, *(y for _, y in [*cloud.frontier, *cloud.marks.values()]))
    highest = max(y for _, y in spots)
    return 1.05 * (max(needed, min(highest, 3 * needed)) if needed > 0 else highest) or 1.0


def _corner(axes: Axes, allowed: tuple[float | None, float | None]) -> Any:
    from matplotlib.patches import Rectangle

    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    x, y = (right if allowed[0] is None else allowed[0]), (high if allowed[1] is None else allowed[1])
    box = Rectangle(
        (left, low), x - left, y - low, facecolor=TRACE, alpha=0.16, linewidth=0, label="within goal and budget"
    )
    return axes.add_patch(box)


def _mark(axes: Axes, name: str, spot: Spot) -> None:
    colour, marker = (ALARM, "o") if name == "chosen" else (INK, "D")
    right = spot[0] > sum(axes.get_xlim()) / 2
    axes.plot([spot[0]], [spot[1]], marker=marker, markersize=11, markerfacecolor="none", color=colour,
              markeredgewidth=2, linestyle="", clip_on=False, zorder=4)  # fmt: skip
    axes.annotate(name, spot, (-10 if right else 10, 9), textcoords="offset points", ha="right" if right else "left",
                  color=colour, weight="bold", zorder=5)  # fmt: skip


def _axes_of(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _chance(chance: float | None) -> list[Any]:
    return [] if chance is None else [handle("chance", MUTED, line=":")]


def _limits(series: Sequence[Series]) -> tuple[float, float]:
    known = [value for one in series for value in one.values if value is not None]
    known += [end for one in series for ends in _ends(one) if ends is not None for end in ends]
    return min(0.0, *known), max(1.0, *known)


def _ends(one: Series) -> list[tuple[float, float] | None]:
    """Give the ends of the error bars, None where there is none."""
    pairs = zip(one.values, one.errors, strict=False)
    return [None if value is None or error is None else (value - error, value + error) for value, error in pairs]
