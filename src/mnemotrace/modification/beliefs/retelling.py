"""Memories told anew when the edges that they cite no longer hold.

An explanation is kept while its edges hold together with a probability of at least `LOST`. Below, each effect is told
under its most probable set of causes, given by the graphs and their weights. That there is no cause among the variables
is said where none is known: as soon as there is more probably one than none, it is told again. Facts have no part in
it. Cost: O(graphs) a memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.modification.beliefs.accounts import LOST, Account, Explanation, Version
from mnemotrace.modification.beliefs.dags import DAGs, masks_of
from mnemotrace.modification.beliefs.families import members

_EVEN = 0.5


def support(
    edges: Sequence[tuple[str, str]], names: Sequence[str], graphs: DAGs, weights: Float[Tensor, " G"]
) -> float:
    """Return the probability that all of some edges (cause, effect) hold."""
    return float(weights[_holding(edges, names, graphs)].sum().clamp(0, 1))


def supported(explains: Explanation, names: Sequence[str], graphs: DAGs, weights: Float[Tensor, " G"]) -> float:
    """Return the probability that an explanation holds: its edges, and no parents where it cites no cause."""
    edges = [(cause, effect) for effect, causes in explains.items() for cause in causes]
    holds = _holding(edges, names, graphs)
    for effect, causes in explains.items():
        if not causes:
            holds &= graphs.parents[:, names.index(effect)] == 0
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
        if _stands(account.now.explains, names, graphs, weights):
            continue
        explains = {effect: causes_of(effect, names, graphs, weights) for effect in account.now.explains}
        if explains != account.now.explains:
            told[-1] = account.told(Version(explains, time, supported(explains, names, graphs, weights), "revised"))
    revised = tuple(new.id for old, new in zip(accounts, told, strict=True) if new is not old)
    return tuple(told), revised


def _stands(explains: Explanation, names: Sequence[str], graphs: DAGs, weights: Float[Tensor, " G"]) -> bool:
    """Tell whether an explanation may stay: its edges not refuted, and where it knows no cause, none more likely."""
    unknown = {effect: causes for effect, causes in explains.items() if not causes}
    if unknown and supported(unknown, names, graphs, weights) < _EVEN:
        return False
    return supported(explains, names, graphs, weights) >= LOST


def _holding(edges: Sequence[tuple[str, str]], names: Sequence[str], graphs: DAGs) -> Tensor:
    holds = torch.ones(len(graphs), dtype=torch.bool)
    for i, mask in enumerate(masks_of([(names.index(a), names.index(b)) for a, b in edges], len(names))):
        if mask:
            holds &= (graphs.parents[:, i] & mask) == mask
    return holds
