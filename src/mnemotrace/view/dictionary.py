"""What a dictionary says of itself: what it explains with how many latents, how training went, how often they fire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import canvas, charts
from mnemotrace.view.charts import Line
from mnemotrace.view.figure import CONTROL, TRACE, Figure
from mnemotrace.view.values import NONE, finite, number, part

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Sheet

Rows = list[tuple[str, ...]]
COLUMNS = ("step", "variance unexplained", "active latents", "dead share")
MOST = 12


def summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Say what it is for, how large it is, and what it explains with how many latents."""
    header, report, encoder = artifact.header, part(artifact.header, "report"), artifact.tensors.get("encoder")
    shape = NONE if encoder is None else f"{encoder.shape[0]} of width {encoder.shape[1]}"
    return [
        ("site", str(header.get("site") or NONE)),
        ("latents", shape),
        ("variant", f"{header.get('variant', NONE)}, k {number(header.get('k'))}"),
        ("variance explained", number(finite(report.get("explained")))),
        ("active latents a row", number(finite(report.get("active")))),
        ("latents never on", f"{number(finite(report.get('never')))} over {number(report.get('rows'))} rows"),
    ]


def table(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out the training, a dozen steps of it."""
    spots = _curve(artifact)
    every = max(1, -(-len(spots) // MOST))
    shown = spots[:-1][::every] + spots[-1:]
    return COLUMNS, [(number(int(step)), *map(number, values)) for step, *values in shown]


def training(artifact: Artifact) -> Figure | None:
    """Draw what is unexplained, and the share of latents that have long been off, over the steps."""
    spots = _curve(artifact)
    if not spots:
        return None
    lines = [
        Line("variance unexplained", [(step, left) for step, left, _, _ in spots], TRACE),
        Line("latents long off", [(step, dead) for step, _, _, dead in spots], CONTROL, style="--"),
    ]
    return Figure(
        name="training",
        title="Training: what is left unexplained, and latents long off",
        label=f"Unexplained falls from {number(spots[0][1])} to {number(spots[-1][1])} in {number(int(spots[-1][0]))} "
        f"steps; {number(spots[-1][3])} of the latents are off at the end.",
        columns=COLUMNS,
        rows=tuple(spots),
        paint=lambda width: charts.lines(width, lines, x="steps", y="share"),
    )


def density(artifact: Artifact) -> Figure | None:
    """Draw how many latents are on in which share of rows, on a logarithmic axis."""
    found = part(part(artifact.header, "report"), "density")
    counts, low, high = (found.get(name) for name in ("latents", "from", "to"))
    if not isinstance(counts, list) or not counts or finite(low) is None or finite(high) is None:
        return None
    step = (high - low) / len(counts)  # type: ignore[operator]
    rows = tuple((10 ** (low + i * step), 10 ** (low + (i + 1) * step), int(n)) for i, n in enumerate(counts))  # type: ignore[operator]
    most = max(rows, key=lambda row: row[2])
    return Figure(
        name="density",
        title="How often latents are on",
        label=f"Of {sum(counts)} latents that are ever on, most are in {number(most[0])} to {number(most[1])} of rows.",
        columns=("from share of rows", "to", "latents"),
        rows=rows,
        paint=lambda width: _histogram(width, rows),
    )


def _histogram(width: int, rows: tuple[tuple[float, float, int], ...]) -> Sheet:
    paper = canvas.sheet(width, 280)
    axes = canvas.panel(paper, 46, 24, width - 62, 210)
    axes.set_xscale("log")
    left = [low for low, _, _ in rows]
    axes.bar(
        left,
        [count for _, _, count in rows],
        [high - low for low, high, _ in rows],
        align="edge",
        color=TRACE,
        alpha=0.75,
    )
    axes.set_xlim(left[0], rows[-1][1])
    axes.set_ylim(0, max(1, *(count for _, _, count in rows)))
    axes.minorticks_off()
    canvas.base(axes, "share of rows in which a latent is on")
    axes.annotate(
        "latents", (0, 1), (-38, 10), xycoords="axes fraction", textcoords="offset points", fontsize=canvas.SMALL
    )
    return paper


def _curve(artifact: Artifact) -> list[tuple[float, ...]]:
    """Return the rows of the training curve that are whole: step, unexplained, active, dead."""
    curve: Any = part(part(artifact.header, "report"), "curve")
    columns = [list(curve.get(name) or []) for name in ("step", "unexplained", "active", "dead")]
    return [row for row in zip(*columns, strict=False) if all(finite(value) is not None for value in row)]
