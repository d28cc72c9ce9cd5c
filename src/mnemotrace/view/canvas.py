"""Paper and pens: a sheet measured in pixels, bare axes on it, legends, labels cut to their room.

Margins are computed, not fitted, so a drawing never fails on a long label. Only called while `figure` holds the
settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

from mnemotrace.view.figure import INK, MUTED, RULE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Sheet

SMALL, LETTER, ROOMY, LEGEND_LINE, TINY = 10, 6.4, 560, 16, 0.005


def sheet(width: float, height: float) -> Sheet:
    """Take an empty sheet, in pixels."""
    from matplotlib.figure import Figure as Sheet

    return Sheet(figsize=(width / 72, height / 72), dpi=72)


def panel(paper: Sheet, left: float, top: float, width: float, height: float) -> Axes:
    """Add bare axes at pixels from the top left corner."""
    whole_w, whole_h = (72 * inches for inches in paper.get_size_inches())
    axes = paper.add_axes((left / whole_w, 1 - (top + height) / whole_h, max(width, 1) / whole_w, height / whole_h))
    axes.set_facecolor("none")
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0, labelsize=SMALL, labelcolor=MUTED)
    return axes


def base(axes: Axes, x: str) -> None:
    """Give axes a base line, a light grid and the name of x."""
    axes.spines["bottom"].set_visible(True)
    axes.spines["bottom"].set_color(MUTED)
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", pad=7)
    axes.set_xlabel(x, fontsize=SMALL, color=MUTED, loc="right", labelpad=4)


def rows(axes: Axes, names: Sequence[str], room: float) -> None:
    """Name the rows, first at the top."""
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), [fit(name, room) for name in names], color=INK)


def handle(name: str, colour: str, marker: str = "", points: float = 6, line: Any = "") -> Any:
    """Make an entry of a legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, marker=marker, markersize=points, linestyle=line, linewidth=1.6, label=name)


def legend(axes: Axes, handles: Sequence[Any], columns: int, gap: float = 6) -> None:
    """Put a legend above axes, `gap` pixels away."""
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0, 1 + gap / axes.bbox.height),
        ncols=columns,
        frameon=False,
        fontsize=SMALL,
        borderpad=0,
        borderaxespad=0,
        handletextpad=0.5,
        handlelength=1.4,
        columnspacing=1.2,
        labelspacing=0.35,
    )


def legend_height(entries: int, columns: int) -> int:
    """Tell the pixels that a legend needs."""
    return LEGEND_LINE * ceil(entries / columns)


def label_room(names: Sequence[str], width: int) -> float:
    """Tell the pixels to keep for row names: what they need, at most two fifths of the width."""
    return min(max(map(len, names), default=0) * LETTER + 10, 0.4 * width)


def fit(text: str, room: float) -> str:
    """Shorten a label to a number of pixels, keeping both ends."""
    letters = max(6, int(room / LETTER))
    if len(text) <= letters:
        return text
    tail = letters * 2 // 3
    return f"{text[: letters - tail - 1]}…{text[-tail:]}"


def short(value: float | None) -> str:
    """Format a number for a cell of a drawing."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return str(value)
    if 0 < abs(value) < TINY:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.0f}"
