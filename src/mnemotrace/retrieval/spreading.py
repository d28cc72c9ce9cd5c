r"""Spreading activation: one hop, many hops to rest, and the published algorithm of retention and decay.

Many hops. A share `c` of activation returns to the prime `s`, the rest follows links:

.. math:: z \leftarrow (1 - c)\,P z + c\,s, \qquad
          P_{ji} = \frac{w_{ij}\, e^{\kappa g_j}}{\sum_k w_{ik}\, e^{\kappa g_k}},

with `g` the affective congruence of a node with the cue, its valence times the cue's plus its arousal times the cue's.
What reaches a node without links goes back to the prime, so that activation adds up to one. At rest it is a
personalised PageRank (Page et al. 1999; as memory search, Griffiths, Steyvers and Firl 2007).

Retention and decay (Siew 2019; Vitevitch, Ercal and Adagarla 2011): in each step a node keeps a share `r` of its
activation and gives the rest to its neighbours by weight; then all lose a share, and what is small is suppressed.

Cost: O(steps x links), one product with a sparse matrix a step; nothing is sampled.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.memories.links import Links
from mnemotrace.memories.semantic_graph import SemanticGraph

Affect = tuple[float, float]
_ADDS_UP = 1e-6


def congruence(graph: SemanticGraph, affect: Affect | None) -> Float[Tensor, " n"]:
    """Return how far each node feels like the cue, from -1 to 2; zero for a cue without affect.

    Raises:
        ValueError: a valence outside -1 to 1, or an arousal outside 0 to 1.
    """
    if affect is None:
        return torch.zeros(len(graph), dtype=torch.float64)
    valence, arousal = affect
    if not (-1 <= valence <= 1 and 0 <= arousal <= 1):
        raise ValueError(f"got affect={affect}; expected (valence, arousal) from (-1, 0) to (1, 1)")
    return graph.valence * valence + graph.arousal * arousal


def prime_of(graph: SemanticGraph, nodes: Mapping[str, float]) -> Float[Tensor, " n"]:
    """Turn primed nodes into a distribution.

    Raises:
        KeyError: a node that is not here.
        ValueError: none, or weights that are not above 0.
    """
    if not nodes or not all(0 < weight < float("inf") for weight in nodes.values()):
        raise ValueError(f"got the prime {dict(nodes)}; expected at least one node, each with a weight above 0")
    prime = torch.zeros(len(graph), dtype=torch.float64)
    for node, weight in nodes.items():
        prime[graph.position(node)] += weight
    return prime / prime.sum()


def transitions(
    graph: SemanticGraph, affect: Affect | None = None, *, kappa: float = 0.0
) -> tuple[Links, Float[Tensor, " m"]]:
    """Return links, and the share of a node's activation that each carries.

    Args:
        graph: the graph.
        affect: valence and arousal of the cue.
        kappa: how far congruence counts; 0 is not at all.
    """
    links = graph.links
    weight = links.weight
    if kappa and affect is not None:
        weight = weight * (kappa * congruence(graph, affect))[links.target].exp()
    total = torch.zeros(len(graph), dtype=torch.float64).index_add_(0, links.source, weight)
    return links, weight / total[links.source].clamp_min(torch.finfo(torch.float64).tiny)


def spread(
    graph: SemanticGraph,
    prime: Mapping[str, float] | Float[Tensor, " n"],
    *,
    restart: float = 0.15,
    affect: Affect | None = None,
    kappa: float = 0.0,
    steps: int | None = None,
    tolerance: float = 1e-6,
) -> Float[Tensor, " n"]:
    """Spread activation from a prime over many hops.

    Args:
        graph: the graph.
        prime: nodes with their weights, or a distribution over all.
        restart: share that returns to the prime in each step, in (0, 1].
        affect: valence and arousal of the cue.
        kappa: how far congruence counts.
        steps: hops; None goes on until nothing changes: a step leaves at most `1 - restart` of the last change, so
            the number of steps has a bound.
        tolerance: largest change in all at which it rests.

    Returns:
        Activation of each node; adds up to 1.

    Raises:
        KeyError: a node that is not here.
        ValueError: an empty graph or prime, or settings out of range.
    """
    if not 0 < restart <= 1 or (steps is not None and steps < 0) or not 0 < tolerance < 1 or not math.isfinite(kappa):
        raise ValueError(
            f"got restart={restart}, steps={steps}, tolerance={tolerance}, kappa={kappa}; expected a share above 0 and "
            "at most 1, steps from 0, a tolerance between 0 and 1, and a finite kappa"
        )
    source = _distribution(graph, prime) if isinstance(prime, Tensor) else prime_of(graph, prime)
    most = 1 if restart == 1 else math.ceil(math.log(tolerance / 2) / math.log1p(-restart)) + 1
    matrix = transition_matrix(*transitions(graph, affect, kappa=kappa), len(graph))
    z = source
    for _ in range(most if steps is None else steps):
        after = torch.mv(matrix, z)
        after = (1 - restart) * after + (restart + (1 - restart) * (z.sum() - after.sum())) * source
        moved, z = float((after - z).abs().sum()), after
        if steps is None and moved <= tolerance:
            break
    return z


def _distribution(graph: SemanticGraph, prime: Tensor) -> Float[Tensor, " n"]:
    prime = prime.double()
    if prime.shape != (len(graph),) or not bool((prime >= 0).all()) or not abs(float(prime.sum()) - 1) < _ADDS_UP:
        raise ValueError(
            f"got a prime of shape {tuple(prime.shape)} that adds up to {float(prime.sum()):.4g}; expected a number "
            f"from 0 for each of {len(graph)} nodes, adding up to 1; divide it by its sum"
        )
    return prime


def transition_matrix(links: Links, share: Float[Tensor, " m"], n: int) -> Float[Tensor, "n n"]:
    """Return the sparse matrix that passes activation along all links once."""
    rows = torch.zeros(n + 1, dtype=torch.long)
    rows[1:] = torch.bincount(links.target, minlength=n).cumsum(0)
    with warnings.catch_warnings():  # compressed rows are called beta; of all layouts they are the fastest by far
        warnings.simplefilter("ignore", UserWarning)
        return torch.sparse_csr_tensor(rows, links.source, share, (n, n), check_invariants=False)


def spread_and_decay(
    graph: SemanticGraph,
    start: Mapping[str, float],
    *,
    retention: float = 0.5,
    decay: float = 0.0,
    suppress: float = 0.0,
    steps: int = 10,
) -> Float[Tensor, "steps n"]:
    """Spread by retention and decay, as published.

    Args:
        graph: the graph; a node without links keeps all.
        start: activation of nodes at the beginning.
        retention: share that a node keeps, from 0 to 1.
        decay: share that all lose after each step, from 0 to 1.
        suppress: activation below which a node is set to 0.
        steps: how many.

    Returns:
        Activation after each step.

    Raises:
        KeyError: a node that is not here.
        ValueError: settings out of range.
    """
    if not (0 <= retention <= 1 and 0 <= decay <= 1 and suppress >= 0 and steps >= 1):
        raise ValueError(
            f"got retention={retention}, decay={decay}, suppress={suppress}, steps={steps}; expected shares from 0 to "
            "1, a bound from 0, and at least one step"
        )
    z = prime_of(graph, start) * sum(start.values())
    links, share = transitions(graph)
    leads = torch.zeros(len(graph), dtype=torch.bool)
    leads[links.source] = True
    matrix = transition_matrix(links, share, len(graph))
    found: list[Tensor] = []
    for _ in range(steps):
        kept = torch.where(leads, retention * z, z)
        z = (kept + torch.mv(matrix, z - kept)) * (1 - decay)
        z = torch.where(z < suppress, 0.0, z)
        found.append(z)
    return torch.stack(found)
