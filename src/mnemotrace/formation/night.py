"""A night: which episodes are drawn, what the cortex adds to them, and what it dreams of itself.

See `formation.replay` for the equations. Cost: O(n) a step for the probabilities; fifteen forward passes a batch
that the cortex has to complete.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mnemotrace.core.memory import states_of
from mnemotrace.formation.priority import Episodes, Priority, checked
from mnemotrace.memories.denoiser import TrainedDenoiser

_REFRESHED, _LEVELS, _TOP = 10, 8, 5.0


def dream(
    cortex: TrainedDenoiser,
    count: int,
    *,
    like: Float[Tensor, "b d"] | None = None,
    known: Bool[Tensor, "#b d"] | None = None,
    generator: torch.Generator,
) -> Float[Tensor, "b d"]:
    """Sample a cortex along the probability flow, by eight of Heun's steps; where `known`, states are kept.

    Args:
        cortex: what samples.
        count: samples.
        like: states with known features, `count` of them.
        known: True where they are known.
        generator: of the beginning.
    """
    top = _TOP * cortex.spread
    noise = torch.randn(count, cortex.d, generator=generator, device=generator.device).to(cortex.centre)
    x = cortex.centre + (top.square() + cortex.spread.square()).sqrt() * noise
    levels = top * torch.logspace(0, -2, _LEVELS, dtype=x.dtype, device=x.device)
    with torch.no_grad():
        for i, level in enumerate(levels):
            sigma = level.expand_as(x)
            if like is not None and known is not None:
                x, sigma = torch.where(known, like, x), torch.where(known, levels[-1], sigma)
            clean = cortex(x, sigma)
            if i + 1 == _LEVELS:
                x = clean
                continue
            after = torch.minimum(sigma, levels[i + 1])
            slope = (x - clean) / sigma
            guess = x + (after - sigma) * slope
            x = x + (after - sigma) * (slope + (guess - cortex(guess, after)) / after) / 2
    return x if like is None or known is None else torch.where(known, like, x)


def entropy(probability: Float[Tensor, " n"]) -> float:
    """Return the entropy of probabilities, in bits."""
    return float(-torch.special.xlogy(probability, probability).sum() / math.log(2))


@dataclass(frozen=True, eq=False)
class Chooser:
    """Which episodes are likely to be replayed.

    Attributes:
        lived: the episodes.
        priority: of each.
        counted: the priority depends on the replay counts, so it is looked up at each step.
        gamma: its power.
        floor: share of replay that goes to all alike.
        fading: share of a trace that is lost with each replay.
    """

    lived: Episodes
    priority: Priority
    counted: bool
    gamma: float
    floor: float
    fading: float

    def probability(self, cortex: TrainedDenoiser, counts: Tensor) -> Tensor:
        """Return `q`, float64."""
        with torch.no_grad():
            found = checked(self.priority(cortex, self.lived, counts), len(counts))
        share = (found / found.max()) ** self.gamma * self.traces(counts).double()
        return self.floor / len(counts) + (1 - self.floor) * share / share.sum()

    def traces(self, counts: Tensor) -> Tensor:
        """Return the weights after fading; a trace never quite vanishes, for a store needs it above 0."""
        weights = self.lived.patterns.weights
        least = torch.finfo(weights.dtype).tiny
        return (weights * (1 - self.fading) ** counts.to(weights)).clamp(min=least)


class Night:
    """Draws batches, and remembers what was drawn."""

    def __init__(
        self,
        chooser: Chooser,
        cortex: TrainedDenoiser,
        *,
        core: Tensor | None,
        dreams: Tensor,
        size: int,
        old: int,
        recall: Callable[[Tensor], Tensor] | None,
        every: int,
    ) -> None:
        """Take what `consolidate` was given.

        Args:
            chooser: which episodes are likely.
            cortex: what is trained meanwhile, and fills in what is not core.
            core: `(1, d)`, True where episodes are replayed faithfully; None everywhere.
            dreams: samples of the old self.
            size: of a batch.
            old: how many of it are dreams.
            recall: of chosen episodes; None takes them as they are.
            every: steps between two entries of the history.
        """
        self.chooser, self.cortex, self.core, self.dreams, self.recall = chooser, cortex, core, dreams, recall
        self.size, self.old, self.every = size, old, every
        self.counts = torch.zeros(len(chooser.lived.patterns), dtype=torch.long, device=dreams.device)
        self.history: dict[str, list[float]] = {"steps": [], "entropy": [], "effective": []}

    def batches(self, generator: torch.Generator) -> Iterator[Tensor]:
        """Yield batches without end."""
        values, step = self.chooser.lived.patterns.values, 0
        q = self.chooser.probability(self.cortex, self.counts)
        while True:
            if step % self.every == 0:
                bits = entropy(q)
                for name, value in zip(self.history, (float(step), bits, 2**bits), strict=True):
                    self.history[name].append(value)
            draws = q.to(generator.device)
            chosen = torch.multinomial(draws, self.size - self.old, replacement=True, generator=generator)
            chosen = chosen.to(values.device)
            self.counts += torch.bincount(chosen, minlength=len(values))
            yield self._replayed(values[chosen], generator)
            step += 1
            if self.chooser.counted or self.chooser.fading or step % _REFRESHED == 0:
                q = self.chooser.probability(self.cortex, self.counts)

    def _replayed(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        if self.recall is not None:
            with torch.no_grad():
                rows = states_of(self.recall(rows), rows.shape[1], "recalled episodes").to(rows)
        if self.core is not None:
            rows = dream(self.cortex, len(rows), like=rows, known=self.core, generator=generator)
        if not self.old:
            return rows
        picked = torch.randint(len(self.dreams), (self.old,), generator=generator, device=generator.device)
        return torch.cat([rows, self.dreams[picked.to(rows.device)]])
