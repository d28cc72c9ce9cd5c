"""Link what is active to the cue, under a budget of nodes: a greedy Steiner tree over the most probable paths.

From the cue on, the most active node that is not yet in is joined by the cheapest path, where a link costs minus the
logarithm of its probability; if the path does not fit the budget, the next node is tried (Takahashi and Matsuyama 1980,
with a budget). A cue whose nodes are not connected gives a forest. Cost: one search a node, among a few hundred.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mnemotrace.memories.links import Links

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True)
class Tree:
    """Positions of nodes, and links (from, to, probability) between them."""

    nodes: tuple[int, ...]
    edges: tuple[tuple[int, int, float], ...]
    without: int | None = None

    @property
    def parts(self) -> int:
        """Count connected parts: it has no circles."""
        return len(self.nodes) - len(self.edges)

    def by_degree(self) -> list[int]:
        """Return nodes with more than one link, those with most first."""
        degree = Counter(end for a, b, _ in self.edges for end in (a, b))
        return [node for node, count in degree.most_common() if count > 1]


def local_graph(
    links: Links, share: Float[Tensor, " m"], activation: Float[Tensor, " n"], cue: Sequence[int], most: int
) -> nx.Graph:
    """Return the links among the cue and the most active nodes, each at its more probable direction."""
    import networkx as nx

    near = torch.zeros(len(activation), dtype=torch.bool)
    near[activation.topk(min(most, len(activation))).indices] = True
    near[list(cue)] = True
    inside = near[links.source] & near[links.target] & (share > 0)
    graph = nx.Graph()
    graph.add_nodes_from(near.nonzero()[:, 0].tolist())
    columns = (links.source[inside].tolist(), links.target[inside].tolist(), share[inside].tolist())
    for a, b, p in zip(*columns, strict=True):
        if not graph.has_edge(a, b) or p > graph[a][b]["p"]:
            graph.add_edge(a, b, p=p, cost=-math.log(p), way=(a, b))
    return graph


def steiner(
    graph: nx.Graph,
    cue: Sequence[int],
    activation: Float[Tensor, " n"],
    eligible: Bool[Tensor, " n"],
    k: int,
    *,
    without: int | None = None,
) -> Tree:
    """Grow a tree of at most `k` nodes from the cue to what is eligible; `without` is a node that must not be used."""
    usable = graph
    if without is not None:  # a copy is small, and searching a view takes several times as long
        usable = graph.copy()
        usable.remove_node(without)
    nodes: dict[int, None] = dict.fromkeys(cue[:1])
    edges: list[tuple[int, int, float]] = []
    active = eligible.tolist()
    rest = [n for n in usable if n not in cue and active[n]]
    level = activation.tolist()
    rest.sort(key=lambda n: (-level[n], n))
    for wanted in [*cue[1:], *rest]:
        if len(nodes) >= k:
            break
        if wanted in nodes:
            continue
        path = _path(usable, nodes, wanted)
        if path is None or len(nodes) + len(set(path) - set(nodes)) > k - sum(
            c not in nodes and c not in path for c in cue
        ):
            if wanted in cue:
                nodes[wanted] = None
            continue
        for a, b in zip(path, path[1:], strict=False):
            start, end = usable[a][b]["way"]
            edges.append((start, end, usable[a][b]["p"]))
        nodes |= dict.fromkeys(path)
    return Tree(tuple(nodes), tuple(edges), without)


def _path(graph: nx.Graph, inside: dict[int, None], wanted: int) -> list[int] | None:
    import networkx as nx

    try:
        path: Any = nx.multi_source_dijkstra(graph, set(inside), wanted, weight="cost")[1]
    except nx.NetworkXNoPath:
        return None
    return path
