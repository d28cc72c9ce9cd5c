r"""Learning rules of Hopfield networks: from patterns in {-1, 1} to couplings, symmetric, with zero diagonal.

* Hebb: :math:`W = \frac1d \sum_n w_n y_n y_n^T`. Local and a sum. All of `n` random patterns are at rest, as `d` grows,
  up to `n = d / (4 ln d)`, with the natural logarithm; with a small share of wrong bits up to about `0.138 d`.
* Storkey: :math:`\Delta W_{ij} = \frac1d (y_i y_j - y_i h_{ji} - h_{ij} y_j)` with the field
  :math:`h_{ij} = \sum_{k \ne i, j} W_{ik} y_k` of what was stored before. Local and incremental, so the order counts.
* Pseudo-inverse, or projection: :math:`W = Y^+ Y`. Neither local nor incremental. Every stored pattern is at rest as
  long as the patterns span less than the whole space, however alike they are; basins shrink to nothing towards `n = d`.

All are scaled alike: the field of a pattern that is stored alone is that pattern, but for the diagonal. Sums are
float64 and cast back once.

The rules stand beside the network and not among the acts of formation because its couplings are a function of its
patterns, evaluated again whenever one is added, removed or loaded.

Reference: Hopfield 1982; Storkey 1997; Personnaz, Guyon and Dreyfus 1986; McEliece et al. 1987 (capacity).
Cost: O(n d^2).
"""

import warnings

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.core.errors import NumericalWarning
from mnemotrace.core.linalg import spectrum_of_rows
from mnemotrace.memories.binary import require_binary

RCOND = 1e-12


def hebb(patterns: Float[Tensor, "n d"], *, weights: Float[Tensor, " n"] | None = None) -> Float[Tensor, "d d"]:
    """Sum the outer products of patterns.

    Args:
        patterns: entries -1 and 1.
        weights: how often each counts; None counts each once.

    Raises:
        ValueError: entries that are not -1 or 1.
    """
    rows = require_binary(patterns).double()
    weighted = rows if weights is None else rows * weights.double()[:, None]
    return _settled(weighted.T @ rows / rows.shape[1], patterns)


def storkey(patterns: Float[Tensor, "n d"]) -> Float[Tensor, "d d"]:
    """Store patterns one after another, each corrected by the field of those before it.

    Args:
        patterns: entries -1 and 1, in the order in which they were met.

    Raises:
        ValueError: entries that are not -1 or 1.
    """
    rows = require_binary(patterns).double()
    d = rows.shape[1]
    couplings = rows.new_zeros(d, d)
    for y in rows:
        fields = (couplings @ y)[:, None] - couplings * y
        cross = fields * y
        couplings = couplings + (torch.outer(y, y) - cross - cross.T) / d
        couplings.fill_diagonal_(0)
    return _settled(couplings, patterns)


def pseudo_inverse(patterns: Float[Tensor, "n d"], *, rcond: float = RCOND) -> tuple[Float[Tensor, "d d"], int]:
    """Project on the span of patterns.

    Args:
        patterns: entries -1 and 1.
        rcond: directions whose squared singular value is at most this share of the largest are left out; the default
            only leaves out what linear dependence has made zero.

    Returns:
        The couplings, and the rank that was kept.

    Raises:
        ValueError: entries that are not -1 or 1.

    Warns:
        NumericalWarning: the patterns span the whole space; the projection is then the identity and stores nothing.
    """
    rows = require_binary(patterns)
    found = spectrum_of_rows(rows)
    rank, d = found.rank(rcond), rows.shape[1]
    if rank == d:
        warnings.warn(
            f"{len(rows)} patterns span all {d} dimensions, so their projection is the identity and the couplings are "
            "0; the pseudo-inverse needs patterns of rank below d",
            NumericalWarning,
            stacklevel=2,
        )
    kept = found.vectors[:, :rank]
    couplings = kept @ kept.T if rank < d else rows.new_zeros(d, d)
    return _settled(couplings, patterns), rank


def _settled(couplings: Tensor, like: Tensor) -> Tensor:
    """Take off what rounding left unequal, and the diagonal, and go back to the dtype of the patterns, or float32."""
    couplings = (couplings + couplings.T) / 2
    return couplings.fill_diagonal_(0).to(like.device, torch.promote_types(like.dtype, torch.float32))
