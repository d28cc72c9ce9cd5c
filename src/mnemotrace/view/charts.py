"""Two more drawings: lines that each have their own places, and bars of shares that sum to one. Lengths are pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import TYPE_CHECKING

from mnemotrace.view import canvas
from mnemotrace.view.canvas import ROOMY, SMALL, fit, handle, legend, short
from mnemotrace.view.figure import CONTROL, MUTED, SERIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Sheet

Spot = tuple[float, float]
BAR, FAR, TICKS, NARROWEST = 26, 20.0, 7, 0.07
MARKERS = ("o", "s", "D", "^", "v", "P")


@dataclass(frozen=True)
class Line:
    """A line through spots, left to right; `bounds` are the ends of a bar at each spot, or none at all."""

    name: str
    spots: Sequence[Spot]
    colour: str
    marker: str = ""
    style: str = "-"
    bounds: Sequence[tuple[float, float] | None] = ()


def look(index: int) -> tuple[str, str]:
    """Give colour and marker of the line with this index; those beyond the colours are all alike."""
    return (SERIES[index], MARKERS[index]) if index < len(SERIES) else (CONTROL, "X")


def lines(width: int, every: Sequence[Line], *, x: str, y: str, scale: str = "") -> Sheet:
    """Draw lines, with a legend where there are several.

    Args:
        width: of the drawing.
        every: at least one line with a spot.
        x: name of the horizontal axis.
        y: name of the vertical axis.
        scale: `shares` go from 0 to 1, over counts that are told one by one; `ratios` that are far apart are
            logarithmic; else the numbers begin at 0.
    """
    columns, height = (3, 260) if width >= ROOMY else (1, 220)
    entries = [handle(fit(one.name, width / columns - 40), one.colour, one.marker, 5, one.style) for one in every]
    entries = entries if len(entries) > 1 else []
    top = canvas.legend_height(len(entries), columns) + 34
    paper = canvas.sheet(width, height + top + 42)
    axes = canvas.panel(paper, 46, top, width - 62, height)
    for one in every:
        across, up = [spot[0] for spot in one.spots], [spot[1] for spot in one.spots]
        axes.plot(across, up, color=one.colour, marker=one.marker, markersize=5, linewidth=1.8, linestyle=one.style,
                  clip_on=False)  # fmt: skip
        bars = [(place, *ends) for place, ends in zip(across, one.bounds, strict=False) if ends is not None]
        axes.vlines([b[0] for b in bars], [b[1] for b in bars], [b[2] for b in bars], color=one.colour, linewidth=1.2)
    places = sorted({spot[0] for one in every for spot in one.spots})
    values = [spot[1] for one in every for spot in one.spots]
    values += [end for one in every for ends in one.bounds if ends is not None for end in ends]
    _across(axes, places, width, told=scale == "shares")
    _up(axes, values, scale)
    canvas.base(axes, x)
    axes.annotate(y, (0, 1), (-38, 10), xycoords="axes fraction", textcoords="offset points", fontsize=SMALL,
                  color=MUTED)  # fmt: skip
    if entries:
        legend(axes, entries, columns, gap=28)
    return paper


def stacked(width: int, names: Sequence[str], parts: Mapping[str, tuple[str, Sequence[float]]]) -> Sheet:
    """Draw a bar a name, made of its parts: title to colour and shares, which sum to one for each name."""
    label, columns = canvas.label_room(names, width), 4 if width >= ROOMY else 2
    entries = [handle(fit(title, width / columns - 30), colour, "s", 9) for title, (colour, _) in parts.items()]
    top = canvas.legend_height(len(entries), columns) + 12
    paper = canvas.sheet(width, BAR * len(names) + top + 26)
    axes = canvas.panel(paper, label, top, width - label - 14, BAR * len(names))
    canvas.rows(axes, names, label)
    axes.set_xlim(0, 1)
    ends = [0.0] * len(names)
    for colour, shares in parts.values():
        axes.barh(range(len(names)), shares, left=ends, height=0.68, color=colour, alpha=0.5, linewidth=0)
        for row, share in enumerate(shares):
            if share > NARROWEST:
                axes.text(ends[row] + share / 2, row, short(share), ha="center", va="center", fontsize=9)
        ends = [end + share for end, share in zip(ends, shares, strict=True)]
    legend(axes, entries, columns)
    return paper


def _across(axes: Axes, places: Sequence[float], width: int, *, told: bool) -> None:
    if len(places) > 1:
        axes.set_xlim(places[0], places[-1])
    if not told:
        axes.locator_params(axis="x", integer=True, nbins=width // 70)
        return
    if places[0] > 0 and places[-1] > FAR * places[0]:
        axes.set_xscale("log")
        axes.minorticks_off()
        step = log10(places[-1] / places[0]) / (width / 60)
        shown = [places[0]]
        for place in places[1:]:
            shown += [place] if log10(place / shown[-1]) >= step else []
    else:
        shown = places[:: ceil(len(places) / (width / 60))]
    axes.set_xticks(shown, [f"{place:g}" for place in shown])


def _up(axes: Axes, values: Sequence[float], scale: str) -> None:
    low, high = min(values), max(values)
    if scale == "shares":
        axes.set_ylim(min(0.0, low), max(1.0, high))
    elif scale == "ratios" and low > 0 and high > FAR * low:
        axes.set_yscale("log")
        axes.minorticks_off()
        axes.set_ylim(low, high)
        decades = range(floor(log10(low)), ceil(log10(high)) + 1)
        digits = (1, 2, 5) if len(decades) < TICKS else (1,)
        ticks = [digit * 10.0**decade for decade in decades for digit in digits]
        shown = [tick for tick in ticks if low <= tick <= high]
        axes.set_yticks(shown, [f"{tick:g}" for tick in shown])
    else:
        axes.set_ylim(min(0.0, low), 1.04 * max(0.0, high) or 1.0)
