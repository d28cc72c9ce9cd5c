r"""A posterior over graphs of many variables, as a sample of them: approximate.

Graphs come from chains over orders, or climbs on resampled evidence (`order_mcmc`, `search`). Without evidence, they
are drawn from a prior: a random order, and at most `max_parents` random parents before each node.

With graphs `g` of weight `w`, more evidence `e` has the surprise

.. math:: -\log \sum_g w_g \frac{p(\mathrm{before}, e \mid g)}{p(\mathrm{before} \mid g)},

which is too large where none of the graphs that were drawn suits the new evidence. The gain is that of the edges, each
pair of nodes by itself, since two samples have hardly a graph in common.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.modification.beliefs.dags import DAGs
from mnemotrace.modification.beliefs.evidence import Evidence
from mnemotrace.modification.beliefs.families import Score
from mnemotrace.modification.beliefs.order_mcmc import order_mcmc
from mnemotrace.modification.beliefs.search import bootstrap_edges

_PRIOR, _LEAST = 500, 1e-3
_CHAINS: dict[str, Any] = {"steps": 40, "burn": 30, "chains": 8, "temperatures": (1.0, 0.5)}


@dataclass(frozen=True, eq=False)
class Sample:
    """Graphs with weights.

    Attributes:
        graphs: `(k, p)` masks of parents, int64.
        weights: sum to one.
        edges: probability of each edge, `[from, to]`.
    """

    graphs: DAGs
    weights: Float[Tensor, " k"]
    edges: Float[Tensor, "p p"]

    def surprise(self, score: Score, before: Evidence, after: Evidence) -> float:
        """Return -log p of what `after` has beyond `before`, in nats."""
        gained = _scores(score, after, self.graphs) - _scores(score, before, self.graphs)
        return -float(torch.logsumexp(gained + self.weights.log(), 0))

    def gain(self, before: Sample) -> float:
        """Return the divergence from an earlier sample, summed over pairs of nodes, in bits."""
        new, old = _pairs(self.edges), _pairs(before.edges)
        return float((new * (new / old).log()).sum() / math.log(2))


def draw(score: Score, evidence: Evidence, method: str, max_parents: int, seed: int) -> Sample:
    """Draw graphs given evidence.

    Args:
        score: of families.
        evidence: all rows; none is the prior.
        method: `order` or `search`.
        max_parents: of a node.
        seed: of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    if not len(evidence):
        parents = prior_graphs(evidence.p, max_parents, generator)
        return _sample(parents, torch.full((len(parents),), 1 / len(parents), dtype=torch.float64))
    if method == "search":
        found = bootstrap_edges(score, evidence, max_parents=max_parents, generator=generator)
    else:
        found = order_mcmc(score, evidence, max_parents=max_parents, generator=generator, **_CHAINS)
    parents, place = torch.unique(found.parents, dim=0, return_inverse=True)
    return _sample(parents, torch.zeros(len(parents), dtype=torch.float64).index_add_(0, place, found.weights))


def prior_graphs(p: int, max_parents: int, generator: torch.Generator) -> Tensor:
    """Draw `(500, p)` parents: a random order, a random number of parents, random ones of those before."""
    masks = torch.zeros(_PRIOR, p, dtype=torch.long)
    for row in masks:
        order = torch.randperm(p, generator=generator).tolist()
        for place in range(1, p):
            count = int(torch.randint(min(place, max_parents) + 1, (1,), generator=generator))
            chosen = torch.randperm(place, generator=generator)[:count].tolist()
            row[order[place]] = sum(1 << order[k] for k in chosen)
    return masks


def _sample(parents: Tensor, weights: Tensor) -> Sample:
    p = parents.shape[1]
    held = (parents[:, None, :] >> torch.arange(p)[None, :, None] & 1).double()  # (k, from, to)
    return Sample(DAGs(parents), weights, torch.einsum("k,kij->ij", weights, held).clamp(0, 1))


def _scores(score: Score, evidence: Evidence, graphs: DAGs) -> Tensor:
    total = torch.zeros(len(graphs), dtype=torch.float64)
    for i in range(graphs.p):
        sets, place = torch.unique(graphs.parents[:, i], return_inverse=True)
        total += score.local(evidence, i, sets.tolist())[place]
    return total


def _pairs(edges: Tensor) -> Tensor:
    """Return `(pairs, 3)`: there, back, no edge; none below a thousandth."""
    i, j = torch.triu_indices(len(edges), len(edges), 1)
    shares = torch.stack([edges[i, j], edges[j, i], 1 - edges[i, j] - edges[j, i]], 1).clamp_min(_LEAST)
    return shares / shares.sum(1, keepdim=True)
