r"""The inverse temperature at which a memory tells its patterns apart: the rule behind `beta="auto"`.

A modern Hopfield network that is too warm answers with a mixture of patterns, at worst with their mean; too cold does
no harm to what is recalled, but the energy then has no slope that leads from one pattern to another. So take the
smallest :math:`\beta` at which a cue half-way between a pattern and the mean of all *others* is still answered by that
pattern:

.. math::
   c_n = \tfrac12 (y_n + \bar y_{-n}), \qquad
   \beta_n = \min\{\beta : p_\beta(n | c_n) \ge 1 - \epsilon\}, \qquad
   \beta = \mathrm{quantile}_{0.95}(\beta_n)

with :math:`p_\beta` the softmax of the scores. The margin :math:`\log p(n | c_n) - \log p(\text{others} | c_n)` is
concave in :math:`\beta` and rises wherever `n` is the best answer at all, so Newton's steps reach :math:`\beta_n` from
below. Patterns that are not the best answer to their own cue, such as duplicates, are never told apart and do not
count; nor do the closest twentieth, which would make the memory cold for all.

The cue lies as far from the pattern as one of which half the features are missing: at `d = 64`, patterns of signs and
n = 8192 this gives 0.49, and recall from half-erased cues is that of the nearest pattern, where 0.25 gives none.

Cost: up to 256 patterns are asked, fewer in large stores (about 4 million scores, at least 16 patterns), evenly spaced
in the order of rows; `O(k n d)` once in float64, and `O(k n)` memory.
"""

import math
import warnings

import torch
from torch import Tensor

from mnemotrace.core.errors import NumericalWarning
from mnemotrace.memories.lookup import lookup
from mnemotrace.memories.patterns import Patterns
from mnemotrace.memories.scores import scores

_SCORES = 4 << 20
_PART = 4096
_STEPS = 60
_LEAST = 1e-30


def separating_beta(patterns: Patterns, *, norms: bool = True, tolerance: float = 0.01, share: float = 0.95) -> float:
    """Return the smallest inverse temperature at which patterns are told apart.

    Args:
        patterns: the store.
        norms: as in `lookup`.
        tolerance: share of the posterior, in (0, 0.5), that all other patterns may hold together.
        share: of the patterns that can be told apart at all, in (0, 1], how many must be.

    Returns:
        A positive number; 1 for a single pattern, where any would do.

    Raises:
        ValueError: a tolerance or share out of range.

    Warns:
        NumericalWarning: no pattern is the best answer to its own cue; 1 is returned.
    """
    if not 0 < tolerance < 0.5 or not 0 < share <= 1:  # noqa: PLR2004
        raise ValueError(f"got tolerance={tolerance}, share={share}; expected (0, 0.5) and (0, 1]")
    if len(patterns) == 1:
        return 1.0
    gaps, log_weights, own = _gaps(patterns, norms)
    farthest = -gaps.masked_fill(gaps.isinf(), 0).amin(1)
    apart = gaps.amax(1) < -1e-9 * farthest
    if not bool(apart.any()):
        warnings.warn(
            f"none of {len(gaps)} patterns that were tried is the best answer half-way between it and the mean of the "
            "others (duplicates, or norms that differ with norms=False); beta is 1 and says nothing; give one",
            NumericalWarning,
            stacklevel=3,
        )
        return 1.0
    needed = math.log((1 - tolerance) / tolerance) - log_weights[own[apart]]
    found = _smallest(gaps[apart], log_weights, needed)
    return float(torch.quantile(found, share))


def _gaps(patterns: Patterns, norms: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return how far each pattern scores above a cue's own at beta = 1, `(k, n)`, log-weights, and the cues' rows."""
    n = len(patterns)
    k = min(n, max(16, min(256, _SCORES // n)))
    own = torch.linspace(0, n - 1, k, dtype=torch.float64).round().long().to(patterns.values.device)
    weights = patterns.weights.double()
    nothing = torch.zeros(1, 1, dtype=torch.float64, device=weights.device)
    mean = lookup(
        nothing.expand(1, patterns.d), patterns.values, nothing, log_weights=weights.log(), path="stream"
    ).mean
    values, mine = patterns.values[own].double(), weights[own, None] / weights.sum()
    cues = 0.5 * (values + (mean - mine * values) / (1 - mine))
    one = torch.ones_like(nothing)
    parts = [scores(cues, part, one, norms=norms) for part in patterns.values.split(_PART)]
    found = torch.cat(parts, 1)
    at = torch.arange(k, device=own.device)
    found -= found[at, own][:, None].clone()
    found[at, own] = -math.inf
    return found, weights.log(), own


def _smallest(gaps: Tensor, log_weights: Tensor, needed: Tensor) -> Tensor:
    """Solve `-logsumexp(beta * gaps + log_weights) = needed` for each row by Newton's method."""
    beta = torch.full_like(needed, _LEAST)
    for _ in range(_STEPS):
        heat = beta[:, None] * gaps + log_weights
        margin = -torch.logsumexp(heat, 1)
        slope = -(torch.softmax(heat, 1) * gaps.clamp_min(torch.finfo(gaps.dtype).min)).sum(1)
        step = (needed - margin) / slope
        beta = (beta + step).clamp_min(_LEAST)
        if bool((step.abs() <= 1e-9 * beta).all()):
            break
    return beta
