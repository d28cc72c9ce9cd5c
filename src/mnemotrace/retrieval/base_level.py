r"""Base-level activation: what was used often and lately is near at hand.

.. math:: B = \ln \sum_k (t - t_k)^{-d}

over all uses (Anderson and Schooler 1991). With many uses the newest `k` are summed and the other `n - k` taken as
spread evenly between the first and the oldest of those (Petrov 2006):

.. math:: \frac{(n - k)\,(T_n^{1-d} - T_k^{1-d})}{(1 - d)(T_n - T_k)},

with ages :math:`T`. Cost: O(n k).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

NEWEST = 10
_SOONEST = 1e-3  # an age of nothing would be infinitely active


def base_level(
    times: Sequence[Sequence[float]], now: float, *, decay: float = 0.5, newest: int | None = NEWEST
) -> Float[Tensor, " n"]:
    """Return the base-level activation of each node; minus infinity where it was never used.

    Args:
        times: of use, of each node.
        now: the present; uses that lie ahead of it do not count.
        decay: power of forgetting, above 0 and other than 1.
        newest: how many uses are summed exactly; None sums all.

    Raises:
        ValueError: settings out of range.
    """
    if not math.isfinite(now) or decay <= 0 or decay == 1 or (newest is not None and newest < 1):
        raise ValueError(
            f"got now={now}, decay={decay}, newest={newest}; expected a finite time, a decay above 0 and other than 1, "
            "and at least one use"
        )
    return torch.tensor([_one(stamps, now, decay, newest) for stamps in times], dtype=torch.float64)


def _one(stamps: Sequence[float], now: float, decay: float, newest: int | None) -> float:
    ages = sorted(max(now - t, _SOONEST) for t in stamps if t <= now)
    if not ages:
        return -math.inf
    k = len(ages) if newest is None else min(newest, len(ages))
    total = sum(age**-decay for age in ages[:k])
    first, last = ages[k - 1], ages[-1]
    if len(ages) > k:
        rest = (len(ages) - k) * last**-decay
        if last > first:
            rest = (len(ages) - k) * (last ** (1 - decay) - first ** (1 - decay)) / ((1 - decay) * (last - first))
        total += rest
    return math.log(total)
