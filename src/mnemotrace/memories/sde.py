r"""Stored patterns under a forgetting process with a potential: exact score from a kernel, or from a linearised one.

Forgetting runs from the patterns on, for an elapsed time `u`, and recall backwards:

.. math::
   dx = \nabla v(x)\,du + \sigma\,dW, \qquad
   dx = \left[\sigma^2 \nabla \log p_u(x) - \nabla v(x)\right] du + \sigma\,d\bar W, \qquad
   p_u(x) \propto \sum_n w_n\, e^{\psi(x, u; y_n)} .

:math:`\psi` is the log-density of having come from :math:`y_n` to `x`. Where the user does not know it, `v` is expanded
to second order at each pattern: with :math:`H` its Hessian there, the kernel is Gaussian with

.. math::
   m = y + \int_0^u e^{Hs} ds\, \nabla v(y) = y + (e^{Hu} - 1) H^{-1} \nabla v(y), \qquad
   \Sigma = \sigma^2 \int_0^u e^{2Hs} ds ,

written in the eigenvectors of :math:`H`, so that a singular :math:`H` is nothing special. It is exact for quadratic `v`
(variance-preserving diffusion is :math:`v = -r|x|^2/4, \sigma^2 = r`), and right to first order in `u` for others.

The recall's potential :math:`-\sigma^2 \log p_u + v` exists only if the drift is a gradient. A drift that is none is
refused: the Jacobian is compared with its transpose at every pattern.

Reference: Ambrogioni 2024, equations 15-21, with the printed errors corrected. Cost: `n` Hessians of `d` columns and
their eigenvectors once, O(n d^3); a score O(b n d^2) time and O(b n d) memory, with a kernel of the user's whatever
that costs.
"""

# torch.linalg and torch.func have no types of their own
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemotrace.core.linalg import require_finite
from mnemotrace.core.memory import states_of
from mnemotrace.memories.patterns import Patterns

Field = Callable[[Tensor], Tensor]
_SYMMETRIC = 1e-4


class GeneralSDE(nn.Module):
    """A snapshot of patterns under a forgetting process; build it again after the patterns were edited.

    Attributes:
        patterns: the store as it was given.
        sigma: strength of the noise, in units of the patterns over the root of time.
        gradient: `(n, d)` of `v` at the patterns.
        values: `(n, d)` eigenvalues of the Hessians; their unit is one over time.
        vectors: `(n, d, d)` eigenvectors, in columns.
    """

    gradient: Tensor
    values: Tensor
    vectors: Tensor

    def __init__(
        self,
        patterns: Patterns | Float[Tensor, "n d"],
        *,
        sigma: float,
        potential: Field | None = None,
        drift: Field | None = None,
        kernel: Callable[[Tensor, Tensor, float], Tensor] | None = None,
    ) -> None:
        """Set the process up, and expand it at every pattern.

        Args:
            patterns: rows, or a store with weights.
            sigma: above 0.
            potential: `v`, from one state `(d,)` to a number; twice differentiable by torch. Its gradient drives
                forgetting.
            drift: the gradient of `v` instead, from `(d,)` to `(d,)`; then there is no `energy`.
            kernel: `psi(x, y, elapsed)`, from `(b, d)` and `(n, d)` to log-densities `(b, n)`, differentiable in `x`;
                None takes the linearised one.

        Raises:
            TypeError: neither or both of potential and drift.
            ValueError: a noise out of range, an output of another shape, or a drift that is no gradient.
            NonFiniteError: NaN or infinity in the drift or its derivative at a pattern.
        """
        super().__init__()
        if not 0 < sigma < float("inf"):
            raise ValueError(f"got sigma={sigma}; expected a positive, finite number")
        self.patterns = patterns if isinstance(patterns, Patterns) else Patterns(patterns)
        self.sigma, self.potential, self.kernel = float(sigma), potential, kernel
        rows = self.patterns.values
        self.drift = _checked(potential, drift, rows)
        gradient, hessian = _expanded(self.drift, rows)
        values, vectors = torch.linalg.eigh(hessian)
        self.register_buffer("gradient", gradient)
        self.register_buffer("values", values)
        self.register_buffer("vectors", vectors)

    @property
    def d(self) -> int:
        """Number of features of a state."""
        return self.patterns.d

    def log_kernel(self, x: Float[Tensor, "b d"], *, elapsed: float) -> Float[Tensor, "b n"]:
        """Return the log-density of each state, had it started from each pattern.

        Args:
            x: states.
            elapsed: time of forgetting, above 0.

        Raises:
            TypeError: no floating-point tensor.
            ValueError: another shape, a time out of range, or a kernel of another shape.
            NonFiniteError: NaN or infinity in the states.
        """
        rows, elapsed = self._rows(x), _time(elapsed)
        if self.kernel is not None:
            found = self.kernel(rows, self.patterns.values, elapsed)
            if found.shape != (len(rows), len(self.patterns)):
                raise ValueError(
                    f"got a kernel of shape {tuple(found.shape)}; expected ({len(rows)}, {len(self.patterns)}), one "
                    "log-density a state and a pattern"
                )
            return found
        means, spread = self._moments(elapsed)
        along = torch.einsum("bni,nij->bnj", rows[:, None] - means, self.vectors)
        return -0.5 * (along.square() / spread + (2 * torch.pi * spread).log()).sum(2)

    def log_density(self, x: Float[Tensor, "b d"], *, elapsed: float) -> Float[Tensor, " b"]:
        """Return the log-density of states after some time of forgetting; arguments as for `log_kernel`."""
        weights = self.patterns.weights
        return torch.logsumexp(self.log_kernel(x, elapsed=elapsed) + (weights / weights.sum()).log(), 1)

    def score(self, x: Float[Tensor, "b d"], *, elapsed: float) -> Float[Tensor, "b d"]:
        """Return the gradient of `log_density`; arguments as there."""
        with torch.enable_grad():
            rows = self._rows(x).detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.log_density(rows, elapsed=elapsed).sum(), rows)
        return slope

    def recall_drift(self, x: Float[Tensor, "b d"], *, elapsed: float) -> Float[Tensor, "b d"]:
        """Return `sigma**2 score - grad v`: where recall goes in the mean, in units of the patterns over time."""
        rows = self._rows(x)
        return self.sigma**2 * self.score(rows, elapsed=elapsed) - torch.func.vmap(self.drift)(rows)

    def energy(self, x: Float[Tensor, "b d"], *, elapsed: float) -> Float[Tensor, " b"]:
        """Return `v - sigma**2 log p`, which recall descends; arguments as for `log_kernel`.

        Raises:
            ValueError: the process was given by its drift.
        """
        if self.potential is None:
            raise ValueError("got a process given by its drift; expected one given by its potential; pass potential=v")
        rows = self._rows(x)
        return torch.func.vmap(self.potential)(rows) - self.sigma**2 * self.log_density(rows, elapsed=elapsed)

    def _rows(self, x: Tensor) -> Tensor:
        return states_of(x, self.d, "states").to(self.patterns.values)

    def _moments(self, elapsed: float) -> tuple[Tensor, Tensor]:
        """Means of the linearised kernels, and their variances along the eigenvectors."""
        along = torch.einsum("ni,nij->nj", self.gradient, self.vectors) * _integral(self.values, elapsed)
        means = self.patterns.values + torch.einsum("nj,nij->ni", along, self.vectors)
        return means, self.sigma**2 * _integral(2 * self.values, elapsed)


def _integral(rate: Tensor, elapsed: float) -> Tensor:
    """Integrate `exp(rate * s)` over `s` from 0 to `elapsed`."""
    safe = torch.where(rate == 0, torch.ones_like(rate), rate)
    return torch.where(rate == 0, torch.full_like(rate, elapsed), torch.expm1(safe * elapsed) / safe)


def _time(elapsed: float) -> float:
    if not 0 < elapsed < float("inf"):
        raise ValueError(f"got elapsed={elapsed}; expected a positive, finite time since the patterns were whole")
    return float(elapsed)


def _checked(potential: Field | None, drift: Field | None, rows: Tensor) -> Field:
    """Return the drift if the one that was given has the right shape; neither or both is a mistake."""
    given = drift if potential is None else potential
    if given is None or (potential is not None and drift is not None):
        count = "neither" if given is None else "both"
        raise TypeError(f"got {count} of potential and drift; expected one of them; the drift is v's gradient")
    what, expected = ("drift", (rows.shape[1],)) if potential is None else ("potential", ())
    found = given(rows[0])
    if found.shape != expected:
        raise ValueError(
            f"got a {what} of shape {tuple(found.shape)} for one state of shape ({rows.shape[1]},); expected "
            f"{tuple(expected)}; write it for one state, without the batch"
        )
    return given if potential is None else torch.func.grad(potential)


def _expanded(drift: Field, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient and Hessian of `v` at every pattern, after checking that there is a `v`."""
    gradient = torch.func.vmap(drift)(rows).detach()
    jacobian = torch.func.vmap(torch.func.jacrev(drift))(rows).detach()
    require_finite(gradient, "the drift at the patterns")
    require_finite(jacobian, "the drift's derivative at the patterns")
    skew = float((jacobian - jacobian.mT).abs().max())
    largest = float(jacobian.abs().max())
    if skew > _SYMMETRIC * largest:
        raise ValueError(
            f"got a drift whose Jacobian differs from its transpose by {skew:.3g}, with entries up to {largest:.3g}; "
            "expected a gradient field: with another drift there is no potential to recall by; give potential=v"
        )
    return gradient, (jacobian + jacobian.mT) / 2
