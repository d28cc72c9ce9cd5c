r"""A trained denoiser: a network that says what clean pattern is expected, with its own noise for each feature.

.. math::
   D(x; \sigma) = c_\text{skip}\,x + c_\text{out}\,F(c_\text{in}\,x;\; \tfrac14 \log\tfrac{\sigma}{s}), \qquad
   c_\text{skip} = \frac{s^2}{\sigma^2 + s^2}, \quad c_\text{out} = \frac{\sigma s}{\sqrt{\sigma^2 + s^2}}, \quad
   c_\text{in} = \frac{1}{\sqrt{\sigma^2 + s^2}}

with patterns taken relative to their centre and of root mean square `s` around it (Karras et al. 2022, table 1). All
coefficients belong to one feature: noise is a vector, and the network reads it next to the state. So a partial cue is
small noise on what is known and infinite noise on what is asked for, where :math:`c_\text{in} = 0` and the value given
is not looked at. With no noise the state comes back; with an untrained network (its last layer is zero) the
posterior mean of a Gaussian.

Unlike an exact memory it has no energy: its residual need not be the gradient of anything.

Reference: Karras, Aittala, Aila, Laine 2022, *Elucidating the design space of diffusion-based generative models*.
Cost: one forward pass, O(b sum of products of neighbouring widths).
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemotrace.core.artifact import Artifact
from mnemotrace.core.linalg import require_finite
from mnemotrace.core.memory import sigma_of, states_of

_FURTHEST = 7.0


class TrainedDenoiser(nn.Module):
    """A network with preconditioning, called with `(x, sigma)`.

    Attributes:
        network: `(b, d)` scaled states and `(b, d)` noise features to `(b, d)`.
        centre: `(d,)`, subtracted before and added after.
        manifest: provenance: how it was trained, with the loss curve.
    """

    kind = "denoiser"
    centre: Tensor
    spread: Tensor

    def __init__(
        self,
        d: int,
        *,
        network: nn.Module | None = None,
        widths: Sequence[int] = (256, 256),
        centre: Float[Tensor, " d"] | None = None,
        spread: float = 1.0,
        generator: torch.Generator | None = None,
        manifest: Mapping[str, Any] | None = None,
    ) -> None:
        """Take a network, or draw a small one.

        Args:
            d: number of features.
            network: your own, called with scaled states and noise features, both `(b, d)`; None is an MLP with SiLU.
            widths: of the hidden layers of the MLP.
            centre: mean of the patterns; None is zero.
            spread: root mean square of the patterns around it, above 0.
            generator: of the MLP's first weights.
            manifest: provenance.

        Raises:
            ValueError: no feature, no hidden layer, a centre of another shape, or a spread that is not positive.
            NonFiniteError: NaN or infinity in the centre.
        """
        super().__init__()
        if d < 1 or not widths or min(widths) < 1:
            raise ValueError(f"got d={d} and widths={tuple(widths)}; expected at least one feature and one hidden unit")
        if not 0 < spread < float("inf"):
            raise ValueError(
                f"got spread={spread}; expected a positive number, the root mean square of the patterns around their "
                "centre; patterns that are all alike have none"
            )
        middle = torch.zeros(d) if centre is None else centre.detach()
        if middle.shape != (d,):
            raise ValueError(f"got a centre of shape {tuple(middle.shape)}; expected ({d},), one number a feature")
        require_finite(middle, "the centre")
        self.widths = None if network is not None else tuple(widths)
        self.network = network if network is not None else Perceptron(d, widths, generator).to(middle.dtype)
        self.register_buffer("centre", middle)
        self.register_buffer("spread", torch.tensor(float(spread), dtype=middle.dtype))
        self.manifest: dict[str, Any] = dict(manifest or {})

    @property
    def d(self) -> int:
        """Number of features."""
        return len(self.centre)

    def forward(self, x: Float[Tensor, "b d"], sigma: Any) -> Float[Tensor, "b d"]:
        """Return the clean pattern that is expected behind each state.

        Args:
            x: noisy states.
            sigma: standard deviation of the noise, broadcast to `x`; infinite where a feature is not known at all.

        Raises:
            TypeError: no floating-point tensor.
            ValueError: another width, or noise that is not above 0.
            NonFiniteError: NaN or infinity in the states.
        """
        x = states_of(x, self.d, "x")
        sigma = sigma_of(sigma, x).expand_as(x)
        skip, out, inner = self.coefficients(sigma)
        centred = x - self.centre
        feature = (sigma / self.spread).log().clamp(-_FURTHEST, _FURTHEST) / 4
        return self.centre + skip * centred + out * self.network(inner * centred, feature)

    def coefficients(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return `c_skip`, `c_out` and `c_in`, written so that infinite noise gives 0, `spread` and 0."""
        total = sigma.square() + self.spread.square()
        skip = self.spread.square() / total
        # not 1 - skip, which loses the digits of small noise; the quotient is inf / inf at infinite noise
        out = self.spread / (1 + (self.spread / sigma).square()).sqrt()
        return skip, out, total.rsqrt()

    def pack(self) -> Artifact:
        """Turn into an artifact.

        Raises:
            TypeError: the network is not one of ours: only its maker can rebuild it.
        """
        if self.widths is None:
            raise TypeError(
                f"got a denoiser around a {type(self.network).__name__}; expected our own network, which can be "
                "rebuilt from its widths; save its state_dict, and wrap it again after loading"
            )
        header = {"widths": list(self.widths), "spread": float(self.spread), "manifest": self.manifest}
        return Artifact(self.kind, header, dict(self.state_dict()))

    @classmethod
    def unpack(cls, artifact: Artifact) -> "TrainedDenoiser":
        """Rebuild from an artifact."""
        tensors, header = dict(artifact.tensors), artifact.header
        centre = tensors["centre"]
        found = cls(
            len(centre), widths=header["widths"], centre=centre, spread=header["spread"], manifest=header["manifest"]
        )
        found.load_state_dict(tensors)
        return found


class Perceptron(nn.Module):
    """An MLP with SiLU that reads states and noise features side by side; its last layer begins at zero."""

    def __init__(self, d: int, widths: Sequence[int], generator: torch.Generator | None) -> None:
        """Draw weights uniformly within one over the root of the number of inputs.

        Args:
            d: number of features.
            widths: of the hidden layers.
            generator: of the weights; None takes a fresh one seeded with 0.
        """
        super().__init__()
        source = generator if generator is not None else torch.Generator().manual_seed(0)
        layers: list[nn.Module] = []
        for before, after in pairwise((2 * d, *widths)):
            layers += [_linear(before, after, source), nn.SiLU()]
        last: Any = nn.utils.skip_init(nn.Linear, widths[-1], d)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*layers, last)

    def forward(self, x: Float[Tensor, "b d"], noise: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """Return what the preconditioning calls `F`."""
        return self.layers(torch.cat([x, noise], 1))


def _linear(before: int, after: int, source: torch.Generator) -> nn.Linear:
    layer: Any = nn.utils.skip_init(nn.Linear, before, after)
    for values in (layer.weight, layer.bias):
        nn.init.uniform_(values, -(before**-0.5), before**-0.5, generator=source)
    return layer
