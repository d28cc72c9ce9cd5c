r"""The same update as an energy that falls: predictive coding, where only errors are passed on.

An observation is :math:`o = f(y) + \text{noise}` of variance `R`, a memory :math:`y_0` with variance `P`:

.. math:: F(y) = \tfrac12 \sum_i \frac{(o - f(y))_i^2}{R_i} + \tfrac12 \sum_j \frac{(y - y_0)_j^2}{P_j}, \qquad
          \dot y = -P\, \frac{\partial F}{\partial y} = P J^T R^{-1} (o - f(y)) - (y - y_0) .

Each term is an error weighted by how precise it is, so a unit needs only the errors that it predicts and its own. For
linear `f` the minimum is the mean that Kalman's step gives,

.. math:: y = y_0 + P H^T (H P H^T + R)^{-1} (o - H y_0),

and for any other it is the likeliest state. The flow is scaled by `P`, which makes it independent of units and does
not move its rest. A step is as long as the last one's curvature allows (Barzilai and Borwein 1988), and halved while F
would rise.

Reference: Rao and Ballard 1999; Friston 2005. Cost: an evaluation of `f` and one product with its Jacobian a step;
`kalman` O(m^3 + m d) for `m` observed numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.core.linalg import require_finite
from mnemotrace.modification.observation import number_of, observation_of, variance_of

Predict = Callable[[Tensor], Tensor]
_SLACK = 1e-14


@dataclass(frozen=True, eq=False)
class Relaxed:
    """Where the flow came to rest.

    Attributes:
        state: `(d,)` float64.
        energy: `F` at each accepted step, from the memory on; it never rises.
        steps: how many were accepted.
        converged: the flow is below the tolerance everywhere.
    """

    state: Float[Tensor, " d"]
    energy: tuple[float, ...]
    steps: int
    converged: bool


def kalman(
    mean: Float[Tensor, " d"],
    variance: float | Float[Tensor, " d"],
    observed: Float[Tensor, " m"],
    noise: float | Float[Tensor, " m"],
    matrix: Float[Tensor, "m d"],
) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
    """Return mean and covariance after one observation of `matrix @ y`, float64.

    Raises:
        TypeError: no floating-point tensors.
        ValueError: shapes that do not fit, or a variance that is not above 0.
        NonFiniteError: NaN or infinity.
    """
    if not isinstance(matrix, Tensor) or matrix.ndim != 2:
        shape = tuple(matrix.shape) if isinstance(matrix, Tensor) else type(matrix).__name__
        raise ValueError(f"got a matrix {shape}; expected a tensor (m, d) that turns a memory into an observation")
    require_finite(matrix, "the matrix")
    h = matrix.double()
    y = observation_of(mean, None, h.shape[1], "mean")[0]
    o = observation_of(observed, None, len(h), "observation")[0]
    p, r = variance_of(variance, len(y), "variance"), variance_of(noise, len(o), "noise")
    gain = torch.linalg.solve(h * p @ h.T + r.diag(), h * p).T
    return y + gain @ (o - h @ y), p.diag() - gain @ (h * p)


def relax(
    mean: Float[Tensor, " d"],
    variance: float | Float[Tensor, " d"],
    observed: Float[Tensor, " m"],
    noise: float | Float[Tensor, " m"],
    predict: Predict,
    *,
    steps: int = 1000,
    tolerance: float = 1e-8,
) -> Relaxed:
    """Let a memory flow down `F` until it rests.

    Args:
        mean: of the memory; where the flow begins.
        variance: of it: a number or one a feature.
        observed: what was seen, `(m,)`.
        noise: variance of it: a number or one each.
        predict: `f`, from `(d,)` to `(m,)`, differentiable.
        steps: the most that are tried.
        tolerance: largest entry of the flow at rest, in units of the memory.

    Raises:
        TypeError: no floating-point tensor.
        ValueError: shapes that do not fit, a number out of range, or a prediction of another width.
        NonFiniteError: NaN or infinity in what is given.
    """
    start = observation_of(mean, None, len(mean), "mean")[0]
    o = observation_of(observed, None, len(observed), "observation")[0]
    p, r = variance_of(variance, len(start), "variance"), variance_of(noise, len(o), "noise")
    limit = number_of(tolerance, "tolerance", low=0.0, above=True)

    def energy_and_flow(y: Tensor) -> tuple[float, Tensor]:
        at = y.detach().requires_grad_()
        with torch.enable_grad():
            made = predict(at)
        if made.shape != o.shape:
            raise ValueError(f"got a prediction of shape {tuple(made.shape)}; expected {tuple(o.shape)}, as observed")
        error, own = o - made.detach(), y - start
        energy = 0.5 * float((error.square() / r).sum() + (own.square() / p).sum())
        return energy, p * torch.autograd.grad(made, at, error / r)[0] - own

    y, size = start, 1.0
    energy, flow = energy_and_flow(y)
    energies = [energy]
    for _ in range(steps):
        if float(flow.abs().max()) < limit:
            break
        moved = y + size * flow
        below, onward = energy_and_flow(moved)
        if not below <= energy + _SLACK * abs(energy):
            size /= 2
            continue
        bend = float((flow * (flow - onward) / p).sum())
        size *= float((flow.square() / p).sum()) / bend if bend > 0 else 2.0
        y, energy, flow = moved, below, onward
        energies.append(energy)
    return Relaxed(y, tuple(energies), len(energies) - 1, float(flow.abs().max()) < limit)
