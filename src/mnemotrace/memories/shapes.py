r"""Memories that are curved sets: a sphere in closed form, and any other shape by points drawn from it.

As the flat ones (`memories.extended`) each is a probability measure seen through noise. A sphere has one noise for all
features of a state; samples take noise by feature as well.

Reference: Ambrogioni 2024, In search of dispersed memories, equation 23. Cost: sphere O(b d), with some hundred nodes
for each state; samples O(b n d).
"""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mnemotrace.core.artifact import Artifact
from mnemotrace.memories.extended import vector
from mnemotrace.memories.kernels import Explained, checked, log_normal, sphere
from mnemotrace.memories.patterns import Patterns
from mnemotrace.memories.scores import scores


class Sphere(nn.Module):
    """All points at one distance from a centre, each as likely.

    Attributes:
        centre: `(d,)`.
        radius: in units of the patterns.
    """

    kind = "sphere"
    centre: Tensor

    def __init__(self, centre: Float[Tensor, " d"], *, radius: float) -> None:
        """Span a sphere.

        Args:
            centre: `(d,)` with at least two features.
            radius: above 0, finite.

        Raises:
            TypeError: no floating-point tensor.
            ValueError: another shape, a single feature, or a radius out of range.
            NonFiniteError: NaN or infinity.
        """
        super().__init__()
        self.register_buffer("centre", vector(centre, "centre"))
        if len(centre) == 1:
            raise ValueError("got a sphere in one dimension, which is two points; expected d >= 2; use Samples")
        if not 0 < radius < math.inf:
            raise ValueError(f"got radius={radius}; expected a finite number above 0; a radius of 0 is a Point")
        self.radius = float(radius)

    @property
    def d(self) -> int:
        """Number of features."""
        return len(self.centre)

    @property
    def fixed(self) -> Bool[Tensor, " d"]:
        """Features that are the same everywhere on it: none."""
        return torch.zeros_like(self.centre, dtype=torch.bool)

    def explain(self, x: Float[Tensor, "b d"], sigma: Any) -> Explained:
        """Return log-kernel and expected pattern of states.

        Raises:
            ValueError: noise that differs between features.
        """
        x, sigma = checked(x, sigma, self.d)
        if bool((sigma != sigma[:, :1]).any()):
            raise ValueError(
                "got noise that differs between features for a Sphere, which has no closed form; expected a number or "
                "(b, 1); use Samples of the sphere"
            )
        offset = x.double() - self.centre.double()
        distance = offset.square().sum(1).clamp_min(1e-300).sqrt()
        log, cosine = sphere(distance, sigma[:, 0].double(), radius=self.radius, d=self.d)
        mean = self.centre.double() + (self.radius * cosine / distance)[:, None] * offset
        return Explained(log.to(x), mean.to(x))

    def log_kernel(self, x: Float[Tensor, "b d"], sigma: Any) -> Float[Tensor, " b"]:
        """Return the log-density of noisy states."""
        return self.explain(x, sigma).log_kernel

    def forward(self, x: Float[Tensor, "b d"], sigma: Any) -> Float[Tensor, "b d"]:
        """Return the expected clean pattern, which lies inside the sphere as far as its place on it is unknown."""
        return self.explain(x, sigma).mean

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        return Artifact(self.kind, {"radius": self.radius}, {"centre": self.centre})

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Sphere":
        """Rebuild from an artifact."""
        return cls(artifact.tensors["centre"], radius=artifact.header["radius"])


class Samples(nn.Module):
    """Any shape, given by points drawn from it: exact for the points, an estimate for the shape.

    Attributes:
        points: rows `(n, d)` with weights.
    """

    kind = "samples"

    def __init__(self, points: Float[Tensor, "n d"], *, weights: Float[Tensor, " n"] | None = None) -> None:
        """Store points `(n, d)`, with weights above 0 or each counted once; see `Patterns` for what it raises."""
        super().__init__()
        self.points = Patterns(points, weights=weights)

    @property
    def d(self) -> int:
        """Number of features."""
        return self.points.d

    @property
    def fixed(self) -> Bool[Tensor, " d"]:
        """Features that are the same in all points."""
        return (self.points.values == self.points.values[0]).all(0)

    def explain(self, x: Float[Tensor, "b d"], sigma: Any) -> Explained:
        """Return log-kernel and expected pattern of states."""
        x, sigma = checked(x, sigma, self.d)
        rows, weights = self.points.values.to(x), self.points.weights.to(x)
        centre = rows.mean(0)  # squares of small numbers: less cancels
        found = scores(x - centre, rows - centre, sigma**-2, log_weights=(weights / weights.sum()).log())
        log = torch.logsumexp(found, 1) + log_normal(x - centre, sigma)
        return Explained(log, torch.softmax(found, 1) @ rows)

    def log_kernel(self, x: Float[Tensor, "b d"], sigma: Any) -> Float[Tensor, " b"]:
        """Return the log-density of noisy states."""
        return self.explain(x, sigma).log_kernel

    def forward(self, x: Float[Tensor, "b d"], sigma: Any) -> Float[Tensor, "b d"]:
        """Return the expected clean pattern: the mean of the points by how well each explains the state."""
        return self.explain(x, sigma).mean

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        return Artifact(self.kind, {}, {"points": self.points.values, "weights": self.points.weights})

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Samples":
        """Rebuild from an artifact."""
        return cls(artifact.tensors["points"], weights=artifact.tensors["weights"])
