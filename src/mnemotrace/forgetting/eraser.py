r"""Erase a concept from activations in closed form (LEACE): no linear reader finds it, with the least change.

Of all affine maps after which the activations :math:`x` have no covariance with the concept :math:`z`, the one that
moves them least, in the mean square and in any other norm, is

.. math:: r(x) = x - W^+ P\, W (x - \mu), \qquad W = \Sigma_{xx}^{+1/2}, \quad P = \text{projector on } W \Sigma_{xz}

No covariance means that no linear or logistic reader does better than one that always gives the same answer. It holds
for the rows that were fitted; on other rows as far as those rows represent them.

With an orthonormal basis :math:`Q` of that column space, `left` is :math:`W^+ Q` and `right` is :math:`Q^T W`. The
basis is that of the canonical correlations, the singular values of :math:`W \Sigma_{xz} \Sigma_{zz}^{+1/2}`, all in
[0, 1] whatever the units of `x` and `z`, so the tolerance is a correlation. `k` classes have rank `k - 1`.

The method "orth" takes `W` as a multiple of the identity: the same guarantee, a larger change. Shrinking
:math:`\Sigma_{xx}` towards a multiple of the identity keeps the guarantee too, for any invertible `W` does; what it
alters is in which norm the change is least, which is worth it when rows are few. The reference implementation blends in
the orthogonal projector where the variance would grow. Without shrinkage it cannot, and with a share :math:`\rho` of it
by at most :math:`k \rho / (1 - \rho)` of the mean variance; so there is no such branch here and the factors always stay
thin.

Sums are float64 and centred, joined by Chan's formula, so that adding is merging and a large mean costs no digits.
Reference: Belrose et al. 2023, LEACE: perfect linear concept erasure in closed form, theorem 4.3; shrinkage: Chen et
al. 2010, equation 23, as scikit-learn has it. Cost: O(n d^2) to sum, O(d^3) to solve; memory O(d^2).
"""

import warnings
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from mnemotrace.core.artifact import library_version
from mnemotrace.core.direction import Direction
from mnemotrace.core.errors import NumericalWarning
from mnemotrace.core.linalg import require_finite, spectrum

Method = Literal["leace", "orth"]
Shrinkage = float | Literal["oas"]
TOLERANCE = 1e-6
EPS = torch.finfo(torch.float64).eps
CONCEPT_CUT = 1e-10  # of the spectrum of correlations within the concept


@dataclass(frozen=True, eq=False)
class Association:
    """How activations vary with a concept: centred sums, float64. `a + b` is that of the rows of both.

    Attributes:
        n: rows.
        mean: of the activations.
        concept_mean: of the concept; for classes their shares.
        xx: sum of `(x - mean) (x - mean)^T`.
        xz: the same with the concept on the right.
        zz: the same of the concept.
    """

    n: int
    mean: Float[Tensor, " d"]
    concept_mean: Float[Tensor, " k"]
    xx: Float[Tensor, "d d"]
    xz: Float[Tensor, "d k"]
    zz: Float[Tensor, "k k"]

    @classmethod
    def of(cls, x: Float[Tensor, "n d"], z: Tensor) -> "Association":
        """Sum over rows.

        Args:
            x: activations.
            z: the concept: `(n,)` whole numbers from 0 as classes, or `(n, k)` numbers.

        Raises:
            TypeError: labels that are neither.
            ValueError: no row, or as many labels as there are no rows.
            NonFiniteError: NaN or infinity.
        """
        z = encoded(z)
        if x.ndim != 2 or z.ndim != 2 or len(x) != len(z) or not len(x):
            raise ValueError(
                f"got activations {tuple(x.shape)} and a concept {tuple(z.shape)}; expected (n, d) beside (n,) classes "
                "or (n, k) numbers, with at least one row; a mask may have left none"
            )
        require_finite(x, "the activations")
        require_finite(z, "the concept")
        x, z = x.double(), z.to(x.device)
        mean, concept_mean = x.mean(0), z.mean(0)
        x, z = x - mean, z - concept_mean
        return cls(len(x), mean, concept_mean, x.T @ x, x.T @ z, z.T @ z)

    def __add__(self, other: "Association") -> "Association":
        """Join the sums of two sets of rows; classes that one of them has not seen count as never seen there."""
        if self.mean.shape != other.mean.shape:
            raise ValueError(f"got widths {len(self.mean)} and {len(other.mean)}; expected one; join sums of one place")
        k = max(len(self.concept_mean), len(other.concept_mean))
        a, b = self._widened(k), other._widened(k)
        n, between = a.n + b.n, a.n * b.n / (a.n + b.n)
        x, z = b.mean - a.mean, b.concept_mean - a.concept_mean
        return Association(
            n,
            a.mean + x * (b.n / n),
            a.concept_mean + z * (b.n / n),
            a.xx + b.xx + between * torch.outer(x, x),
            a.xz + b.xz + between * torch.outer(x, z),
            a.zz + b.zz + between * torch.outer(z, z),
        )

    def _widened(self, k: int) -> "Association":
        more = k - len(self.concept_mean)
        if not more:
            return self
        mean, xz = functional.pad(self.concept_mean, (0, more)), functional.pad(self.xz, (0, more))
        return Association(self.n, self.mean, mean, self.xx, xz, functional.pad(self.zz, (0, more, 0, more)))


def encoded(z: Tensor) -> Float[Tensor, "*leading k"]:
    """Return classes as one-hot rows and numbers as they are, in float64.

    Raises:
        TypeError: complex numbers.
        ValueError: negative classes.
    """
    if z.is_floating_point():
        return z.double()
    if z.is_complex():
        raise TypeError(f"got labels of {z.dtype}; expected whole numbers as classes, or floating-point numbers")
    if z.numel() and int(z.min()) < 0:
        raise ValueError(
            f"got class {int(z.min())}; expected numbers from 0; leave rows without a class out by the mask"
        )
    return functional.one_hot(z.long(), int(z.max()) + 1 if z.numel() else 1).double()


def fit(
    x: Float[Tensor, "n d"],
    z: Tensor,
    *,
    method: Method = "leace",
    shrinkage: Shrinkage = "oas",
    tolerance: float = TOLERANCE,
) -> Direction:
    """Fit an eraser to activations and their concept, both as tensors; see `Association.of` and `solve`."""
    return solve(Association.of(x, z), method=method, shrinkage=shrinkage, tolerance=tolerance)


def solve(
    association: Association,
    *,
    method: Method = "leace",
    shrinkage: Shrinkage = "oas",
    tolerance: float = TOLERANCE,
) -> Direction:
    """Make the eraser.

    Args:
        association: sums over rows.
        method: "leace" for the least change, "orth" for the orthogonal projection.
        shrinkage: share in [0, 1) of the identity in the covariance of the activations; "oas" estimates it from the
            sums. Without it, 0, the change is the least on the fitted rows exactly, and where these hardly vary in
            some directions the eraser may move other rows far.
        tolerance: directions that correlate less than this with the concept are left alone.

    Returns:
        The eraser. Its evidence: `rows`, `classes` (width of the concept), `correlation` with the concept and share of
        `variance` by direction taken away, `change` (mean square of it over the variance), `covariance_before` and
        `covariance_after` with the concept (largest entry, on the fitted rows), `shrinkage`, and the `spectrum_rank`
        of the activations.

    Raises:
        ValueError: a setting out of range, or a concept or activations that do not vary.

    Warns:
        NumericalWarning: nothing correlates with the concept, so the eraser does nothing.
    """
    _check(association, method, shrinkage, tolerance)
    n, d = association.n, len(association.mean)
    xx, xz = association.xx / n, association.xz / n
    share = oas(xx, n) if shrinkage == "oas" else float(shrinkage)
    identity = torch.eye(d, dtype=xx.dtype, device=xx.device)
    decomposed = spectrum((1 - share) * xx + share * xx.trace() / d * identity)
    rank = decomposed.rank(d * EPS)
    roots = decomposed.vectors[:, :rank] / decomposed.values[:rank].sqrt()
    told = xz @ _whitener(association.zz / n)
    left, right = _factors(told, roots if method == "leace" else identity / (xx.trace() / d).sqrt(), tolerance)
    if not left.shape[1]:
        warnings.warn(
            f"no direction of {d} tells more than {tolerance:g} of the concept, so the eraser does nothing; look "
            "whether labels and rows belong together",
            NumericalWarning,
            stacklevel=2,
        )
    taken = right @ xx @ right.T
    spread = taken.diagonal()
    evidence = {
        "rows": n,
        "classes": xz.shape[1],
        "correlation": ((right @ told).norm(dim=1) / spread.sqrt()).tolist(),
        "variance": (spread * left.square().sum(0) / xx.trace()).tolist(),
        "change": float((taken * (left.T @ left)).sum() / xx.trace()),
        "covariance_before": float(xz.abs().max()),
        "covariance_after": float((xz - left @ (right @ xz)).abs().max()),
        "shrinkage": share,
        "spectrum_rank": rank,
    }
    return Direction(left, right, association.mean, evidence, {"method": method, "version": library_version()})


def _factors(told: Float[Tensor, "d c"], whiten: Float[Tensor, "d m"], tolerance: float) -> tuple[Tensor, Tensor]:
    """Return `W^+ Q` and `Q^T W`, directions of little correlation left out.

    `W^+ Q` is taken from the covariance itself: so every coordinate is right to its own last digits, however small it
    is beside the others. Otherwise a reader that standardises finds the concept in the rounding.
    """
    u, s, v = torch.linalg.svd(whiten.T @ told, full_matrices=False)
    kept = s > tolerance
    return told @ (v[kept].T / s[kept]), u[:, kept].T @ whiten.T


def oas(covariance: Float[Tensor, "d d"], n: int) -> float:
    """Estimate the share of the identity that makes a covariance of `n` rows nearest to the true one, in [0, 1]."""
    d = len(covariance)
    square, mean = float(covariance.square().mean()), float(covariance.trace() / d) ** 2
    excess = (n + 1) * (square - mean / d)
    return min((square + mean) / excess, 1.0) if excess > 0 else 1.0


def _whitener(covariance: Float[Tensor, "k k"]) -> Float[Tensor, "k r"]:
    """Return what gives the concept unit covariance on its range: one-hot classes add up to one, so they have less."""
    deviation = covariance.diagonal().sqrt()
    scale = torch.where(deviation > 0, 1 / deviation, 0)
    found = spectrum(scale[:, None] * covariance * scale)
    rank = found.rank(CONCEPT_CUT)
    return scale[:, None] * found.vectors[:, :rank] / found.values[:rank].sqrt()


def _check(association: Association, method: Method, shrinkage: Shrinkage, tolerance: float) -> None:
    if method not in get_args(Method):
        raise ValueError(f"got method={method!r}; expected one of {', '.join(get_args(Method))}")
    if shrinkage != "oas" and (isinstance(shrinkage, str) or not 0 <= shrinkage < 1):
        raise ValueError(f'got shrinkage={shrinkage!r}; expected a share from 0 to below 1, or "oas"; 0 leaves it out')
    if not 0 <= tolerance < 1:
        raise ValueError(f"got tolerance={tolerance}; expected a correlation from 0 to below 1, such as {TOLERANCE}")
    still: dict[str, Any] = {"concept": association.zz, "activations": association.xx}
    for what, sums in still.items():
        if not bool(sums.diagonal().any()):
            raise ValueError(
                f"got {association.n} rows with one and the same value of the {what}; expected rows that differ; there "
                "is nothing to erase"
            )
