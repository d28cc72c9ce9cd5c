r"""All directed acyclic graphs over a few nodes, as bit masks of parents.

A graph over `p` nodes is one over `p - 1` and a last node with parents `A` and children `B`, where no path leads from
`B` to `A`. Each graph arises once, so nothing has to be looked up: 1, 3, 25, 543, 29,281 and
3,781,503 graphs for one to six nodes (Robinson 1973).

Two graphs are equivalent - no observation tells them apart - when they have the same links and the same colliders
(Verma and Pearl 1990).

Cost: six nodes take about a second and 23 MB, and are kept for as long as the process runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import chain

import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

COUNTS = (1, 1, 3, 25, 543, 29_281, 3_781_503)
LARGEST = len(COUNTS) - 1
Edge = tuple[int, int]


@dataclass(frozen=True, eq=False)
class DAGs:
    """Graphs over the same nodes.

    Attributes:
        parents: `(G, p)` bit `j` of `parents[g, i]` is set when `j -> i` in graph `g`.
    """

    parents: UInt8[Tensor, "G p"]

    def __len__(self) -> int:
        """Count graphs."""
        return len(self.parents)

    @property
    def p(self) -> int:
        """Number of nodes."""
        return self.parents.shape[1]

    @cached_property
    def parent_sets(self) -> tuple[list[int], ...]:
        """Which sets of parents each node has in some graph, as masks in order."""
        return tuple(torch.unique(column).tolist() for column in self.parents.unbind(1))

    def edges(self, graph: int) -> tuple[Edge, ...]:
        """Return the edges of one graph as (from, to), sorted."""
        return edges_of(self.parents[graph].tolist())

    def index(self, edges: Iterable[Edge]) -> int:
        """Find a graph.

        Raises:
            KeyError: it is not here, such as one with a cycle.
        """
        edges = sorted(edges)
        wanted = torch.tensor(masks_of(edges, self.p), dtype=self.parents.dtype)
        found = (self.parents == wanted).all(1).nonzero()
        if not len(found):
            raise KeyError(f"got edges {edges}; expected one of the {len(self)} graphs; a cycle is in none")
        return int(found[0, 0])

    def adjacency(self, rows: Tensor | Sequence[int] | slice = slice(None)) -> Bool[Tensor, "k p p"]:
        """Return `[from, to]` of some graphs."""
        bits = torch.arange(self.p, dtype=torch.uint8)
        return (self.parents[rows][:, None, :] >> bits[None, :, None]) & 1 > 0

    def classes(self) -> Int[Tensor, " G"]:
        """Number the equivalence class of each graph: equal numbers mean that no observation tells them apart."""
        arcs = self.adjacency().permute(1, 2, 0)
        pairs = [(i, j) for i in range(self.p) for j in range(i)]
        linked = {(i, j): arcs[i, j] | arcs[j, i] for i, j in pairs}
        colliders = (
            arcs[i, k] & arcs[j, k] & ~linked[i, j] for k in range(self.p) for i, j in pairs if k not in (i, j)
        )
        return _numbered(len(self), chain(linked.values(), colliders))


@cache
def enumerate_dags(p: int) -> DAGs:
    """Return all graphs over `p` nodes, the empty one first.

    Raises:
        ValueError: no node, or more than six.
    """
    if not 1 <= p <= LARGEST:
        raise ValueError(
            f"got {p} variables; expected 1 to {LARGEST}, of which all graphs are listed; beyond, use "
            "method='order' or method='search'"
        )
    if p == 1:
        return DAGs(torch.zeros(1, 1, dtype=torch.uint8))
    small = enumerate_dags(p - 1).parents
    sets = torch.arange(2 ** (p - 1), dtype=torch.uint8)
    blocked = _reached(small)[:, sets.long()]  # what each choice of children leads to
    graph, parents, children = ((sets[None, :, None] & blocked[:, None, :]) == 0).nonzero(as_tuple=True)
    rows = torch.empty(len(graph), p, dtype=torch.uint8)
    for i in range(p - 1):
        rows[:, i] = small[graph, i] | ((sets[children] >> i & 1) << (p - 1))
    rows[:, p - 1] = sets[parents]
    return DAGs(rows)


def _reached(parents: Tensor) -> Tensor:
    """Return `(G, 2**p)`: the nodes of a set and all that descends from them, as masks."""
    p = parents.shape[1]
    bits = torch.tensor([1 << i for i in range(p)], dtype=torch.uint8)
    below = bits.repeat(len(parents), 1)  # of each node
    for _ in range(p - 1):
        for i in range(p):
            child_of = (parents[:, i, None] & bits) > 0
            below = below | torch.where(child_of, below[:, i, None], torch.zeros_like(below))
    sets = torch.zeros(len(parents), 2**p, dtype=torch.uint8)
    for mask in range(1, 2**p):
        low = (mask & -mask).bit_length() - 1
        sets[:, mask] = sets[:, mask & (mask - 1)] | below[:, low]
    return sets


def _numbered(rows: int, bits: Iterable[Tensor]) -> Int[Tensor, " rows"]:
    """Number rows of bits, so that equal rows have equal numbers; a few bits are packed at a time."""
    code, room = torch.zeros(rows, dtype=torch.long), 0
    for bit in bits:
        if room == 0:  # as few numbers as there are different rows so far, and what is left of 63 bits
            code = torch.unique(code, return_inverse=True)[1]
            room = 63 - int(code.max()).bit_length()
        code, room = code * 2 + bit, room - 1
    return torch.unique(code, return_inverse=True)[1]


def masks_of(edges: Iterable[Edge], p: int) -> list[int]:
    """Turn edges (from, to) into a mask of parents for each node.

    Raises:
        ValueError: a node that is not there, or an edge from a node to itself.
    """
    masks = [0] * p
    for start, end in edges:
        if not (0 <= start < p and 0 <= end < p) or start == end:
            raise ValueError(f"got edge {(start, end)}; expected two different nodes from 0 to {p - 1}")
        masks[end] |= 1 << start
    return masks


def edges_of(masks: Sequence[int]) -> tuple[Edge, ...]:
    """Turn masks of parents into sorted edges (from, to)."""
    return tuple(sorted((j, i) for i, mask in enumerate(masks) for j in range(int(mask).bit_length()) if mask >> j & 1))
