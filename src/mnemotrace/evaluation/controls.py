"""Controls that could have shown no effect: random edits of equal size and form; bootstrap intervals.

What is equal depends on the form of a change, and is never less than its norm:

* low-rank at a site: rank and singular values, directions uniform over frames;
* sparse: the same magnitudes with random signs, at as many other places of the same parameter;
* dense, a matrix: its singular values, directions uniform; beyond `WIDEST` only the norm, with Gaussian entries;
* dense, a vector (biases, norms): the same magnitudes with random signs, in another order.

Cost: a QR of the factors, of a dense matrix `(o, d)` one decomposition, O(o d min(o, d)).
"""

# torch.linalg has no types of its own
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from mnemotrace.core.edit import Change, Edit, Sparse
from mnemotrace.core.linalg import random_frame, singular_factors
from mnemotrace.core.lowrank import LowRank
from mnemotrace.core.trace import Engram

Statistic = Callable[..., Tensor]
CONFIDENCE = 0.95
WIDEST = 4096


def random_trace(engram: Engram, generator: torch.Generator) -> Engram:
    """Draw a trace with the singular values of `engram` at every site and directions at random.

    Rank, norm and spectrum are equal, so whatever the engram does beyond this is due to its directions.

    Args:
        engram: what to match.
        generator: source of randomness.
    """
    return Engram({name: _rotated(trace, generator) for name, trace in engram.items()}, manifest={"method": "random"})


def random_edit(edit: Edit, generator: torch.Generator) -> Edit:
    """Draw an edit of the same size and form in every parameter, with directions, places and signs at random.

    Args:
        edit: what to match.
        generator: source of randomness.
    """
    base = {"base": edit.manifest["base"]} if "base" in edit.manifest else {}
    return Edit(tuple(_random(change, generator) for change in edit.changes), {"method": "random", **base})


def _random(change: Change, generator: torch.Generator) -> Change:
    if isinstance(change, LowRank):
        return _rotated(change, generator)
    if isinstance(change, Sparse):
        return _scattered(change, generator)
    if change.values.ndim > 1:
        return replace(change, values=_turned(change.values, generator))
    order = torch.randperm(change.values.numel(), generator=generator).to(change.values.device)
    values = change.values.flatten()[order].view(change.values.shape)
    return replace(change, values=values * _signs(values, generator))


def _scattered(change: Sparse, generator: torch.Generator) -> Sparse:
    """Put the values elsewhere; where less than half of the parameter is left, anywhere."""
    count, free = len(change.indices), torch.ones(math.prod(change.shape), dtype=torch.bool)
    free[change.indices.cpu()] = False
    places = free.nonzero()[:, 0] if int(free.sum()) >= count else torch.arange(len(free))
    chosen = places[torch.randperm(len(places), generator=generator)[:count]].to(change.indices)
    return replace(change, indices=chosen, values=change.values * _signs(change.values, generator))


def _turned(values: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a matrix of the same singular values; of the same norm only, where that is too wide to decompose."""
    matrix = values.flatten(1).double()
    if min(matrix.shape) > WIDEST:
        draw = torch.randn(matrix.shape, generator=generator)
        return (draw * (float(matrix.norm()) / float(draw.norm()))).to(values).view(values.shape)
    spectrum = torch.linalg.svdvals(matrix).cpu()
    left, right = (random_frame(size, len(spectrum), generator=generator) for size in matrix.shape)
    return ((left * spectrum) @ right.T).to(values).view(values.shape)


def _signs(like: Tensor, generator: torch.Generator) -> Tensor:
    return (2 * torch.randint(2, like.shape, generator=generator) - 1).to(like)


def _rotated(trace: LowRank, generator: torch.Generator) -> LowRank:
    _, values, _ = singular_factors(trace.left, trace.right)
    left = random_frame(trace.left.shape[0], len(values), generator=generator)
    right = random_frame(trace.right.shape[1], len(values), generator=generator)
    root = values.sqrt().cpu()
    return LowRank(trace.site, (left * root).to(trace.left), (root[:, None] * right.T).to(trace.right))


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
