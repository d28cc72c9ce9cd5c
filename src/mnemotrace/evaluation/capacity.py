r"""Capacity curves: how many patterns a memory recalls from damaged cues, beside what any memory could.

Random patterns in {-1, 1} are stored, cues are made from them by flipping or erasing features, and what the memory
gives back is compared with the pattern behind the cue. A cue may be as near to another pattern as to its own, and then
no memory can tell: the nearest stored pattern is the ceiling, always measured on the same cues. Where a curve lies on
its ceiling, it measures the cues and not the memory.

Whether stored patterns are at rest is not asked. It overstates recall: a pattern may be at rest and have no basin.

Cues that share a set of patterns share its luck: with 8 patterns of 64 features under Hebb's rule, recall varies from
set to set with a standard deviation of 0.15. So many sets are drawn with few cues each, and intervals are Wilson's at
95 % for as many independent cues as would vary like that.

Cost: `draws` memories a count, and one recall of `cues` states each; the ceiling O(cues n d).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.core.artifact import Artifact, library_version
from mnemotrace.core.intervals import wilson as interval
from mnemotrace.core.memory import Memory, Recall
from mnemotrace.core.progress import Progress, silent
from mnemotrace.retrieval.dynamics import recall as to_rest


class Damage(Protocol):
    """Makes cues from patterns: `flip`, `erase`, or one of yours."""

    def __call__(self, patterns: Tensor, /, *, generator: torch.Generator) -> Tensor:
        """Return one cue a pattern."""
        ...


@dataclass(frozen=True)
class Rate:
    """A share of cues.

    Attributes:
        value: the share.
        low: lower end of its 95 % interval.
        high: upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Stored:
    """What was recalled with so many patterns stored.

    Attributes:
        count: patterns.
        cues: how many were tried.
        exact: share of cues from which every feature came back.
        ceiling: the same for the nearest stored pattern; where several are equally near, one drawn among them.
        bits: share of features that came back.
        overlap: mean of `x . y / d` of what came back and the pattern, by sign.
        converged: share of recalls that came to rest.
    """

    count: int
    cues: int
    exact: Rate
    ceiling: Rate
    bits: float
    overlap: float
    converged: float


@dataclass(frozen=True)
class Capacity:
    """A capacity curve.

    Attributes:
        d: features of a pattern.
        steps: one a count, rising.
        manifest: provenance: settings, seed.
    """

    d: int
    steps: tuple[Stored, ...]
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])

    kind = "capacity"

    def count_at(self, level: float = 0.5) -> float | None:
        """Return how many patterns can be stored until exact recall falls to `level`.

        Interpolated between counts on a logarithmic scale; None where no pair of counts encloses the level.
        """
        for first, second in pairwise(self.steps):
            above, below = first.exact.value, second.exact.value
            if above >= level > below:
                share = (above - level) / (above - below)
                return math.exp((1 - share) * math.log(first.count) + share * math.log(second.count))
        return None

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        return Artifact(self.kind, asdict(self))

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Capacity":
        """Rebuild from an artifact."""
        rates = ("exact", "ceiling")
        steps = [Stored(**step | {name: Rate(**step[name]) for name in rates}) for step in artifact.header["steps"]]
        return cls(artifact.header["d"], tuple(steps), artifact.header["manifest"])


def capacity(
    make: Callable[[Tensor], Any],
    *,
    d: int,
    counts: Sequence[int],
    generator: torch.Generator,
    cue: Damage | None = None,
    cues: int = 20,
    draws: int = 30,
    recall: Callable[[Any, Tensor], Recall] | None = None,
    progress: Progress = silent,
) -> Capacity:
    """Store more and more random patterns and recall them from damaged cues.

    Args:
        make: makes a memory of patterns `(n, d)` of -1 and 1, such as `mt.Hopfield`.
        d: features of a pattern.
        counts: numbers of patterns, rising.
        generator: of patterns, cues and the order of updates; the first two are the same for one seed and the same
            counts, whatever the memory.
        cue: damages patterns; None flips each feature with probability 0.1. `flip` and `erase` are here.
        cues: from one set of patterns, of patterns drawn from it with replacement.
        draws: sets of patterns a count; with one, the interval knows nothing of how sets differ.
        recall: `recall(memory, cues)`, such as a sampler with its settings; None runs the memory to rest.
        progress: called after each set.

    Returns:
        Capacity, the ceiling included.

    Raises:
        ValueError: a number below 1, or counts that do not rise.
    """
    if not counts or list(counts) != sorted(set(counts)) or min(*counts, d, cues, draws) < 1:
        raise ValueError(
            f"got d={d}, counts={list(counts)}, cues={cues}, draws={draws}; expected at least 1 each, "
            "and counts that rise"
        )
    damage = cue or flip
    # orders of updates are drawn apart, so that all memories are given the same patterns and cues for one seed
    apart = int(torch.randint(2**31, (), generator=generator, device=generator.device))
    read = recall or _at_rest(torch.Generator(generator.device).manual_seed(apart))
    trial = _Trial(make, d, cues, damage, read, generator)
    steps: list[Stored] = []
    for count in counts:
        sets: list[Tensor] = []
        for _ in range(draws):
            sets.append(trial.run(count))
            progress(len(steps) * draws + len(sets), len(counts) * draws, "sets of patterns")
        steps.append(_stored(count, torch.stack(sets)))
    manifest = {
        "cue": getattr(damage, "__name__", None) or getattr(getattr(damage, "func", None), "__name__", repr(damage)),
        "settings": getattr(damage, "keywords", {}),
        "cues": cues,
        "draws": draws,
        "seed": generator.initial_seed(),
        "version": library_version(),
    }
    return Capacity(d, tuple(steps), manifest)


def flip(patterns: Float[Tensor, "b d"], /, *, rate: float = 0.1, generator: torch.Generator) -> Float[Tensor, "b d"]:
    """Turn the sign of each feature with probability `rate`.

    Raises:
        ValueError: a rate outside [0, 1].
    """
    return torch.where(_hit(patterns, rate, generator), -patterns, patterns)


def erase(patterns: Float[Tensor, "b d"], /, *, rate: float = 0.5, generator: torch.Generator) -> Float[Tensor, "b d"]:
    """Set each feature to 0, which is neither -1 nor 1, with probability `rate`.

    Raises:
        ValueError: a rate outside [0, 1].
    """
    return torch.where(_hit(patterns, rate, generator), 0, patterns)


def random_patterns(n: int, d: int, *, generator: torch.Generator) -> Float[Tensor, "n d"]:
    """Draw patterns whose features are -1 or 1 with equal probability."""
    draw = torch.randint(2, (n, d), generator=generator, device=generator.device)
    return 2.0 * draw.to(torch.get_default_dtype()) - 1


def nearest(cues: Float[Tensor, "b d"], patterns: Float[Tensor, "n d"], truth: Float[Tensor, "b d"]) -> Tensor:
    """Return, `(b,)`, the probability that the nearest stored pattern is the true one, ties drawn by lot.

    Features that are 0 in a cue count for no pattern, so this is also the nearest on what an erased cue has left.
    """
    overlaps, own = cues @ patterns.T, (cues * truth).sum(1)
    # whole numbers: rounding tells a tie from a sum in another order
    lead = (overlaps - own[:, None]).round()
    same = (truth @ patterns.T).round() == truth.shape[1]
    return torch.where((lead > 0).any(1), 0, same.sum(1) / (lead == 0).sum(1))


def wilson(value: float, count: float) -> Rate:
    """Return a share of `count` independent trials, or what equals so many, with Wilson's 95 % interval.

    Raises:
        ValueError: no trial, or a share outside [0, 1].
    """
    if count < 1 or not 0 <= value <= 1:
        raise ValueError(f"got a share of {value} of {count} trials; expected one in [0, 1] of at least 1")
    low, high = interval(torch.tensor(value * count, dtype=torch.float64), count)
    return Rate(value, max(0.0, float(low)), min(1.0, float(high)))


def _hit(patterns: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    if not 0 <= rate <= 1:
        raise ValueError(f"got rate={rate}; expected a probability, from 0 to 1")
    return (torch.rand(patterns.shape, generator=generator, device=generator.device) < rate).to(patterns.device)


def _at_rest(generator: torch.Generator) -> Callable[[Memory, Tensor], Recall]:
    return lambda memory, cue: to_rest(memory, cue, generator=generator)


@dataclass(frozen=True)
class _Trial:
    """One set of patterns, stored and recalled."""

    make: Callable[[Tensor], Any]
    d: int
    cues: int
    damage: Damage
    read: Callable[[Any, Tensor], Recall]
    generator: torch.Generator

    def run(self, count: int) -> Tensor:
        """Return what came of each cue, `(cues, 4)`: exact, ceiling, share of features, at rest."""
        patterns = random_patterns(count, self.d, generator=self.generator)
        chosen = torch.randint(count, (self.cues,), generator=self.generator, device=self.generator.device)
        truth = patterns[chosen]
        given = self.damage(truth, generator=self.generator)
        found = self.read(self.make(patterns), given)
        right = found.state.sign() == truth
        columns = [right.all(1), nearest(given, patterns, truth), right.float().mean(1), found.converged]
        return torch.stack([column.double() for column in columns], 1)


def _stored(count: int, tried: Tensor) -> Stored:
    exact, ceiling, bits, converged = tried.mean((0, 1)).tolist()
    rates = [wilson(share, _independent(tried[:, :, i])) for i, share in enumerate((exact, ceiling))]
    return Stored(count, tried[:, :, 0].numel(), rates[0], rates[1], bits, 2 * bits - 1, converged)


def _independent(tried: Tensor) -> float:
    """Return how many independent trials would vary as much as `(sets, cues)`: at least the sets, at most all."""
    share, total = float(tried.mean()), float(tried.numel())
    if len(tried) == 1 or share in (0.0, 1.0):
        return total
    between = float(tried.mean(1).var()) / len(tried)
    return min(max(share * (1 - share) / between, float(len(tried))), total) if between > 0 else total
