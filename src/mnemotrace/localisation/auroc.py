r"""AUROC of all units for all concepts at once: how often a stimulus of the concept excites a unit more than another.

With :math:`r_i` the rank of stimulus i among n for one unit, ranks averaged over ties, and :math:`n_1` stimuli of the
concept among :math:`n_0` others,

.. math:: \mathrm{AUROC} = \frac{\sum_{i \in c} r_i - n_1 (n_1 + 1) / 2}{n_1 n_0}
          = \frac 1 2 + \frac{\sum_{i \in c} (2 r_i - n - 1)}{2 n_1 n_0} ,

the probability that a stimulus of the concept is above another one, a tie counting one half. The second form has
integers in its sum, of at most `n_1 n_0` together, so float32 sums them exactly up to 2^24; beyond, float64 is used.
All concepts, and any number of shuffled labels, are one matrix product with the same ranks.

Reference: Mann and Whitney 1947; Hanley and McNeil 1982. Cost: a sort a unit, `u n log n`, and `u n k`
multiplications. Memory: `u n` ranks where they are kept; `auroc` itself takes units in strips of about 16 million.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mnemotrace.core.linalg import require_finite

_STRIP = 1 << 22


def auroc(values: Float[Tensor, "n u"], labels: Bool[Tensor, "n k"] | Bool[Tensor, " n"]) -> Float[Tensor, "u k"]:
    """Compute AUROC of each unit for each concept.

    Args:
        values: response of each unit to each stimulus; any floating-point type.
        labels: which stimuli are of the concept; `(n,)` is one concept.

    Returns:
        `(u, k)` in float64, between 0 and 1; 0.5 says nothing.

    Raises:
        TypeError: labels that are not boolean, values that are no floating-point numbers.
        ValueError: other sizes, or a concept with no stimulus, or with all.
        NonFiniteError: NaN or infinity in the values.
    """
    if labels.ndim == 1:
        labels = labels[:, None]
    _check(values, labels)
    width = max(1, _STRIP // len(values))
    return torch.cat([_of_ranks(ranks(strip), labels) for strip in values.split(width, dim=1)])


def ranks(values: Float[Tensor, "n u"]) -> Float[Tensor, "u n"]:
    """Rank stimuli for each unit: twice the rank less n + 1, an integer in float32, averaged over ties."""
    ordered, order = values.T.contiguous().sort(dim=1)
    n = ordered.shape[1]
    place = torch.arange(n, dtype=torch.int32, device=values.device)
    begins = torch.ones_like(ordered, dtype=torch.bool)
    begins[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    ends = torch.ones_like(begins)
    ends[:, :-1] = begins[:, 1:]
    first = torch.where(begins, place, 0).cummax(1).values
    last = torch.where(ends, place, n).flip(1).cummin(1).values.flip(1)
    doubled = (first + last + (1 - n)).float()
    return torch.empty_like(doubled).scatter_(1, order, doubled)


def of_ranks(ranked: Float[Tensor, "u n"], labels: Bool[Tensor, "n k"]) -> Float[Tensor, "u k"]:
    """Compute AUROC from `ranks`, for many labels of the same stimuli.

    Raises:
        TypeError: labels that are not boolean.
        ValueError: other sizes, or a concept with no stimulus, or with all.
    """
    _check(ranked.T, labels)
    return _of_ranks(ranked, labels)


def _of_ranks(ranked: Tensor, labels: Tensor) -> Tensor:
    ones = labels.sum(0, dtype=torch.float64)
    pairs = ones * (len(labels) - ones)
    exact = torch.float32 if float(pairs.max()) < 2**24 else torch.float64
    return 0.5 + (ranked.to(exact) @ labels.to(exact)).double() / (2 * pairs)


def _check(values: Tensor, labels: Tensor) -> None:
    if labels.dtype != torch.bool or not values.is_floating_point():
        raise TypeError(
            f"got values of {values.dtype} and labels of {labels.dtype}; expected floating-point values and boolean "
            "labels; compare integer labels with a concept first, labels == concept"
        )
    if values.ndim != 2 or labels.ndim != 2 or len(values) != len(labels) or not values.shape[1]:  # noqa: PLR2004
        raise ValueError(
            f"got values {tuple(values.shape)} and labels {tuple(labels.shape)}; expected (n, u) and (n, k) or (n,), "
            "at least one unit"
        )
    count = labels.sum(0)
    bad = ((count == 0) | (count == len(labels))).nonzero()
    if len(bad):
        concept = int(bad[0, 0])
        raise ValueError(
            f"got concept {concept} with {int(count[concept])} of {len(labels)} stimuli; expected at least one that is "
            "of it and one that is not; leave it out"
        )
    require_finite(values, "values")
