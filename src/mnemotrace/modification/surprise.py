r"""How surprising an observation is to a memory, and what one step of learning makes of both.

A memory is a mean `y` with a variance `P` a feature, an observation `o` has noise of variance `R`. With
:math:`e = o - y` and :math:`S = P + R`, over the observed features only,

.. math::
   d^2 = \sum_j e_j^2 / S_j \sim \chi^2_k, \qquad
   y \leftarrow y + g K e, \quad K = P / S, \qquad
   P \leftarrow (1 - g K)^2 P + (g K)^2 R .

`k` counts the observed features. The variance is that of the estimate at any gain `g` (Joseph's form); at `g = 1` it is
:math:`PR / (P + R)`. All is float64, elementwise: O(d).

Reference: Kalman 1960; Bucy and Joseph 1968.
"""

import math
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor


@lru_cache(maxsize=512)
def chi_square_quantile(share: float, features: int) -> float:
    """Return the value below which a share of a chi-square variable lies, by bisection to machine precision.

    Args:
        share: in [0, 1); 0 gives 0.
        features: degrees of freedom, from 1.

    Raises:
        ValueError: a share or a count out of range.
    """
    if not 0 <= share < 1 or features < 1:
        raise ValueError(f"got a share of {share} and {features} features; expected 0 <= share < 1 and at least 1")
    low, high = 0.0, float(features)
    while chi_square_share(high, features) < share:
        low, high = high, 2 * high
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if chi_square_share(middle, features) < share else (low, middle)
    return high


def chi_square_share(value: float, features: int) -> float:
    """Return the share of a chi-square variable that lies below a value: the inverse of the quantile."""
    half, at = torch.tensor([features / 2, value / 2], dtype=torch.float64)
    return float(torch.special.gammainc(half, at))


def squared_surprise(error: Float[Tensor, "*b d"], spread: Float[Tensor, "*b d"], mask: Tensor) -> Float[Tensor, " *b"]:
    """Return `d^2`: squared errors in units of what was to be expected, summed over observed features."""
    return torch.where(mask, error.square() / spread, 0.0).sum(-1)


def log_density(error: Float[Tensor, "*b d"], spread: Float[Tensor, "*b d"], mask: Tensor) -> Float[Tensor, " *b"]:
    """Return the log-density of errors under independent Gaussians of variance `spread`, over observed features."""
    volume = torch.where(mask, (2 * math.pi * spread).log(), 0.0).sum(-1)
    return -0.5 * (squared_surprise(error, spread, mask) + volume)


def step(
    mean: Float[Tensor, " d"],
    variance: Float[Tensor, " d"],
    observed: Float[Tensor, " d"],
    noise: Float[Tensor, " d"],
    *,
    gain: float = 1.0,
    mask: Tensor | None = None,
) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
    """Return mean and variance after a Kalman step, multiplied by a gain; features outside the mask stay as they are.

    Args:
        mean: of the memory.
        variance: of it, above 0.
        observed: what was seen.
        noise: variance of it, above 0.
        gain: 1 is the whole step; 0 is none.
        mask: True where a feature was observed; None is everywhere.
    """
    share = gain * variance / (variance + noise)
    moved = mean + share * (observed - mean)
    narrowed = (1 - share).square() * variance + share.square() * noise
    if mask is None:
        return moved, narrowed
    return torch.where(mask, moved, mean), torch.where(mask, narrowed, variance)
