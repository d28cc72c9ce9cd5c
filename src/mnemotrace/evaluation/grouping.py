"""Grouping: half of the examples are cut into groups, the other half joins them; by clusters, or by latents."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from mnemotrace.evaluation.judging import Examples
from mnemotrace.localisation.active_latents import active, propose_latents
from mnemotrace.localisation.clustering import Tried
from mnemotrace.localisation.code import Code
from mnemotrace.localisation.partitions import propose
from mnemotrace.localisation.stimuli import members_of
from mnemotrace.stats.responses import responses


@dataclass(frozen=True, eq=False)
class Groups:
    """Groups of all examples, those that propose and those that judge."""

    groups: Int[Tensor, " n"]
    members: Bool[Tensor, "n k"]
    kept: Bool[Tensor, " n"]
    names: tuple[str, ...]
    scores: tuple[float, ...] = ()
    stability: tuple[float, ...] = ()
    stable: float = 0.0
    null: float = 0.0
    tried: tuple[Tried, ...] = ()
    rank: int = 0

    def shuffled(self, judge: Tensor, generator: torch.Generator) -> "Groups":
        """Deal the memberships out at random, among those that propose and among those that judge."""
        order = torch.arange(len(judge))
        for side in (judge, ~judge):
            rows = side.nonzero()[:, 0]
            order[rows] = rows[torch.randperm(len(rows), generator=generator)]
        return Groups(self.groups[order], self.members[order], self.kept[order], self.names)


@dataclass(frozen=True, eq=False)
class Grouping:
    """How examples are grouped: on those that propose, and those that judge join."""

    examples: Examples
    judge: Tensor
    sites: Sequence[str]
    reduce: str
    method: str
    rank: int | None
    generator: torch.Generator

    def of_clusters(self, model: nn.Module, count: int | Sequence[int] | None) -> Groups:
        """Cut the responses of a network into clusters.

        Raises:
            ValueError: as `localisation.partitions.propose`.
        """
        x = self._responses(model)
        options: dict[str, Any] = {"method": self.method, "rank": self.rank, "generator": self.generator}
        found = propose(x[~self.judge], count=count, **options)
        groups = torch.empty(len(x), dtype=torch.long)
        groups[~self.judge], groups[self.judge] = found.assigned, found.assign(x[self.judge])
        k = len(found.centres)
        return Groups(
            groups,
            members_of(groups, k),
            groups >= 0,
            tuple(map(str, range(k))),
            tuple(found.scores.tolist()),
            tuple(found.stability.tolist()),
            found.agreement,
            found.null,
            found.tried,
            found.whitening.rank,
        )

    def of_codes(self, model: nn.Module, codes: Code | Tensor, count: Any) -> Groups:
        """Take the examples on which latents are on; of an example that several take, the group is the strongest.

        Raises:
            ValueError: as `localisation.active_latents.propose_latents`.
        """
        dense = codes.dense() if isinstance(codes, Code) else codes.to_dense()
        active(dense)  # checked before a pass over the examples
        x = self._responses(model)[~self.judge]
        found = propose_latents(dense[~self.judge], x, count=count, rank=self.rank, generator=self.generator)
        members = found.assign(dense)
        groups = torch.where(members.any(1), dense[:, found.latents].argmax(1), -1)
        names = tuple(f"latent {int(latent)}" for latent in found.latents)
        everything = torch.ones(len(dense), dtype=torch.bool)
        stable = tuple(found.stability.tolist())
        return Groups(groups, members, everything, names, tuple(found.scores.tolist()), stable, min(stable), found.null)

    def _responses(self, model: nn.Module) -> Tensor:
        found = responses(model, self.examples.batches(), self.sites, reduce=self.reduce)
        return torch.cat([found[site] for site in self.sites], 1)


def labelled(labels: Int[Tensor, " n"]) -> Groups:
    """Take the classes as groups."""
    classes = labels.unique()
    members = labels[:, None] == classes
    return Groups(members.long().argmax(1), members, members.any(1), tuple(str(int(one)) for one in classes))
