r"""Recall by denoising: follow a denoiser from a noisy state down to a clean one.

A grid of noise levels :math:`\sigma_1 \ge \dots \ge \sigma_s` leads down; with :math:`D = D(x, \sigma) = E[y \mid x]`,
:math:`\tau = \sigma^2` and primes for the next level, one step is

* `euler_maruyama`: :math:`x' = x + (\tau - \tau')\,(D - x)/\tau + \sqrt{\tau - \tau'}\,z`, the reversed diffusion;
* `bridge`: :math:`x' = D + (\tau'/\tau)(x - D) + \sqrt{\tau'(\tau - \tau')/\tau}\,z`, ancestral sampling;
* `ddim`: :math:`x' = D + (\sigma'/\sigma)(x - D)`, Euler's step along the probability flow;
* `heun`: the same with the slope :math:`(x - D)/\sigma` averaged over both ends.

Each ends with the denoised state at the last level. The first two draw from the posterior; the last two are
deterministic and end near its mode, not at it.

Levels may differ between features, which is how a partial cue is asked: what is known starts at its own small noise,
the rest at a large one, and each feature waits until the common level has come down to its own (`noise_grid`). Writing
the known features over the state at every step, as is often done, gives other statistics even with a perfect denoiser;
`overwriting` is there to show it.

Reference: Song et al. 2021, Score-based generative modeling through SDEs; Song, Meng, Ermon 2021 (DDIM); Karras et al.
2022 (Heun). Cost: `s` evaluations of the denoiser, `2 s - 1` for `heun`, and O(s b d) besides.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mnemotrace.core.linalg import require_finite
from mnemotrace.core.memory import Denoiser, known_of, sigma_of

Levels = Float[Tensor, " s"] | Float[Tensor, "s d"] | Float[Tensor, "s #b #d"] | Sequence[float]
Sampler = Callable[..., Tensor]


def noise_grid(
    sigma: float | Tensor, x: Float[Tensor, "b d"], *, steps: int, smallest: float
) -> Float[Tensor, "s #b #d"]:
    """Return levels that fall geometrically from the largest noise of a state; smaller noise waits for its turn.

    Args:
        sigma: noise at the beginning, for all, a feature, a state, or each; finite.
        x: states that the levels are for.
        steps: number of levels, at least 1.
        smallest: the last level, in the units of the patterns; noise that begins below it stays as it is.

    Raises:
        ValueError: steps or a noise out of range.
    """
    begin = sigma_of(sigma, x)
    if steps < 1 or not bool(begin.isfinite().all()) or not 0 < smallest < float("inf"):
        raise ValueError(
            f"got steps={steps}, smallest={smallest} and noise up to {float(begin.max()):.3g}; expected at least 1 "
            "step, a positive last level and finite noise; for a feature of which nothing is known take ten times its "
            "spread"
        )
    top = begin.amax(1, keepdim=True)
    share = torch.linspace(0, 1, steps, dtype=begin.dtype, device=begin.device)[:, None, None]
    return torch.minimum(begin, top * (top.clamp_max(smallest) / top) ** share)


def euler_maruyama(
    denoiser: Denoiser, x: Float[Tensor, "b d"], sigmas: Levels, *, generator: torch.Generator | None = None
) -> Float[Tensor, "b d"]:
    """Draw from the posterior by the reversed diffusion (Song et al. 2021).

    Args:
        denoiser: what is expected, given a state and its noise.
        x: states at the first level.
        sigmas: levels that do not rise: numbers, rows `(s, d)` of one a feature, or what `noise_grid` gives.
        generator: source of randomness; None seeds one with 0.

    Raises:
        ValueError: no level, or levels that rise or are not above 0.
        NonFiniteError: NaN or infinity in the states, at the beginning or at the end.
    """
    levels, draw = _levels(sigmas, x), _noise(x, generator)
    for now, after in pairwise(levels):
        gone = now**2 - after**2
        x = x + gone / now**2 * (denoiser(x, now) - x) + gone.sqrt() * draw()
    return _last(denoiser, x, levels)


def bridge(
    denoiser: Denoiser, x: Float[Tensor, "b d"], sigmas: Levels, *, generator: torch.Generator | None = None
) -> Float[Tensor, "b d"]:
    """Draw from the posterior by bridges to what is expected (ancestral sampling); see `euler_maruyama`."""
    levels, draw = _levels(sigmas, x), _noise(x, generator)
    for now, after in pairwise(levels):
        clean, kept = denoiser(x, now), (after / now) ** 2
        x = clean + kept * (x - clean) + after * (1 - kept).sqrt() * draw()
    return _last(denoiser, x, levels)


def ddim(
    denoiser: Denoiser,
    x: Float[Tensor, "b d"],
    sigmas: Levels,
    *,
    generator: torch.Generator | None = None,  # noqa: ARG001
) -> Float[Tensor, "b d"]:
    """Follow the probability flow by Euler steps (Song, Meng, Ermon 2021); draws nothing; see `euler_maruyama`."""
    levels = _levels(sigmas, x)
    for now, after in pairwise(levels):
        clean = denoiser(x, now)
        x = clean + after / now * (x - clean)
    return _last(denoiser, x, levels)


def heun(
    denoiser: Denoiser,
    x: Float[Tensor, "b d"],
    sigmas: Levels,
    *,
    generator: torch.Generator | None = None,  # noqa: ARG001
) -> Float[Tensor, "b d"]:
    """Follow the probability flow by Heun's steps (Karras et al. 2022); draws nothing; see `euler_maruyama`."""
    levels = _levels(sigmas, x)
    for now, after in pairwise(levels):
        slope = (x - denoiser(x, now)) / now
        guess = x + (after - now) * slope
        x = x + (after - now) * (slope + (guess - denoiser(guess, after)) / after) / 2
    return _last(denoiser, x, levels)


def overwriting(
    denoiser: Denoiser,
    cue: Float[Tensor, "b d"],
    *,
    known: Bool[Tensor, "#b d"],
    generator: torch.Generator | None = None,
) -> Denoiser:
    """Return a denoiser that sees the cue, noised to the level, in place of known features: a baseline, and biased.

    At every level the state's known features are replaced ("inpainting by replacement"). They then carry fresh noise
    that the unknown ones do not agree with, and what is recalled has a wrong mean and spread. Give the features their
    own noise instead.

    Args:
        denoiser: what is expected, given a state and its noise.
        cue: states whose known features count.
        known: True where a feature is known.
        generator: source of randomness; None seeds one with 0.

    Raises:
        TypeError: no boolean mask.
        ValueError: a mask of another shape.
    """
    known_of(known, cue)
    draw = _noise(cue, generator)

    def replaced(x: Tensor, sigma: Tensor) -> Tensor:
        clean = denoiser(torch.where(known, cue + sigma * draw(), x), sigma)
        return torch.where(known, cue, clean)

    return replaced


def _levels(sigmas: Levels, x: Tensor) -> tuple[Tensor, ...]:
    """Return levels in shapes that broadcast to states, after checking them and the states, all at once."""
    require_finite(x, "the states")
    grid = torch.as_tensor(sigmas, dtype=x.dtype, device=x.device)
    grid = grid[:, None, None] if grid.ndim == 1 else grid[:, None] if grid.ndim == 2 else grid
    fits = grid.ndim == 3 and len(grid) > 0 and grid.shape[1] in (1, len(x)) and grid.shape[2] in (1, x.shape[1])
    if not fits or not bool(((grid > 0) & grid.isfinite()).all()) or bool((grid.diff(dim=0) > 0).any()):
        ends = f" from {float(grid[0].max()):.3g} to {float(grid[-1].min()):.3g}" if fits else ""
        raise ValueError(
            f"got noise levels of shape {tuple(grid.shape)}{ends}; expected (s,), (s, {x.shape[1]}) or (s, 1 or "
            f"{len(x)}, 1 or {x.shape[1]}), positive, finite, none above the one before it; make them with noise_grid"
        )
    return grid.unbind()


def _noise(x: Tensor, generator: torch.Generator | None) -> Callable[[], Tensor]:
    source = generator or torch.Generator().manual_seed(0)
    return lambda: torch.randn(x.shape, generator=source, dtype=x.dtype, device=source.device).to(x.device)


def _last(denoiser: Denoiser, x: Tensor, levels: Sequence[Tensor]) -> Tensor:
    """Denoise at the last level."""
    clean = denoiser(x, levels[-1])
    require_finite(clean, "the recalled states")
    return clean
