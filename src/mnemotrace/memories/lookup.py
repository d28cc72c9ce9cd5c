r"""Softmax retrieval: the mean of stored patterns, weighed by how well each explains a state.

.. math:: \hat y = \sum_n \mathrm{softmax}(s)_n \, y_n , \qquad
   s_n = \log w_n + \sum_j p_j \left(x_j y_{nj} - \tfrac12 y_{nj}^2\right)

The softmax of the scores (`scores`) is the posterior over patterns and :math:`\hat y` the posterior mean: one step of a
modern Hopfield network at :math:`\beta = p`, and the exact denoiser of an empirical distribution.

There are three paths. `dense` holds all scores; patterns that together weigh less than the rounding of the type are
left out of the second product, which makes a concentrated retrieval nearly twice as fast (not in small stores, where
looking for them costs more than the product). `stream` (`streaming`) holds none of them and is exact too. `top` holds
all scores and sums the best `k` patterns only, with

.. math:: |\hat y_k - \hat y| \le 2 (1 - m_k) \max_n |y_n|

where :math:`m_k` is the share of the posterior that they hold; it is certified, as the scores are all known. `auto`
takes `dense` where the scores, and whatever copy of the patterns they need, fit into `memory`, and `stream` otherwise.
Over a large store without any product over all patterns: `index`.

`scaled_dot_product_attention` is as fast, but gives no log-total, thus no energy, and is not used
(`benchmarks/speed/retrieval.py`).

Reference: Ramsauer et al. 2021, Hopfield networks is all you need. Cost: O(b n d) time.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.memories.scores import scores, squared_norms, working_type
from mnemotrace.memories.streaming import needs_gradient, negligible, stream

Path = Literal["auto", "dense", "stream", "top"]
MEMORY = 64 << 20
_SMALL = 1 << 15


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


def lookup(
    x: Float[Tensor, "b d"],
    patterns: Float[Tensor, "n d"],
    precision: Float[Tensor, "#b #d"],
    *,
    log_weights: Float[Tensor, " n"] | None = None,
    norms: bool = True,
    squares: Float[Tensor, " n"] | None = None,
    path: Path = "auto",
    top: int = 32,
    memory: int = MEMORY,
) -> Found:
    """Retrieve, exactly unless `path="top"`.

    Args:
        x: states.
        patterns: stored rows, only read; half precision is widened before anything is summed.
        precision: inverse squared noise, for all, a feature, a state, or each.
        log_weights: of the patterns; None counts all alike.
        norms: take off half of the patterns' squares; False is plain attention.
        squares: squared norms of the patterns, if they are at hand.
        path: `auto`, or one of `dense` (differentiable), `stream` and `top`.
        top: how many patterns `top` sums, at least 1.
        memory: bytes to use beside arguments and result; `stream` keeps to it, `auto` chooses by it. Default 64 MiB.

    Returns:
        Mean and log-total in the wider type of states and patterns, at least float32.

    Raises:
        ValueError: widths that differ, an unknown path, a `top` or `memory` below 1, or gradients on `stream`.
    """
    _require_shapes(x, patterns, precision)
    _require_choice(path, top, memory)
    given = {"log_weights": log_weights, "norms": norms, "squares": squares}
    if path == "auto":
        recorded = needs_gradient(x, patterns, precision, log_weights)
        path = "dense" if recorded or _dense_bytes(x, patterns, precision, norms) <= memory else "stream"
    if path == "stream":
        return Found(*stream(x, patterns, precision, **given, memory=memory))
    found = scores(x, patterns, precision, **given)
    if path == "top":
        return _best(found, patterns, min(top, len(patterns)), squares)
    if needs_gradient(found) or patterns.numel() <= _SMALL:
        return Found(torch.softmax(found, 1) @ patterns.to(found.dtype), torch.logsumexp(found, 1))
    return _pruned(found, patterns)


def _dense_bytes(x: Tensor, patterns: Tensor, precision: Tensor, norms: bool) -> int:
    """Count bytes of scores, their exponentials, and copies of the patterns."""
    kind = working_type(x, patterns)
    copies = int(patterns.dtype != kind) + int(norms and precision.shape[1] > 1)
    return kind.itemsize * (2 * len(x) * len(patterns) + copies * patterns.numel())


def _pruned(found: Tensor, patterns: Tensor) -> Found:
    """Sum what weighs more than the rounding; `found` is overwritten."""
    best = found.amax(1)
    found.sub_(best[:, None])
    rows = (found.amax(0) >= negligible(found.dtype, len(patterns))).nonzero()[:, 0]
    if 2 * len(rows) < len(patterns):
        found, patterns = found[:, rows], patterns[rows]
    weights = found.exp_()
    total = weights.sum(1)
    return Found((weights @ patterns.to(weights.dtype)).div_(total[:, None]), best + total.log())


def _best(found: Tensor, patterns: Tensor, k: int, squares: Tensor | None) -> Found:
    """Sum the best `k` of each state, and bound what that leaves out."""
    log_total = torch.logsumexp(found, 1)
    kept, rows = found.topk(k, 1)
    outside = 1 - (kept - log_total[:, None]).exp().sum(1)
    weights = torch.softmax(kept, 1)
    parts = [w @ patterns[r].to(w.dtype) for w, r in zip(weights, rows, strict=True)]
    longest = (squared_norms(patterns) if squares is None else squares).max().sqrt()
    return Found(torch.stack(parts), log_total, 2 * outside.clamp_min(0) * longest.to(found.dtype))


def _require_shapes(x: Tensor, patterns: Tensor, precision: Tensor) -> None:
    d = patterns.shape[-1]
    fits = precision.ndim == 2 and precision.shape[0] in (1, len(x)) and precision.shape[1] in (1, d)
    if x.ndim != 2 or patterns.ndim != 2 or x.shape[1] != d or len(patterns) == 0 or not fits:
        raise ValueError(
            f"got states {tuple(x.shape)}, patterns {tuple(patterns.shape)} and a precision {tuple(precision.shape)}; "
            "expected (b, d), (n, d) with n >= 1, and (1 or b, 1 or d)"
        )


def _require_choice(path: str, top: int, memory: int) -> None:
    if path not in get_args(Path):
        raise ValueError(f"got path={path!r}; expected one of {', '.join(get_args(Path))}")
    if top < 1 or memory < 1:
        raise ValueError(f"got top={top} and memory={memory}; expected at least 1 pattern and 1 byte")
