r"""How likely a noisy state is under a set of clean ones, and which clean one is expected behind it: closed forms.

With noise :math:`\Sigma = \mathrm{diag}(\sigma_j^2)` and a probability measure :math:`\mu` on clean patterns,

.. math::
   k(x) = \int N(x; y, \Sigma)\, d\mu(y), \qquad E[y | x] = x + \Sigma \nabla \log k(x) .

A Gaussian, :math:`y = m + F^T z` with :math:`z \sim N(0, I)` (Woodbury's identity, written as a least-squares problem
so that nothing cancels):

.. math::
   \hat z = (I + F \Sigma^{-1} F^T)^{-1} F \Sigma^{-1} (x - m), \qquad
   \log k = \log N(x - m - F^T \hat z; 0, \Sigma) - \tfrac12 |\hat z|^2 - \tfrac12 \log\det(I + F \Sigma^{-1} F^T) .

A sphere of radius `R` in `d` dimensions, at distance `r` from its centre, with :math:`\kappa = r R / \sigma^2`:

.. math::
   \log k = \log N(r; R) + \log\left(\Gamma(\tfrac d2) (2/\kappa)^{d/2-1} e^{-\kappa} I_{d/2-1}(\kappa)\right), \qquad
   E[\cos\theta | x] = I_{d/2}(\kappa) / I_{d/2-1}(\kappa) .

The Bessel functions are taken from Poisson's integral by a Gauss-Legendre rule around its peak, which needs no change
of method from small arguments to those that overflow.

A feature with infinite noise takes no part: the kernel is that of the other features. Everything is float64 inside.

Cost: Gaussians `O(n k^2 (k + d))` once a noise vector, then `O(b n k d)`; with another noise for each state the first
part is paid `b` times. Sphere: `O(b)` times the number of nodes.
"""

# torch.linalg and numpy have no types of their own
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.core.memory import sigma_of, states_of

_NODES = 128
_WIDTHS = 20.0


@dataclass(frozen=True, eq=False)
class Explained:
    """How a memory explains states.

    Attributes:
        log_kernel: `(b,)` log-density of each state.
        mean: `(b, d)` clean pattern that is expected behind it.
    """

    log_kernel: Float[Tensor, " b"]
    mean: Float[Tensor, "b d"]


def checked(x: Tensor, sigma: object, d: int) -> tuple[Tensor, Tensor]:
    """Return states `(b, d)` and noise that broadcasts to them, after checking both."""
    rows = states_of(x, d, "states")
    return rows, sigma_of(sigma, rows)


def log_normal(residual: Float[Tensor, "*n b d"], sigma: Float[Tensor, "#b #d"]) -> Float[Tensor, "*n b"]:
    """Return the log-density of residuals under the noise; features with infinite noise are left out."""
    constant = torch.where(sigma.isinf(), 0.0, sigma.log() + 0.5 * math.log(2 * math.pi))
    return -(0.5 * residual.square() * sigma**-2 + constant).sum(-1)


def gaussians(
    x: Float[Tensor, "b d"],
    sigma: Float[Tensor, "#b #d"],
    means: Float[Tensor, "n d"],
    factors: Float[Tensor, "n k d"],
    *,
    flat: bool = False,
) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n d"]]:
    """Return the log-kernel of each Gaussian and the pattern that it expects, float64.

    Args:
        x: states.
        sigma: noise.
        means: of the Gaussians.
        factors: covariances are `factors.mT @ factors`; `k = 0` is a point.
        flat: instead of Gaussians, all points `mean + factors.T @ z` with one density, 1 a unit of `z`.
    """
    x, sigma, means, factors = x.double(), sigma.double(), means.double(), factors.double()
    n, k, d = factors.shape
    residual = x - means[:, None]  # (n, b, d)
    weighted = factors[:, None] * (sigma**-2).expand(-1, d)[:, None]  # (n, 1 or b, k, d)
    inner = weighted @ factors.mT[:, None]
    lower = torch.linalg.cholesky(inner if flat else inner + torch.eye(k, dtype=inner.dtype, device=inner.device))
    gain = torch.cholesky_solve(weighted, lower)
    z = residual @ gain[:, 0].mT if len(sigma) == 1 else (gain @ residual[..., None])[..., 0]
    fitted = z @ factors
    log = log_normal(residual - fitted, sigma) - lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    log = log + 0.5 * k * math.log(2 * math.pi) if flat else log - 0.5 * z.square().sum(-1)
    return log.T, (means[:, None] + fitted).transpose(0, 1)


def sphere(
    distance: Float[Tensor, " b"], sigma: Float[Tensor, "#b"], *, radius: float, d: int
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Return the log-kernel of a sphere and the expected cosine between state and pattern, seen from the centre.

    Args:
        distance: of the states from the centre, float64.
        sigma: noise, the same for all features of a state.
        radius: of the sphere, above 0.
        d: dimensions of the space, at least 2.
    """
    kappa = distance * radius * sigma**-2
    with torch.no_grad():
        theta, log_weights = _nodes(kappa, d)
    versine = 2 * (theta / 2).sin().square()
    terms = log_weights - kappa[:, None] * versine
    total = torch.logsumexp(terms, 1)
    cosine = 1 - (torch.softmax(terms, 1) * versine).sum(1)
    area = 0.5 * math.log(math.pi) + math.lgamma((d - 1) / 2) - math.lgamma(d / 2)
    constant = torch.where(sigma.isinf(), 0.0, d * (sigma.log() + 0.5 * math.log(2 * math.pi)))
    return total - area - constant - 0.5 * (distance - radius).square() * sigma**-2, cosine


def _nodes(kappa: Tensor, d: int) -> tuple[Tensor, Tensor]:
    """Angles around the peak of `exp(kappa cos) sin^(d-2)`, with the logarithm of their weight times the sine power."""
    places, weights = (torch.from_numpy(a).to(kappa) for a in np.polynomial.legendre.leggauss(_NODES))
    kappa = kappa.clamp_min(1e-30)
    cosine = 2 * kappa / (d - 2 + (4 * kappa.square() + (d - 2) ** 2).sqrt())
    sine = ((d - 2) * cosine / kappa).sqrt().clamp(max=1)
    curvature = kappa * cosine + (kappa / cosine if d > 2 else 0)
    peak, reach = torch.atan2(sine, cosine), _WIDTHS * curvature.rsqrt()
    low, high = (peak - reach).clamp_min(0), (peak + reach).clamp_max(math.pi)
    half = ((high - low) / 2)[:, None]
    theta = half * (places + 1) + low[:, None]
    return theta, half.log() + weights.log() + (d - 2) * theta.sin().log()
