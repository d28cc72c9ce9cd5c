r"""Dense linear algebra on second moments and thin factors, in float64.

Second moments of trained networks have condition numbers near 1e13, so an inverse here always states its
regulariser. With eigenvalues :math:`\lambda_i`, largest :math:`\lambda_1`, and the relative cut `rcond`:

* truncate: drop :math:`\lambda_i \le rcond\,\lambda_1`, invert the rest (a pseudo-inverse);
* ridge: :math:`(C + rcond\,\lambda_1 I)^{-1}`, smooth in the spectrum.

The default cut is `d * eps(float32)` whatever the dtype: it is a regularisation strength and not a rounding floor
(the value that the reference implementation of AI Engram uses).
"""

# torch.linalg has no types of its own
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.core.errors import NonFiniteError

EPS32 = torch.finfo(torch.float32).eps


def default_rcond(d: int) -> float:
    """Relative eigenvalue cut for width `d`: `d * 1.19e-7`."""
    return d * EPS32


@dataclass(frozen=True)
class Spectrum:
    """Eigendecomposition of a positive semi-definite matrix, largest eigenvalue first."""

    values: Float[Tensor, " k"]
    vectors: Float[Tensor, "d k"]

    def rank(self, rcond: float) -> int:
        """Count eigenvalues above `rcond` times the largest."""
        if len(self.values) == 0 or self.values[0] <= 0:
            return 0
        return int((self.values > rcond * self.values[0]).sum())

    def condition(self, rcond: float) -> float:
        """Ratio of the largest to the smallest kept eigenvalue; 0 when none is kept."""
        rank = self.rank(rcond)
        return float(self.values[0] / self.values[rank - 1]) if rank else 0.0

    def solve(self, rows: Float[Tensor, "n d"], rcond: float) -> Float[Tensor, "n d"]:
        """Return `rows @ pinv(C)` with eigenvalues at or below the cut dropped."""
        rank = self.rank(rcond)
        kept = self.vectors[:, :rank]
        return ((rows @ kept) / self.values[:rank]) @ kept.T


def spectrum(matrix: Float[Tensor, "d d"]) -> Spectrum:
    """Decompose a symmetric positive semi-definite matrix in float64; O(d^3).

    Raises:
        NonFiniteError: the matrix holds NaN or infinity.
    """
    require_finite(matrix, "second moment")
    values, vectors = torch.linalg.eigh(matrix.double())
    return Spectrum(values.flip(0).clamp_min(0), vectors.flip(1))


def spectrum_of_rows(rows: Float[Tensor, "n d"]) -> Spectrum:
    """Decompose `rows.T @ rows` without forming it; O(n^2 d) for n < d."""
    require_finite(rows, "rows")
    _, singular, right = torch.linalg.svd(rows.double(), full_matrices=False)
    return Spectrum(singular.square(), right.T)


def compress(
    left: Float[Tensor, "o r"], right: Float[Tensor, "r d"], *, rank: int | None = None, energy: float = 1.0
) -> tuple[Float[Tensor, "o k"], Float[Tensor, "k d"]]:
    """Return the best thinner factors of `left @ right`; O((o + d) r^2).

    Args:
        left: left factor.
        right: right factor.
        rank: most rank to keep; None for no bound.
        energy: share in (0, 1] of the squared Frobenius norm to keep; 1 drops only what is numerically zero.
    """
    u, s, v = singular_factors(left, right)
    keep = int((s > s[:1].clamp_min(0) * 1e-15 * max(left.shape[0], right.shape[1])).sum()) if len(s) else 0
    if energy < 1.0 and keep:
        share = s.square().cumsum(0) / s.square().sum()
        keep = min(keep, int((share < energy).sum()) + 1)
    keep = min(keep, rank) if rank is not None else keep
    root = s[:keep].sqrt()
    return (u[:, :keep] * root).to(left.dtype), (root[:, None] * v[:keep]).to(right.dtype)


def singular_factors(
    left: Float[Tensor, "o r"], right: Float[Tensor, "r d"]
) -> tuple[Float[Tensor, "o k"], Float[Tensor, " k"], Float[Tensor, "k d"]]:
    """Singular value decomposition of `left @ right` in float64 without forming the product."""
    q_left, r_left = torch.linalg.qr(left.double())
    q_right, r_right = torch.linalg.qr(right.double().T)
    u, s, v = torch.linalg.svd(r_left @ r_right.T, full_matrices=False)
    return q_left @ u, s, v @ q_right.T


def require_finite(tensor: Tensor, what: str) -> None:
    """Raise when a tensor holds NaN or infinity.

    Raises:
        NonFiniteError: with the count of bad entries and where to look.
    """
    # a sum with NaN or infinity in it is never finite, and ten times cheaper; one that overflows is looked into
    if math.isfinite(tensor.detach().sum()):
        return
    finite = torch.isfinite(tensor)
    if not bool(finite.all()):
        raise NonFiniteError(
            f"got {int((~finite).sum())} non-finite of {tensor.numel()} entries in {what}; expected finite numbers; "
            "look for overflow in half precision, padding rows or a diverged model"
        )


def random_frame(
    size: int, columns: int, *, generator: torch.Generator, dtype: torch.dtype = torch.float64
) -> Float[Tensor, "size columns"]:
    """Draw orthonormal columns, uniformly over frames (Mezzadri 2007), on the CPU; square, a rotation or reflection."""
    draw = torch.randn(size, columns, generator=generator, dtype=dtype, device=generator.device)
    q, r = torch.linalg.qr(draw.cpu())
    return q * r.diagonal().sign()
