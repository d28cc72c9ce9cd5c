r"""Recall without simulation: a cue primes a graph, and what becomes active is read as one plausible graph.

Two ways to activate. `spread`: over many hops (`retrieval.spreading`), with affect on the links. `actr`: one hop, in
the form of ACT-R (Anderson and Lebiere 1998),

.. math:: A_i = B_i + \sum_j W_j S_{ji} + \kappa_a a_i + \kappa_v v_i v_c + \epsilon_i, \qquad
          S_{ji} = \max(0, S_{max} + \ln p(i \mid j)),

where :math:`p(i|j) = 1/fan_j` when all links weigh the same: a concept that leads to twice as many others helps each by
:math:`\ln 2` less. A node is retrieved with probability :math:`1/(1 + e^{(\theta - A)/s})` after :math:`F e^{-A}`.

The result is a graph, not a state: under a budget of nodes, the most active ones that can be linked to the cue by the
most probable paths (greedy Steiner tree; Takahashi and Matsuyama 1980); its plausibility is the mean log-probability of
its links plus the mean log-activation of its nodes (for `actr`, the mean of `A`, which is one already). A runner-up has
to do without one of its hubs. A mean favours what is small, so readings are compared like with like: first come those
that hold the cue together best, among them those with most nodes, among them the most plausible.

It is arithmetic on links: no sampler, no denoiser, no random number unless you ask for noise. Cost: the spreading, and
shortest paths among the few hundred most active nodes; a way through others is not found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.core.artifact import library_version
from mnemotrace.memories.semantic_graph import SemanticGraph
from mnemotrace.retrieval.base_level import base_level
from mnemotrace.retrieval.linking import Tree, local_graph, steiner
from mnemotrace.retrieval.plausible_graph import PlausibleGraph, Reading
from mnemotrace.retrieval.spreading import Affect, congruence, prime_of, spread, transitions

if TYPE_CHECKING:
    import networkx as nx

STRONGEST, THRESHOLD, NOISE, LATENCY = 2.0, 0.0, 0.25, 1.0
_AROUND = 24  # candidates a node of the budget
_NEVER = -30.0  # log-activation of what was never used or reached, where a mean is taken


@dataclass(frozen=True)
class Cue:
    """What recall begins with.

    Attributes:
        nodes: names, or names with weights.
        affect: valence from -1 to 1 and arousal from 0 to 1 of the moment; None is neutral and changes nothing.
    """

    nodes: Sequence[str] | Mapping[str, float]
    affect: Affect | None = None

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each node, equal where none are given."""
        if isinstance(self.nodes, Mapping):
            return dict(self.nodes)
        return dict.fromkeys((self.nodes,) if isinstance(self.nodes, str) else self.nodes, 1.0)


class Context:
    """What was primed before and has not yet faded: half of it is left after `half_life` steps."""

    def __init__(self, half_life: float = 3.0) -> None:
        """Begin with nothing primed.

        Raises:
            ValueError: a half-life that is not above 0.
        """
        if not half_life > 0:
            raise ValueError(f"got half_life={half_life}; expected a number of steps above 0")
        self.half_life = half_life
        self.primes: dict[str, float] = {}

    def step(self, steps: float = 1.0) -> None:
        """Let primes fade."""
        left = 0.5 ** (steps / self.half_life)
        self.primes = {node: weight * left for node, weight in self.primes.items() if weight * left > 1e-6}  # noqa: PLR2004

    def prime(self, nodes: Mapping[str, float]) -> None:
        """Add to what is primed.

        Raises:
            ValueError: a weight that is not above 0; then none is added.
        """
        if not all(0 < weight < math.inf for weight in nodes.values()):
            raise ValueError(f"got the primes {dict(nodes)}; expected weights above 0")
        for node, weight in nodes.items():
            self.primes[node] = self.primes.get(node, 0.0) + weight


def activation(
    graph: SemanticGraph,
    cue: Cue,
    *,
    now: float | None = None,
    decay: float = 0.5,
    strongest: float = STRONGEST,
    kappa_arousal: float = 0.0,
    kappa_valence: float = 0.0,
    noise: float | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, " n"]:
    """Return the activation of every node in the form of ACT-R.

    Args:
        graph: the graph.
        cue: its weights share one unit of attention.
        now: the present; None leaves out the base level.
        decay: of the base level.
        strongest: `S_max`.
        kappa_arousal: what an arousing node gains.
        kappa_valence: what a node of the cue's valence gains.
        noise: scale of logistic noise; None adds none.
        generator: of the noise; None seeds one with 0.

    Raises:
        KeyError: a node of the cue that is not here.
        ValueError: an empty cue, or settings out of range.
    """
    attention = prime_of(graph, cue.weights)
    congruence(graph, cue.affect)
    links, share = transitions(graph)
    strength = (strongest + share.log()).clamp_min(0)
    found = torch.zeros(len(graph), dtype=torch.float64)
    found.index_add_(0, links.target, attention[links.source] * strength)
    if now is not None:
        found += base_level(graph.all_times, now, decay=decay)
    found += kappa_arousal * graph.arousal + kappa_valence * graph.valence * (cue.affect or (0.0, 0.0))[0]
    if noise:
        u = torch.rand(len(graph), dtype=torch.float64, generator=generator or torch.Generator().manual_seed(0))
        found += noise * torch.logit(u.clamp(1e-12, 1 - 1e-12))
    return found


def associate(
    graph: SemanticGraph,
    cue: Cue | Sequence[str] | str,
    *,
    k: int = 12,
    method: Literal["spread", "actr"] = "spread",
    now: float | None = None,
    context: Context | None = None,
    kappa: float = 0.0,
    kappa_arousal: float = 0.0,
    kappa_valence: float = 0.0,
    noise: float | None = None,
    threshold: float = THRESHOLD,
    readings: int = 3,
    generator: torch.Generator | None = None,
) -> PlausibleGraph:
    """Find the plausible graphs that a cue brings to mind.

    Args:
        graph: the graph; nothing of it is changed.
        cue: nodes, or a `Cue` with affect.
        k: budget of nodes, at least as many as the cue has.
        method: `spread` over many hops, or `actr`, one hop with base level.
        now: the present; None leaves out how long ago nodes were used.
        context: what was primed before, but for nodes that are gone; the cue is added to it afterwards.
        kappa: how far affect bends the links, for `spread`.
        kappa_arousal: see `activation`, for `actr` and for probability and latency.
        kappa_valence: likewise.
        noise: scale of the noise of activation; None is none, and .25 in the probability of retrieval.
        threshold: activation at which a node is retrieved in half of the cases.
        readings: how many, at least one; fewer come back where there are no more.
        generator: of the noise.

    Returns:
        The readings, the best first.

    Raises:
        KeyError: a node of the cue that is not here.
        ValueError: an empty cue, settings out of range, or a budget that does not hold the cue.
    """
    asked = cue if isinstance(cue, Cue) else Cue(cue)
    weights = asked.weights
    if k < max(len(weights), 1) or readings < 1 or method not in ("spread", "actr"):
        raise ValueError(
            f"got k={k} for a cue of {len(weights)}, readings={readings}, method={method!r}; expected a budget that "
            "holds the cue, at least one reading, and 'spread' or 'actr'"
        )
    primed = Cue(_with(weights, context, graph), asked.affect)
    rational = activation(
        graph,
        primed,
        now=now,
        kappa_arousal=kappa_arousal,
        kappa_valence=kappa_valence,
        noise=noise,
        generator=generator,
    )
    if method == "spread":
        found = spread(graph, primed.weights, affect=asked.affect, kappa=kappa).clamp_min(0)
        log, eligible = found.log(), found > 0
    else:
        found, log, eligible = rational, rational, rational > threshold
    places = [graph.position(node) for node in weights]
    around = local_graph(*transitions(graph, asked.affect, kappa=kappa), log, places, _AROUND * k)
    trees = _read(around, places, log, eligible, k, readings=readings)
    if context is not None:
        context.prime(weights)
    shown = sorted({place for tree in trees for place in tree.nodes})
    affect = _felt(graph, trees[0], log)
    scale = noise or NOISE
    probability = torch.sigmoid((rational - threshold) / scale)
    latency = (LATENCY * (-rational).exp()).clamp_max(1e9)
    manifest = {
        "method": method, "cue": weights, "affect": asked.affect and list(asked.affect), "k": k, "kappa": kappa,
        "kappa_arousal": kappa_arousal, "kappa_valence": kappa_valence, "now": now, "noise": noise,
        "nodes": len(graph), "sampler_calls": 0, "version": library_version(),
    }  # fmt: skip

    names = graph.nodes

    def by_name(values: Tensor) -> dict[str, float]:
        return {names[place]: max(float(values[place]), -1e9) for place in shown}

    return PlausibleGraph(
        tuple(_reading(names, tree, log) for tree in trees),
        by_name(found), by_name(probability), by_name(latency), affect, manifest,
    )  # fmt: skip


def _with(weights: Mapping[str, float], context: Context | None, graph: SemanticGraph) -> dict[str, float]:
    found = dict(weights)
    for node, weight in (context.primes if context is not None else {}).items():
        if node in graph:
            found[node] = found.get(node, 0.0) + weight
    return found


def _read(around: nx.Graph, cue: Sequence[int], log: Tensor, eligible: Tensor, k: int, *, readings: int) -> list[Tree]:
    """Link the cue to what is active, then again without each hub in turn; what is the cue alone is no reading."""
    first = steiner(around, cue, log, eligible, k)
    found = [first]
    for hub in first.by_degree():
        if len(found) == readings:
            break
        if hub in cue:
            continue
        other = steiner(around, cue, log, eligible, k, without=hub)
        if len(other.nodes) > len(cue) and set(other.nodes) not in [set(tree.nodes) for tree in found]:
            found.append(other)
    return sorted(found, key=lambda tree: (tree.parts, -len(tree.nodes), -_plausibility(tree, log)))


def _plausibility(tree: Tree, log: Tensor) -> float:
    links = sum(math.log(p) for _, _, p in tree.edges) / max(len(tree.edges), 1)
    active = log[torch.tensor(tree.nodes)].clamp_min(_NEVER).mean()
    return links + float(active)


def _reading(names: Sequence[str], tree: Tree, log: Tensor) -> Reading:
    edges = tuple((names[a], names[b], p) for a, b, p in tree.edges)
    without = None if tree.without is None else names[tree.without]
    return Reading(tuple(names[place] for place in tree.nodes), edges, _plausibility(tree, log), without)


def _felt(graph: SemanticGraph, tree: Tree, log: Tensor) -> Affect:
    places = torch.tensor(tree.nodes)
    share = torch.softmax(log[places].clamp_min(_NEVER), 0)
    return float(share @ graph.valence[places]), float(share @ graph.arousal[places])
