r"""Our own solver of sparse logistic regression: accelerated proximal steps on few units, then Newton steps.

Most units are not used, so a *working set* holds those that are and those whose slope is above the penalty; it grows
until the duality gap of the whole problem is closed. Within it, FISTA finds out which units are used and with which
sign,

.. math:: w' = S_{\lambda/L}(v - \nabla f(v) / L), \qquad v' = w' + \tfrac{t-1}{t'} (w' - w),
          \qquad L = \lVert [X\ 1] \rVert^2 / 4n

and a Newton step on these, which keeps signs, closes the rest: strongly correlated activations take FISTA alone
thousands of steps. A step that raises the objective beyond rounding is not taken.

Reference: Beck and Teboulle 2009; working sets as in Johnson and Guestrin 2015 (Blitz). Cost: two products with the
whole `x` a round, mostly under ten rounds; O(n s) a proximal and O(n s^2) a Newton step with `s` units in the set.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from mnemotrace.localisation.logistic import gap, intercept

_ROUNDS, _TURNS, _STEPS, _FEWEST = 60, 60, 5, 10
_ROUNDING, _DAMPING = 1e-15, (1e-10, 1e-3, 1e-2, 0.1, 1.0)


def fista(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, " n"],
    penalty: float,
    start: tuple[Float[Tensor, " d"], float] | None = None,
    *,
    tolerance: float = 1e-9,
) -> tuple[Float[Tensor, " d"], float]:
    """Solve by our own solver; runs where `x` is.

    Args:
        x: rows, float64.
        y: labels, -1 and 1.
        penalty: of the absolute weights.
        start: weights and intercept of a neighbouring penalty.
        tolerance: of the duality gap.

    Returns:
        Weights and intercept; after 60 rounds the best so far.
    """
    w, b = (x.new_zeros(x.shape[1]), 0.0) if start is None else (start[0].clone(), start[1])
    for _ in range(_ROUNDS):
        z = x @ w
        b = intercept(z, y, b)
        left = gap(x, y, w, b, penalty=penalty)
        if left <= tolerance:
            break
        slope = (x.T @ (y * torch.sigmoid(-y * (z + b)))).abs() / len(y)
        used = w != 0
        most = max(_FEWEST, int(used.sum()))
        new = torch.where(used, -1.0, slope - penalty).topk(min(most, len(w)))
        work = used.clone()
        work[new.indices[new.values > -1e-3 * penalty]] = True
        w[work], b = _settled(x[:, work], y, penalty, (w[work], b), tolerance=max(tolerance / 2, left / 30))
    return w, b


def _settled(
    x: Tensor, y: Tensor, penalty: float, start: tuple[Tensor, float], *, tolerance: float
) -> tuple[Tensor, float]:
    """Solve on the working set."""
    wide = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    cost = torch.full((wide.shape[1],), penalty, dtype=x.dtype, device=x.device)
    cost[-1] = 0.0
    v = torch.cat([start[0], x.new_tensor([start[1]])])
    steepness = float(torch.linalg.eigvalsh(wide.T @ wide)[-1]) / (4 * len(y))
    b = start[1]
    for _ in range(_TURNS):
        before = v.clone()
        v = _proximal(wide, y, cost, v, steepness)
        v = _newton(wide, y, cost, v)
        b = intercept(x @ v[:-1], y, float(v[-1]))
        v[-1] = b
        if gap(x, y, v[:-1], b, penalty=penalty) <= tolerance or torch.equal(v, before):
            break
    return v[:-1], b


def _value(wide: Tensor, y: Tensor, cost: Tensor, v: Tensor) -> float:
    return float(softplus(-y * (wide @ v)).mean() + (cost * v.abs()).sum())


def _slope(wide: Tensor, y: Tensor, v: Tensor) -> Tensor:
    return -wide.T @ (y * torch.sigmoid(-y * (wide @ v))) / len(y)


def _proximal(wide: Tensor, y: Tensor, cost: Tensor, v: Tensor, steepness: float) -> Tensor:
    """Take a few accelerated proximal steps; momentum starts again where it leads uphill."""
    here, ahead, t = v, v, 1.0
    for _ in range(_STEPS):
        moved = ahead - _slope(wide, y, ahead) / steepness
        then = moved.sign() * (moved.abs() - cost / steepness).clamp_min(0)
        uphill = bool((ahead - then) @ (then - here) > 0)
        later = 1.0 if uphill else (1 + (1 + 4 * t * t) ** 0.5) / 2
        ahead = then if uphill else then + (t - 1) / later * (then - here)
        here, t = then, later
    return here if _value(wide, y, cost, here) <= _value(wide, y, cost, v) + _ROUNDING else v


def _newton(wide: Tensor, y: Tensor, cost: Tensor, v: Tensor) -> Tensor:
    """Take a Newton step in the used units, damped until it helps; what would change its sign stops at zero."""
    used = v != 0
    used[-1] = True
    some, sign = wide[:, used], v[used].sign()
    p = torch.sigmoid(some @ v[used])
    curvature = some.T @ (some * (p * (1 - p))[:, None]) / len(y)
    scale, slope = float(curvature.diagonal().mean()), _slope(some, y, v[used]) + cost[used] * sign
    now = _value(wide, y, cost, v)
    for damping in _DAMPING:
        curvature.diagonal().add_(damping * scale + 1e-14)
        there = v[used] - torch.linalg.solve(curvature, slope)
        there[:-1] = torch.where(there[:-1].sign() == sign[:-1], there[:-1], 0.0)
        moved = v.clone()
        moved[used] = there
        if _value(wide, y, cost, moved) <= now + _ROUNDING:
            return moved
    return v
