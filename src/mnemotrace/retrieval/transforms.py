"""What happens to a picture before the network sees it, differently at every step: shifts, scales, turns.

A picture that must please a unit wherever it lies and however it is turned has less of the fine noise that fits one
place only. Every transform keeps the size, pads by repeating the border, and draws from the generator that it is
given, once a picture. Any callable `(pictures, generator) -> pictures` serves in their place.

Reference: Olah, Mordvintsev, Schubert 2017, Feature visualization, section on transformation robustness. Cost: one
resampling a transform.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

Transform = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class Jitter:
    """Shifts by whole pixels, at most `pixels` along each axis."""

    pixels: int

    def __call__(self, x: Float[Tensor, "n c *s"], generator: torch.Generator) -> Float[Tensor, "n c *s"]:
        """Shift each picture on its own."""
        sides = x.shape[2:]
        offsets = torch.randint(0, 2 * self.pixels + 1, (len(x), len(sides)), generator=generator).tolist()
        padded = functional.pad(x, [self.pixels] * (2 * len(sides)), mode="replicate")
        return torch.stack(
            [
                picture[(slice(None), *(slice(o, o + s) for o, s in zip(offset, sides, strict=True)))]
                for picture, offset in zip(padded, offsets, strict=True)
            ]
        )


@dataclass(frozen=True)
class Scale:
    """Enlarges or shrinks about the centre, by a factor between `low` and `high`; of a signal, in time."""

    low: float
    high: float

    def __call__(self, x: Float[Tensor, "n c *s"], generator: torch.Generator) -> Float[Tensor, "n c *s"]:
        """Scale each picture on its own."""
        factor = self.low + (self.high - self.low) * torch.rand(len(x), generator=generator)
        across = 1 / factor
        down = across if x.ndim == 4 else torch.ones_like(across)
        zero = torch.zeros_like(across)
        return _resampled(x, torch.stack([across, zero, zero, down], 1))


@dataclass(frozen=True)
class Rotate:
    """Turns pictures about their centre, by at most `degrees` either way; only `(n, c, h, w)`."""

    degrees: float

    def __call__(self, x: Float[Tensor, "n c h w"], generator: torch.Generator) -> Float[Tensor, "n c h w"]:
        """Turn each picture on its own.

        Raises:
            ValueError: not pictures.
        """
        if x.ndim != 4:
            raise ValueError(
                f"got {x.ndim - 2} axes behind the channels for Rotate; expected pictures (n, c, h, w); leave it out"
            )
        angle = torch.deg2rad(self.degrees * (2 * torch.rand(len(x), generator=generator) - 1))
        ratio = x.shape[2] / x.shape[3]
        cos, sin = angle.cos(), angle.sin()
        return _resampled(x, torch.stack([cos, -sin * ratio, sin / ratio, cos], 1))


def robust(shape: Sequence[int]) -> tuple[Transform, ...]:
    """Return the default set for inputs of a shape: shift, scale, turn, shift; a signal is not turned."""
    side = min(shape[1:])
    far, near = max(1, round(side / 16)), max(1, round(side / 32))
    if len(shape) == 2:
        return (Jitter(far), Scale(0.95, 1.05), Jitter(near))
    return (Jitter(far), Scale(0.92, 1.08), Rotate(8.0), Jitter(near))


def _resampled(x: Tensor, entries: Tensor) -> Tensor:
    """Read pictures through one linear map a picture, given by rows, in units of half a side."""
    pictures = x if x.ndim == 4 else x[:, :, None]
    theta = functional.pad(entries.view(-1, 2, 2), (0, 1)).to(x)
    grid = functional.affine_grid(theta, list(pictures.shape), align_corners=False)
    return functional.grid_sample(pictures, grid, padding_mode="border", align_corners=False).view_as(x)
