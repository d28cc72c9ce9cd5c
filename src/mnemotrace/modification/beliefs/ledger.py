"""The record of what beliefs went through: one entry an act, JSON values only, enough to live it all again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mnemotrace.modification.beliefs.dags import DAGs, edges_of

LISTED = 20
Names = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Elimination:
    """A graph that was laid aside or came back.

    Attributes:
        graph: its position.
        edges: (cause, effect).
        before: log-probability before the evidence.
        after: and after it.
        factor: log10 of the Bayes factor by which the best graph leads it.
        families: nodes whose family speaks against it, worst first.
    """

    graph: int
    edges: tuple[tuple[str, str], ...]
    before: float
    after: float
    factor: float
    families: tuple[str, ...]


@dataclass(frozen=True)
class Update:
    """What evidence changed.

    Attributes:
        time: number of the act.
        surprise: -log p of the rows given all before, averaged over graphs, in nats.
        gain: Kullback-Leibler divergence of the posterior from the one before, in bits.
        entropy: of the posterior, in bits.
        eliminated: how many graphs were laid aside.
        readmitted: how many came back.
        listed: those of them that were most probable before, at most twenty.
        revised: numbers of the memories that are told in another way now.
        best: the edges of the most probable graph.
        edges: probability of each edge, `[from][to]`.
    """

    time: int
    surprise: float
    gain: float
    entropy: float
    eliminated: int
    readmitted: int
    revised: tuple[int, ...]
    best: tuple[tuple[str, str], ...]
    edges: tuple[tuple[float, ...], ...] = field(repr=False)
    listed: tuple[Elimination, ...] = field(default=(), repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        listed = [dict(vars(one)) for one in self.listed]
        return {**vars(self), "listed": listed}


@dataclass(frozen=True)
class Act:
    """One entry of the log.

    Attributes:
        time: number of the act, from 1.
        name: `observe`, `remember`, `restore` or `audit`.
        given: its arguments.
        found: what came of it.
    """

    time: int
    name: str
    given: Mapping[str, Any]
    found: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"time": self.time, "name": self.name, "given": dict(self.given), "found": dict(self.found)}


def eliminations(
    dags: DAGs,
    names: tuple[str, ...],
    *,
    graphs: Int[Tensor, " k"],
    before: Float[Tensor, " G"],
    after: Float[Tensor, " G"],
    table: Float[Tensor, "p sets"],
) -> tuple[Elimination, ...]:
    """List graphs that changed sides, the most probable before first; log-probabilities of all graphs are given."""
    shown = graphs[before[graphs].argsort(descending=True)][:LISTED]
    best = int(after.argmax())
    nodes = torch.arange(dags.p)
    found: list[Elimination] = []
    for graph in shown.tolist():
        loss = table[nodes, dags.parents[best].long()] - table[nodes, dags.parents[graph].long()]
        order = loss.argsort(descending=True)
        found.append(
            Elimination(
                graph,
                named(edges_of(dags.parents[graph].tolist()), names),
                finite(before[graph]),
                finite(after[graph]),
                finite((after[best] - after[graph]) / math.log(10)),
                tuple(names[i] for i in order.tolist() if loss[i] > 0),
            )
        )
    return tuple(found)


def named(edges: Sequence[tuple[int, int]], names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Turn edges between nodes into edges between names."""
    return tuple((names[start], names[end]) for start, end in edges)


def finite(value: Tensor) -> float:
    """Return a number that JSON can hold; minus infinity becomes the least double."""
    return float(value.clamp_min(torch.finfo(torch.float64).min))
