"""A low-rank matrix at a site: `left (o, r) @ right (r, d)`, or `right (r, d + 1)` when the bias is absorbed.

Engrams and edits are both made of these. All algebra works on the factors; the `(o, d)` product is formed only by
`dense`. Storage is float32 unless the caller chooses otherwise: the factors are solved in float64 and cast once.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.core.linalg import compress
from mnemotrace.core.site import Site


@dataclass(frozen=True, eq=False)
class LowRank:
    """Thin factors of a matrix at `site`.

    Raises:
        ValueError: the factors do not fit each other or the site.
    """

    site: Site
    left: Float[Tensor, "o r"]
    right: Float[Tensor, "r width"]

    def __post_init__(self) -> None:
        """Check the shapes once, so that nothing later has to."""
        o, r = self.left.shape
        r_right, width = self.right.shape
        if o != self.site.o or r != r_right or width not in (self.site.d, self.site.width):
            raise ValueError(
                f"got factors {tuple(self.left.shape)} and {tuple(self.right.shape)} for site {self.site.name}; "
                f"expected ({self.site.o}, r) and (r, {self.site.d}){' or one column more' if self.site.bias else ''}"
            )

    @property
    def rank(self) -> int:
        """Number of columns of the left factor."""
        return self.left.shape[1]

    @property
    def has_bias(self) -> bool:
        """Whether the last column acts on the bias."""
        return self.right.shape[1] == self.site.d + 1

    @property
    def nbytes(self) -> int:
        """Bytes of both factors."""
        return self.left.nbytes + self.right.nbytes

    def dense(self) -> Float[Tensor, "o width"]:
        """Form the product; O(o d r) time and O(o d) memory."""
        return self.left @ self.right

    def weight(self) -> Float[Tensor, "o d"]:
        """Form the part that acts on the weight."""
        return self.left @ self.right[:, : self.site.d]

    def bias(self) -> Float[Tensor, " o"] | None:
        """Form the part that acts on the bias, None when there is none."""
        return self.left @ self.right[:, -1] if self.has_bias else None

    def inner(self, other: "LowRank") -> float:
        """Frobenius inner product with another matrix at the same site; O((o + d) r r')."""
        self._check_shape(other)
        left = self.left.double().T @ other.left.double()
        right = _widen(self.right, other.right).double() @ _widen(other.right, self.right).double().T
        return float((left * right).sum())

    def norm(self) -> float:
        """Frobenius norm."""
        return max(self.inner(self), 0.0) ** 0.5

    def scaled(self, factor: float) -> "LowRank":
        """Multiply by a number."""
        return replace(self, left=self.left * factor)

    def plus(self, other: "LowRank") -> "LowRank":
        """Add a matrix at the same site; ranks add up and are compressed once they exceed the full rank."""
        self._check_shape(other)
        right = torch.cat([_widen(self.right, other.right), _widen(other.right, self.right).to(self.right.device)])
        left = torch.cat([self.left, other.left.to(self.left.device)], dim=1)
        if left.shape[1] > min(left.shape[0], right.shape[1]):
            left, right = compress(left, right)
        return LowRank(self.site, left, right)

    def truncated(self, *, rank: int | None = None, energy: float = 1.0) -> "LowRank":
        """Return the best approximation of at most `rank`, or that keeps the share `energy` of the squared norm."""
        left, right = compress(self.left, self.right, rank=rank, energy=energy)
        return LowRank(self.site, left, right)

    def to(self, *args: Any) -> "LowRank":
        """Move or cast both factors, as `Tensor.to` does."""
        return replace(self, left=self.left.to(*args), right=self.right.to(*args))

    def _check_shape(self, other: "LowRank") -> None:
        """Two widths would otherwise be mistaken for one with and one without a bias column."""
        mine, theirs = (self.site.o, self.site.d), (other.site.o, other.site.d)
        if mine != theirs:
            raise ValueError(
                f"got matrices {mine} at {self.site.name} and {theirs} at {other.site.name}; expected one shape; both "
                "must come from networks of one layout"
            )


def _widen(right: Tensor, other: Tensor) -> Tensor:
    """Add a zero bias column where only the other factor has one."""
    missing = other.shape[1] - right.shape[1]
    return torch.nn.functional.pad(right, (0, missing)) if missing > 0 else right
