"""Memories told anew when the edges that they cite no longer hold.

An explanation is kept while its edges hold together with a probability of at least `LOST`. Below, each effect is told
under its most probable set of causes, given by the graphs and their weights. Facts have no part in it. Cost: O(graphs)
a memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.modification.beliefs.accounts import LOST, Account, Version
from mnemotrace.modification.beliefs.dags import DAGs, masks_of
from mnemotrace.modification.beliefs.families import members


def support(
    edges: Sequence[tuple[str, str]], names: Sequence[str], graphs: DAGs, weights: Float[Tensor, " G"]
) -> float:
    """Return the probability that all of some edges (cause, effect) hold."""
    holds = torch.ones(len(graphs), dtype=torch.bool)
    for i, mask in enumerate(masks_of([(names.index(a), names.index(b)) for a, b in edges], len(names))):
        if mask:
            holds &= (graphs.parents[:, i] & mask) == mask
    return float(weights[holds].sum().clamp(0, 1))


def causes_of(effect: str, names: Sequence[str], graphs: DAGs, weights: Float[Tensor, " G"]) -> tuple[str, ...]:
    """Return the most probable set of causes of a variable; the smaller mask where two are alike."""
    masks, where = torch.unique(graphs.parents[:, names.index(effect)], return_inverse=True)
    mass = torch.zeros(len(masks), dtype=torch.float64).index_add_(0, where, weights)
    return tuple(names[j] for j in members(int(masks[int(mass.argmax())])))


def retold(
    accounts: Sequence[Account], names: Sequence[str], graphs: DAGs, weights: Float[Tensor, " G"], *, time: int
) -> tuple[tuple[Account, ...], tuple[int, ...]]:
    """Tell every memory anew that has lost its support.

    Args:
        accounts: all memories.
        names: of the variables.
        graphs: what may hold.
        weights: how probable each is.
        time: number of the act that is the reason.

    Returns:
        All memories, and the numbers of those that are told in another way now.
    """
    told: list[Account] = []
    for account in accounts:
        told.append(account)
        if support(account.now.edges, names, graphs, weights) >= LOST:
            continue
        explains = {effect: causes_of(effect, names, graphs, weights) for effect in account.now.explains}
        if explains != account.now.explains:
            version = Version(explains, time, 0.0, "revised")
            version = replace(version, support=support(version.edges, names, graphs, weights))
            told[-1] = account.told(version)
    revised = tuple(new.id for old, new in zip(accounts, told, strict=True) if new is not old)
    return tuple(told), revised
