r"""Semantic memory as a Gaussian mixture: what episodes have in common, with full covariances and closed forms.

.. math:: \phi(y) = \sum_k w_k N(y; m_k, S_k), \qquad u(x) = -\sigma^2 \log \int N(x; y, \sigma^2)\, \phi(y)\, dy .

As printed, equation 24 has the wrong sign and lacks the squares of state and pattern, without which it is unbounded.
Covariances may be singular: conditioned on what an episode fixes (`conditioned`), a mixture is still one, on a
subspace.

Reference: Ambrogioni 2024, equation 24. Cost: `O(n d^3)` once a noise vector, then `O(b n d^2)`; see
`memories.kernels`.
"""

# torch.linalg has no types of its own
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mnemotrace.core.artifact import Artifact
from mnemotrace.core.linalg import require_finite
from mnemotrace.memories.kernels import Explained, checked, gaussians
from mnemotrace.memories.patterns import Patterns

_CUT = 1e-10  # of the largest eigenvalue: rounding of a covariance that is meant to be singular
_SKEW = 1e-4


class GaussianMixture(nn.Module):
    """A mixture of Gaussians over patterns.

    Attributes:
        means: `(n, d)`.
        factors: `(n, k, d)`; covariances are `factors.mT @ factors`.
        weights: `(n,)`, sum 1.
    """

    kind = "gaussian_mixture"
    means: Tensor
    factors: Tensor
    weights: Tensor

    def __init__(
        self,
        means: Float[Tensor, "n d"],
        covariances: Float[Tensor, "n d d"],
        *,
        weights: Float[Tensor, " n"] | None = None,
    ) -> None:
        """Mix Gaussians.

        Args:
            means: one component a row.
            covariances: symmetric, no eigenvalue below 0.
            weights: above 0, made to sum to 1; None counts all alike.

        Raises:
            TypeError: no floating-point tensor.
            ValueError: shapes that do not fit, or no covariance.
            NonFiniteError: NaN or infinity.
        """
        super().__init__()
        rows = Patterns(means, weights=weights)
        self.register_buffer("means", rows.values)
        self.register_buffer("weights", rows.weights / rows.weights.sum())
        self.register_buffer("factors", _factors(covariances, rows.values))

    @classmethod
    def of_factors(
        cls, means: Float[Tensor, "n d"], factors: Float[Tensor, "n k d"], weights: Float[Tensor, " n"]
    ) -> "GaussianMixture":
        """Mix Gaussians of covariance `factors.mT @ factors`, with `k` below `d` where they fill a subspace only."""
        n, d = means.shape
        made = cls(means, torch.zeros(n, d, d, dtype=means.dtype, device=means.device), weights=weights)
        made.factors = factors.detach()
        return made

    @property
    def d(self) -> int:
        """Number of features."""
        return self.means.shape[1]

    @property
    def covariances(self) -> Float[Tensor, "n d d"]:
        """Covariance of each component."""
        return self.factors.mT @ self.factors

    @property
    def mean(self) -> Float[Tensor, " d"]:
        """Mean of the whole mixture."""
        return self.weights @ self.means

    @property
    def covariance(self) -> Float[Tensor, "d d"]:
        """Covariance of the whole mixture."""
        offsets = self.means - self.mean
        return torch.einsum("n,nij->ij", self.weights, self.covariances) + (self.weights * offsets.T) @ offsets

    @property
    def fixed(self) -> Bool[Tensor, " d"]:
        """Features that are the same in all that the memory holds."""
        spread = self.covariance.diagonal().clamp_min(0).sqrt()
        return spread <= 1e-6 * (spread.max() + self.means.abs().max())

    def explain(self, x: Float[Tensor, "b d"], sigma: Any) -> Explained:
        """Return log-kernel and expected pattern of states."""
        x, sigma = checked(x, sigma, self.d)
        log, means = gaussians(x, sigma, self.means, self.factors)
        log = log + self.weights.double().log()
        mean = (torch.softmax(log, 1)[..., None] * means).sum(1)
        return Explained(torch.logsumexp(log, 1).to(x), mean.to(x))

    def log_kernel(self, x: Float[Tensor, "b d"], sigma: Any) -> Float[Tensor, " b"]:
        """Return the log-density of noisy states."""
        return self.explain(x, sigma).log_kernel

    def forward(self, x: Float[Tensor, "b d"], sigma: Any) -> Float[Tensor, "b d"]:
        """Return the expected clean pattern."""
        return self.explain(x, sigma).mean

    def posterior(self, x: Float[Tensor, "b d"], sigma: Any) -> Float[Tensor, "b n"]:
        """Return the probability of each component, given noisy states."""
        x, sigma = checked(x, sigma, self.d)
        log, _ = gaussians(x, sigma, self.means, self.factors)
        return torch.softmax(log + self.weights.double().log(), 1).to(x)

    def conditioned(self, f: Float[Tensor, "w d"], xi: Float[Tensor, " w"]) -> "GaussianMixture":
        r"""Return the mixture of what is compatible with `f @ y = xi`, exactly.

        A component's pattern is :math:`m + F^T z`; the condition fixes :math:`z` in the row space of
        :math:`G = f F^T` and leaves the rest as it was. Components are weighed by how likely each made `xi`.

        Raises:
            ValueError: shapes that do not fit, or features on which no component has any spread.
        """
        f, xi = f.double(), xi.double()
        if f.ndim != 2 or f.shape[1] != self.d or xi.shape != (len(f),):
            raise ValueError(
                f"got features f {tuple(f.shape)} and values xi {tuple(xi.shape)}; expected (w, {self.d}) and (w,)"
            )
        means, factors = self.means.double(), self.factors.double()
        left, sizes, right = torch.linalg.svd(f @ factors.mT, full_matrices=False)  # G = left sizes right
        if len(f) > factors.shape[1] or bool((sizes[:, -1] <= 1e-7 * sizes[:, 0]).any()):
            raise ValueError(
                f"got {len(f)} features of which the prior, in one of its components, fixes a combination itself; "
                "expected features that it leaves free and that do not follow from each other; leave some out"
            )
        z = (left.mT @ (xi - means @ f.T)[..., None])[..., 0] / sizes
        log = self.weights.double().log() - 0.5 * z.square().sum(1) - sizes.log().sum(1)
        shifted = means + (z[:, None] @ right @ factors)[:, 0]
        rest = factors - right.mT @ (right @ factors)
        kept = torch.softmax(log, 0).clamp_min(torch.finfo(self.means.dtype).tiny)
        return GaussianMixture.of_factors(*(part.to(self.means) for part in (shifted, rest, kept)))

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        return Artifact(self.kind, {}, {"means": self.means, "factors": self.factors, "weights": self.weights})

    @classmethod
    def unpack(cls, artifact: Artifact) -> "GaussianMixture":
        """Rebuild from an artifact."""
        tensors = artifact.tensors
        made = cls.of_factors(tensors["means"], tensors["factors"], tensors["weights"])
        made.weights = tensors["weights"]
        return made


def _factors(covariances: Any, means: Tensor) -> Tensor:
    """Split each covariance into rows whose squares sum to it, by its eigenvectors."""
    n, d = means.shape
    if not isinstance(covariances, Tensor) or covariances.shape != (n, d, d):
        shape = tuple(covariances.shape) if isinstance(covariances, Tensor) else type(covariances).__name__
        raise ValueError(f"got covariances {shape}; expected ({n}, {d}, {d}), one matrix a mean")
    require_finite(covariances, "the covariances")
    wide = covariances.detach().double()
    values, vectors = torch.linalg.eigh((wide + wide.mT) / 2)
    size = values.abs().amax(1).clamp_min(1e-300)
    skew = ((wide - wide.mT).abs().amax((1, 2)) / size).max()
    if bool((values[:, 0] < -1e-6 * size).any()) or bool(skew > _SKEW):
        raise ValueError(
            f"got a matrix with least eigenvalue {float(values.min()):.3g} and relative asymmetry {float(skew):.2g}; "
            "expected covariances: symmetric, no eigenvalue below 0"
        )
    values = torch.where(values > _CUT * size[:, None], values, 0.0)
    return (values.sqrt()[:, :, None] * vectors.mT).to(means)
