"""Matrices between the same concepts side by side, and grids of two settings. All lengths are pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

from mnemotrace.view import canvas
from mnemotrace.view.canvas import ROOMY, SMALL, fit, short
from mnemotrace.view.figure import INK, MUTED, SECOND, TRACE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Sheet

GAP, HEAD, WIDEST, WRITTEN = 18, 26, 34, 30
Rows = Sequence[Sequence[float | None]]


def matrices(width: int, names: Sequence[str], panels: Mapping[str, Rows], *, across: str = "") -> Sheet:
    """Draw square matrices over the same names; negative cells have another colour, shades are the same in all panels.

    Args:
        width: of the whole drawing.
        names: of rows and columns.
        panels: title to rows of values; None stays empty. Values beyond 1 are as dark as 1.
        across: what columns are, under each panel.
    """
    room, columns = canvas.label_room(names, width), len(panels) if width >= ROOMY else 1
    side = min((width - room - GAP * (columns - 1)) / columns / len(names), WIDEST)
    tall, foot = side * len(names), 0.75 * room + 24  # letters are narrower than the room that names are given
    paper = canvas.sheet(width, (HEAD + tall + foot) * ceil(len(panels) / columns))
    for index, (title, values) in enumerate(panels.items()):
        left = room + (index % columns) * (tall + GAP)
        axes = canvas.panel(paper, left, HEAD + (index // columns) * (HEAD + tall + foot), tall, tall)
        canvas.rows(axes, names if index % columns == 0 else [""] * len(names), room)
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.set_xticks(range(len(names)), [fit(name, room) for name in names], rotation=90, color=INK)
        axes.set_xlabel(across, fontsize=SMALL, color=MUTED, loc="left")
        axes.set_title(title, loc="left", fontsize=11, pad=6)
        shade(axes, values, written=side >= WRITTEN)
    return paper


def shade(axes: Axes, values: Rows, *, written: bool, colour: str = TRACE) -> None:
    """Fill cells by size, in another colour below zero, and write the values where there is room."""
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgba

    cells = [(x, y, v) for y, row in enumerate(values) for x, v in enumerate(row) if v is not None]
    corners = ((-0.47, -0.47), (0.47, -0.47), (0.47, 0.47), (-0.47, 0.47))
    shades: Any = [to_rgba(SECOND if v < 0 else colour, 0.04 + 0.7 * min(abs(v), 1.0)) for _, _, v in cells]
    boxes = [[(x + right, y + down) for right, down in corners] for x, y, _ in cells]
    axes.add_collection(PolyCollection(boxes, facecolors=shades, linewidths=0), autolim=False)
    for x, y, value in cells if written else ():
        axes.text(x, y, short(value).replace("0.", "."), ha="center", va="center", fontsize=8)
