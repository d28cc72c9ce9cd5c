r"""Fit a denoiser to patterns: denoising score matching with noise of several kinds.

With :math:`x = y + \sigma \epsilon` and the noise that a denoiser predicts, :math:`s(x) = (x - D(x)) / \sigma`,

.. math::
   L = \tfrac12 E\,\|\epsilon - s(x)\|^2, \qquad \nabla \log p_\sigma(x) \approx -\frac{s(x)}{\sigma}, \qquad
   W \leftarrow W + \eta \left(\frac{\partial s}{\partial W}\right)^{\!T} (\epsilon - s) .

These are equations 9, 10 and 22 of Ambrogioni 2024 as they must read. Printed are the noise
:math:`(x - y) / (\sigma t)`, which with clean data at the end is :math:`(x - y) / (\sigma \sqrt{T - t})`; the score
without :math:`\sqrt{T - t}`; and a minus in the step, which climbs the loss. The minimum is the exact score of the
patterns given: that is what memorising them means.

The loss here is that of equation 9 with the weight :math:`(\sigma_j^2 + s^2) / s^2` on feature `j`, which leaves the
minimum where it is and gives all noise levels the same share in it (Karras et al. 2022, section 5):
:math:`\|(D(x) - y) / c_\text{out}\|^2`. A feature of infinite noise counts too, which equation 9 does not let it.

Reference: Ambrogioni 2024, *In search of dispersed memories*, equations 9, 10, 22; Vincent 2011. Cost: one forward and
one backward pass of the network a step.
"""

import copy
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mnemotrace.core.artifact import library_version
from mnemotrace.core.errors import NonFiniteError
from mnemotrace.core.memory import states_of
from mnemotrace.core.progress import Progress, silent
from mnemotrace.formation.noise import GAUSSIAN, LEVELS, corrupt
from mnemotrace.memories.denoiser import TrainedDenoiser
from mnemotrace.memories.patterns import Patterns

_POINTS = 100


def fit_denoiser(
    patterns: Patterns | Tensor | Iterable[Tensor],
    *,
    network: nn.Module | None = None,
    steps: int = 1200,
    batch_size: int = 256,
    learning_rate: float = 2e-3,
    noise: Mapping[str, float] = GAUSSIAN,
    levels: tuple[float, float] = LEVELS,
    known: Bool[Tensor, "m d"] | None = None,
    weights: Float[Tensor, " n"] | None = None,
    generator: torch.Generator,
    progress: Progress = silent,
) -> TrainedDenoiser:
    """Train a denoiser on stored patterns, or on a stream of batches.

    Args:
        patterns: `(n, d)`, a store, or batches `(b, d)`, of which one is taken a step.
        network: a denoiser to go on with, or a network to wrap (see `TrainedDenoiser`); neither is changed. None draws
            an MLP with two hidden layers of 256.
        steps: of Adam, its rate falling to zero along a half cosine.
        batch_size: patterns a step; of a stream, whatever comes.
        learning_rate: at the first step.
        noise: share of each kind: `gaussian`, one level for all features; `mask`, two levels, the larger one infinite
            half of the time; `flips`, features mirrored at the centre, which is what a wrong bit is.
        levels: smallest and largest noise, in units of the patterns' spread; drawn uniformly in the logarithm.
        known: masks that cues will have, a row each, True where a feature is known: three of four `mask` states then
            hide what one of them does not know. Needed where cues lack whole regions; None scatters what is hidden,
            and its neighbours tell most of it.
        weights: how often each pattern is drawn, relative to the others; None takes the store's, or all alike.
        generator: of first weights, patterns and noise.
        progress: called after each step.

    Returns:
        A denoiser; `manifest["losses"]` is its loss curve as means over at most a hundred stretches of steps.

    Raises:
        TypeError: no patterns; weights for a stream; masks that are not boolean.
        ValueError: patterns without spread, a kind of noise that does not exist, masks of another width, a number out
            of range, or a stream that ends early.
        NonFiniteError: NaN or infinity in the patterns, or a loss that diverged.
    """
    _check(steps, batch_size, learning_rate)
    if isinstance(patterns, Patterns | Tensor):
        store = patterns if isinstance(patterns, Patterns) else Patterns(patterns, weights=weights)
        shares = store.weights if weights is None else Patterns(store.values, weights=weights).weights
        first, batches = store.values, _drawn(store.values, shares, batch_size, generator)
    else:
        if weights is not None:
            raise TypeError("got weights for a stream of batches; expected a tensor or a store; weigh what you stream")
        first, batches = _opened(patterns)
        shares = None
    denoiser = begin(first, shares, network, generator)
    losses = train(
        denoiser,
        batches,
        steps=steps,
        learning_rate=learning_rate,
        noise=noise,
        levels=levels,
        known=known,
        generator=generator,
        progress=progress,
    )
    denoiser.manifest = {
        "method": "fit_denoiser",
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "noise": dict(noise),
        "levels": list(levels),
        "masks": 0 if known is None else len(known),
        "seed": generator.initial_seed(),
        "version": library_version(),
        "losses": losses,
    }
    return denoiser


def begin(
    rows: Float[Tensor, "n d"], weights: Tensor | None, network: nn.Module | None, generator: torch.Generator
) -> TrainedDenoiser:
    """Return a denoiser to train: a copy of the one given, or a new one with centre and spread of the rows.

    Raises:
        ValueError: rows without spread, or of another width than the denoiser's.
    """
    if isinstance(network, TrainedDenoiser):
        if network.d != rows.shape[1]:
            raise ValueError(f"got patterns with {rows.shape[1]} features for a denoiser of {network.d}")
        return copy.deepcopy(network)
    shares = torch.ones_like(rows[:, 0]) if weights is None else weights
    shares = (shares / shares.sum())[:, None]
    centre = (shares * rows).sum(0)
    spread = float((shares * (rows - centre).square()).sum().div(rows.shape[1]).sqrt())
    if not spread > 0:
        raise ValueError(
            f"got {len(rows)} patterns that are all alike; expected some spread, to know the scale of the noise; pass "
            "network=TrainedDenoiser(d, centre=..., spread=...) to say it"
        )
    own = None if network is None else copy.deepcopy(network)
    return TrainedDenoiser(rows.shape[1], network=own, centre=centre, spread=spread, generator=generator)


def train(
    denoiser: TrainedDenoiser,
    batches: Iterator[Tensor],
    *,
    steps: int,
    learning_rate: float,
    noise: Mapping[str, float],
    levels: tuple[float, float],
    known: Tensor | None = None,
    generator: torch.Generator,
    progress: Progress = silent,
) -> list[float]:
    """Train a denoiser in place, one batch a step; returns the loss curve. See `fit_denoiser`."""
    optimiser = torch.optim.Adam(denoiser.parameters(), lr=learning_rate)
    decay = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps)))
    denoiser.train()
    found: list[Tensor] = []
    for step in range(steps):
        clean = next(batches, None)
        if clean is None:
            raise ValueError(f"got a stream of {step} batches; expected {steps}, one a step; lower steps, or repeat it")
        clean = states_of(clean, denoiser.d, "patterns").to(denoiser.centre)
        noisy, sigma = corrupt(denoiser, clean, noise, levels, generator, known=known)
        loss = denoising_loss(denoiser, clean, noisy, sigma)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        decay.step()
        found.append(loss.detach())
        progress(step + 1, steps, "steps")
    denoiser.eval()
    curve = torch.stack(found)
    if not bool(curve.isfinite().all()):
        first = int((~curve.isfinite()).nonzero()[0])
        raise NonFiniteError(f"got a loss that is not finite at step {first}; expected a smaller learning_rate")
    return [float(part.mean()) for part in curve.tensor_split(min(steps, _POINTS))]


def denoising_loss(
    denoiser: TrainedDenoiser, clean: Float[Tensor, "b d"], noisy: Float[Tensor, "b d"], sigma: Float[Tensor, "b d"]
) -> Float[Tensor, ""]:
    """Return the mean of `((D(x) - y) / c_out)^2`: equation 9, weighed so that every level counts alike."""
    _, out, _ = denoiser.coefficients(sigma)
    return ((denoiser(noisy, sigma) - clean) / out).square().mean()


def predicted_noise(denoiser: Any, x: Float[Tensor, "b d"], sigma: Tensor) -> Float[Tensor, "b d"]:
    """Return `s = (x - D(x)) / sigma`, what equations 9 and 10 call the network; the score is `-s / sigma`."""
    return (x - denoiser(x, sigma)) / sigma


def _check(steps: int, batch_size: int, learning_rate: float) -> None:
    if min(steps, batch_size) < 1 or not 0 < learning_rate < math.inf:
        raise ValueError(
            f"got steps={steps}, batch_size={batch_size}, learning_rate={learning_rate}; expected at least one step of "
            "one pattern, and a positive rate"
        )


def _drawn(rows: Tensor, weights: Tensor, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    shares = weights.double().to(generator.device)
    while True:
        yield rows[torch.multinomial(shares, batch_size, replacement=True, generator=generator).to(rows.device)]


def _opened(stream: Any) -> tuple[Tensor, Iterator[Tensor]]:
    """Look at the first batch of a stream, and give it back."""
    if not isinstance(stream, Iterable):
        raise TypeError(f"got a {type(stream).__name__}; expected patterns (n, d), a store, or an iterable of batches")
    batches: Iterator[Any] = iter(stream)
    first = next(batches, None)
    if not isinstance(first, Tensor) or first.ndim != 2:
        what = tuple(first.shape) if isinstance(first, Tensor) else type(first).__name__
        raise TypeError(f"got a stream whose first batch is {what}; expected tensors of shape (b, d)")
    rows = states_of(first, first.shape[1], "patterns")
    return rows, _joined(rows, batches)


def _joined(first: Tensor, batches: Iterator[Tensor]) -> Iterator[Tensor]:
    yield first
    yield from batches
