r"""Graphs that evidence speaks against are laid aside, not deleted.

A graph is laid aside when it has been less probable than the best by a Bayes factor of at least :math:`10^\kappa` in
several updates on end. What is kept is a tombstone: the evidence is kept too, so at any audit the graph is scored again
and comes back when it is within the factor.

A fixed bound on the probability itself is dangerous: of 543 graphs the true one often falls far below its prior before
the evidence turns. Cost: O(G) an update.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Tombstones:
    """Which graphs are laid aside, and for how many updates each has been out of bounds.

    Attributes:
        dead: `(G,)`.
        streak: `(G,)` updates on end in which the factor was reached.
    """

    dead: Bool[Tensor, " G"]
    streak: Int[Tensor, " G"]

    @classmethod
    def none(cls, graphs: int) -> Tombstones:
        """Begin with all graphs alive."""
        return cls(torch.zeros(graphs, dtype=torch.bool), torch.zeros(graphs, dtype=torch.int16))

    @property
    def alive(self) -> Int[Tensor, " a"]:
        """Positions of the graphs that count."""
        return (~self.dead).nonzero()[:, 0]

    def after(self, log_joint: Float[Tensor, " a"], *, kappa: float, patience: int) -> Tombstones:
        """Judge the graphs that are alive, given their log-probability up to a constant."""
        alive, dead, streak = self.alive, self.dead.clone(), self.streak.clone()
        beyond = factors(log_joint) >= kappa
        streak[alive] = torch.where(beyond, streak[alive].clamp_max(32_000) + 1, torch.zeros_like(streak[alive]))
        dead[alive] = streak[alive] >= patience
        return Tombstones(dead, streak)

    def audited(self, log_joint: Float[Tensor, " G"], *, kappa: float) -> Tombstones:
        """Score all graphs, given their log-probability up to a constant, and bring back those within the factor."""
        back = self.dead & (factors(log_joint) < kappa)
        return Tombstones(self.dead & ~back, torch.where(back, torch.zeros_like(self.streak), self.streak))


def factors(log_joint: Float[Tensor, " a"]) -> Float[Tensor, " a"]:
    """Return the logarithm to base ten of the Bayes factor by which the best graph leads each."""
    return (log_joint.max() - log_joint) / math.log(10)


def require_rule(kappa: float, patience: int) -> None:
    """Check the rule of elimination.

    Raises:
        ValueError: a factor that is not above 0, or no update to wait for.
    """
    if math.isnan(kappa) or kappa <= 0 or patience < 1:
        raise ValueError(
            f"got kappa={kappa} and patience={patience}; expected a factor 10**kappa above 1 and at least one update; "
            "kappa=float('inf') lays nothing aside"
        )
