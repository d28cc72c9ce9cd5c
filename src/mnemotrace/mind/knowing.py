r"""Recall by knowing: links from an event to what it was about, and no state that settles.

The concepts of an event's gist are linked with it in a semantic graph; detail is not: it is how things were perceived,
and knowing that there was a colour shows none. A cue finds the events that it fits by an index. Of those, each says
what it was about,

.. math:: c(v) = \frac{\sum_{n \ni v} s_n}{\sum_n s_n}\, \max_n s_n,

where the strength `s` of a link is 1 while there is a hippocampus, and :math:`1 - e^{-r / \tau}` after it, from `r`
replays, once nights have given the event to the cortex (Squire & Alvarez 1995). Which event it was: the one with the
highest base level, :math:`-\frac12 \ln(\text{age})`, plus arousal.

Where no event fits, activation spreads over two hops, from each concept of the cue to its events and on to what else
those were about, and associations add up as in ACT-R,

.. math:: \log p(v \mid c) = \log p(v) + \sum_j \log \frac{p(v \mid c_j)}{p(v)} + \text{const},

with :math:`p(v \mid c_j)` drawn to the base rate by one event's worth. No sampler and no denoiser is called.

Reference: Anderson 1983, 2007 (fan, base level, associative strength). Cost: an intersection of sets, and a reading of
the traces that are left; two hops of O(links) where none fits.
"""

import math
from collections.abc import Iterable, Mapping

import torch

from mnemotrace.memories.semantic_graph import SemanticGraph
from mnemotrace.mind.trace import Trace
from mnemotrace.mind.world import World
from mnemotrace.retrieval.spreading import spread

FAINT = 0.01
_RESTART, _SOONEST = 0.15, 1e-3

Shares = dict[str, dict[str, float]]


def concept(name: str, value: str) -> str:
    """Name the node of a value."""
    return f"{name}={value}"


def episode(handle: int) -> str:
    """Name the node of an event."""
    return f"event {handle}"


def learn(graph: SemanticGraph, world: World, handle: int, trace: Trace, strength: float = 1.0) -> None:
    """Link an event with what it was about."""
    felt = {"valence": trace.valence, "arousal": trace.arousal}
    graph.add(episode(handle), time=trace.time, tag="event", **felt)
    for name in world.names("gist"):
        if name in trace.known:
            node = concept(name, trace.known[name])
            graph.add(node, time=trace.time, tag=name, **felt)
            graph.link(episode(handle), node, strength, time=trace.time)


def told(traces: Mapping[int, Trace], strength: Mapping[int, float], names: Iterable[str]) -> Shares:
    """Return how surely events say what they were about.

    Args:
        traces: of the events that fit.
        strength: of their links.
        names: attributes that are asked for.
    """
    share, found = max(strength.values(), default=0.0) / (sum(strength.values()) or 1.0), Shares()
    for name in names:
        values = found.setdefault(name, {})
        for value, much in zip([trace.known.get(name) for trace in traces.values()], strength.values(), strict=True):
            if value is not None:
                values[value] = values.get(value, 0.0) + much * share
    return found


def foremost(traces: Mapping[int, Trace], strength: Mapping[int, float], now: float) -> int:
    """Return which of some events comes to mind: by base level, arousal and what is left of its links."""
    # the square of what an exponential of base level and arousal would be, without its roots
    odds = [
        strength[handle] ** 2 * math.exp(2 * trace.arousal) / max(now - trace.time, _SOONEST)
        for handle, trace in traces.items()
    ]
    return list(traces)[odds.index(max(odds))]


def inferred(graph: SemanticGraph, world: World, cue: Mapping[str, str], names: Iterable[str]) -> Shares:
    """Return what usually goes with the concepts of a cue."""
    nodes = [node for node in (concept(*pair) for pair in cue.items()) if node in graph]
    if not nodes:
        return {}
    reached = [(spread(graph, {node: 1.0}, restart=_RESTART, steps=2), graph.fan(node)) for node in nodes]
    found: Shares = {}
    for name in names:
        values = [value for value in world.attributes[name].values if concept(name, value) in graph]
        places = [graph.position(concept(name, value)) for value in values]
        base = torch.tensor([graph.fan(concept(name, value)) for value in values], dtype=torch.float64)
        if not values or not float(base.sum()):
            continue
        base = base / base.sum()
        log = base.log()
        for activation, fan in reached:
            share = activation[places]
            if float(share.sum()) > 0:
                log = log + ((fan * share / share.sum() + base) / (fan + 1) / base).log()
        found[name] = dict(zip(values, torch.softmax(log, 0).tolist(), strict=True))
    return found
