r"""Softmax retrieval in bounded memory: patterns are read once, part by part, and nothing of size `(b, n)` exists.

With the largest score so far :math:`m`, each part of the patterns updates

.. math:: m' = \max(m, \max_n s_n), \quad z' = e^{m - m'} z + \sum_n e^{s_n - m'}, \quad
   a' = e^{m - m'} a + \sum_n e^{s_n - m'} y_n ,

and at the end the mean is :math:`a / z` and the logarithm of the total :math:`m + \log z`: the same sums as at once,
scaled so that they never overflow. A part whose best score lies more than :math:`\log(n / \epsilon)` below the best so
far is passed over for that state: all that is passed over together weighs less than the rounding :math:`\epsilon` of
the type. So a state that is close to few patterns costs one product instead of two.

A part is as many rows as stay in a core's cache, so each row is read from memory once for both products; patterns may
be a memory-mapped file larger than the memory. Half-precision rows are widened part by part.

Reference: Milakov and Gimelshein 2018, Online normalizer calculation for softmax; Rabe and Staats 2021,
Self-attention does not need O(n^2) memory. Cost: O(b n d) time; beyond the result, `memory` bytes at most.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.memories.scores import scores, working_type

_CACHE = 2 << 20
_STATES = 1024


def stream(
    x: Float[Tensor, "b d"],
    patterns: Float[Tensor, "n d"],
    precision: Float[Tensor, "#b #d"],
    *,
    log_weights: Float[Tensor, " n"] | None = None,
    norms: bool = True,
    squares: Float[Tensor, " n"] | None = None,
    memory: int,
) -> tuple[Float[Tensor, "b d"], Float[Tensor, " b"]]:
    """Return the mean of the patterns and the logarithm of the total; see `scores` for the arguments.

    Args:
        x: states.
        patterns: stored rows, only read.
        precision: inverse squared noise.
        log_weights: of the patterns.
        norms: take off half of the patterns' squares.
        squares: squared norms of the patterns, if they are at hand.
        memory: bytes that may be used beside the arguments and the result; a single state and row are always taken.

    Raises:
        ValueError: gradients are asked for; they would keep all that is not kept here.
    """
    if needs_gradient(x, patterns, precision, log_weights):
        raise ValueError(
            "got states, patterns or precisions that need gradients on path 'stream'; expected none, as they keep "
            "all scores; take path='dense', or torch.no_grad()"
        )
    kind = working_type(x, patterns)
    mean = torch.empty(x.shape, dtype=kind, device=x.device)
    log_total = torch.empty(len(x), dtype=kind, device=x.device)
    states, rows = plan(len(x), patterns, kind, memory)
    for i in range(0, len(x), states):
        part = slice(i, i + states)
        given = precision if len(precision) == 1 else precision[part]
        shared = {"log_weights": log_weights, "squares": squares}
        mean[part], log_total[part] = _pass(
            x[part].to(kind), patterns, given.to(kind), shared=shared, norms=norms, rows=rows
        )
    return mean, log_total


def needs_gradient(*tensors: Tensor | None) -> bool:
    """Whether autograd would record a calculation on these."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def plan(b: int, patterns: Tensor, kind: torch.dtype, memory: int) -> tuple[int, int]:
    """Return how many states and how many rows are worked on at once.

    States take four times their size (scaled, summed, gathered), of which half of `memory` is the most; a row takes two
    numbers a state (score and exponential) and is itself copied at most three times (widened, squared).
    """
    item, d = kind.itemsize, patterns.shape[1]
    states = max(1, min(b, _STATES, memory // (8 * item * d)))
    rows = (memory // item - 4 * states * d) // (2 * states + 3 * d)
    return states, max(1, min(rows, _CACHE // (item * d), len(patterns)))


def negligible(kind: torch.dtype, n: int) -> float:
    """Return how far below the best a score lies when all `n` such together weigh less than the rounding."""
    return math.log(torch.finfo(kind).eps) - math.log(n)


@dataclass(frozen=True)
class _Sums:
    """Largest score so far, total and mean in its units: `(b,)`, `(b,)`, `(b, d)`."""

    best: Tensor
    total: Tensor
    mean: Tensor

    def live(self, rows: Tensor) -> "_Sums":
        return _Sums(self.best[rows], self.total[rows], self.mean[rows])

    def added(self, found: Tensor, top: Tensor, values: Tensor) -> "_Sums":
        """Take a part in, whose best scores are `top`; `found` is overwritten."""
        best = torch.maximum(self.best, top)
        weights = found.sub_(best[:, None]).exp_()
        shrink = (self.best - best).exp_()
        mean = torch.addmm(self.mean * shrink[:, None], weights, values)
        return _Sums(best, self.total * shrink + weights.sum(1), mean)

    def put(self, rows: Tensor, part: "_Sums") -> None:
        self.best[rows], self.total[rows], self.mean[rows] = part.best, part.total, part.mean


def _pass(
    x: Tensor, patterns: Tensor, precision: Tensor, *, shared: dict[str, Tensor | None], norms: bool, rows: int
) -> tuple[Tensor, Tensor]:
    """Go through the patterns once."""
    best = torch.full((len(x),), -math.inf, dtype=x.dtype, device=x.device)
    sums = _Sums(best, torch.zeros_like(best), torch.zeros_like(x))
    cut = negligible(x.dtype, len(patterns))
    for i in range(0, len(patterns), rows):
        values = patterns[i : i + rows].to(x.dtype)
        sliced = {name: None if t is None else t[i : i + rows] for name, t in shared.items()}
        found = scores(x, values, precision, norms=norms, **sliced)
        top = found.amax(1)
        live = (top >= sums.best + cut).nonzero()[:, 0]
        if len(live) == len(x):
            sums = sums.added(found, top, values)
        elif len(live) > 0:
            sums.put(live, sums.live(live).added(found[live], top[live], values))
    return sums.mean.div_(sums.total[:, None]), sums.best + sums.total.log()
