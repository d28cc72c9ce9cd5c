r"""Logistic loss with labels of -1 and 1, an L1 penalty and a free intercept: the problem that sparse probes solve.

.. math:: P(w, b) = \frac1n \sum_i \log(1 + e^{-y_i (x_i w + b)}) + \lambda \lVert w \rVert_1

From :math:`\lambda_{max} = \lVert X^\top (y - \bar y) \rVert_\infty / 2n` on, no unit is used at all. Whoever solved
it, the duality gap tells how far from the best a solution can be: with :math:`u_i = \sigma(-y_i (x_i w + b))` and the
best `b`, so that :math:`\sum y_i u_i = 0`,

.. math:: P(w, b) - \min P \le P(w, b) - \frac1n \sum_i H(s u_i), \quad
          s = \min(1, \lambda n / \lVert X^\top (y u) \rVert_\infty)

and `H` the entropy of a coin. Reference: Koh, Kim and Boyd 2007, An Interior-Point Method for Large-Scale
l1-Regularized Logistic Regression, section 2. Cost: two products with `x` each. All in float64, on the device of `x`.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import softplus

_STEPS, _LONGEST, _FLAT = 100, 4.0, 1e-10


def lambda_max(x: Float[Tensor, "n d"], y: Float[Tensor, " n"]) -> float:
    """Return the smallest penalty at which no unit is used; `y` holds -1 and 1."""
    return float((x.T @ (y - y.mean())).abs().max() / (2 * len(y)))


def loss(x: Float[Tensor, "n d"], y: Float[Tensor, " n"], w: Float[Tensor, " d"], b: float) -> Float[Tensor, " n"]:
    """Return the loss of each row."""
    return softplus(-y * (x @ w + b))


def objective(
    x: Float[Tensor, "n d"], y: Float[Tensor, " n"], w: Float[Tensor, " d"], b: float, *, penalty: float
) -> float:
    """Return the mean loss with the penalty."""
    return float(loss(x, y, w, b).mean() + penalty * w.abs().sum())


def intercept(z: Float[Tensor, " n"], y: Float[Tensor, " n"], b: float = 0.0) -> float:
    """Return the best intercept for scores `z = x w`, by Newton steps from `b`, of bounded length."""
    wanted = (1 + float(y.mean())) / 2
    for _ in range(_STEPS):
        p = torch.sigmoid(z + b)
        slope = float((p * (1 - p)).mean())
        step = (wanted - float(p.mean())) / max(slope, 1e-12)
        b += min(max(step, -_LONGEST), _LONGEST)
        if abs(step) <= 1e-12 * (1 + abs(b)):
            break
    return b


def gap(x: Float[Tensor, "n d"], y: Float[Tensor, " n"], w: Float[Tensor, " d"], b: float, *, penalty: float) -> float:
    """Return a bound of how far the objective is above the best; `b` must be the best for `w`."""
    margin = y * (x @ w + b)
    u = torch.sigmoid(-margin)
    steepest = float((x.T @ (y * u)).abs().max()) / len(y)
    u = u * min(1.0, penalty / max(steepest, 1e-300))
    dual = -(torch.xlogy(u, u) + torch.xlogy(1 - u, 1 - u)).mean()
    return float(softplus(-margin).mean() + penalty * w.abs().sum() - dual)


def refit(
    x: Float[Tensor, "n d"], y: Float[Tensor, " n"], units: Bool[Tensor, " d"], *, ridge: float = 1e-4
) -> tuple[Float[Tensor, " d"], float]:
    """Fit again on some units without the L1 penalty, which shrinks every weight towards zero.

    Args:
        x: standardised rows.
        y: labels, -1 and 1.
        units: which; none gives the intercept alone.
        ridge: of `ridge / 2 |w|^2`; a little, for separable data have no best weights.

    Returns:
        Weights, zero outside `units`, and the intercept. Newton steps, O(n s^2) each.
    """
    w = x.new_zeros(x.shape[1])
    wide = torch.cat([x[:, units], torch.ones_like(x[:, :1])], 1)
    weight = torch.full((wide.shape[1],), ridge, dtype=x.dtype, device=x.device)
    weight[-1] = 0.0
    v = torch.zeros_like(weight)
    v[-1] = intercept(x.new_zeros(len(y)), y)

    def value(v: Tensor) -> Tensor:
        return softplus(-y * (wide @ v)).mean() + (weight * v.square()).sum() / 2

    for _ in range(_STEPS):
        p = torch.sigmoid(wide @ v)
        slope = wide.T @ (p - (1 + y) / 2) / len(y) + weight * v
        if float(slope.abs().max()) <= _FLAT:
            break
        curvature = wide.T @ (wide * (p * (1 - p))[:, None]) / len(y)
        curvature += torch.diag(weight + 1e-12)
        then = lower(value, v, -torch.linalg.solve(curvature, slope))
        if then is v:  # at the precision of the loss
            break
        v = then
    w[units] = v[:-1]
    return w, float(v[-1])


def lower(value: Callable[[Tensor], Tensor], v: Tensor, step: Tensor, halvings: int = 12) -> Tensor:
    """Go along a step, halved until the value falls; stay where it never does."""
    now = value(v)
    for _ in range(halvings):
        if value(v + step) < now:
            return v + step
        step = step / 2
    return v


def dense(
    x: Float[Tensor, "n d"], y: Float[Tensor, "n k"], *, ridge: float, start: Float[Tensor, "k c"] | None = None
) -> Float[Tensor, "k c"]:
    """Fit probes that use every unit, one a column of labels, with `ridge / 2 |w|^2`; L-BFGS on all of them at once.

    Returns:
        `(k, d + 1)`, weights and intercept.
    """
    wide = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    v = (x.new_zeros(y.shape[1], wide.shape[1]) if start is None else start.clone()).requires_grad_()
    weight = x.new_full((wide.shape[1],), ridge)
    weight[-1] = 0.0
    optimiser = torch.optim.LBFGS([v], max_iter=100, tolerance_grad=1e-6, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        with torch.no_grad():
            margin = y * (wide @ v.T)
            v.grad = -(y * torch.sigmoid(-margin)).T @ wide / len(y) + weight * v
            return softplus(-margin).mean(0).sum() + (weight * v.square()).sum() / 2

    optimiser.step(closure)  # type: ignore[arg-type]
    return v.detach()
