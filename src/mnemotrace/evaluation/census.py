r"""What a trained memory gives back of itself: memorised, spurious or generalised; and how much of a Funes it is.

A generated state at distances :math:`d_1 \le d_2` from the two nearest stored patterns is

* memorised, if :math:`d_1 < d_2 / 3`: far nearer to one episode than to any other;
* spurious, if it is not, and is a repeatable attractor: another generated state lies within :math:`d_1 / 10`, and
  disturbed by half its distance to the nearest stored pattern, :math:`\sigma = d_1 / (2 \sqrt d)`, and generated again,
  it comes back to within :math:`d_1 / 10`, every time;
* generalised otherwise: a new state that is one of many.

Both halves of the second test are needed. In a world that is a continuum states have close neighbours, but drift along
it when disturbed; in one that is discrete, such as all patterns of signs, each state comes back, but none comes twice.

The three sum to one. Fresh patterns of the same world pass the first test by chance now and then: their share is
`chance`, and stands beside.

The Funes index compares denoising errors with the best possible in a known world,

.. math:: F = \frac{\mathrm{MSE}_\text{held out} - \mathrm{MSE}_\text{Bayes}}{\mathrm{MSE}_\text{Bayes}}
   - \frac{\mathrm{MSE}_\text{train} - \mathrm{MSE}_\text{Bayes}}{\mathrm{MSE}_\text{Bayes}} :

zero for whoever knows the world and no episode, large for whoever knows every episode and nothing else.

Reference: the three phases are those of Pham et al. 2025, arXiv:2505.21777. Cost: O(b (b + n) d) and
`repeats` generations.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.core.artifact import Artifact, library_version
from mnemotrace.core.memory import Denoiser, states_of
from mnemotrace.evaluation.capacity import Rate, nearest, wilson
from mnemotrace.memories.patterns import Patterns

RATIO, SAME = 1 / 3, 1 / 10


@dataclass(frozen=True)
class Census:
    """Shares of generated states, which sum to one.

    Attributes:
        memorised: near to one stored pattern and to no other.
        spurious: not stored, and yet an attractor.
        generalised: the rest.
        chance: share of fresh patterns that would pass for memorised; None where none were given.
        count: generated states.
        manifest: provenance.
    """

    memorised: Rate
    spurious: Rate
    generalised: Rate
    chance: Rate | None
    count: int
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])

    kind = "census"

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        return Artifact(self.kind, asdict(self))

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Census":
        """Rebuild from an artifact."""
        header = dict(artifact.header)
        header |= {name: header[name] and Rate(**header[name]) for name in (*_CLASSES, "chance")}
        return cls(**header)


_CLASSES = ("memorised", "spurious", "generalised")


def census(
    generated: Float[Tensor, "b d"],
    stored: Patterns | Float[Tensor, "n d"],
    *,
    again: Callable[[Tensor, Tensor], Tensor],
    repeats: int = 4,
    fresh: Float[Tensor, "m d"] | None = None,
    generator: torch.Generator,
) -> Census:
    """Count what was generated.

    Args:
        generated: states that a memory made from noise; several times as many as it may have attractors, so that those
            come twice.
        stored: patterns that it was trained on, at least two.
        again: generates from disturbed states, `(b, d)`, and the noise in them, `(b, 1)`: a sampler of the same memory.
            A denoiser itself will do, as one long step.
        repeats: how often each state is disturbed, at least 1.
        fresh: patterns of the same world that were not stored, to know the chance level.
        generator: of the disturbances.

    Returns:
        Shares with Wilson's 95 % intervals.

    Raises:
        TypeError: no floating-point tensor.
        ValueError: fewer than two stored patterns, other widths, or no repeat.
        NonFiniteError: NaN or infinity in the states, or in what `again` returns.
    """
    rows = stored.values if isinstance(stored, Patterns) else stored
    # a pattern stored twice has no second nearest beside itself
    rows = rows.unique(dim=0) if rows.ndim == 2 else rows  # noqa: PLR2004
    if rows.ndim != 2 or len(rows) < 2 or repeats < 1:  # noqa: PLR2004
        raise ValueError(
            f"got stored patterns of shape {tuple(rows.shape)} and repeats={repeats}; expected at least two different "
            "patterns, to tell near from nearest, and one repeat"
        )
    states = states_of(generated, rows.shape[1], "generated states")
    memorised, first = _memorised(states, rows)
    near = SAME * first[:, None]
    # the state itself is one of those within reach
    returns = ~memorised & ((torch.cdist(states, states) < near).sum(1) > 1)
    sigma = (first / (2 * math.sqrt(rows.shape[1]))).clamp(min=torch.finfo(states.dtype).tiny)[:, None]
    for _ in range(repeats):
        noise = torch.randn(states.shape, generator=generator, device=generator.device).to(states)
        with torch.no_grad():
            back = states_of(again(states + sigma * noise, sigma), rows.shape[1], "states that came back")
        returns &= (back - states).norm(dim=1) < near[:, 0]
    shares = [memorised, returns, ~memorised & ~returns]
    chance = None
    if fresh is not None:
        passing, _ = _memorised(states_of(fresh, rows.shape[1], "fresh patterns"), rows)
        chance = wilson(float(passing.double().mean()), len(passing))
    manifest = {
        "stored": len(rows),
        "ratio": RATIO,
        "same": SAME,
        "repeats": repeats,
        "seed": generator.initial_seed(),
        "version": library_version(),
    }
    rates = [wilson(float(share.double().mean()), len(states)) for share in shares]
    return Census(rates[0], rates[1], rates[2], chance, len(states), manifest)


def denoising_error(
    denoiser: Denoiser, clean: Float[Tensor, "b d"], *, sigma: float, repeats: int = 1, generator: torch.Generator
) -> float:
    """Return the mean squared error, a feature, of clean patterns behind noise.

    Args:
        denoiser: `(x, sigma)` to clean patterns.
        clean: what the noise is put on.
        sigma: its standard deviation.
        repeats: noises a pattern.
        generator: of the noise.

    Raises:
        ValueError: no repeat.
    """
    if repeats < 1:
        raise ValueError(f"got repeats={repeats}; expected at least 1")
    total = 0.0
    for _ in range(repeats):
        noise = torch.randn(clean.shape, generator=generator, device=generator.device).to(clean)
        with torch.no_grad():
            found = denoiser(clean + sigma * noise, torch.as_tensor(sigma, dtype=clean.dtype))
        total += float((found - clean).square().mean())
    return total / repeats


def funes_index(*, train: float, held_out: float, bayes: float) -> float:
    """Return how much better episodes are known than their world, in units of the best possible error.

    Args:
        train: mean squared error on stored patterns.
        held_out: on patterns of the same world that were not stored.
        bayes: of whoever knows the world, above 0.

    Raises:
        ValueError: a negative or non-finite error, or none where the best is to stand.
    """
    if not (0 <= train < math.inf and 0 <= held_out < math.inf and 0 < bayes < math.inf):
        raise ValueError(
            f"got train={train}, held_out={held_out}, bayes={bayes}; expected mean squared errors, bayes above 0"
        )
    return (held_out - bayes) / bayes - (train - bayes) / bayes


@dataclass(frozen=True)
class Bits:
    """How patterns of signs were recalled.

    Attributes:
        exact: share of cues from which every sign came back.
        ceiling: the same for the nearest stored pattern.
        bits: share of signs that came back.
        given: share of signs that were right in the cue already; what recall has to beat.
    """

    exact: Rate
    ceiling: Rate
    bits: float
    given: float


def bits(
    recalled: Float[Tensor, "b d"],
    *,
    truth: Float[Tensor, "b d"],
    cues: Float[Tensor, "b d"],
    stored: Float[Tensor, "n d"],
) -> Bits:
    """Compare recalled states with what was wanted, sign by sign, beside the nearest stored pattern.

    Args:
        recalled: what came back.
        truth: patterns of -1 and 1 behind the cues.
        cues: what was given; 0 where a sign was erased.
        stored: all patterns.

    Raises:
        ValueError: shapes that do not fit.
    """
    if not recalled.shape == truth.shape == cues.shape or stored.shape[1:] != truth.shape[1:] or len(truth) == 0:
        shapes = ", ".join(str(tuple(part.shape)) for part in (recalled, truth, cues, stored))
        raise ValueError(f"got recalled, truth, cues, stored of shapes {shapes}; expected (b, d) thrice and (n, d)")
    right = recalled.sign() == truth
    exact, ceiling = right.all(1).double().mean(), nearest(cues, stored, truth).double().mean()
    rates = [wilson(float(share), len(truth)) for share in (exact, ceiling)]
    return Bits(rates[0], rates[1], float(right.double().mean()), float((cues.sign() == truth).double().mean()))


def _memorised(states: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return which states are memorised, and their distances to the nearest pattern."""
    two = torch.cdist(states, rows.to(states)).topk(2, largest=False).values
    return two[:, 0] < RATIO * two[:, 1], two[:, 0]
