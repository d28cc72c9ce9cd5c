"""A sheet of concept cells: a row each, with examples, what it wants to see, its responses and its AUROC by view.

The sheet takes tensors only; who made the pictures is the caller's business. Pictures are scaled each to its own range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mnemotrace.core.linalg import require_finite
from mnemotrace.view import canvas
from mnemotrace.view.canvas import SMALL
from mnemotrace.view.figure import CONTROL, INK, MUTED, RULE, SECOND, TRACE, Figure, save
from mnemotrace.view.pictures import scaled
from mnemotrace.view.values import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EXAMPLES, BINS, LINE, GAP, SPACE, CHANCE = 5, 24, 18, 3, 16, 0.5
SHARE = 0.6  # of the width for pictures


@dataclass(frozen=True, eq=False)
class CellRow:
    """What is drawn of one cell.

    Attributes:
        title: such as "fire9, 310: dogs".
        examples: `(e, c, h, w)` or `(e, d)`, the stimuli that excite it most; the first five are drawn.
        own: `(n,)`, responses to its concept.
        others: `(m,)`, responses to everything else.
        held: AUROC on held-out stimuli by view or modality.
        wanted: `(c, h, w)` or `(d,)`, its visualisation; None where there is none.
    """

    title: str
    examples: Tensor
    own: Tensor
    others: Tensor
    held: Mapping[str, float] = field(default_factory=dict[str, float])
    wanted: Tensor | None = None


def cell_sheet(rows: Sequence[CellRow]) -> Figure:
    """Lay out cells, a row each.

    Args:
        rows: at least one.

    Raises:
        ValueError: no row, or one without examples or responses.
        NonFiniteError: NaN or infinity in responses.
    """
    bare = [row.title for row in rows if not len(row.examples) or not len(row.own) or not len(row.others)]
    if not rows or bare:
        raise ValueError(
            f"got {len(rows)} rows, {bare} without examples or responses; expected at least one cell with an example, "
            "a response to its concept and one to others"
        )
    for row in rows:
        require_finite(torch.cat([row.own, row.others]).double(), f"responses of {row.title}")
    told = [(row.title, float(row.own.median()), float(row.others.median()), min(row.held.values(), default=None))
            for row in rows]  # fmt: skip
    return Figure(
        name="cell-sheet",
        title="Concept cells, one a row",
        label="; ".join(f"{name}: median {number(own)} to its concept, {number(rest)} to others" for name, own, rest, _
                        in told),
        columns=("cell", "median of its concept", "median of the others", "AUROC in the worst view"),
        rows=tuple(told),
        paint=lambda width: _painted(width, rows),
    )  # fmt: skip


def write_cell_sheet(rows: Sequence[CellRow], path: str | Path) -> Path:
    """Write a sheet as PNG or SVG, with its numbers as CSV beside it; returns the picture's path.

    Raises:
        ValueError: as `cell_sheet`, or another ending than `.png` and `.svg`.
        NonFiniteError: NaN or infinity in responses.
        ImportError: matplotlib is absent.
    """
    return save(cell_sheet(rows), path)[0]


def _painted(width: int, rows: Sequence[CellRow]) -> Any:
    most = min(EXAMPLES, max(len(row.examples) for row in rows))
    columns = most + any(row.wanted is not None for row in rows)
    side = min(96.0, SHARE * width / columns - GAP)
    step = LINE + side + SPACE
    paper = canvas.sheet(width, LINE + step * len(rows))
    right = columns * (side + GAP) + SPACE
    half = (width - right - SPACE) / 2
    for place, text in (
        (0.0, "what excites it most"),
        (right, "responses (roots)"),
        (right + half + SPACE, "AUROC by view"),
    ):
        _say(paper, place, LINE / 2, text, MUTED)
    if columns > most:
        _say(paper, most * (side + GAP) + GAP, LINE / 2, "what it wants", MUTED)
    for index, row in enumerate(rows):
        top = LINE + index * step + LINE
        _say(paper, 0, top - LINE / 2, canvas.fit(row.title, width), INK)
        pictures = [*row.examples[:most], *([] if row.wanted is None else [row.wanted])]
        places = [*range(min(most, len(row.examples))), most]
        for place, picture in zip(places, pictures, strict=False):
            extra = GAP * (place == most)
            _picture(canvas.panel(paper, place * (side + GAP) + extra, top, side, side), picture)
        _responses(canvas.panel(paper, right, top, half, side), row, named=index == 0)
        _views(canvas.panel(paper, right + half + SPACE, top, half, side), row.held, side)
    return paper


def _picture(axes: Axes, picture: Tensor) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.imshow(scaled(picture).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="auto")


def _responses(axes: Axes, row: CellRow, *, named: bool) -> None:
    """Draw how often each response comes among its kind, as square roots, so that rare ones are seen."""
    both = torch.cat([row.own, row.others]).double()
    low, high = float(both.min()), float(both.max())
    high = high if high > low else low + 1
    for values, colour, name in ((row.others, CONTROL, "others"), (row.own, TRACE, "its concept")):
        shares = torch.histc(values.double(), BINS, low, high) / len(values)
        axes.stairs(shares.sqrt().numpy(), torch.linspace(low, high, BINS + 1).numpy(), fill=True, color=colour,
                    alpha=0.55, label=name)  # fmt: skip
    axes.set_yticks([])
    axes.set_xticks([low, high], [number(round(low, 2)), number(round(high, 2))], fontsize=SMALL - 2)
    axes.spines["bottom"].set_visible(True)
    axes.spines["bottom"].set_color(RULE)
    if named:
        axes.legend(frameon=False, fontsize=SMALL - 2, loc="upper right", borderaxespad=0, handlelength=1)


def _views(axes: Axes, held: Mapping[str, float], side: float) -> None:
    """Draw a bar a view from chance to one, its name and value on it."""
    names, values = list(held), list(held.values())
    size = min(SMALL - 1.0, 0.7 * side / max(1, len(names)))
    axes.barh(range(len(names)), [value - CHANCE for value in values], left=CHANCE, height=0.8, alpha=0.4,
              color=[TRACE if value >= CHANCE else SECOND for value in values])  # fmt: skip
    axes.set_xlim(CHANCE, 1.0)
    axes.set_ylim(max(len(names), 1) - 0.5, -0.5)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.axvline(CHANCE, color=RULE, linewidth=1)
    for place, (name, value) in enumerate(held.items()):
        axes.text(CHANCE + 0.01, place, f"{name}  {value:.2f}", va="center", fontsize=size, color=INK)


def _say(paper: Any, x: float, y: float, text: str, colour: str) -> None:
    wide, high = (72 * inches for inches in paper.get_size_inches())
    paper.text(x / wide, 1 - y / high, text, fontsize=SMALL, color=colour, va="center")
