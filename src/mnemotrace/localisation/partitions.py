"""Partitions: concepts that nobody named, proposed from how a network itself groups examples.

Responses are whitened (`localisation.whitening`) and clustered (`localisation.clustering`). The number of groups is
given, or chosen by how well two halves of the examples agree on it, beside halves of a Gaussian without groups. A row
that is farther from its centre than the group's own rows usually are is noise and belongs to nothing. New rows go to
the nearest centre, under the same limit, so that a group found on some examples can be judged on others.

The estimators of engrams need a target and a reference; a proposal is both, as rows. AI Engram (arXiv 2606.14997)
leaves finding them to future work. Cost: a decomposition of the responses, and some twenty clusterings for each number
of groups that is tried. Needs scikit-learn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mnemotrace.localisation.clustering import (
    AGAIN,
    DRAWS,
    METHODS,
    Tried,
    best,
    centroids,
    halves,
    nearest,
    nulls,
    overlaps,
    rand,
    seed_of,
    silhouettes,
    try_count,
)
from mnemotrace.localisation.stimuli import members_of
from mnemotrace.localisation.whitening import Whitening, whitening

MOST_COUNT = 15
PER_GROUP = 8
DEVIATIONS = 3.0


@dataclass(frozen=True, eq=False)
class Proposal:
    """A concept without a name: which examples are of it, and which are not.

    Attributes:
        name: of the group or latent.
        target: rows of the concept.
        reference: rows of what must be kept; noise is in neither.
        score: how far the group stands apart, silhouette, mean over its rows.
        stability: how alike it comes out of half of the examples, Jaccard index.
    """

    name: str
    target: Int[Tensor, " t"]
    reference: Int[Tensor, " r"]
    score: float
    stability: float


@dataclass(frozen=True, eq=False)
class Partition:
    """Groups of examples.

    Attributes:
        whitening: of the responses.
        centres: `(k, r)`.
        limits: `(k,)`, distances from a centre beyond which a row is noise.
        assigned: `(n,)`, the group of each example that was clustered; -1 for noise.
        scores: `(k,)`, silhouettes, means over the rows of each group.
        stability: `(k,)`, Jaccard indices with the groups that halves make.
        tried: the numbers of groups that were tried; none where it was given.
        agreement: adjusted Rand index of the groups of two halves, mean over draws that had no part in the choice.
        null: the largest of the same for rows of one Gaussian.
    """

    whitening: Whitening
    centres: Float[Tensor, "k r"]
    limits: Float[Tensor, " k"]
    assigned: Int[Tensor, " n"]
    scores: Float[Tensor, " k"]
    stability: Float[Tensor, " k"]
    tried: tuple[Tried, ...]
    agreement: float
    null: float

    @property
    def structured(self) -> bool:
        """Whether halves of the examples agree more than they would on one Gaussian."""
        return self.agreement > self.null

    def assign(self, x: Float[Tensor, "m u"]) -> Int[Tensor, " m"]:
        """Give new examples to the nearest centre; -1 to those beyond its limit.

        Raises:
            ValueError: another width.
            NonFiniteError: NaN or infinity.
        """
        return _limited(*nearest(self.whitening(x), self.centres), self.limits)

    def proposals(self) -> tuple[Proposal, ...]:
        """Return each group as target, and the others as reference."""
        members = members_of(self.assigned, len(self.centres))
        return proposals(members, self.assigned >= 0, self.scores, self.stability)


def propose(
    x: Float[Tensor, "n u"],
    *,
    count: int | Sequence[int] | None = None,
    method: str = "kmeans",
    rank: int | None = None,
    generator: torch.Generator | None = None,
) -> Partition:
    """Cluster responses into proposed concepts.

    Args:
        x: `(n, u)`, responses of `n` examples, from `stats.responses`; of several sites side by side.
        count: of groups; several to choose among; None for 2 to 15, or fewer where there are not eight examples for
            each.
        method: `kmeans`, `mixture` or `agglomerative`.
        rank: of the whitening; None for as many as hold more than chance.
        generator: of halves, permutations and starts; None is one of seed 0.

    Raises:
        ValueError: too few examples, fewer than two groups, another method, constant units, or a rank that is not
            there.
        NonFiniteError: NaN or infinity.
        ImportError: scikit-learn is missing.
    """
    source = torch.Generator().manual_seed(0) if generator is None else generator
    if method not in METHODS:
        raise ValueError(f"got method={method!r}; expected one of {', '.join(METHODS)}")
    counts = _counts(count, len(x))
    white = whitening(x, rank=rank, generator=source)
    z = white(x)
    options: Any = {"method": method, "generator": source}
    tried = tuple(try_count(z, one, **options) for one in counts) if len(counts) > 1 else ()
    chosen = best(tried).count if tried else counts[0]
    centres = centroids(z, chosen, method=method, seed=seed_of(source))
    groups, distances = nearest(z, centres)
    cuts = list(halves(z, chosen, DRAWS, **options))
    alike = torch.stack([overlaps(groups, cut, chosen) for pair in cuts for cut in pair]).mean(0)
    width, limits = silhouettes(distances), _limits(distances, groups)
    return Partition(
        whitening=white,
        centres=centres,
        limits=limits,
        assigned=_limited(groups, distances, limits),
        scores=torch.stack([width[groups == one].mean() for one in range(chosen)]),
        stability=alike,
        tried=tried,
        agreement=sum(map(rand, cuts)) / DRAWS,
        null=max(nulls(z, chosen, AGAIN, **options)),
    )


def proposals(
    members: Bool[Tensor, "n k"],
    kept: Bool[Tensor, " n"],
    scores: Float[Tensor, " k"],
    stability: Float[Tensor, " k"],
    names: Sequence[str] | None = None,
) -> tuple[Proposal, ...]:
    """Make proposals of columns of members; what is neither member nor kept is in no proposal."""
    return tuple(
        Proposal(
            name=f"{k}" if names is None else names[k],
            target=mine.nonzero()[:, 0],
            reference=(kept & ~mine).nonzero()[:, 0],
            score=float(scores[k]),
            stability=float(stability[k]),
        )
        for k, mine in enumerate(members.T)
    )


def _counts(count: int | Sequence[int] | None, n: int) -> list[int]:
    if count is None:
        counts = list(range(2, min(MOST_COUNT, n // PER_GROUP) + 1))
        if not counts:
            raise ValueError(f"got {n} examples; expected at least {2 * PER_GROUP}, for two groups of {PER_GROUP}")
        return counts
    counts = [count] if isinstance(count, int) else list(count)
    if not counts or min(counts) < 2:  # noqa: PLR2004
        raise ValueError(
            f"got count={count}; expected numbers of groups of at least 2; one group has nothing to be told from"
        )
    if n < PER_GROUP * max(counts):
        raise ValueError(
            f"got {n} examples for {max(counts)} groups; expected at least {PER_GROUP * max(counts)}, {PER_GROUP} a "
            "group; give more, or a smaller count"
        )
    return counts


def _limits(distances: Tensor, groups: Tensor) -> Tensor:
    """Return the median of each group's distances, and three robust standard deviations more."""
    found: list[Tensor] = []
    for one in range(distances.shape[1]):
        mine = distances[groups == one, one]
        spread = (mine - mine.median()).abs().median()
        found.append(mine.median() + DEVIATIONS * 1.4826 * spread)
    return torch.stack(found)


def _limited(groups: Tensor, distances: Tensor, limits: Tensor) -> Tensor:
    reached = distances.gather(1, groups[:, None])[:, 0]
    return torch.where(reached <= limits[groups], groups, -1)
