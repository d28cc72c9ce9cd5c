r"""Softmax retrieval: the mean of stored patterns, weighed by how well each explains a state.

.. math::
   s_n = \log w_n + \sum_j p_j \left(x_j y_{nj} - \tfrac12 y_{nj}^2\right), \qquad
   \hat y = \sum_n \mathrm{softmax}(s)_n \, y_n ,

with precisions :math:`p_j = 1 / \sigma_j^2`. Up to what does not depend on `n`, :math:`s_n` is the log-density of the
state around pattern `n`, so the softmax is the posterior over patterns and :math:`\hat y` the posterior mean: one step
of a modern Hopfield network at :math:`\beta = p`, and the exact denoiser of an empirical distribution. Without the
squares (`norms=False`) it is the published attention form, which is the same when all patterns have one norm.

Cost: O(b n d) time, O(b n) memory.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Found:
    """What a retrieval gave.

    Attributes:
        mean: `(b, d)` weighted mean of the patterns.
        log_total: `(b,)` logarithm of the sum of exponentiated scores.
        bound: `(b,)` upper bound of the distance between `mean` and the exact one; None where it is exact.
    """

    mean: Float[Tensor, "b d"]
    log_total: Float[Tensor, " b"]
    bound: Float[Tensor, " b"] | None = None


def scores(
    x: Float[Tensor, "b d"],
    patterns: Float[Tensor, "n d"],
    precision: Float[Tensor, "#b #d"],
    *,
    log_weights: Float[Tensor, " n"] | None = None,
    norms: bool = True,
) -> Float[Tensor, "b n"]:
    """Return how well each pattern explains each state, up to a constant of the state.

    Args:
        x: states.
        patterns: stored rows.
        precision: inverse squared noise, for all, a feature, a state, or each.
        log_weights: of the patterns; None counts all alike.
        norms: take off half of the patterns' squares; False is plain attention.
    """
    found = (x * precision) @ patterns.T
    if norms:
        squares = patterns.square()
        wide = precision.shape[1] > 1
        found = found - 0.5 * (precision @ squares.T if wide else precision * squares.sum(1))
    return found if log_weights is None else found + log_weights


def lookup(
    x: Float[Tensor, "b d"],
    patterns: Float[Tensor, "n d"],
    precision: Float[Tensor, "#b #d"],
    *,
    log_weights: Float[Tensor, " n"] | None = None,
    norms: bool = True,
) -> Found:
    """Retrieve; see `scores` for the arguments."""
    found = scores(x, patterns, precision, log_weights=log_weights, norms=norms)
    return Found(torch.softmax(found, 1) @ patterns, torch.logsumexp(found, 1))
