"""Which of two features a toy model keeps, or both in one dimension, over density and importance."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import canvas
from mnemotrace.view.canvas import ROOMY, SMALL
from mnemotrace.view.figure import CONTROL, MUTED, SECOND, SERIES, TRACE, Figure
from mnemotrace.view.values import NONE, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Sheet

Rows = list[tuple[str, ...]]
COLUMNS = ("density", "importance ratio", "phase", "predicted", "as predicted", "squared length")
COLOURS = (SECOND, SERIES[2], TRACE, CONTROL)


def summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Say how many cells are in which phase, and in how many the prediction is right."""
    phases, agrees = _phases(artifact, "phases"), artifact.tensors.get("agrees")
    counts = Counter(phases)
    return [
        ("cells", number(len(phases))),
        *((phase, number(count)) for phase, count in sorted(counts.items())),
        ("as predicted", NONE if agrees is None else f"{int(agrees.sum())} of {agrees.numel()}"),
    ]


def table(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out the cells."""
    return COLUMNS, [tuple(map(number, row)) for row in _cells(artifact)]


def figure(artifact: Artifact) -> Figure | None:
    """Draw the phases as a grid; a cross marks a cell that is not as predicted."""
    cells = _cells(artifact)
    if not cells:
        return None
    header = artifact.header
    return Figure(
        name="phase_diagram",
        title="Two features in one dimension",
        label="; ".join(f"{term}: {value}" for term, value in summary(artifact)),
        columns=COLUMNS,
        rows=tuple(cells),
        paint=lambda width: grid(width, header["densities"], header["ratios"], header["phases"], cells),
    )


def grid(
    width: int, densities: Sequence[float], ratios: Sequence[float], phases: Sequence[str], cells: Sequence[Any]
) -> "Sheet":
    """Paint the cells in the colours of their phases, dense features above, rare ones below."""
    columns = 4 if width >= ROOMY else 2
    seen = [phase for phase in phases if any(phase in (row[2], row[3]) for row in cells)]
    entries = [canvas.handle(phase, COLOURS[phases.index(phase)], "s", 9) for phase in seen]
    entries.append(canvas.handle("not as predicted", MUTED, "x", 7))
    top = canvas.legend_height(len(entries), columns) + 14
    side = min((width - 70) / len(ratios), 40)
    paper = canvas.sheet(width, top + side * len(densities) + 42)
    axes = canvas.panel(paper, 60, top, side * len(ratios), side * len(densities))
    axes.set_xlim(-0.5, len(ratios) - 0.5)
    canvas.rows(axes, [f"{density:.2g}" for density in densities], 50)
    axes.set_xticks(range(len(ratios)), [f"{ratio:.2g}" for ratio in ratios])
    axes.set_xlabel("importance of the second feature over the first", fontsize=SMALL, color=MUTED, loc="left")
    axes.set_ylabel("density", fontsize=SMALL, color=MUTED, loc="top")
    for place, (_, _, phase, _, agrees, _) in enumerate(cells):
        row, column = divmod(place, len(ratios))
        axes.bar(column, 0.94, width=0.94, bottom=row - 0.47, color=COLOURS[phases.index(phase)], alpha=0.55)
        if not agrees:
            axes.plot(column, row, marker="x", color=MUTED, markersize=7)
    canvas.legend(axes, entries, columns)
    return paper


def _phases(artifact: Artifact, name: str) -> list[str]:
    known, found = list(artifact.header.get("phases") or []), artifact.tensors.get(name)
    return [] if found is None or not known else [str(known[i]) for i in found.flatten().tolist()]


def _cells(artifact: Artifact) -> list[tuple[float, float, str, str, bool, float]]:
    (weight, agrees), header = (artifact.tensors.get(name) for name in ("weight", "agrees")), artifact.header
    places = [(d, r) for d in header.get("densities") or [] for r in header.get("ratios") or []]
    if weight is None or agrees is None or len(_phases(artifact, "phases")) != len(places):
        return []
    squares = weight.double().square().sum(-1).flatten().tolist()
    both = zip(
        _phases(artifact, "phases"), _phases(artifact, "predicted"), agrees.flatten().tolist(), squares, strict=True
    )
    return [(*place, *cell) for place, cell in zip(places, both, strict=True)]
