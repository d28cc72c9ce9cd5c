r"""Dense associative memory: the Hopfield network with a separation function that grows faster than a square.

With overlaps :math:`s_n = x^T y_n` of states and patterns in {-1, 1} and weights :math:`w_n`,

.. math::
   u(x) = -\frac{d}{k} \sum_n w_n \left[s_n / d\right]_+^k \quad\text{(power)}, \qquad
   u(x) = -\log \sum_n w_n \exp(s_n) \quad\text{(exp)} .

Both are :math:`h(\sum_n F(s_n))` with a *decreasing* `h`; "strictly monotonic", as printed, is not enough, since with
an increasing one the patterns are maxima. The factors make the field of a pattern that is stored alone that pattern, as
in `Hopfield`; the logarithm keeps exponentials finite. Neither changes where the minima are.

A feature takes the side on which the energy is lower (Krotov and Hopfield). With :math:`s_n` taken without feature `j`,
and since :math:`y_{nj} = \pm 1`, that is

.. math:: x_j \leftarrow \mathrm{sign} \sum_n w_n\, y_{nj} \left[F(s_n + 1) - F(s_n - 1)\right].

`F` is convex, so a feature that a cue leaves open, at 0, loses energy too when it takes a side. About :math:`d^{k-1}`
random patterns are kept, and exponentially many with `exp`, fewer the larger the share of the cue that is wrong.

Reference: Krotov and Hopfield 2016; Demircigil et al. 2017; Ambrogioni 2024, equation 4. Cost: a sweep keeps the
overlaps and takes O(n) a feature and state, O(b n d) together; O(b n) memory besides the patterns.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mnemotrace.core.artifact import Artifact
from mnemotrace.core.memory import known_of, states_of
from mnemotrace.memories.binary import order_of, require_binary, sign_or_keep
from mnemotrace.memories.patterns import Kept, Patterns, store_of

Separation = Literal["power", "exp"]


class DenseMemory(nn.Module):
    """Stored patterns under a separation function.

    Attributes:
        patterns: the store, by which the memory is edited; may be shared with another memory. Rows with other entries
            than -1 and 1 are refused when they are used.
        degree: of the rectified power.
        separation: `"power"` or `"exp"`.
    """

    kind = "dense_memory"

    def __init__(
        self,
        patterns: Patterns | Float[Tensor, "n d"],
        *,
        degree: int = 3,
        separation: Separation = "power",
        weights: Float[Tensor, " n"] | None = None,
    ) -> None:
        """Store patterns.

        Args:
            patterns: entries -1 and 1, one pattern a row; or a store of such, which is then shared and not copied.
            degree: of the rectified power, from 2; 2 is about Hebb's rule. Not used by `"exp"`.
            separation: `"power"` or `"exp"`.
            weights: how often each pattern counts; None counts each once.

        Raises:
            TypeError: no floating-point tensor.
            ValueError: other entries, a degree below 2, another name, a weight that is not above 0, or weights beside
                a store.
            NonFiniteError: NaN or infinity.
        """
        super().__init__()
        if separation not in ("power", "exp"):
            raise ValueError(f"got separation={separation!r}; expected 'power' or 'exp'")
        if not isinstance(degree, int) or degree < 2:
            raise ValueError(f"got degree={degree!r}; expected a whole number from 2; 2 is about Hebb's rule")
        self.degree, self.separation = degree, separation
        self.patterns = store_of(patterns, weights)
        self._rows: Kept[Tensor] = Kept()
        self._binary()

    @property
    def d(self) -> int:
        """Number of features."""
        return self.patterns.d

    def __len__(self) -> int:
        """Count stored patterns."""
        return len(self.patterns)

    def energy(self, x: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """Return the energy of states.

        Raises:
            TypeError: no floating-point tensor.
            ValueError: another width.
            NonFiniteError: NaN or infinity.
        """
        overlaps, _ = self._overlaps(self._states(x))
        if self.separation == "exp":
            return -torch.logsumexp(overlaps + self.patterns.weights.log(), 1)
        powers = (overlaps / self.d).clamp_min(0).pow(self.degree)
        return -self.d / self.degree * (powers @ self.patterns.weights)

    def field(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """Return minus the gradient of the energy: the patterns, weighed by how much each counts at a state."""
        overlaps, rows = self._overlaps(self._states(x))
        if self.separation == "exp":
            return torch.softmax(overlaps + self.patterns.weights.log(), 1) @ rows
        counts = (overlaps / self.d).clamp_min(0).pow(self.degree - 1)
        return (counts * self.patterns.weights) @ rows

    def sweep(
        self,
        x: Float[Tensor, "b d"],
        *,
        known: Bool[Tensor, "#b d"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b d"]:
        """Update every feature once; see `core.memory.Memory.sweep`. The order is one for all states of a batch.

        Raises:
            TypeError: states that are no floating-point tensor, or a mask that is not boolean.
            ValueError: another width.
            NonFiniteError: NaN or infinity.
        """
        x = self._states(x).clone()
        held = known_of(known, x)
        overlaps, rows = self._overlaps(x)
        slack = 4 * torch.finfo(x.dtype).eps * len(self) ** 0.5
        for j in order_of(self.d, held, generator):
            y = rows[:, j].contiguous()
            overlaps.addr_(x[:, j], y, alpha=-1)
            pulls = self._pulls(overlaps)
            new = sign_or_keep(pulls @ y, x[:, j], slack * pulls.sum(1))
            x[:, j] = new if held is None else torch.where(held[:, j], x[:, j], new)
            overlaps.addr_(x[:, j], y)
        return x

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        return Artifact(self.kind, {"degree": self.degree, "separation": self.separation}, self.patterns.pack().tensors)

    @classmethod
    def unpack(cls, artifact: Artifact) -> "DenseMemory":
        """Rebuild from an artifact."""
        return cls(Patterns.unpack(artifact), **artifact.header)

    def _pulls(self, overlaps: Tensor) -> Tensor:
        """Return `w (F(s + 1) - F(s - 1))`, up to a positive factor a state; never negative, since `F` rises."""
        weights = self.patterns.weights
        if self.separation == "exp":
            return torch.softmax(overlaps + weights.log(), 1)
        sides = [((overlaps + step) / self.d).clamp_min(0).pow(self.degree) for step in (1, -1)]
        return (sides[0] - sides[1]) * weights

    def _binary(self) -> Tensor:
        """Return the rows, checked once for as long as they stay: a store takes any."""
        values = self.patterns.values
        return self._rows.get(lambda: require_binary(values), values)

    def _overlaps(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rows = self._binary().to(x)
        return x @ rows.T, rows

    def _states(self, x: Tensor) -> Tensor:
        return states_of(x, self.d, "states").to(self.patterns.weights)
