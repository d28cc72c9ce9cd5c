r"""Memories that are flat sets instead of points: a place, a line, a plane, a subspace of any dimension.

Each holds a probability measure :math:`\mu` on clean patterns and offers the log-density of noisy states,
:math:`\log E_{y \sim \mu} N(x; y, \sigma^2)`, and the clean pattern that is expected behind one, :math:`E[y | x]`.
Noise is one number or one a feature; infinite noise on a feature asks for it and uses nothing of it.

As printed, equation 23 has no measure, and an integral that diverges on unbounded sets. With a measure it is the
marginal of a diffusion, so samplers, posteriors and energies follow (`memories.mixture`). Curved sets are in
`memories.shapes`. See docs/explain/extended-memories.md.

Reference: Ambrogioni 2024, In search of dispersed memories, equation 23. Cost: see `memories.kernels`.
"""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mnemotrace.core.artifact import Artifact
from mnemotrace.core.memory import states_of
from mnemotrace.memories.kernels import Explained, checked, gaussians, log_normal

_FIXED = 1e-6  # of a unit direction: rounding in float32


class Point(nn.Module):
    """One pattern: a memory of zero dimensions.

    Attributes:
        pattern: `(d,)`.
    """

    kind = "point"
    pattern: Tensor

    def __init__(self, pattern: Float[Tensor, " d"]) -> None:
        """Store a pattern `(d,)`.

        Raises:
            TypeError: no floating-point tensor.
            ValueError: another shape.
            NonFiniteError: NaN or infinity.
        """
        super().__init__()
        self.register_buffer("pattern", vector(pattern, "pattern"))

    @property
    def d(self) -> int:
        """Number of features."""
        return len(self.pattern)

    @property
    def fixed(self) -> Bool[Tensor, " d"]:
        """Features that are the same in all that the memory holds: here all."""
        return torch.ones_like(self.pattern, dtype=torch.bool)

    def explain(self, x: Float[Tensor, "b d"], sigma: Any) -> Explained:
        """Return log-kernel and expected pattern of states."""
        x, sigma = checked(x, sigma, self.d)
        pattern = self.pattern.to(x)
        return Explained(log_normal(x - pattern, sigma), pattern.expand_as(x))

    def log_kernel(self, x: Float[Tensor, "b d"], sigma: Any) -> Float[Tensor, " b"]:
        """Return the log-density of noisy states."""
        return self.explain(x, sigma).log_kernel

    def forward(self, x: Float[Tensor, "b d"], sigma: Any) -> Float[Tensor, "b d"]:
        """Return the expected clean pattern."""
        return self.explain(x, sigma).mean

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        return Artifact(self.kind, {}, {"pattern": self.pattern})

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Point":
        """Rebuild from an artifact."""
        return cls(artifact.tensors["pattern"])


class Affine(nn.Module):
    """A flat subspace of any dimension, with a Gaussian or a flat prior on it.

    Attributes:
        origin: `(d,)` a point on it; the mean of the prior.
        basis: `(k, d)` orthonormal directions.
        scale: standard deviation of the prior in every direction; infinite is flat.
    """

    kind = "affine"
    origin: Tensor
    basis: Tensor

    def __init__(self, origin: Float[Tensor, " d"], basis: Float[Tensor, "k d"], *, scale: float = math.inf) -> None:
        """Span a subspace.

        Args:
            origin: a point on it.
            basis: directions, one a row, which are made orthonormal; `(0, d)` is a point.
            scale: above 0, in units of the patterns. Infinite is a flat prior: the kernel is then a density for a unit
                of volume of the subspace, has no total, and cannot enter a mixture.

        Raises:
            TypeError: no floating-point tensor.
            ValueError: shapes that do not fit, directions that depend on each other, or a scale that is not above 0.
            NonFiniteError: NaN or infinity.
        """
        super().__init__()
        self.register_buffer("origin", vector(origin, "origin"))
        self.register_buffer("basis", _orthonormal(basis, len(self.origin)).to(self.origin))
        if not scale > 0:
            raise ValueError(f"got scale={scale}; expected a number above 0, or infinity for a flat prior")
        self.scale = float(scale)

    @property
    def d(self) -> int:
        """Number of features."""
        return len(self.origin)

    @property
    def fixed(self) -> Bool[Tensor, " d"]:
        """Features that are the same everywhere on it."""
        return self.basis.norm(dim=0) <= _FIXED

    def explain(self, x: Float[Tensor, "b d"], sigma: Any) -> Explained:
        """Return log-kernel and expected pattern of states.

        Raises:
            ValueError: infinite noise under a flat prior, which says nothing of such a feature.
        """
        x, sigma = checked(x, sigma, self.d)
        flat = math.isinf(self.scale) and len(self.basis) > 0
        if flat and bool(sigma.isinf().any()):
            raise ValueError("got infinite noise under a flat prior; expected finite noise, or an Affine with a scale")
        factor = self.basis if flat or not len(self.basis) else self.basis * self.scale
        log, mean = gaussians(x, sigma, self.origin[None], factor[None], flat=flat)
        return Explained(log[:, 0].to(x), mean[:, 0].to(x))

    def log_kernel(self, x: Float[Tensor, "b d"], sigma: Any) -> Float[Tensor, " b"]:
        """Return the log-density of noisy states."""
        return self.explain(x, sigma).log_kernel

    def forward(self, x: Float[Tensor, "b d"], sigma: Any) -> Float[Tensor, "b d"]:
        """Return the expected clean pattern; under a flat prior and one noise the projection."""
        return self.explain(x, sigma).mean

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        scale = None if math.isinf(self.scale) else self.scale
        return Artifact(self.kind, {"scale": scale}, {"origin": self.origin, "basis": self.basis})

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Affine":
        """Rebuild from an artifact."""
        scale = artifact.header["scale"]
        made = cls(artifact.tensors["origin"], artifact.tensors["basis"], scale=math.inf if scale is None else scale)
        made.basis = artifact.tensors["basis"]  # the same bits: orthonormal rows are not made so again
        return made


def vector(value: Any, what: str) -> Tensor:
    """Return one pattern `(d,)`, after checking it.

    Raises:
        TypeError: no floating-point tensor.
        ValueError: another shape.
        NonFiniteError: NaN or infinity.
    """
    if isinstance(value, Tensor) and (value.ndim != 1 or len(value) == 0):
        raise ValueError(f"got {what} of shape {tuple(value.shape)}; expected (d,), one pattern")
    return states_of(value, len(value) if isinstance(value, Tensor) else 0, what)[0].detach()


def _orthonormal(basis: Any, d: int) -> Tensor:
    if not isinstance(basis, Tensor) or basis.ndim != 2 or basis.shape[1] != d or len(basis) > d:
        shape = tuple(basis.shape) if isinstance(basis, Tensor) else type(basis).__name__
        raise ValueError(f"got a basis {shape}; expected (k, {d}) with k <= {d}, one direction a row")
    if len(basis) == 0:
        return basis.detach()
    rows = states_of(basis, d, "basis").detach().double()
    found, sizes, right = torch.linalg.svd(rows, full_matrices=False)
    if not bool(sizes[-1] > 1e-6 * sizes[0]):
        raise ValueError(
            f"got {len(basis)} directions of which one depends on the others (singular values {float(sizes[0]):.3g} to "
            f"{float(sizes[-1]):.3g}); expected independent ones; leave some out"
        )
    return found @ right  # the orthonormal rows nearest to the given ones
