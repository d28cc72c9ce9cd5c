r"""Association: do related concepts share units more often than unrelated ones?

Units that answer to Luke Skywalker and to Yoda were found, and units that answer to Luke and to a tower were not. With
`told[u, c]` for "unit u tells concept c", the overlap of two concepts is the share of their units that are common,

.. math:: o_{ab} = \frac{|a \cap b|}{|a \cup b|},

and the statistic the mean overlap of related pairs less that of unrelated pairs. Its null is the same under random
renaming of the concepts, which keeps how many units each has and which share with which (a Mantel test), so a concept
that has many units and many relatives does not make an association by itself.

Reference: De Falco, Ison, Fried, Quian Quiroga 2016 (long-term coding of personal and universal associations); Mantel
1967. Cost: `k^2` numbers a permutation.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor


@dataclass(frozen=True)
class Association:
    """How concepts share units.

    Attributes:
        related: mean overlap of related pairs, 0 to 1.
        unrelated: of the others.
        p: one-sided, of renaming the concepts; at least one over the permutations and one.
        shared: pairs of concepts with how many units tell both, most first; those without are left out.
        permutations: how many.
    """

    related: float
    unrelated: float
    p: float
    shared: tuple[tuple[int, int, int], ...]
    permutations: int


def associations(
    told: Bool[Tensor, "u k"],
    related: Bool[Tensor, "k k"],
    *,
    permutations: int = 999,
    generator: torch.Generator | None = None,
) -> Association:
    """Compare overlaps of related and unrelated concepts.

    Args:
        told: which unit tells which concept.
        related: symmetric; the diagonal does not count.
        permutations: at least 99, so that p can be 0.01.
        generator: of the permutations; None is one of seed 0.

    Raises:
        TypeError: tables that are not boolean.
        ValueError: sizes that do not fit, a relation that is not symmetric or holds for no pair or for all, too few
            permutations.
    """
    k = told.shape[-1]
    if told.dtype != torch.bool or related.dtype != torch.bool:
        raise TypeError(f"got tables of {told.dtype} and {related.dtype}; expected bool; compare with a bound first")
    if related.shape != (k, k) or not torch.equal(related, related.T) or permutations < 99:  # noqa: PLR2004
        raise ValueError(
            f"got a relation of shape {tuple(related.shape)} for {k} concepts, and permutations={permutations}; "
            "expected a symmetric table, concepts by concepts, and at least 99"
        )
    above = torch.triu_indices(k, k, 1)
    pairs = related[above[0], above[1]]
    if not bool(pairs.any()) or bool(pairs.all()):
        raise ValueError(f"got {int(pairs.sum())} related pairs of {len(pairs)}; expected some that are and some not")
    counts = told.double().T @ told.double()
    size = counts.diagonal()
    overlap = counts / (size[:, None] + size - counts).clamp(min=1)
    source = torch.Generator().manual_seed(0) if generator is None else generator
    flat = overlap[above[0], above[1]]

    def difference(chosen: Tensor) -> tuple[float, float]:
        return float(flat[chosen].mean()), float(flat[~chosen].mean())

    mean, other = difference(pairs)
    as_large = 0
    for _ in range(permutations):
        order = torch.randperm(k, generator=source, device=source.device).cpu()
        one, rest = difference(related[order][:, order][above[0], above[1]])
        as_large += one - rest >= mean - other - 1e-12
    common = counts[above[0], above[1]].long()
    most = [i for i in common.argsort(descending=True, stable=True).tolist() if common[i] > 0]
    shared = tuple((int(above[0, i]), int(above[1, i]), int(common[i])) for i in most)
    return Association(mean, other, (1 + as_large) / (1 + permutations), shared, permutations)
