r"""What must be kept, factored once and reused for any number of concepts, selectivities and strengths.

A concept with rows :math:`X` (`n x d`) needs :math:`X\,(X^T X + \lambda R)^{+}`, where :math:`R` is the second
moment of the reference and :math:`\lambda` the selectivity.

* `ridge` factors :math:`M = \lambda R + \delta I` by Cholesky and uses the push-through identity
  :math:`X (X^T X + M)^{-1} = (I + X M^{-1} X^T)^{-1} X M^{-1}`: n right-hand sides and an n x n solve a concept.
* `truncate` decomposes :math:`R = U S U^T` once. Eigenvectors of the total above the cut lie, up to a thousandth of
  the cut, in the span of the kept :math:`U` and the new rows, so a concept is an eigenproblem of size
  `rank(R) + n`. When that is no smaller than the width the total is decomposed directly.
* `selectivity = inf` is the hard limit: with :math:`N = I - U U^T` the answer is :math:`(X N)^{+T}`, which vanishes on
  the reference. Here :math:`U` reaches down to a thousandth of the cut (or the rounding of the sums): a direction that
  the reference hardly uses would leak most, because there the target is small too and its inverse large. What a full
  reference leaves is then often nothing, and that is the truth.

Cost: one O(d^3) factorisation a distinct input; O(n d^2) a concept for ridge, O(d (k + n)^2) for truncate.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.core.linalg import Spectrum, default_rcond, require_finite, spectrum, spectrum_of_rows
from mnemotrace.stats.moments import Moments, Statistics

SOLVERS = ("truncate", "ridge")
_TAIL = 1e-3
_ROUNDING = 8.0
_WORTHWHILE = 0.6


@dataclass(frozen=True)
class Solution:
    """What a solve gives back.

    Attributes:
        rows: `(n, d)` rows that stand for the target: `rows.T @ rows` is its second moment.
        right: `(n, d)` the solution `rows @ pinv(total)`.
        rank: eigenvalues kept (the width for ridge).
        condition: largest over smallest kept eigenvalue (an upper bound for ridge).
        ridge: what was added to the diagonal; 0 for truncate.
    """

    rows: Tensor
    right: Tensor
    rank: int
    condition: float
    ridge: float = 0.0

    def hat(self) -> Float[Tensor, "n n"]:
        """Return the leverage matrix `H = rows @ pinv(total) @ rows.T`, symmetric, eigenvalues in [0, 1]."""
        hat = self.rows @ self.right.T
        return (hat + hat.T) / 2


@dataclass(eq=False)
class Factored:
    """The reference at one input: moments with or without the bias border, factored on demand."""

    moments: Moments
    bias: bool
    _spectra: dict[float, Spectrum] = field(default_factory=dict[float, Spectrum])
    _cholesky: dict[tuple[float, float], tuple[Tensor, float]] = field(
        default_factory=dict[tuple[float, float], tuple[Tensor, float]]
    )

    @property
    def width(self) -> int:
        """Columns, with the border."""
        return self.moments.d + self.bias

    def solve(self, target: Moments, *, selectivity: float, solver: str, rcond: float | None) -> Solution:
        """Solve for one concept; see the module's text."""
        rcond = default_rcond(self.width) if rcond is None else rcond
        rows = target_rows(target, self.bias)
        if math.isinf(selectivity):
            return self._hard(rows, rcond)
        if solver == "ridge":
            return self._ridge(rows, selectivity, rcond)
        return self._truncate(rows, target, selectivity, rcond)

    def spectrum(self, rcond: float) -> Spectrum:
        """Decompose the reference once and keep what lies above a thousandth of the cut."""
        if rcond not in self._spectra:
            design = self.moments.design(bias=self.bias)
            full = spectrum_of_rows(design) if design is not None else spectrum(self.moments.matrix(bias=self.bias))
            keep = full.rank(_TAIL * rcond)
            self._spectra[rcond] = Spectrum(full.values[:keep].clone(), full.vectors[:, :keep].clone())
        return self._spectra[rcond]

    def energy(self, weight: Float[Tensor, "o width"]) -> float:
        """Return the squared norm of a map's responses to the reference, `tr(W R W^T)`, in the map's type."""
        rows = self.moments.design(bias=self.bias)
        if rows is not None:
            return float((rows.to(weight.dtype) @ weight.T).square().sum())
        second = self.moments.matrix(bias=self.bias).to(weight.dtype)
        return max(float(((weight @ second) * weight).sum()), 0.0)

    def _truncate(self, rows: Tensor, target: Moments, selectivity: float, rcond: float) -> Solution:
        reference = (
            self.spectrum(rcond) if selectivity > 0 else Spectrum(rows.new_zeros(0), rows.new_zeros(self.width, 0))
        )
        if len(reference.values) + len(rows) > _WORTHWHILE * self.width:
            total = target.matrix(bias=self.bias) + selectivity * self.moments.matrix(bias=self.bias)
            whole = spectrum(total)
            return Solution(rows, whole.solve(rows, rcond), whole.rank(rcond), whole.condition(rcond))
        basis, inside = _joint_basis(reference.vectors, rows)
        small = inside.T @ inside
        k = len(reference.values)
        small.diagonal()[:k].add_(selectivity * reference.values)
        joint = spectrum(small)
        return Solution(rows, joint.solve(inside, rcond) @ basis.T, joint.rank(rcond), joint.condition(rcond))

    def _ridge(self, rows: Tensor, selectivity: float, rcond: float) -> Solution:
        factor, delta = self._factor(selectivity, rcond)
        if delta == 0:  # nothing to keep: the target alone sets the scale
            whole = spectrum_of_rows(rows)
            delta = rcond * float(whole.values[:1].sum())
            damped = (whole.values + delta).clamp_min(torch.finfo(whole.values.dtype).tiny)
            return Solution(rows, (rows @ whole.vectors / damped) @ whole.vectors.T, self.width, 1 / rcond, delta)
        half = torch.linalg.solve_triangular(factor, rows.T, upper=False)
        solved = torch.linalg.solve_triangular(factor.T, half, upper=True).T
        gram = half.T @ half
        gram.diagonal().add_(1.0)
        right = torch.cholesky_inverse(torch.linalg.cholesky(gram)) @ solved
        return Solution(rows, right, self.width, 1 / rcond + 1, delta)

    def _factor(self, selectivity: float, rcond: float) -> tuple[Tensor, float]:
        key = selectivity, rcond
        if key not in self._cholesky:
            matrix = selectivity * self.moments.matrix(bias=self.bias)
            delta = rcond * _largest_eigenvalue(matrix)
            matrix.diagonal().add_(delta)
            self._cholesky[key] = torch.linalg.cholesky(matrix) if delta > 0 else matrix, delta
        return self._cholesky[key]

    def _hard(self, rows: Tensor, rcond: float) -> Solution:
        reference = self.spectrum(rcond)
        rounding = 0.0 if self.moments.second is None else _ROUNDING * torch.finfo(self.moments.second.dtype).eps
        kept = reference.vectors[:, : reference.rank(max(_TAIL * rcond, rounding))]
        outside = rows - (rows @ kept) @ kept.T
        outside = outside - (outside @ kept) @ kept.T
        u, s, v = torch.linalg.svd(outside, full_matrices=False)
        floor = math.sqrt(rcond) * float(torch.linalg.matrix_norm(rows, 2))
        rank = int((s > floor).sum())
        right = (u[:, :rank] / s[:rank]) @ v[:rank]
        condition = float((s[0] / s[rank - 1]) ** 2) if rank else 0.0
        return Solution(rows, right, rank, condition)


class Reference(Mapping[str, Factored]):
    """Statistics of what must be kept, with factors that are computed once and shared between sites."""

    def __init__(self, statistics: Statistics) -> None:
        """Wrap statistics; nothing is factored until it is needed.

        Memory: at most one float64 `(d, k)` factor a distinct input, kept for as long as this object lives.
        """
        self.statistics = statistics
        self._factored: dict[tuple[int, bool], Factored] = {}
        self._energies: dict[str, float] = {}

    def __getitem__(self, name: str) -> Factored:
        """Return the factored reference at a site."""
        bias = self.statistics.sites[name].bias is not None
        moments = self.statistics[name]
        key = id(moments), bias
        if key not in self._factored:
            require_finite_moments(moments, f"the reference at {name}")
            self._factored[key] = Factored(moments, bias)
        return self._factored[key]

    def __iter__(self):  # noqa: ANN204
        """Iterate over site names."""
        return iter(self.statistics)

    def __len__(self) -> int:
        """Count sites."""
        return len(self.statistics)

    def energy(self, name: str, weight: Callable[[], Tensor]) -> float:
        """Return the squared norm of the reference's responses at a site; computed once, from `weight()`."""
        if name not in self._energies:
            self._energies[name] = self[name].energy(weight())
        return self._energies[name]


def factor(reference: Statistics) -> Reference:
    """Prepare what must be kept for many concepts: `reference = mt.factor(statistics)`.

    Pass the result to `mt.engram` instead of the statistics; every concept after the first then costs a small solve.
    """
    return Reference(reference)


def require_finite_moments(moments: Moments, what: str) -> None:
    """Raise unless moments are finite.

    Raises:
        NonFiniteError: with the place.
    """
    for body in (moments.rows, moments.second):
        if body is not None:
            require_finite(body, what)


def target_rows(target: Moments, bias: bool) -> Float[Tensor, "n width"]:
    """Return rows whose second moment is the target's: its own rows, or the root of its matrix."""
    design = target.design(bias=bias)
    if design is not None:
        return design
    roots = spectrum(target.matrix(bias=bias))
    keep = roots.rank(1e-14)
    return roots.values[:keep].sqrt()[:, None] * roots.vectors[:, :keep].T


def _joint_basis(vectors: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return an orthonormal basis of the span of `vectors` and `rows`, and the rows in it."""
    coordinates = rows @ vectors
    outside = rows - coordinates @ vectors.T
    outside = outside - (outside @ vectors) @ vectors.T
    extra, triangle = torch.linalg.qr(outside.T)
    return torch.cat([vectors, extra], 1), torch.cat([coordinates, triangle.T], 1)


def _largest_eigenvalue(matrix: Tensor, steps: int = 30) -> float:
    """Estimate by power iteration from the diagonal; within a per cent, enough for a regulariser."""
    vector = matrix.diagonal().clone() + matrix.diagonal().mean() * 1e-3
    norm = float(vector.norm())
    for _ in range(steps):
        if norm == 0:
            break
        vector, last = matrix @ (vector / norm), norm
        norm = float(vector.norm())
        if abs(norm - last) <= 1e-6 * norm:
            break
    return norm
