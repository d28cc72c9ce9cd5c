r"""Least squares with a memory: write new values at new keys while what is known stays, through one factorisation.

With the mean second moment :math:`C = \frac1N \sum_i x_i x_i^T + \epsilon \frac{tr}{d} I` of a map's inputs, keys
:math:`K` `(d, n)`, wanted changes :math:`R` `(o, n)` of the outputs there and a weight :math:`\lambda`,

.. math:: \Delta = R K^T (\lambda C + K K^T)^{-1} = R\,(\lambda I + K^T C^{-1} K)^{-1} (C^{-1} K)^T

minimises :math:`\|\Delta K - R\|^2 + \lambda\,E\|\Delta x\|^2`. The right-hand form needs the Cholesky factor of
:math:`C` once and systems of size `n` afterwards, and gives the factors of a rank-`n` edit directly. From `n = d` on it
costs more than the left-hand one, which is then used.

Everything is float64. The ridge :math:`\epsilon` is relative to the mean eigenvalue; it bounds the condition number by
about :math:`d / \epsilon`, and directions that hardly any input uses cannot take an edit over.

Reference: Meng et al. 2023, Mass-editing memory in a transformer, equation 14; Woodbury's identity. Cost: `d^3 / 3`
once a `Moments` (kept as long as that lives), then `2 n d^2 + n^2 d`. Memory: `d^2` float64 numbers.
"""

# torch.linalg has no types of its own
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from collections.abc import MutableMapping
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.core.linalg import require_finite
from mnemotrace.stats.moments import RIDGE, Moments

_STEPS = 10
_KNOWN: "MutableMapping[Moments, dict[float, Solver]]" = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Solver:
    """A mean second moment, factored.

    Attributes:
        lower: `(d, d)` Cholesky factor of `C`, float64.
        ridge: what was added to the diagonal, in units of the mean eigenvalue.
        condition: estimate of the condition number of `C` by power iteration, from below.
    """

    lower: Float[Tensor, "d d"]
    ridge: float
    condition: float

    @classmethod
    def of(cls, moments: Moments, *, ridge: float = RIDGE) -> "Solver":
        """Factor the mean second moment; the same moments and ridge are factored once.

        Args:
            moments: of the inputs of the map to be edited.
            ridge: at least 0, in units of the mean eigenvalue `trace(C) / d`.

        Raises:
            ValueError: a ridge out of range, or a moment that has no inverse with it.
            NonFiniteError: NaN or infinity in the moment.
        """
        known = _KNOWN.setdefault(moments, {})
        if ridge not in known:
            known[ridge] = _factored(moments, ridge)
        return known[ridge]

    @property
    def d(self) -> int:
        """Width of the keys."""
        return len(self.lower)

    def apply(self, keys: Float[Tensor, "d n"]) -> Float[Tensor, "d n"]:
        """Return `C^-1 keys`, float64.

        Raises:
            ValueError: keys of another shape.
            NonFiniteError: NaN or infinity among them.
        """
        return torch.cholesky_solve(self._checked(keys), self.lower)

    def update(
        self, residual: Float[Tensor, "o n"], keys: Float[Tensor, "d n"], *, weight: float
    ) -> tuple[Float[Tensor, "o r"], Float[Tensor, "r d"]]:
        """Solve for the change that gives `residual` at `keys`.

        Args:
            residual: wanted change of the map's output at each key.
            keys: inputs of the map.
            weight: above 0: how many inputs of the usual kind one new key stands against.

        Returns:
            Factors whose product is the change, float64; `r = n` for `n < d`, else `o`.

        Raises:
            ValueError: shapes that do not fit, or a weight that is not positive.
            NonFiniteError: NaN or infinity.
        """
        keys = self._checked(keys)
        if residual.ndim != 2 or residual.shape[1] != keys.shape[1]:
            raise ValueError(
                f"got a residual of shape {tuple(residual.shape)} for {keys.shape[1]} keys; expected (o, "
                f"{keys.shape[1]}); give one column a key"
            )
        if not 0 < weight < float("inf"):
            raise ValueError(f"got weight={weight}; expected a positive number; 1 counts a key as one usual input")
        require_finite(residual, "the residual")
        residual = residual.to(keys)
        if keys.shape[1] >= self.d:
            total = weight * (self.lower @ self.lower.T) + keys @ keys.T
            solved = torch.linalg.solve(total, keys @ residual.T)
            return torch.eye(len(residual), dtype=solved.dtype, device=solved.device), solved.T
        right = torch.cholesky_solve(keys, self.lower)
        inner = keys.T @ right
        inner = (inner + inner.T) / 2
        inner.diagonal().add_(weight)
        return torch.cholesky_solve(residual.T, torch.linalg.cholesky(inner)).T, right.T

    def _checked(self, keys: Tensor) -> Tensor:
        if keys.ndim != 2 or len(keys) != self.d or keys.shape[1] == 0:
            raise ValueError(
                f"got keys of shape {tuple(keys.shape)}; expected ({self.d}, n), one column a fact; transpose them, or "
                "take the statistics of the edited site"
            )
        require_finite(keys, "the keys")
        return keys.to(self.lower)


def _factored(moments: Moments, ridge: float) -> Solver:
    mean = moments.mean(ridge=ridge)
    lower, failed = torch.linalg.cholesky_ex(mean)
    if int(failed) or not bool(lower.diagonal().min() > 0):
        raise ValueError(
            f"got a second moment of {moments.n:g} rows, {moments.d} wide, that has no inverse with ridge={ridge}; "
            f"expected a larger ridge, such as {RIDGE}, or at least {moments.d} different rows"
        )
    return Solver(lower, ridge, _condition(lower))


def _condition(lower: Tensor) -> float:
    """Estimate the largest eigenvalue of `C` over the smallest, by power iteration with `C` and with its inverse."""
    start = torch.ones(len(lower), 1, dtype=lower.dtype, device=lower.device)
    largest, smallest = start, start.clone()
    for _ in range(_STEPS):
        largest = lower @ (lower.T @ (largest / largest.norm()))
        smallest = torch.cholesky_solve(smallest / smallest.norm(), lower)
    return float(largest.norm() * smallest.norm())
