r"""Noise to learn from: one level for all features, two levels, or flipped signs.

* `gaussian`: :math:`x = y + \sigma \epsilon`, with :math:`\log \sigma` uniform between two levels;
* `mask`: some features, any share of them, have a larger noise of their own, which half of the time is infinite: their
  value is not seen at all. Needed if cues will be partial, which are nothing like equal noise. Features hidden one by
  one leave neighbours to read: where cues will lack whole regions, give masks (`known`), for three of four;
* `flips`: up to a quarter of the features are mirrored at the centre. A flip with probability `p` is an error of
  variance :math:`4 p s^2` for patterns of spread `s`, and the network is told so.

Cost: O(b d).
"""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mnemotrace.memories.denoiser import TrainedDenoiser

KINDS = ("gaussian", "mask", "flips")
GAUSSIAN = {"gaussian": 1.0}
LEVELS = (0.02, 10.0)
_MOST_FLIPS, _BLIND, _GIVEN = 0.25, 0.5, 0.75


def corrupt(
    denoiser: TrainedDenoiser,
    clean: Float[Tensor, "b d"],
    noise: Mapping[str, float],
    levels: tuple[float, float],
    generator: torch.Generator,
    *,
    known: Bool[Tensor, "m d"] | None = None,
) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b d"]]:
    """Make noisy states of clean ones; returns them and the standard deviation of the noise on each feature.

    Args:
        denoiser: gives the patterns' centre and spread.
        clean: patterns.
        noise: share of each kind.
        levels: smallest and largest noise, in units of the spread.
        generator: of all that is drawn.
        known: what cues may know, a mask a row; three of four states with `mask` noise hide what one of them does
            not know. None scatters all.

    Raises:
        TypeError: masks that are not boolean.
        ValueError: a kind of noise that does not exist, shares that do not fit, levels out of range, or masks of
            another width.
    """
    shares, spread = _shares(noise), denoiser.spread
    if not 0 < levels[0] <= levels[1] < math.inf:
        raise ValueError(f"got levels={tuple(levels)}; expected two positive numbers, the smaller first")
    b, d = clean.shape

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device=generator.device).to(clean)

    def level() -> Tensor:
        low, high = (math.log(value) for value in levels)
        return spread * torch.exp(low + (high - low) * uniform(b, 1))

    kind = torch.multinomial(shares, b, replacement=True, generator=generator).to(clean.device)[:, None]
    small = level()
    sigma, noisy = small.expand(b, d), torch.randn(b, d, generator=generator, device=generator.device).to(clean)
    if noise.get("mask"):
        hidden = uniform(b, d) < uniform(b, 1)
        if known is not None:
            chosen = masks_of(known, d)[torch.randint(len(known), (b,), generator=generator, device=generator.device)]
            hidden = torch.where(uniform(b, 1) < _GIVEN, ~chosen.to(clean.device), hidden)
        large = torch.where(uniform(b, 1) < _BLIND, math.inf, torch.maximum(small, level()))
        sigma = torch.where((kind == 1) & hidden, large, sigma)
    noisy = torch.where(sigma.isinf(), denoiser.centre, clean + sigma * noisy)
    if noise.get("flips"):
        rate = _MOST_FLIPS * uniform(b, 1)
        wrong = uniform(b, d) < rate
        noisy = torch.where(kind == 2, torch.where(wrong, 2 * denoiser.centre - clean, clean), noisy)
        least = levels[0] * spread
        sigma = torch.where(kind == 2, torch.maximum(2 * rate.sqrt() * spread, least), sigma)
    return noisy, sigma


def masks_of(known: Bool[Tensor, "m d"], d: int) -> Bool[Tensor, "m d"]:
    """Check masks of what cues know.

    Raises:
        TypeError: no boolean tensor.
        ValueError: another shape.
    """
    if not isinstance(known, Tensor) or known.dtype != torch.bool:
        what = known.dtype if isinstance(known, Tensor) else type(known).__name__
        raise TypeError(f"got known as {what}; expected masks of dtype bool, (m, {d}), True where a feature is known")
    if known.ndim != 2 or len(known) == 0 or known.shape[1] != d:
        raise ValueError(f"got known of shape {tuple(known.shape)}; expected (m, {d}), at least one mask a row")
    return known


def _shares(noise: Mapping[str, float]) -> Tensor:
    unknown = noise.keys() - set(KINDS)
    values = [noise.get(kind, 0.0) for kind in KINDS]
    if unknown or min(values) < 0 or not 0 < sum(values) < math.inf:
        raise ValueError(f"got noise={dict(noise)}; expected shares of {', '.join(KINDS)}, none negative, not all zero")
    return torch.tensor(values)
