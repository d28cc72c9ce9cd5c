r"""Whitening: units on one scale, correlated units as one, and only as many dimensions as vary.

:math:`z = S_r^{-1} V_r^T D^{-1} (x - \mu)`: units are divided by their standard deviations :math:`D`, of which silent
ones have none and are left out; then the first `r` principal components :math:`V_r` by theirs, :math:`S_r`. A distance
in `z` no longer depends on how many units say the same thing. It does depend on the rank, since every component that is
kept counts alike. Unless it is given, `r` is the number of components that hold more than any does once each unit's
values are permuted over examples, so that no two units go together (parallel analysis, Horn 1965).

Cost: O(n u min(n, u)), in float64. Memory: `u r` numbers.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.core.linalg import require_finite

_SILENT = 1e-6
_FEWEST = 2


@dataclass(frozen=True, eq=False)
class Whitening:
    """An affine map from units to components: `whitening(x)` is `(x - mean) @ map`.

    Attributes:
        mean: of each unit.
        map: `(u, r)`; rows of silent units are zero.
        variance: share of the standardised variance that the components hold.
    """

    mean: Float[Tensor, " u"]
    map: Float[Tensor, "u r"]
    variance: float

    @property
    def rank(self) -> int:
        """How many components there are."""
        return self.map.shape[1]

    def __call__(self, x: Float[Tensor, "n u"]) -> Float[Tensor, "n r"]:
        """Whiten rows, in float64.

        Raises:
            ValueError: another width.
            NonFiniteError: NaN or infinity.
        """
        if x.ndim != 2 or x.shape[1] != len(self.mean):  # noqa: PLR2004
            raise ValueError(
                f"got responses {tuple(x.shape)}; expected (n, {len(self.mean)}), the same units as when fitted"
            )
        require_finite(x, "responses")
        return (x.double() - self.mean) @ self.map


def whitening(x: Float[Tensor, "n u"], *, rank: int | None = None, generator: torch.Generator) -> Whitening:
    """Fit a whitening to responses.

    Args:
        x: of `n` examples, at least two of which differ.
        rank: components to keep; None for those that hold more than any does when units are permuted; at least one.
        generator: of the permutation.

    Raises:
        ValueError: no matrix, too few rows, units that are all constant, or a rank that is not there.
        NonFiniteError: NaN or infinity.
    """
    if x.ndim != 2 or len(x) < _FEWEST:  # noqa: PLR2004
        raise ValueError(f"got responses {tuple(x.shape)}; expected (n, units) of at least {_FEWEST} examples")
    require_finite(x, "responses")
    wide = x.double()
    mean, scale = wide.mean(0), wide.std(0)
    alive = scale > _SILENT * scale.max()
    if not bool(alive.any()):
        raise ValueError(
            f"got {x.shape[1]} units that are constant over {len(x)} examples; expected some that vary; choose another "
            "site, or examples that differ"
        )
    rows = (wide[:, alive] - mean[alive]) / scale[alive]
    _, values, right = torch.linalg.svd(rows, full_matrices=False)
    most = int((values > values[0] * 1e-10 * max(x.shape)).sum())
    share = values.square().cumsum(0) / values.square().sum()
    kept = _beyond_chance(rows, values, generator) if rank is None else rank
    if not 1 <= kept <= most:
        raise ValueError(f"got rank={rank}; expected 1 to {most}, in as many dimensions the responses vary")
    components = right[:kept].T * ((len(x) - 1) ** 0.5 / values[:kept])
    found = torch.zeros(x.shape[1], kept, dtype=torch.float64)
    found[alive] = components / scale[alive][:, None]
    return Whitening(mean, found, float(share[kept - 1]))


def _beyond_chance(rows: Tensor, values: Tensor, generator: torch.Generator) -> int:
    permuted = torch.stack([unit[torch.randperm(len(rows), generator=generator)] for unit in rows.T], 1)
    return max(int((values > torch.linalg.matrix_norm(permuted, 2)).sum()), 1)
