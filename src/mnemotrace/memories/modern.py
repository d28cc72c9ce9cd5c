r"""Modern Hopfield network with norms taken into account, weights, and patterns that can be added and removed.

.. math::
   u(x) = -\frac1\beta \log \sum_n w_n \exp\left(\beta x^T y_n - \tfrac\beta2 |y_n|^2\right) + \tfrac12 |x|^2, \qquad
   x \leftarrow \sum_n \mathrm{softmax}_n\left(\log w_n + \beta x^T y_n - \tfrac\beta2 |y_n|^2\right) y_n .

The update minimises the convex part of the energy plus the tangent of the concave part (the concave-convex procedure),
so it never raises the energy, also where some features are held. The term :math:`|y_n|^2` is what makes the nearest
pattern win as :math:`\beta \to \infty`, where :math:`u \to \tfrac12 \min_n |x - y_n|^2` up to a constant; without it
(`norms=False`, as published) a long pattern beats a near one. Up to a constant the energy is the negative log-density
of the patterns with noise of variance :math:`1/\beta`, in units of :math:`\beta`: the same as `DiffusionMemory.energy`.

Reference: Ramsauer et al. 2021; Ambrogioni 2024, equations 5 and 14, the latter corrected for norms.
Cost: a sweep and an energy are one retrieval each (`lookup`).
"""

import math
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mnemotrace.core.artifact import Artifact
from mnemotrace.core.memory import known_of, states_of
from mnemotrace.memories.lookup import Found, lookup, scores
from mnemotrace.memories.patterns import Kept, Patterns, store_of
from mnemotrace.memories.separation import separating_beta


class ModernHopfield(nn.Module):
    """Continuous states that settle on stored patterns, by softmax retrieval.

    Called as a module it makes one step: attention over the patterns, differentiable in the states.

    Attributes:
        patterns: the store, by which the memory is edited; may be shared with another memory.
        norms: whether the patterns' norms are taken into account.
    """

    kind = "modern_hopfield"

    def __init__(
        self,
        patterns: Patterns | Float[Tensor, "n d"],
        *,
        beta: float | Literal["auto"] = "auto",
        weights: Float[Tensor, " n"] | None = None,
        norms: bool = True,
    ) -> None:
        """Store patterns.

        Args:
            patterns: rows, or a store, which is then shared and not copied.
            beta: inverse temperature, `1 / sigma**2` of the noise to clean up. `"auto"` is the smallest at which 95 %
                of the patterns that can be told apart are, with 99 % of the posterior, from a cue half-way to the mean
                of all others (`separation`). It takes `O(256 n d)` when first needed, and after a change of the store.
            weights: of the rows, as if each were stored that many times; None counts each once.
            norms: False is the published form, for patterns of one norm.

        Raises:
            TypeError: no floating-point tensor, or no store.
            ValueError: another shape, a weight or `beta` that is not above 0, or weights beside a store.
            NonFiniteError: NaN or infinity among the patterns.
        """
        super().__init__()
        if beta != "auto" and not (isinstance(beta, int | float) and 0 < beta < math.inf):
            raise ValueError(f"got beta={beta!r}; expected a positive, finite number, or 'auto'")
        self.patterns = store_of(patterns, weights)
        self.norms = norms
        self._beta = beta if beta == "auto" else float(beta)
        self._separating: Kept[float] = Kept()

    @property
    def beta(self) -> float:
        """Inverse temperature; with `"auto"`, that of the patterns as they are now."""
        if self._beta != "auto":
            return float(self._beta)
        store = self.patterns
        return self._separating.get(lambda: separating_beta(store, norms=self.norms), store.values, store.weights)

    @property
    def d(self) -> int:
        """Number of features of a state."""
        return self.patterns.d

    def __len__(self) -> int:
        """Count stored patterns."""
        return len(self.patterns)

    def energy(self, x: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """Return the energy of states; a sweep does not raise it.

        Raises:
            TypeError: no floating-point tensor.
            ValueError: another shape.
            NonFiniteError: NaN or infinity in the states.
        """
        rows = states_of(x, self.d, "states")
        total = self._found(rows).log_total
        return (0.5 * rows.to(total.dtype).square().sum(1) - total / self.beta).to(rows.dtype)

    def sweep(
        self,
        x: Float[Tensor, "b d"],
        *,
        known: Bool[Tensor, "#b d"] | None = None,
        generator: torch.Generator | None = None,  # noqa: ARG002
    ) -> Float[Tensor, "b d"]:
        """Return states after one step of the concave-convex procedure.

        Args:
            x: states.
            known: features that are held as they are; None updates all.
            generator: not used; there is no order of updates.

        Raises:
            TypeError: no floating-point states, or no boolean mask.
            ValueError: another shape.
            NonFiniteError: NaN or infinity in the states.
        """
        rows = states_of(x, self.d, "states")
        held = known_of(known, rows)
        found = self._found(rows).mean.to(rows.dtype)
        return found if held is None else torch.where(held, rows, found)

    def forward(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """Return states after one step, as a layer; the patterns themselves get no gradient. See `sweep`."""
        return self.sweep(x)

    def posterior(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b n"]:
        """Return the probability of each pattern given each state, in the order of the store's rows; O(b n) memory.

        Raises:
            TypeError: no floating-point tensor.
            ValueError: another shape.
            NonFiniteError: NaN or infinity in the states.
        """
        rows = states_of(x, self.d, "states")
        return torch.softmax(scores(rows, self.patterns.values, self._precision(rows), **self._given()), 1)

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        return Artifact(self.kind, {"beta": self._beta, "norms": self.norms}, self.patterns.pack().tensors)

    @classmethod
    def unpack(cls, artifact: Artifact) -> "ModernHopfield":
        """Rebuild from an artifact; the rows stay in the file until they are used."""
        return cls(Patterns.unpack(artifact), **artifact.header)

    def _precision(self, rows: Tensor) -> Tensor:
        return torch.full((1, 1), self.beta, dtype=torch.float64, device=rows.device)

    def _given(self) -> dict[str, Any]:
        store = self.patterns
        return {"log_weights": store.log_weights, "norms": self.norms, "squares": store.squares if self.norms else None}

    def _found(self, rows: Tensor) -> Found:
        return lookup(rows, self.patterns.values, self._precision(rows), **self._given())
