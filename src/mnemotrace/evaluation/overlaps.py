r"""Overlaps of engrams in the weights, beside those of random engrams of equal rank, norm and spectrum.

Between the engrams :math:`P_i` of concepts, at each site and over all:

* cosine :math:`\langle P_i, P_j\rangle / \|P_i\|\|P_j\|`;
* shared subspace: the mean squared cosine of the principal angles :math:`\|Q_i^\top Q_j\|_F^2 / \min(r_i, r_j)`, of
  what is written (`left`, columns) and of what is read (`right`, rows), where :math:`Q_i` spans the :math:`r_i` first
  singular directions, which hold the share `energy` of the square.

With :math:`P_i = U_i S_i V_i^\top` all of them come from :math:`U_i^\top U_j` and :math:`V_i^\top V_j`; no matrix is
formed. Random engrams, rotated on both sides, have a closed form: the cosine has mean 0 and root mean square
:math:`1/\sqrt{o d}` at a site, :math:`\sqrt{\sum_s n_{is}^2 n_{js}^2 / o_s d_s} / \|P_i\|\|P_j\|` over all with norms
:math:`n`; shared subspaces have the mean :math:`\max(r_i, r_j) / o`, or `d` for what is read.

Cost: O((o + d) r^2) for each engram and for each pair, at each site.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from mnemotrace.core.errors import SelectionError
from mnemotrace.core.linalg import require_finite, singular_factors
from mnemotrace.core.trace import Engram

Factors = tuple[Tensor, Tensor, Tensor]
DECIMALS = 6
"""To which two overlaps or losses differ in rank; scores in float32 have no more."""


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Overlaps of engrams `k` at sites `s`.

    Attributes:
        names: of the engrams.
        sites: where they are.
        sizes: `(s, 2)`, outputs and inputs of each site.
        norms: `(s, k)`.
        ranks: `(s, k)`, dimensions of the subspaces.
        cosine: `(k, k)`, over all sites.
        by_site: `(s, k, k)`, cosines at each.
        left: `(s, k, k)`, shared subspace of what is written, in [0, 1].
        right: `(s, k, k)`, of what is read.
    """

    names: tuple[str, ...]
    sites: tuple[str, ...]
    sizes: Int[Tensor, "s 2"]
    norms: Float[Tensor, "s k"]
    ranks: Int[Tensor, "s k"]
    cosine: Float[Tensor, "k k"]
    by_site: Float[Tensor, "s k k"]
    left: Float[Tensor, "s k k"]
    right: Float[Tensor, "s k k"]

    @property
    def random_cosine(self) -> Float[Tensor, "k k"]:
        """Root mean square of the cosine over all sites between random engrams like these."""
        squares = self.norms.double().square()
        shares = squares / squares.sum(0)
        return torch.einsum("si,sj,s->ij", shares, shares, 1 / self.sizes.double().prod(1)).sqrt()

    @property
    def random_by_site(self) -> Float[Tensor, " s"]:
        """Root mean square of the cosine between random engrams at each site."""
        return self.sizes.double().prod(1).rsqrt()

    @property
    def random_subspaces(self) -> Float[Tensor, "two s k k"]:
        """Mean shared subspace of random engrams like these: of what is written, of what is read."""
        larger = torch.maximum(self.ranks[:, :, None], self.ranks[:, None]).double()
        return larger / self.sizes.double().T[:, :, None, None]


def overlaps(engrams: Mapping[str, Engram], *, energy: float = 0.9) -> Overlaps:
    """Measure how far engrams overlap in the weights.

    Args:
        engrams: at least two, of the same sites, by name.
        energy: share in (0, 1] of an engram's square at a site that its subspace holds; the rest is mostly what the
            regulariser left.

    Raises:
        ValueError: fewer than two, one that is zero, or `energy` out of range.
        SelectionError: they are at different sites.
        NonFiniteError: NaN or infinity in a factor.
    """
    names, sites = tuple(engrams), _sites(engrams, energy)
    shape = len(sites), len(names), len(names)
    inner, left, right = (torch.zeros(shape, dtype=torch.float64) for _ in range(3))
    ranks = torch.zeros(shape[:2], dtype=torch.long)
    sizes: list[tuple[int, int]] = []
    for s, site in enumerate(sites):
        width = max(engram[site].right.shape[1] for engram in engrams.values())
        factors = [_factors(engram, name, site, width) for name, engram in engrams.items()]
        ranks[s] = torch.tensor([_rank(values, energy) for _, values, _ in factors])
        sizes.append((engrams[names[0]][site].site.o, width))
        for i, one in enumerate(factors):
            for j, other in enumerate(factors[: i + 1]):
                found = _pair(one, other, int(ranks[s, i]), int(ranks[s, j]))
                for matrix, value in zip((inner, left, right), found, strict=True):
                    matrix[s, i, j] = matrix[s, j, i] = value
    norms = inner.diagonal(dim1=1, dim2=2).sqrt()
    zero = [name for name, norm in zip(names, norms.sum(0), strict=True) if norm == 0]
    if zero:
        raise ValueError(f"got engrams that are zero: {', '.join(zero)}; expected a trace; look at its target's rows")
    total = inner.sum(0)
    root = total.diagonal().sqrt()
    by_site = inner / (norms[:, :, None] * norms[:, None]).clamp_min(torch.finfo(torch.float64).tiny)
    return Overlaps(
        names, sites, torch.tensor(sizes), norms, ranks, total / (root[:, None] * root), by_site, left, right
    )


def _sites(engrams: Mapping[str, Engram], energy: float) -> tuple[str, ...]:
    if len(engrams) < 2 or not 0 < energy <= 1:  # noqa: PLR2004
        raise ValueError(
            f"got {len(engrams)} engrams and energy={energy}; expected at least two, and energy above 0 and at most 1"
        )
    first, sites = next(iter(engrams.items()))
    for name, engram in engrams.items():
        if set(engram) != set(sites):
            apart = sorted(set(engram) ^ set(sites))
            raise SelectionError(
                f"got {name!r} at other sites than {first!r}: {', '.join(apart[:3])}; expected the same sites; cut "
                "them with `engram.select`"
            )
    return tuple(sites)


def _factors(engram: Engram, name: str, site: str, width: int) -> Factors:
    """Decompose one engram at one site, on the CPU, without what is numerically zero; `width` adds a bias column."""
    trace = engram[site]
    require_finite(trace.left, f"{name} at {site}")
    require_finite(trace.right, f"{name} at {site}")
    wide = pad(trace.right, (0, width - trace.right.shape[1]))
    left, values, right = singular_factors(trace.left.cpu(), wide.cpu())
    keep = values > values[:1] * 1e-15 * max(len(left), width)
    return left[:, keep], values[keep], right[keep]


def _rank(values: Tensor, energy: float) -> int:
    if not len(values):
        return 0
    share = values.square().cumsum(0) / values.square().sum()
    return min(int((share < energy - 1e-12).sum()) + 1, len(values))


def _pair(one: Factors, other: Factors, rank: int, second: int) -> tuple[float, float, float]:
    """Return the inner product and the two shared subspaces; zero where one of them is zero."""
    written, read = one[0].T @ other[0], one[2] @ other[2].T
    inner = float((written * read * (one[1][:, None] * other[1])).sum())
    least = max(min(rank, second), 1)
    left, right = (min(float(matrix[:rank, :second].square().sum()) / least, 1.0) for matrix in (written, read))
    return inner, left, right


def spread(matrix: Float[Tensor, "*s k k"]) -> Float[Tensor, "*s pairs"]:
    """Return the entries off the diagonal."""
    return matrix[..., ~torch.eye(matrix.shape[-1], dtype=torch.bool)]


def rank_correlation(
    one: Float[Tensor, "k k"], other: Float[Tensor, "k k"], *, permutations: int, generator: torch.Generator
) -> tuple[float, float, float]:
    """Correlate two matrices over the same concepts off the diagonal, by ranks.

    Returns:
        Spearman's correlation, 0 where one matrix does not vary; the 95 % quantile of its absolute value when the
        concepts of one matrix are permuted; and the share of permutations, the given order included, with as large an
        absolute value (Mantel's test).
    """
    first, second = (_centred_ranks(matrix) for matrix in (one, other))
    size = float(first.norm() * second.norm())
    if size == 0:
        return 0.0, 0.0, 1.0
    # a permutation of concepts moves entries and keeps their ranks
    order = torch.rand(permutations, len(other), generator=generator, device=generator.device).argsort(1).cpu()
    moved = second[order[:, :, None], order[:, None]]
    value, found = float((first * second).sum()) / size, ((first * moved).sum((1, 2)) / size).abs()
    as_large = int((found >= abs(value) - 1e-12).sum())
    return value, float(found.quantile(0.95)), (as_large + 1) / (permutations + 1)


def _centred_ranks(matrix: Tensor) -> Tensor:
    """Rank entries off the diagonal about 0, equal ones sharing their mean rank; the diagonal is 0."""
    values = spread(matrix.double()).round(decimals=DECIMALS)
    ranks = (values[:, None] > values).sum(1) + 0.5 * (values[:, None] == values).sum(1)
    found = torch.zeros(matrix.shape, dtype=torch.float64)
    found[~torch.eye(len(matrix), dtype=torch.bool)] = (ranks - ranks.mean()).double()
    return found
