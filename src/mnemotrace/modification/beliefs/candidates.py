r"""Families that a search may use: each node with few parents out of its likeliest ones, scored once.

A node's best parents `S` are added one by one; at each stage all others are ranked by

.. math:: \mathrm{local}(i, S \cup \{j\}) - \mathrm{local}(i, S),

and the `most` with the best rank at any stage stay, so a weak cause is not crowded out by strong effects. Families are
all their subsets of at most `max_parents`. **This is a restriction**: two causes that tell nothing alone, only together
(exclusive or), may be lost when there are more nodes than `most`. With `p - 1 <= most` nothing is left out.

Reference: Friedman, Nachman and Pe'er 1999 (sparse candidates; here chosen once, before
any graph). Cost: `(max_parents + 1) p` and then `sum_k binom(most, k)` family scores a node, 176 for 10 and 3.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import torch
from torch import Tensor

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.modification.beliefs.evidence import Evidence
from mnemotrace.modification.beliefs.families import Score
from mnemotrace.modification.beliefs.network import MOST


@dataclass(frozen=True, eq=False)
class Families:
    """Scored families.

    Attributes:
        masks: `(p, k)` int64, sets of parents; the empty one is first, -1 fills up.
        scores: `(p, k)` float64, minus infinity where filled up.
        max_parents: the largest set.
        restricted: whether candidate parents were left out.
    """

    masks: Tensor
    scores: Tensor
    max_parents: int
    restricted: bool

    def __len__(self) -> int:
        """How many nodes there are."""
        return len(self.masks)

    @cached_property
    def lookup(self) -> tuple[dict[int, float], ...]:
        """Each node's score by set of parents."""
        rows = zip(self.masks.tolist(), self.scores.tolist(), strict=True)
        return tuple({mask: score for mask, score in zip(*row, strict=True) if mask >= 0} for row in rows)

    def candidates(self, node: int) -> tuple[int, ...]:
        """Which parents a node may have."""
        return tuple(j for j in range(len(self)) if 1 << j in self.lookup[node])


def score_families(
    score: Score,
    evidence: Evidence,
    *,
    max_parents: int = 3,
    most: int = 10,
    progress: Callable[[int, int], None] | None = None,
) -> Families:
    """Choose candidate parents and score all families once.

    Args:
        score: BDeu or BGe.
        evidence: at least one row; a row in which a node was set is left out of that node's families.
        max_parents: of a node, at least 1.
        most: candidate parents of a node, at least `max_parents` unless there are fewer nodes.
        progress: called with nodes done and all.

    Raises:
        ValueError: no rows, too many variables for a bit mask, or limits that exclude each other.
        NonFiniteError: a score is not finite.
    """
    n, p = evidence.values.shape
    if not n or not 1 < p <= MOST:
        raise ValueError(f"got {n} rows of {p} variables; expected at least one row and 2 to {MOST} variables")
    most = min(most, p - 1)
    if max_parents < 1 or most < 1:
        raise ValueError(f"got max_parents={max_parents} and most={most}; expected at least 1 of both")
    largest = min(max_parents, most)
    rows: list[tuple[list[int], Tensor]] = []
    for i in range(p):
        others = [j for j in range(p) if j != i]
        if most < len(others):
            others = _likeliest(score, evidence, i, others, stages=largest, most=most)
        sets = [sum(1 << j for j in chosen) for k in range(largest + 1) for chosen in combinations(others, k)]
        rows.append((sets, score.local(evidence, i, sets).double()))
        if progress is not None:
            progress(i + 1, p)
    masks, scores = torch.tensor([sets for sets, _ in rows]), torch.stack([values for _, values in rows])
    if not scores.isfinite().all():
        raise NonFiniteError("got family scores that are NaN or infinite; look at the evidence and the score's prior")
    return Families(masks, scores, largest, most < p - 1)


def _likeliest(score: Score, evidence: Evidence, node: int, others: list[int], *, stages: int, most: int) -> list[int]:
    """Keep the parents with the best rank at any stage; of equals, those of the earlier stage."""
    rank: dict[int, tuple[int, int]] = dict.fromkeys(others, (len(others), 0))
    taken = 0
    for stage in range(stages + 1):
        left = [j for j in others if not taken >> j & 1]
        order = score.local(evidence, node, [taken | 1 << j for j in left]).argsort(descending=True, stable=True)
        for place, k in enumerate(order.tolist()):
            rank[left[k]] = min(rank[left[k]], (place, stage))
        taken |= 1 << left[int(order[0])]
        if len(left) == 1:
            break
    return sorted(sorted(others, key=lambda j: rank[j])[:most])
