r"""Many memories in one, each with the mass that it has: episodes beside a semantic memory, points beside spheres.

.. math::
   u(x) = -\sigma^2 \log \sum_n \pi_n k_n(x), \qquad
   p(n | x) = \frac{\pi_n k_n(x)}{\sum_m \pi_m k_m(x)}, \qquad E[y | x] = \sum_n p(n | x) E_n[y | x] .

Equation 23 with a normalised measure for each set and explicit :math:`\pi_n`: as printed, sets of different dimension
compete through a volume that depends on the noise. Of many points it is a modern Hopfield network.

:math:`\frac1{2}|x|^2 - u(x)` is convex for any measure, so that :math:`x \leftarrow E[y | x]` never raises the energy;
`Landscape` is that energy with that update, at one noise.

Reference: Ambrogioni 2024, equation 23. Cost: the sum of the parts'.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mnemotrace.core.artifact import Artifact, within
from mnemotrace.core.memory import known_of, states_of
from mnemotrace.memories.core_memory import Core
from mnemotrace.memories.extended import Affine, Point
from mnemotrace.memories.gaussian import GaussianMixture
from mnemotrace.memories.kernels import Explained, checked
from mnemotrace.memories.shapes import Samples, Sphere


class Extended(Protocol):
    """A probability measure on clean patterns, seen through noise."""

    @property
    def d(self) -> int:
        """Number of features."""
        ...

    @property
    def fixed(self) -> Tensor:
        """`(d,)`: features that are the same in all that the memory holds."""
        ...

    def explain(self, x: Tensor, sigma: Any, /) -> Explained:
        """Return log-kernel and expected pattern of states."""
        ...


class Mixture(nn.Module):
    """Memories with weights.

    Attributes:
        parts: the memories.
        weights: `(n,)`, sum 1.
    """

    kind = "mixture"
    weights: Tensor

    def __init__(self, parts: Sequence[Extended], *, weights: Float[Tensor, " n"] | None = None) -> None:
        """Mix memories.

        Args:
            parts: of this package, all of one width, each with a normalised measure.
            weights: above 0, made to sum to 1; None counts all alike.

        Raises:
            TypeError: a part that has no `explain`.
            ValueError: no part, parts of different width, a flat prior, or weights that do not fit.
        """
        super().__init__()
        _check_parts(parts)
        given = torch.ones(len(parts)) if weights is None else weights.detach()
        if given.shape != (len(parts),) or not bool(((given > 0) & given.isfinite()).all()):
            raise ValueError(
                f"got weights {tuple(given.shape)} for {len(parts)} parts; expected one a part, finite, above 0; leave "
                "out a part that should not count"
            )
        self.parts = nn.ModuleList(parts)  # pyright: ignore[reportArgumentType]
        self.register_buffer("weights", given / given.sum())

    def __len__(self) -> int:
        """Count parts."""
        return len(self.parts)

    @property
    def d(self) -> int:
        """Number of features."""
        return self.parts[0].d  # pyright: ignore[reportReturnType]

    @property
    def approximate(self) -> bool:
        """Whether the kernel of a part is no marginal of a diffusion."""
        return any(getattr(part, "approximate", False) for part in self.parts)

    @property
    def fixed(self) -> Bool[Tensor, " d"]:
        """Features that are the same in all that the memory holds; a mixture claims none."""
        return torch.zeros(self.d, dtype=torch.bool, device=self.weights.device)

    def explain(self, x: Float[Tensor, "b d"], sigma: Any) -> Explained:
        """Return log-kernel and expected pattern of states."""
        found, shares, total = self._all(x, sigma)
        means = torch.stack([part.mean for part in found], 1)
        return Explained(total, (shares[..., None] * means).sum(1))

    def log_kernel(self, x: Float[Tensor, "b d"], sigma: Any) -> Float[Tensor, " b"]:
        """Return the log-density of noisy states."""
        return self._all(x, sigma)[2]

    def forward(self, x: Float[Tensor, "b d"], sigma: Any) -> Float[Tensor, "b d"]:
        """Return the expected clean pattern."""
        return self.explain(x, sigma).mean

    def posterior(self, x: Float[Tensor, "b d"], sigma: Any) -> Float[Tensor, "b n"]:
        """Return the probability of each part, given noisy states."""
        return self._all(x, sigma)[1]

    def _all(self, x: Tensor, sigma: Any) -> tuple[list[Explained], Tensor, Tensor]:
        x, sigma = checked(x, sigma, self.d)
        found: list[Explained] = [part.explain(x, sigma) for part in self.parts]  # pyright: ignore
        log = torch.stack([part.log_kernel for part in found], 1) + self.weights.log().to(x)
        return found, torch.softmax(log, 1), torch.logsumexp(log, 1)

    def pack(self) -> Artifact:
        """Turn into an artifact, with its parts inside.

        Raises:
            TypeError: a part that cannot be stored.
        """
        packed = [part.pack() for part in self.parts]  # pyright: ignore
        header = {"parts": [{"kind": part.kind, "header": dict(part.header)} for part in packed]}
        tensors = {f"{i}.{name}": tensor for i, part in enumerate(packed) for name, tensor in part.tensors.items()}
        return Artifact(self.kind, header, {"weights": self.weights, **tensors})

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Mixture":
        """Rebuild from an artifact."""
        parts = [
            _KINDS[part["kind"]].unpack(Artifact(part["kind"], part["header"], within(artifact.tensors, f"{i}.")))
            for i, part in enumerate(artifact.header["parts"])
        ]
        priors: dict[int, GaussianMixture] = {}
        for i, part in enumerate(parts):
            if isinstance(part, Core):  # episodes over one semantic memory go on sharing it
                part.prior = priors.setdefault(id(artifact.tensors[f"{i}.prior.means"]), part.prior)
        made = cls(parts, weights=artifact.tensors["weights"])
        made.weights = artifact.tensors["weights"]
        return made


_KINDS: dict[str, Any] = {each.kind: each for each in (Point, Affine, Sphere, Samples, GaussianMixture, Core, Mixture)}


@dataclass(frozen=True, eq=False)
class Landscape:
    """The energy of a memory at one noise, with the update that lowers it: what `mt.recall` goes down on.

    Attributes:
        memory: of this package; a `Core` in its conditional form.
        sigma: noise, one number above 0; small makes narrow basins.
    """

    memory: Extended
    sigma: float

    def __post_init__(self) -> None:
        """Refuse what has no such update."""
        if not 0 < self.sigma < float("inf"):
            raise ValueError(f"got sigma={self.sigma}; expected a finite number above 0")
        if getattr(self.memory, "approximate", False):
            raise ValueError(
                "got a core that is approximate or not conditional, whose expected pattern is no step down; expected "
                "linear features in the conditional form"
            )

    @property
    def d(self) -> int:
        """Number of features."""
        return self.memory.d

    def energy(self, x: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """Return the energy, `-sigma^2 log` of the density of states."""
        return -(self.sigma**2) * self.memory.explain(x, self.sigma).log_kernel

    def sweep(
        self,
        x: Float[Tensor, "b d"],
        *,
        known: Bool[Tensor, "#b d"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b d"]:
        """Return the expected patterns; known features stay as they are. Nothing is drawn."""
        del generator
        x = states_of(x, self.d)
        held = known_of(known, x)
        found = self.memory.explain(x, self.sigma).mean
        return found if held is None else torch.where(held, x, found)


def _check_parts(parts: Sequence[Any]) -> None:
    if len(parts) == 0:
        raise ValueError("got no parts; expected at least one memory")
    for part in parts:
        if not isinstance(part, nn.Module) or not callable(getattr(part, "explain", None)):
            raise TypeError(f"got a {type(part).__name__} as a part; expected a memory of mnemotrace.memories")
        if isinstance(part, Affine) and part.scale == float("inf") and len(part.basis) > 0:
            raise ValueError(
                "got a part with a flat prior, which has no mass to share; expected an Affine with a scale"
            )
    if len({part.d for part in parts}) > 1:
        raise ValueError(f"got parts of width {sorted({part.d for part in parts})}; expected one width")
