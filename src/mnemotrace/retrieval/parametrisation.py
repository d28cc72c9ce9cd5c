r"""How a picture is written as free numbers, so that steps of equal size change it in a natural way.

Fourier: :math:`x = irfft(S \cdot c)`, :math:`S(f) = 1 / \max(f, 1/N)`, so coarse structure moves first, as in the
spectrum of natural pictures; pixel: :math:`x` itself. Colours are mixed by a square root :math:`M` of a covariance of
colours, and a sigmoid keeps the range:

.. math:: \text{picture} = low + (high - low)\,\sigma(x M^T)

Without bounds a picture has unit root mean square instead, since a linear unit would grow for ever.

Reference: Olah, Mordvintsev, Schubert 2017, Feature visualization, section on preconditioning; the default square
root, of three natural colours, is the one published with it (lucid). Cost: one inverse transform a step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.core.linalg import require_finite

Parametrisation = Literal["fourier", "pixel"]
Bounds = tuple[float, float] | None
NATURAL = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))
_CONTRAST, _EDGE = 4.0, 0.02


@dataclass(frozen=True, eq=False)
class Canvas:
    """Pictures as free numbers.

    Attributes:
        shape: `(c, h, w)` or `(c, t)`.
        fourier: whether the numbers are coefficients of frequencies.
        mixing: `(c, c)` square root of a covariance of colours; None mixes nothing.
        bounds: lowest and highest value; None fixes the root mean square at 1.
    """

    shape: tuple[int, ...]
    fourier: bool
    mixing: Tensor | None
    bounds: Bounds

    def draw(self, n: int, generator: torch.Generator, scale: float = 1.0) -> Tensor:
        """Draw free numbers of `n` nearly even pictures; `scale` raises their contrast."""
        size = (n, *self.shape)
        if self.fourier:
            size = (n, *self.shape[:-1], self.shape[-1] // 2 + 1, 2)
        return 0.01 * scale * torch.randn(size, generator=generator, device=generator.device)

    def paint(self, numbers: Tensor) -> Float[Tensor, "n c *s"]:
        """Turn free numbers into pictures."""
        x = numbers
        if self.fourier:
            coefficients = torch.view_as_complex(numbers.contiguous()) * self._spectrum(numbers)
            x = torch.fft.irfftn(coefficients, s=self.shape[1:], dim=self._axes, norm="ortho") / _CONTRAST
        if self.mixing is not None:
            x = torch.einsum("oc,nc...->no...", self.mixing.to(x), x)
        if self.bounds is None:
            return x / x.flatten(1).pow(2).mean(1).sqrt().clamp_min(1e-12).view(-1, *[1] * len(self.shape))
        low, high = self.bounds
        return low + (high - low) * torch.sigmoid(x)

    def unpaint(self, pictures: Float[Tensor, "n c *s"]) -> Tensor:
        """Find the numbers that give pictures; what lies at the bounds is drawn in by a fiftieth of the range."""
        x = pictures
        if self.bounds is not None:
            low, high = self.bounds
            x = torch.logit(((x - low) / (high - low)).clamp(_EDGE, 1 - _EDGE))
        if self.mixing is not None:
            x = torch.einsum("oc,nc...->no...", torch.linalg.inv(self.mixing.double()).to(x), x)
        if not self.fourier:
            return x.clone()
        coefficients = torch.fft.rfftn(x * _CONTRAST, dim=self._axes, norm="ortho") / self._spectrum(x)
        return torch.view_as_real(coefficients).clone()

    @property
    def _axes(self) -> tuple[int, ...]:
        return tuple(range(2, len(self.shape) + 1))

    def _spectrum(self, like: Tensor) -> Tensor:
        *before, last = self.shape[1:]
        squares = torch.fft.rfftfreq(last) ** 2
        for side in reversed(before):
            squares = torch.fft.fftfreq(side)[:, None] ** 2 + squares
        return (1 / squares.sqrt().clamp_min(1 / max(self.shape[1:]))).to(like)


def canvas(
    shape: Sequence[int],
    *,
    parametrisation: Parametrisation = "fourier",
    decorrelate: bool | Float[Tensor, "c c"] = True,
    bounds: Bounds = (0.0, 1.0),
) -> Canvas:
    """Choose how pictures are written.

    Args:
        shape: `(c, h, w)` of pictures or `(c, t)` of signals, any number of channels.
        parametrisation: "fourier" or "pixel".
        decorrelate: True mixes three channels as natural colours go together and leaves other numbers of channels as
            they are; a `(c, c)` covariance mixes those; False mixes nothing.
        bounds: lowest and highest value of a picture; None for inputs without, which get unit root mean square.

    Raises:
        ValueError: a shape, name, covariance or bounds that cannot be.
        NonFiniteError: NaN or infinity in the covariance.
    """
    if len(shape) not in (2, 3) or any(side < 1 for side in shape):
        raise ValueError(f"got shape={tuple(shape)}; expected (c, h, w) or (c, t), without the batch")
    if parametrisation not in ("fourier", "pixel"):
        raise ValueError(f"got parametrisation={parametrisation!r}; expected 'fourier' or 'pixel'")
    if bounds is not None and not bounds[0] < bounds[1]:
        raise ValueError(f"got bounds={bounds}; expected a lower and a higher number, or None")
    return Canvas(tuple(shape), parametrisation == "fourier", _mixing(shape[0], decorrelate), bounds)


def _mixing(channels: int, decorrelate: bool | Tensor) -> Tensor | None:
    if isinstance(decorrelate, Tensor):
        if decorrelate.shape != (channels, channels):
            raise ValueError(
                f"got a covariance of shape {tuple(decorrelate.shape)} for {channels} channels; expected "
                f"({channels}, {channels}); take torch.cov of pixels as (c, number)"
            )
        require_finite(decorrelate, "the covariance of colours")
        values, vectors = torch.linalg.eigh(decorrelate.double())
        if not bool(values[0] > 0):
            raise ValueError(
                f"got a covariance of colours with eigenvalue {float(values[0]):.3g}; expected all above 0; add a "
                "little to its diagonal"
            )
        root = vectors @ values.sqrt().diag() @ vectors.T
    elif decorrelate and channels == 3:
        root = torch.tensor(NATURAL, dtype=torch.float64)
    else:
        return None
    return (root / root.norm(dim=0).max()).float()
