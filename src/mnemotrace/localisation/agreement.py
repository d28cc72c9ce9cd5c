r"""Agreement of two ways to cut the same examples into groups, neither of which need know the other's names.

* adjusted Rand index: pairs that both put together or both apart, :math:`(I - E) / (M - E)` with
  :math:`I = \sum_{ij} \binom{n_{ij}}{2}`, :math:`E` its mean under random groups of the same sizes, and :math:`M` the
  mean of :math:`\sum_i \binom{a_i}{2}` and :math:`\sum_j \binom{b_j}{2}`; 0 by chance, 1 for the same cut
  (Hubert and Arabie 1985);
* V-measure: the harmonic mean of homogeneity :math:`1 - H(b|a)/H(b)` and completeness :math:`1 - H(a|b)/H(a)`
  (Rosenberg and Hirschberg 2007);
* matching: one group to one group so that most examples agree (the Hungarian method, Kuhn 1955).

Chance is measured too: the same numbers after permuting one side. Cost: O(n) and the matching O(k^3), a permutation.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Agreement:
    """How far groups agree with labels.

    Attributes:
        rand: adjusted Rand index.
        v_measure: of homogeneity and completeness.
        matched: share of examples whose group is matched to their label.
        chance: the same three under permuted labels, means.
        p: share of permutations, the data among them, whose adjusted Rand index is at least as large.
        count: examples.
    """

    rand: float
    v_measure: float
    matched: float
    chance: tuple[float, float, float]
    p: float
    count: int


def contingency(first: Int[Tensor, " n"], second: Int[Tensor, " n"]) -> Int[Tensor, "k c"]:
    """Count how many examples each pair of groups shares; groups in rising order of their numbers.

    Raises:
        ValueError: other lengths, or no example.
    """
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(
            f"got groups of shapes {tuple(first.shape)} and {tuple(second.shape)}; expected (n,) twice, a group an "
            "example, and at least one"
        )
    (_, i), (_, j) = (side.unique(return_inverse=True) for side in (first, second))
    rows, columns = int(i.max()) + 1, int(j.max()) + 1
    return torch.bincount(i * columns + j, minlength=rows * columns).view(rows, columns)


def adjusted_rand(table: Int[Tensor, "k c"]) -> float:
    """Return the adjusted Rand index of a table of counts; 1 where both sides are one group, or all apart."""
    pairs, rows, columns = (_pairs(counts) for counts in (table, table.sum(1), table.sum(0)))
    expected, most = rows * columns / max(_pairs(table.sum()), 1.0), (rows + columns) / 2
    return 1.0 if most == expected else (pairs - expected) / (most - expected)


def v_measure(table: Int[Tensor, "k c"]) -> float:
    """Return the V-measure of a table of counts; 1 where both sides are one group."""
    joint, rows, columns = (_entropy(counts) for counts in (table, table.sum(1), table.sum(0)))
    shared = rows + columns - joint
    return 1.0 if rows + columns == 0 else max(2 * shared / (rows + columns), 0.0)


def matching(benefit: Float[Tensor, "k c"] | Int[Tensor, "k c"]) -> list[tuple[int, int]]:
    """Pair rows with columns, each at most once, so that the sum over pairs is largest.

    Raises:
        ImportError: scipy is missing.
    """
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise ImportError(
            "got no scipy; expected it, for groups are matched with it; pip install 'mnemotrace[probes]'"
        ) from error
    rows, columns = linear_sum_assignment(benefit.double().numpy(), maximize=True)
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True)]


def agreement(
    groups: Int[Tensor, " n"], labels: Int[Tensor, " n"], *, permutations: int = 49, generator: torch.Generator
) -> Agreement:
    """Compare groups with labels, and with permuted labels.

    Args:
        groups: of each example; -1 for examples that no group took, which are never matched.
        labels: of each example.
        permutations: of the labels.
        generator: of the permutations.

    Raises:
        ValueError: other lengths, or no example.
    """
    mine = _measured(groups, labels)
    orders = (torch.randperm(len(labels), generator=generator) for _ in range(permutations))
    others = [_measured(groups, labels[order]) for order in orders]
    chance = torch.tensor(others, dtype=torch.float64).mean(0).tolist()
    reached = sum(other[0] >= mine[0] for other in others)
    return Agreement(*mine, (chance[0], chance[1], chance[2]), (1 + reached) / (1 + permutations), len(labels))


def _measured(groups: Tensor, labels: Tensor) -> tuple[float, float, float]:
    table = contingency(groups, labels)
    grouped = table[int((groups < 0).any()) :]  # the row of those that no group took comes first
    same = sum(int(grouped[i, j]) for i, j in matching(grouped))
    return adjusted_rand(table), v_measure(table), same / len(labels)


def _pairs(counts: Tensor) -> float:
    wide = counts.double()
    return float((wide * (wide - 1) / 2).sum())


def _entropy(counts: Tensor) -> float:
    share = counts[counts > 0].double() / counts.sum()
    return float(-(share * share.log()).sum())
