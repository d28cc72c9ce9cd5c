"""A plausible graph on the page: what a cue brought to mind, how surely, and the readings that came second."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import canvas
from mnemotrace.view.canvas import ROOMY, fit
from mnemotrace.view.figure import CONTROL, INK, SECOND, TRACE, Figure
from mnemotrace.view.values import number, part

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Sheet

Rows = list[tuple[str, ...]]
Spot = tuple[float, float]
COLUMNS = ("node", "activation", "retrieved", "latency", "in readings")
MOST, LINE, HEAD, GAP = 30, 24, 34, 16


def summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Say what was asked, how, and how plausible the readings are."""
    header, manifest = artifact.header, part(artifact.header, "manifest")
    readings, affect = _readings(artifact), header.get("affect")
    found = [
        ("cue", ", ".join(part(manifest, "cue")) or number(None)),
        ("method", number(manifest.get("method"))),
        ("among", f"{number(manifest.get('nodes'))} nodes"),
        ("plausibility", number([r["plausibility"] for r in readings])),
        ("calls of a sampler", number(manifest.get("sampler_calls"))),
    ]
    return [*found, ("valence and arousal", number(affect))] if affect else found


def table(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out the nodes of all readings, the most active first."""
    header, readings = artifact.header, _readings(artifact)
    active, sure, late = (part(header, name) for name in ("activation", "probability", "latency"))
    order = sorted(active, key=lambda node: (-active[node], node))[:MOST]
    return COLUMNS, [
        (
            node,
            number(active[node]),
            number(sure.get(node)),
            number(late.get(node)),
            ", ".join(str(i + 1) for i, r in enumerate(readings) if node in r["nodes"]),
        )
        for node in order
    ]


def figure(artifact: Artifact) -> Figure | None:
    """Draw each reading as a tree: the cue at the left, links as thick as they are probable."""
    readings = _readings(artifact)
    if not readings:
        return None
    cue, active = set(part(part(artifact.header, "manifest"), "cue")), part(artifact.header, "activation")
    return Figure(
        name="plausible_graph",
        title="What the cue brings to mind, and the readings that came second",
        label="; ".join(_title(i, r) + ": " + ", ".join(r["nodes"]) for i, r in enumerate(readings)),
        columns=("reading", "from", "to", "probability"),
        rows=tuple((i + 1, a, b, p) for i, r in enumerate(readings) for a, b, p in r["edges"]),
        paint=lambda width: _paint(width, readings, cue, active),
    )


def layout(nodes: Sequence[str], edges: Sequence[Sequence[Any]]) -> dict[str, Spot]:
    """Place a forest: as many columns to the right as hops from its first node, a line for each leaf."""
    near: dict[str, list[str]] = {node: [] for node in nodes}
    for a, b, _ in edges:
        near[a].append(b)
        near[b].append(a)
    spots: dict[str, Spot] = {}
    line = 0.0

    def place(node: str, parent: str | None, depth: int) -> float:
        nonlocal line
        below = [place(other, node, depth + 1) for other in near[node] if other != parent]
        up = sum(below) / len(below) if below else line
        line += 0 if below else 1
        spots[node] = (float(depth), up)
        return up

    for node in nodes:
        if node not in spots:
            place(node, None, 0)
    return spots


def _paint(width: int, readings: Sequence[Any], cue: set[str], active: Mapping[str, float]) -> Sheet:
    columns = min(len(readings), 3 if width >= ROOMY else 1)
    tall = LINE * max(len({y for _, y in layout(r["nodes"], r["edges"]).values()}) for r in readings)
    rows = math.ceil(len(readings) / columns)
    wide = (width - GAP * (columns - 1)) / columns
    paper = canvas.sheet(width, rows * (HEAD + tall))
    for index, reading in enumerate(readings):
        left, top = (index % columns) * (wide + GAP), HEAD + (index // columns) * (HEAD + tall)
        axes = canvas.panel(paper, left, top, wide, tall)
        axes.set_title(fit(_title(index, reading), wide), loc="left", fontsize=11, pad=8)
        _tree(axes, reading, wide, cue, active)
    return paper


def _tree(axes: Axes, reading: Any, wide: float, cue: set[str], active: Mapping[str, float]) -> None:
    spots = layout(reading["nodes"], reading["edges"])
    deep = max(x for x, _ in spots.values()) + 1
    axes.set_xlim(-0.08, deep - 0.02)
    axes.set_ylim(max(y for _, y in spots.values()) + 0.7, -0.7)
    axes.set_xticks([])
    axes.set_yticks([])
    for a, b, p in reading["edges"]:
        (xa, ya), (xb, yb) = spots[a], spots[b]
        axes.plot([xa, xb], [ya, yb], color=CONTROL, linewidth=0.8 + 4 * p, alpha=0.5, zorder=1)
    levels = [active.get(node, 0.0) for node in spots]
    low, most = min(levels), max(levels)
    for (node, (x, y)), level in zip(spots.items(), levels, strict=True):
        size = 5 + 5 * ((level - low) / (most - low)) ** 0.5 if most > low else 7
        axes.plot([x], [y], "o", color=SECOND if node in cue else TRACE, markersize=size, clip_on=False, zorder=2)
        axes.annotate(
            fit(node, wide / deep - 16), (x, y), (8, 0), textcoords="offset points", va="center", fontsize=9, color=INK,
            bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "alpha": 0.6, "linewidth": 0}, zorder=3,
        )  # fmt: skip


def _title(index: int, reading: Any) -> str:
    name = "best reading" if index == 0 else f"reading {index + 1}"
    return name if reading["without"] is None else f"{name}, without {reading['without']}"


def _readings(artifact: Artifact) -> list[Any]:
    return list(artifact.header.get("readings") or [])
