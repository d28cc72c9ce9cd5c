r"""How well each stored pattern explains a state: the numbers that a retrieval takes the softmax of.

.. math:: s_n = \log w_n + \sum_j p_j \left(x_j y_{nj} - \tfrac12 y_{nj}^2\right)

with precisions :math:`p_j = 1 / \sigma_j^2` and weights :math:`w_n`. Up to what does not depend on `n`, :math:`s_n` is
the log-density at the state of a Gaussian around pattern `n`. Without the squares (`norms=False`) it is the published
attention form; the two rank patterns alike only when all have one norm.

Cost: O(b n d); one product, and a second one for the squares when each state has precisions of its own for each
feature.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def scores(
    x: Float[Tensor, "b d"],
    patterns: Float[Tensor, "n d"],
    precision: Float[Tensor, "#b #d"],
    *,
    log_weights: Float[Tensor, " n"] | None = None,
    norms: bool = True,
    squares: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, "b n"]:
    """Return how well each pattern explains each state, up to a constant of the state.

    Args:
        x: states.
        patterns: stored rows.
        precision: inverse squared noise, for all, a feature, a state, or each; 0 where nothing is known.
        log_weights: of the patterns; None counts all alike.
        norms: take off half of the patterns' squares; False is plain attention.
        squares: squared norms of the patterns, if they are at hand; they save a pass when the precision is the same
            for all features.

    Returns:
        Scores in the wider of the two types, at least float32: half precision is only ever stored.
    """
    kind = working_type(x, patterns)
    x, rows, precision = x.to(kind), patterns.to(kind), precision.to(kind)
    shift = None if log_weights is None else log_weights.to(kind)[None]
    if norms:
        half = 0.5 * _squares(rows, precision, squares)
        shift = -half if shift is None else shift - half
    return (x * precision) @ rows.T if shift is None else torch.addmm(shift, x * precision, rows.T)


def working_type(x: Tensor, patterns: Tensor) -> torch.dtype:
    """Return the type to calculate in: the wider of the two, at least float32."""
    return torch.promote_types(torch.promote_types(x.dtype, patterns.dtype), torch.float32)


def squared_norms(rows: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """Return the squared norms of rows, in float32 or float64; a half-precision copy is never wider than a part."""
    parts = [rows[i : i + _PART].to(working_type(rows, rows)).square().sum(1) for i in range(0, len(rows), _PART)]
    return torch.cat(parts)


def _squares(rows: Tensor, precision: Tensor, squares: Tensor | None) -> Tensor:
    if precision.shape[1] > 1:
        return precision @ rows.square().T
    if squares is None or squares.dtype != rows.dtype:
        squares = squared_norms(rows)
    return precision * squares


_PART = 1024
