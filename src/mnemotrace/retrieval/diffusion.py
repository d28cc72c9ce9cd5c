r"""Recall with any denoiser: from a cue and its noise to a pattern, and to how sure that pattern is.

`recall_by_diffusion` sets noise levels up, runs a sampler and reports. `sampled_posterior` draws many ends for one cue,
takes those that lie together as one memory, and gives each its share with Wilson's interval

.. math:: \frac{\hat p + z^2/2k \pm z \sqrt{\hat p (1 - \hat p) / k + z^2 / 4k^2}}{1 + z^2/k},

of `k` draws. For stored patterns `DiffusionMemory.posterior` is exact and one retrieval; a trained denoiser has no list
of patterns, and this is what remains.

Reference: Wilson 1927; the samplers are in `retrieval.sampling`. Cost: that of the sampler; for a posterior, of `k`
states, and O(k^2 d) for the distances between their ends.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mnemotrace.core.artifact import library_version
from mnemotrace.core.intervals import wilson
from mnemotrace.core.linalg import require_finite
from mnemotrace.core.memory import Denoiser, Recall, known_of, sigma_of
from mnemotrace.retrieval.sampling import Sampler, bridge, ddim, euler_maruyama, heun, noise_grid

SamplerName = Literal["heun", "ddim", "euler_maruyama", "bridge"]
SAMPLERS: dict[str, tuple[Sampler, int]] = {
    "heun": (heun, 10),
    "ddim": (ddim, 10),
    "euler_maruyama": (euler_maruyama, 50),
    "bridge": (bridge, 50),
}
_SETTLED = 3.0


@dataclass(frozen=True, eq=False)
class SampledPosterior:
    """What draws for one cue ended as, the most frequent first.

    Attributes:
        state: `(m, d)` mean of the draws that ended together.
        share: `(m,)` of the draws; sums to 1.
        low: `(m,)` lower end of the interval of the share.
        high: `(m,)` upper end.
        member: `(k,)` which of the `m` each draw belongs to.
        draws: `(k, d)` the ends themselves.
    """

    state: Float[Tensor, "m d"]
    share: Float[Tensor, " m"]
    low: Float[Tensor, " m"]
    high: Float[Tensor, " m"]
    member: Int[Tensor, " k"]
    draws: Float[Tensor, "k d"]


@torch.no_grad()
def recall_by_diffusion(
    denoiser: Denoiser,
    cue: Float[Tensor, "b d"],
    *,
    sigma: float | Tensor,
    known: Bool[Tensor, "#b d"] | None = None,
    sampler: SamplerName = "heun",
    steps: int | None = None,
    largest: float = 10.0,
    smallest: float = 0.01,
    generator: torch.Generator | None = None,
    trajectory: bool = False,
) -> Recall:
    """Denoise cues level by level until clean patterns are left.

    Args:
        denoiser: a `DiffusionMemory`, a trained network, or anything with the call `(x, sigma) -> x0`.
        cue: one a row.
        sigma: noise that the cue carries, in the units of the patterns: for all, a feature, a state, or each. Infinite
            where nothing is known: such features are not read but drawn.
        known: True where a feature is known; the others are asked for, as if their noise were infinite.
        sampler: `heun` and `ddim` find one end near the posterior's mode; `euler_maruyama` and `bridge` draw one from
            it. Where features are asked for, their beginning is drawn, and every sampler draws.
        steps: noise levels; None takes 10 for the deterministic ones and 50 for the others.
        largest: noise that features which are asked for begin with: ten times their spread, so that the beginning
            tells nothing.
        smallest: the last level: well under the distance between patterns, in a feature.
        generator: source of randomness; None seeds one with 0.
        trajectory: keep the states at all levels.

    Returns:
        The end states. `converged`: the last denoising moved a state by no more than the last level's noise explains
        (three standard deviations in the mean square). A denoiser has no energy, and the posterior is left to
        `DiffusionMemory.posterior`: over a large store it would need far more memory than the recall.

    Raises:
        TypeError: no floating-point cue or no boolean mask.
        ValueError: a shape, noise, number of steps or sampler that does not fit.
        NonFiniteError: NaN or infinity in the cue or in what the denoiser returned.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"got sampler={sampler!r}; expected one of {', '.join(SAMPLERS)}")
    step, usual = SAMPLERS[sampler]
    source = generator or torch.Generator().manual_seed(0)
    seed = source.initial_seed()
    x, noise = _begin(cue, sigma, known, largest, source)
    levels = noise_grid(noise, x, steps=usual if steps is None else steps, smallest=smallest)
    watched = _Watched(denoiser, trajectory)
    state = step(watched, x, levels, generator=source)
    moved = ((state - watched.states[-1]) / levels[-1]).square().mean(1).sqrt()
    manifest = {
        "method": "diffusion",
        "memory": getattr(denoiser, "kind", type(denoiser).__name__),
        "sampler": sampler,
        "steps": len(levels),
        "largest": largest,
        "smallest": smallest,
        "seed": seed,
        "version": library_version(),
    }
    return Recall(
        state=state,
        energy=None,
        steps=torch.full((len(x),), len(levels), device=x.device),
        converged=moved <= _SETTLED,
        cycle=torch.zeros(len(x), dtype=torch.long, device=x.device),
        trajectory=torch.stack([*watched.states, state]) if trajectory else None,
        evaluations=watched.count,
        manifest=manifest,
    )


def sampled_posterior(
    denoiser: Denoiser,
    cue: Float[Tensor, " d"],
    *,
    sigma: float | Tensor,
    radius: float,
    known: Bool[Tensor, " d"] | None = None,
    count: int = 200,
    confidence: float = 0.95,
    sampler: Literal["euler_maruyama", "bridge"] = "euler_maruyama",
    steps: int | None = None,
    largest: float = 10.0,
    smallest: float = 0.01,
    generator: torch.Generator | None = None,
) -> SampledPosterior:
    """Draw many ends for one cue and count how often each memory is among them.

    Args:
        denoiser: as for `recall_by_diffusion`.
        cue: one state, `(d,)`.
        sigma: its noise, a number or one a feature.
        radius: ends no further apart are the same memory, and so are chains of them: well under the distance between
            patterns, well over the spread of ends around one.
        known: True where a feature is known.
        count: draws; the widest interval is about `1 / sqrt(count)` to each side.
        confidence: of the intervals, between 0 and 1.
        sampler: one that draws.
        steps: noise levels; None takes 50.
        largest: as for `recall_by_diffusion`.
        smallest: as for `recall_by_diffusion`.
        generator: source of randomness; None seeds one with 0.

    Raises:
        TypeError: no floating-point cue or no boolean mask.
        ValueError: more than one cue, or a setting that does not fit.
        NonFiniteError: NaN or infinity in the cue or in what the denoiser returned.
    """
    if not isinstance(cue, Tensor) or cue.ndim != 1 or count < 1:
        shape = tuple(cue.shape) if isinstance(cue, Tensor) else type(cue).__name__
        raise ValueError(f"got a cue {shape} and count={count}; expected one cue of shape (d,) and at least 1 draw")
    if not 0 < radius < float("inf") or not 0 < confidence < 1:
        raise ValueError(f"got radius={radius} and confidence={confidence}; expected above 0, and within (0, 1)")
    if sampler not in ("euler_maruyama", "bridge"):
        raise ValueError(f"got sampler={sampler!r}; expected one that draws: 'euler_maruyama' or 'bridge'")
    recalled = recall_by_diffusion(
        denoiser,
        cue.expand(count, -1),
        sigma=sigma,
        known=known,
        sampler=sampler,
        steps=steps,
        largest=largest,
        smallest=smallest,
        generator=generator,
    )
    draws = recalled.state
    member = _together(draws, radius)
    size = torch.bincount(member)
    mean = torch.zeros(len(size), draws.shape[1], dtype=draws.dtype, device=draws.device)
    mean = mean.index_add(0, member, draws) / size[:, None]
    low, high = wilson(size, count, confidence=confidence)
    return SampledPosterior(mean, size / count, low, high, member, draws)


class _Watched:
    """A denoiser that counts its calls and keeps the last state of each level, or of the last one only."""

    def __init__(self, denoiser: Denoiser, every: bool) -> None:
        self.denoiser, self.every = denoiser, every
        self.count, self.level = 0, None
        self.states: list[Tensor] = []

    def __call__(self, x: Tensor, sigma: Tensor, /) -> Tensor:
        self.count += 1
        if sigma is self.level or not self.every:
            self.states = self.states[:-1]
        self.states.append(x)
        self.level = sigma
        return self.denoiser(x, sigma)


def _begin(
    cue: Tensor, sigma: float | Tensor, known: Tensor | None, largest: float, source: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return states and the noise that they carry; features that are asked for are drawn at the largest."""
    if not isinstance(cue, Tensor) or not cue.is_floating_point() or cue.ndim not in (1, 2) or cue.numel() == 0:
        what = f"{tuple(cue.shape)} of {cue.dtype}" if isinstance(cue, Tensor) else f"a {type(cue).__name__}"
        raise TypeError(f"got a cue {what}; expected floating-point numbers, (b, d); call .float() on it")
    if not 0 < largest < float("inf"):
        raise ValueError(f"got largest={largest}; expected a positive, finite noise, ten times the features' spread")
    x = cue[None] if cue.ndim == 1 else cue
    held, noise = known_of(known, x), sigma_of(sigma, x)
    noise = noise if held is None else torch.where(held, noise, torch.inf)
    asked = noise.isinf()
    if not bool(asked.any()):
        require_finite(x, "the cue")
        return x, noise
    drawn = torch.randn(x.shape, generator=source, dtype=x.dtype, device=source.device).to(x.device)
    x = torch.where(asked, largest * drawn, x)
    require_finite(x, "the known part of the cue")
    return x, noise.masked_fill(asked, largest)


def _together(points: Tensor, radius: float) -> Tensor:
    """Label points so that chains of steps up to `radius` share a label; the largest group is 0."""
    near = torch.cdist(points, points) <= radius
    label = torch.arange(len(points), device=points.device)
    while True:
        least = torch.where(near, label[None], len(points)).amin(1)
        if torch.equal(least, label):
            break
        label = least
    _, label, size = label.unique(return_inverse=True, return_counts=True)
    return size.argsort(descending=True, stable=True).argsort()[label]
