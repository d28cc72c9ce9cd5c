r"""How probable each graph is, and what evidence does to that: exactly over a list of graphs, or over a sample of them.

Both hold graphs with weights that sum to one, and give, for more evidence, the same thing with new weights and what the
step was worth: its surprise :math:`-\log p(e \mid \mathrm{before})` and its gain, the divergence in bits.

Cost: exact, one table of families and a gather an update; sampled, a chain or a number of searches.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.modification.beliefs.dags import DAGs
from mnemotrace.modification.beliefs.elimination import Tombstones
from mnemotrace.modification.beliefs.evidence import Evidence
from mnemotrace.modification.beliefs.exact import divergence_bits, edge_probabilities, log_joint
from mnemotrace.modification.beliefs.families import Score, family_table
from mnemotrace.modification.beliefs.ledger import Elimination, eliminations


@dataclass(frozen=True)
class Shift:
    """What a step was worth.

    Attributes:
        surprise: -log p of the rows given all before, averaged over the graphs that counted, in nats.
        gain: divergence of the posterior from the one before, over the graphs that counted in both, in bits.
        eliminated: how many graphs were laid aside.
        readmitted: how many came back.
        listed: those of both that were most probable before, at most twenty.
    """

    surprise: float
    gain: float
    eliminated: int = 0
    readmitted: int = 0
    listed: tuple[Elimination, ...] = ()


@dataclass(frozen=True, eq=False)
class Exact:
    """All graphs of a list, each scored.

    Attributes:
        names: of the variables.
        score: of families.
        graphs: the list.
        prior: log-probabilities up to a constant; None counts all alike.
        tombstones: which graphs are laid aside.
        evidence: so far.
        table: score of every family, given the evidence.
    """

    names: tuple[str, ...]
    score: Score
    graphs: DAGs
    prior: Float[Tensor, " G"] | None
    tombstones: Tombstones
    evidence: Evidence
    table: Float[Tensor, "p sets"]

    def on(self, evidence: Evidence) -> Exact:
        """Return the same graphs, scored on other evidence."""
        return replace(self, evidence=evidence, table=family_table(self.score, evidence, self.graphs))

    @cached_property
    def joint(self) -> Float[Tensor, " G"]:
        """Logarithm of prior times likelihood of every graph, also of those laid aside."""
        return log_joint(self.table, self.graphs, self.prior)

    @cached_property
    def weights(self) -> Float[Tensor, " G"]:
        """Probability of every graph; 0 for those laid aside."""
        return torch.softmax(self.joint.masked_fill(self.tombstones.dead, -torch.inf), 0)

    @cached_property
    def edges(self) -> Float[Tensor, "p p"]:
        """Probability of each edge, `[from, to]`."""
        return edge_probabilities(self.weights, self.graphs)

    def after(self, grown: Evidence, *, kappa: float, patience: int) -> tuple[Exact, Shift]:
        """Weigh the graphs on all evidence, lay aside those that trail by too much, and take back those that do not."""
        alive = self.tombstones.alive
        now = self.on(grown)
        old, new = self.joint, now.joint
        total = torch.logsumexp(old[alive], 0), torch.logsumexp(new[alive], 0)
        gain = divergence_bits(new[alive] - total[1], old[alive] - total[0])
        stones = self.tombstones.after(new[alive], kappa=kappa, patience=patience).audited(new, kappa=kappa)
        changed = stones.dead != self.tombstones.dead
        listed = eliminations(
            self.graphs,
            self.names,
            graphs=changed.nonzero()[:, 0],
            before=old - total[0],
            after=new - total[1],
            table=now.table,
        )
        gone = int((changed & stones.dead).sum())
        shift = Shift(float(total[0] - total[1]), max(gain, 0.0), gone, int(changed.sum()) - gone, listed)
        return replace(now, tombstones=stones), shift

    def audited(self, kappa: float) -> Exact:
        """Take back the graphs that trail the best by less than a factor `10**kappa`."""
        return replace(self, tombstones=self.tombstones.audited(self.joint, kappa=kappa))


@dataclass(frozen=True, eq=False)
class Sampled:
    """Graphs drawn from the posterior, or found by searches; approximate. None of them is ever laid aside.

    Attributes:
        score: of families.
        how: method, largest number of parents and seed.
        evidence: so far.
    """

    score: Score
    how: tuple[str, int, int]
    evidence: Evidence
    tombstones: Tombstones = field(default_factory=lambda: Tombstones.none(0))

    def on(self, evidence: Evidence) -> Sampled:
        """Return the same method on other evidence."""
        return replace(self, evidence=evidence)

    @cached_property
    def sample(self) -> Any:
        """Graphs with weights, and edges."""
        from mnemotrace.modification.beliefs.sampled import draw

        return draw(self.score, self.evidence, *self.how)

    @property
    def graphs(self) -> DAGs:
        """What was drawn."""
        return self.sample.graphs

    @property
    def weights(self) -> Float[Tensor, " k"]:
        """Probability of each."""
        return self.sample.weights

    @property
    def edges(self) -> Float[Tensor, "p p"]:
        """Probability of each edge, `[from, to]`."""
        return self.sample.edges

    def after(self, grown: Evidence, *, kappa: float, patience: int) -> tuple[Sampled, Shift]:  # noqa: ARG002
        """Draw anew on all evidence."""
        now = self.on(grown)
        surprise = self.sample.surprise(self.score, self.evidence, grown)
        return now, Shift(surprise, max(now.sample.gain(self.sample), 0.0))
