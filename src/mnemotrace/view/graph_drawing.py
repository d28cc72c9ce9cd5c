"""Nodes and links on paper: cue in one colour, size by activation, width by probability. Lengths are pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

from mnemotrace.view import canvas
from mnemotrace.view.canvas import ROOMY, fit
from mnemotrace.view.figure import INK, MUTED, SECOND, TRACE

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Sheet

TALL, TITLE, ROOM = 300, 30, 0.18


@dataclass(frozen=True)
class Net:
    """A graph to draw.

    Attributes:
        title: above it.
        nodes: names.
        edges: (from, to, width from 0 to 1).
        sizes: name to size from 0 to 1.
        marked: names in the other colour.
    """

    title: str
    nodes: Sequence[str]
    edges: Sequence[tuple[str, str, float]]
    sizes: Mapping[str, float]
    marked: Sequence[str] = ()


def nets(width: int, every: Sequence[Net]) -> Sheet:
    """Draw graphs side by side where there is room."""
    across = min(len(every), 2) if width >= ROOMY else 1
    side = (width - 14 * (across - 1)) / across
    paper = canvas.sheet(width, (TALL + TITLE) * ceil(len(every) / across))
    for index, net in enumerate(every):
        left, top = (index % across) * (side + 14), (index // across) * (TALL + TITLE) + TITLE
        axes = canvas.panel(paper, left, top, side, TALL)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(fit(net.title, side), loc="left", fontsize=11, pad=6)
        _draw(axes, net, side)
    return paper


def _draw(axes: Any, net: Net, side: float) -> None:
    import networkx as nx
    from matplotlib.collections import LineCollection

    graph = nx.Graph()
    graph.add_nodes_from(net.nodes)
    graph.add_edges_from((a, b) for a, b, _ in net.edges)
    places = nx.spring_layout(graph, seed=3, iterations=200, k=1.6 / max(len(graph), 1) ** 0.5)
    ends: Any = [(places[a], places[b]) for a, b, _ in net.edges]
    axes.add_collection(
        LineCollection(ends, colors=MUTED, linewidths=[0.6 + 3.4 * w for _, _, w in net.edges], alpha=0.55)
    )
    colours = [SECOND if name in net.marked else TRACE for name in net.nodes]
    sizes = [30 + 220 * net.sizes.get(name, 0.0) for name in net.nodes]
    spots = [places[name] for name in net.nodes]
    axes.scatter([x for x, _ in spots], [y for _, y in spots], s=sizes, c=colours, alpha=0.8, linewidths=0, zorder=3)
    for name, (x, y) in zip(net.nodes, spots, strict=True):
        axes.annotate(
            fit(name, side / 4),
            (x, y),
            (0, 9),
            textcoords="offset points",
            ha="center",
            fontsize=9,
            color=INK,
            zorder=4,
        )
    xs, ys = [x for x, _ in spots], [y for _, y in spots]
    wide, high = max(max(xs) - min(xs), 1e-3), max(max(ys) - min(ys), 1e-3)
    axes.set_xlim(min(xs) - ROOM * wide, max(xs) + ROOM * wide)
    axes.set_ylim(min(ys) - 0.08 * high, max(ys) + ROOM * high)
