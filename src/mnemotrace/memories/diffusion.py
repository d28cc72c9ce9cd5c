r"""Stored patterns as an exact diffusion model: what is expected, what is likeliest, or a draw.

A state is a pattern plus Gaussian noise, :math:`x = y + \sigma\epsilon`. With weights :math:`w_n` the density of
states, its score, and the energy that falls along it are

.. math::
   p_\sigma(x) \propto \sum_n w_n\, e^{-|x - y_n|^2 / 2\sigma^2}, \qquad
   \nabla \log p_\sigma(x) = \frac{\mathrm{E}[y \mid x] - x}{\sigma^2}, \qquad
   u(x) = -\sigma^2 \log \sum_n w_n\, e^{(x \cdot y_n - |y_n|^2 / 2) / \sigma^2} + \tfrac12 |x|^2 ,

and the probability of pattern `n` given a state is the softmax of
:math:`\log w_n + (x \cdot y_n - |y_n|^2/2)/\sigma^2`. The energy is that of a modern Hopfield network at
:math:`\beta = 1/\sigma^2`, at every :math:`\beta`, and a step of that network is :math:`\mathrm{E}[y \mid x]`. Built on
one `Patterns`, the two are one memory seen twice: `DiffusionMemory(hopfield.patterns, sigma=hopfield.beta**-0.5)` and
`ModernHopfield(diffusion.patterns, beta=diffusion.sigma**-2)`.

Those are variance-exploding coordinates. In variance-preserving ones,
:math:`x = \alpha y + \sqrt{1 - \alpha^2}\,\epsilon`, everything holds of :math:`x/\alpha` at
:math:`\beta = \alpha^2 / (1 - \alpha^2)`, the ratio of signal to noise: it is the one clock.

Reference: Ambrogioni 2024, In search of dispersed memories, equations 8 and 11-14, with the printed errors corrected
(`docs/explain/diffusion-memory.md`). Cost: one retrieval a call, O(b n d) time and O(b n) memory.
"""

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mnemotrace.core.artifact import Artifact
from mnemotrace.core.memory import known_of, sigma_of, states_of
from mnemotrace.memories.lookup import Found, lookup, scores
from mnemotrace.memories.patterns import Patterns, store_of

Noise = float | Tensor


class DiffusionMemory(nn.Module):
    """Patterns as an exact denoiser, a score, a posterior, and an energy at a noise of its own.

    Three questions have three answers, and none stands for another:

    * `expected`: the mean over all patterns. The least squared error; where the cue is ambiguous, a blend of patterns
      that was never stored.
    * `map`: the likeliest pattern. The fewest wrong recalls; silent about the others.
    * `sample`: patterns as often as they are likely. For uncertainty and for imagining; a single draw is more often
      wrong than `map`.

    Attributes:
        patterns: the store, by which the memory is edited; may be shared with another memory.
        sigma: noise that a cue is expected to carry where a call does not say; also that of `energy` and `sweep`.
    """

    kind = "diffusion_memory"

    def __init__(
        self,
        patterns: Patterns | Float[Tensor, "n d"],
        *,
        sigma: float = 1.0,
        weights: Float[Tensor, " n"] | None = None,
    ) -> None:
        """See patterns as a diffusion model.

        Args:
            patterns: rows, or a store, which is then shared and not copied.
            sigma: above 0 and finite, in the units of the patterns; 1 suits features of unit spread.
            weights: of the rows, as if each were stored that many times; None counts each once.

        Raises:
            TypeError: no floating-point tensor.
            ValueError: another shape, a noise or weight out of range, or weights beside a store.
            NonFiniteError: NaN or infinity among the patterns.
        """
        super().__init__()
        if not isinstance(sigma, int | float) or not 0 < sigma < float("inf"):
            raise ValueError(f"got sigma={sigma}; expected one positive, finite number; give others at each call")
        self.patterns = store_of(patterns, weights)
        self.sigma = float(sigma)

    @property
    def d(self) -> int:
        """Number of features of a state."""
        return self.patterns.d

    def __len__(self) -> int:
        """Count stored patterns."""
        return len(self.patterns)

    def forward(self, x: Float[Tensor, "b d"], sigma: Noise) -> Float[Tensor, "b d"]:
        """Return `E[y | x]` for `x = y + sigma * noise`: the memory as a `Denoiser`.

        Args:
            x: states.
            sigma: noise, for all, a feature, a state, or each; infinite where nothing is known.

        Raises:
            TypeError: no floating-point tensor.
            ValueError: another shape, or noise that is not above 0.
            NonFiniteError: NaN or infinity in the states.
        """
        rows, noise = self._read(x, sigma)
        return self._found(rows, noise).mean.to(rows.dtype)

    def score(
        self,
        x: Float[Tensor, "b d"],
        *,
        sigma: Noise | None = None,
        coordinates: Literal["exploding", "preserving"] = "exploding",
    ) -> Float[Tensor, "b d"]:
        """Return the gradient of the log-density of noisy states.

        Args:
            x: states, in the coordinates that are named.
            sigma: noise over signal, `s / alpha`; in exploding coordinates the noise itself. None takes the memory's.
            coordinates: `x = y + sigma eps`, or `x = alpha y + s eps` with `alpha**2 + s**2 = 1`.

        Raises:
            TypeError: no floating-point tensor.
            ValueError: another shape, other coordinates, or noise that is not above 0.
            NonFiniteError: NaN or infinity in the states.
        """
        if coordinates not in ("exploding", "preserving"):
            raise ValueError(f"got coordinates={coordinates!r}; expected 'exploding' or 'preserving'")
        rows, noise = self._read(x, sigma)
        alpha = alpha_of(noise) if coordinates == "preserving" else 1.0
        scaled = rows / alpha
        return (self.forward(scaled, noise) - scaled) / (noise.square() * alpha)

    def energy(self, x: Float[Tensor, "b d"], *, sigma: Noise | None = None) -> Float[Tensor, " b"]:
        """Return `-sigma**2 log p(x)` up to a constant: that of a modern Hopfield network at `beta = 1 / sigma**2`.

        Args:
            x: states.
            sigma: finite noise, one number or one a state; None takes the memory's.

        Raises:
            TypeError: no floating-point tensor.
            ValueError: another shape, noise that is not above 0, or differs between features.
            NonFiniteError: NaN or infinity in the states.
        """
        rows, noise = self._read(x, sigma)
        if noise.shape[1] != 1 or not bool(noise.isfinite().all()):
            raise ValueError(
                f"got sigma of shape {tuple(noise.shape)}, up to {float(noise.max()):.3g}; expected finite noise, one "
                "number or one a state, (b, 1): an energy has one temperature; use score for noise by feature"
            )
        total = self._found(rows, noise).log_total
        return (0.5 * rows.to(total.dtype).square().sum(1) - noise.square()[:, 0] * total).to(rows.dtype)

    def sweep(
        self,
        x: Float[Tensor, "b d"],
        *,
        known: Bool[Tensor, "#b d"] | None = None,
        generator: torch.Generator | None = None,  # noqa: ARG002
    ) -> Float[Tensor, "b d"]:
        """Return states after one step of the modern Hopfield network at the memory's own noise.

        Args:
            x: states.
            known: features that are held as they are; None updates all.
            generator: not used; there is no order of updates.

        Raises:
            TypeError: no floating-point states, or no boolean mask.
            ValueError: another shape.
            NonFiniteError: NaN or infinity in the states.
        """
        rows, noise = self._read(x, None)
        held = known_of(known, rows)
        found = self._found(rows, noise).mean.to(rows.dtype)
        return found if held is None else torch.where(held, rows, found)

    def posterior(self, x: Float[Tensor, "b d"], *, sigma: Noise | None = None) -> Float[Tensor, "b n"]:
        """Return the exact probability of each pattern given each state, in the order of the store's rows.

        Args:
            x: states, or cues: features of infinite noise count for nothing.
            sigma: noise, as in `forward`; None takes the memory's.

        Raises:
            TypeError: no floating-point tensor.
            ValueError: another shape, or noise that is not above 0.
            NonFiniteError: NaN or infinity in the states.
        """
        return torch.softmax(self._scores(x, sigma), 1)

    def expected(self, cue: Float[Tensor, "b d"], *, sigma: Noise | None = None) -> Float[Tensor, "b d"]:
        """Return the posterior mean: use it where the error is counted in squares, and a blend does no harm.

        Args:
            cue: one a row.
            sigma: noise of the cue, as in `forward`; None takes the memory's.

        Raises:
            TypeError: no floating-point tensor.
            ValueError: another shape, or noise that is not above 0.
            NonFiniteError: NaN or infinity in the cue.
        """
        return self.forward(cue, self.sigma if sigma is None else sigma)

    def map(self, cue: Float[Tensor, "b d"], *, sigma: Noise | None = None) -> Float[Tensor, "b d"]:
        """Return the most probable stored pattern: use it where the answer must be one memory, and right most often.

        Args:
            cue: one a row.
            sigma: noise of the cue, as in `forward`; None takes the memory's. With equal weights and one number for
                all features it does not matter.

        Raises:
            TypeError: no floating-point tensor.
            ValueError: another shape, or noise that is not above 0.
            NonFiniteError: NaN or infinity in the cue.
        """
        return self.patterns.values[self._scores(cue, sigma).argmax(1)]

    def sample(
        self,
        cue: Float[Tensor, "b d"],
        *,
        sigma: Noise | None = None,
        count: int = 1,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "s b d"]:
        """Draw stored patterns, each as often as it is probable: use it to show what a cue leaves open.

        Args:
            cue: one a row.
            sigma: noise of the cue, as in `forward`; None takes the memory's.
            count: independent draws a cue.
            generator: source of randomness; None seeds one with 0.

        Raises:
            TypeError: no floating-point tensor.
            ValueError: another shape, noise that is not above 0, or no draw.
            NonFiniteError: NaN or infinity in the cue.
        """
        if count < 1:
            raise ValueError(f"got count={count}; expected at least 1 draw a cue")
        source = generator or torch.Generator().manual_seed(0)
        chances = self.posterior(cue, sigma=sigma).to(source.device)
        drawn = torch.multinomial(chances, count, replacement=True, generator=source)
        return self.patterns.values[drawn.T.to(self.patterns.values.device)]

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        return Artifact(self.kind, {"sigma": self.sigma}, self.patterns.pack().tensors)

    @classmethod
    def unpack(cls, artifact: Artifact) -> "DiffusionMemory":
        """Rebuild from an artifact; the rows stay in the file until they are used."""
        return cls(Patterns.unpack(artifact), sigma=artifact.header["sigma"])

    def _read(self, x: Any, sigma: Any) -> tuple[Tensor, Tensor]:
        rows = states_of(x, self.d, "states")
        rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
        return rows, sigma_of(self.sigma if sigma is None else sigma, rows)

    def _found(self, rows: Tensor, noise: Tensor) -> Found:
        store = self.patterns
        squares = store.squares if noise.shape[1] == 1 else None
        return lookup(rows, store.values, _precision(noise), log_weights=store.log_weights, squares=squares)

    def _scores(self, x: Any, sigma: Any) -> Tensor:
        rows, noise = self._read(x, sigma)
        return scores(rows, self.patterns.values, _precision(noise), log_weights=self.patterns.log_weights)


def alpha_of(sigma: Tensor) -> Tensor:
    """Return the signal's share `alpha` in variance-preserving coordinates at noise over signal `sigma`."""
    return (1 + sigma.square()).rsqrt()


def _precision(noise: Tensor) -> Tensor:
    """Return `1 / sigma**2`, bounded so that products with it stay finite."""
    return noise.clamp_min(torch.finfo(noise.dtype).tiny ** 0.25).pow(-2)
