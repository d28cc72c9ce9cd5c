"""Controls that could have shown no effect: random traces of equal rank, norm and spectrum; bootstrap intervals."""

from collections.abc import Callable

import torch
from torch import Tensor

from mnemotrace.core.linalg import singular_factors
from mnemotrace.core.lowrank import LowRank
from mnemotrace.core.trace import Engram

Statistic = Callable[..., Tensor]
CONFIDENCE = 0.95


def random_trace(engram: Engram, generator: torch.Generator) -> Engram:
    """Draw a trace with the singular values of `engram` at every site and directions at random.

    Rank, norm and spectrum are equal, so whatever the engram does beyond this is due to its directions.

    Args:
        engram: what to match.
        generator: source of randomness.
    """
    return Engram({name: _rotated(trace, generator) for name, trace in engram.items()}, manifest={"method": "random"})


def _rotated(trace: LowRank, generator: torch.Generator) -> LowRank:
    _, values, _ = singular_factors(trace.left, trace.right)
    left = _frame(trace.left.shape[0], len(values), generator)
    right = _frame(trace.right.shape[1], len(values), generator)
    root = values.sqrt().cpu()
    return LowRank(trace.site, (left * root).to(trace.left), (root[:, None] * right.T).to(trace.right))


def _frame(size: int, columns: int, generator: torch.Generator) -> Tensor:
    """Draw orthonormal columns, uniformly over frames."""
    draw = torch.randn(size, columns, generator=generator, dtype=torch.float64, device=generator.device)
    q, r = torch.linalg.qr(draw)
    return (q * r.diagonal().sign()).cpu()


def bootstrap(
    statistic: Statistic, *groups: Tensor, resamples: int = 1000, generator: torch.Generator
) -> tuple[float, tuple[float, float]]:
    """Estimate a statistic and its 95 % percentile interval by resampling examples.

    Args:
        statistic: takes one `(..., k)` tensor of mean scores a group, of `k` conditions, and returns `(...)`. Resamples
            for which that is NaN are left out of the interval.
        groups: `(n, k)` scores: an example a row, a condition a column, so that conditions stay paired.
        resamples: draws.
        generator: source of randomness.

    Returns:
        The value on the data, and the interval.
    """
    value = float(statistic(*(group.double().mean(0) for group in groups)))
    draws: list[Tensor] = []
    for group in groups:
        index = torch.randint(len(group), (resamples, len(group)), generator=generator)
        draws.append(group.double()[index].mean(1))
    tail = (1 - CONFIDENCE) / 2
    spread = statistic(*draws).nanquantile(torch.tensor([tail, 1 - tail], dtype=torch.float64))
    return value, (float(spread[0]), float(spread[1]))
