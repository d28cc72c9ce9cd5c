r"""Interference between memories: how their engrams overlap in the weights, and what erasing one costs the others.

In the weights: `evaluation.overlaps`. In behaviour: the loss :math:`1 - (s_{ij} - c)/(s_j - c)`, the share of concept
j's score above chance c that is lost when engram i is erased, beside the same for random engrams of equal rank, norm
and spectrum erased in i's place. Off the diagonal the two matrices are compared by Spearman's correlation of cosine and
loss, beside that of permuted concepts (Mantel's test, for pairs that share a concept are not independent). The means
over the diagonal and off it have 95 % bootstrap intervals over examples.

Reference: the weight-space counterpart of superposition (Elhage et al. 2022); Mantel 1967. Cost: `k (1 + draws)` edits,
under each of which all `k` concepts are scored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemotrace.core.applying import applied
from mnemotrace.core.artifact import Artifact, fingerprint, library_version
from mnemotrace.core.linalg import require_finite
from mnemotrace.core.progress import Progress, silent
from mnemotrace.core.trace import Engram
from mnemotrace.evaluation.controls import bootstrap, random_trace
from mnemotrace.evaluation.overlaps import Overlaps, overlaps, rank_correlation, spread
from mnemotrace.evaluation.runs import Score, scores_of
from mnemotrace.forgetting.erase import erase

Estimate = tuple[float, tuple[float, float]]
PERMUTATIONS = 999
_TENSORS = ("sizes", "norms", "ranks", "cosine", "by_site", "left", "right")
_ESTIMATES = ("own", "others", "control_own", "control_others")
_NUMBERS = ("correlation", "permuted", "p")


@dataclass(frozen=True, eq=False)
class Behaviour:
    """What erasing each engram costs each concept.

    Attributes:
        loss: `(k, k)`, of concept `j` (column) when engram `i` (row) is erased, in units of its score above chance.
        control: `(k, k)`, the same for random engrams in `i`'s place, mean over draws.
        own: mean of the diagonal of `loss`, with its interval.
        others: mean off the diagonal.
        control_own: as `own`, of the control.
        control_others: as `others`, of the control.
        correlation: Spearman's, of the cosines over all sites with the losses, off the diagonal.
        permuted: 95 % quantile of its absolute value under permuted concepts.
        p: share of permutations that reach it.
    """

    loss: Float[Tensor, "k k"]
    control: Float[Tensor, "k k"]
    own: Estimate
    others: Estimate
    control_own: Estimate
    control_others: Estimate
    correlation: float
    permuted: float
    p: float


@dataclass(frozen=True, eq=False)
class Interference:
    """Overlaps of engrams, and what they cost if that was measured.

    Attributes:
        weights: overlaps in the weights, beside random engrams.
        behaviour: None where no score was given.
        manifest: provenance.
    """

    weights: Overlaps
    behaviour: Behaviour | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])

    kind = "interference"

    @property
    def relative_overlap(self) -> float:
        """Root mean square of the cosines between different engrams, over that of random ones."""
        mine, random = (spread(one).square().mean().sqrt() for one in (self.weights.cosine, self.weights.random_cosine))
        return float(mine / random)

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        held, weights = self.behaviour, self.weights
        tensors = {name: getattr(weights, name) for name in _TENSORS}
        tensors |= {"random_cosine": weights.random_cosine, "random_subspaces": weights.random_subspaces}
        header = {"names": list(weights.names), "sites": list(weights.sites), "manifest": dict(self.manifest)}
        if held is not None:
            tensors |= {"loss": held.loss, "control": held.control}
            header["behaviour"] = {name: getattr(held, name) for name in (*_ESTIMATES, *_NUMBERS)}
        return Artifact(self.kind, header, tensors)

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Interference":
        """Rebuild from an artifact."""
        header, tensors = artifact.header, artifact.tensors
        names, sites = tuple(header["names"]), tuple(header["sites"])
        weights = Overlaps(names, sites, **{name: tensors[name] for name in _TENSORS})
        if "behaviour" not in header:
            return cls(weights, None, header["manifest"])
        held = header["behaviour"]
        estimates = {name: (held[name][0], tuple(held[name][1])) for name in _ESTIMATES}
        numbers = {name: held[name] for name in _NUMBERS}
        behaviour = Behaviour(tensors["loss"], tensors["control"], **estimates, **numbers)
        return cls(weights, behaviour, header["manifest"])


def interference(
    engrams: Mapping[str, Engram],
    *,
    energy: float = 0.9,
    model: nn.Module | None = None,
    score: Score | None = None,
    data: Mapping[str, Any] | None = None,
    strength: float = 1.0,
    chance: float = 0.0,
    draws: int = 3,
    resamples: int = 1000,
    generator: torch.Generator | None = None,
    progress: Progress = silent,
) -> Interference:
    """Measure how engrams overlap, and with a model, a score and data also what erasing each costs the others.

    Args:
        engrams: at least two, of the same sites, by name.
        energy: share of an engram's square at a site that its subspace holds.
        model: the network, unedited; it is left bit-exact.
        score: called as `score(model, data)`, returns `(n,)`, higher meaning better recalled, as in `mt.criteria`.
        data: what the score takes, of each concept, by the names of the engrams; best not seen when they were made.
        strength: of erasing.
        chance: score of a guesser.
        draws: random engrams for each engram, at least one.
        resamples: of the bootstrap.
        generator: source of randomness; None seeds one with 0.
        progress: called after each edit.

    Raises:
        ValueError: fewer than two engrams, one that is zero; some but not all of model, score and data; names that
            differ; scores that are not `(n,)`, not finite, or at chance before any edit.
        SelectionError: the engrams are at different sites.
        NonFiniteError: NaN or infinity in a factor.
    """
    weights = overlaps(engrams, energy=energy)
    source = torch.Generator().manual_seed(0) if generator is None else generator
    manifest = {"method": "interference", "energy": energy, "seed": source.initial_seed(), "version": library_version()}
    bases = [engram.manifest.get("base") for engram in engrams.values()]
    manifest |= {"base": bases[0]} if bases[0] is not None and all(base == bases[0] for base in bases) else {}
    if model is None and score is None and data is None:
        return Interference(weights, None, manifest)
    if model is None or score is None or data is None or list(data) != list(engrams) or draws < 1:
        raise ValueError(
            f"got model, score, data {[one is not None for one in (model, score, data)]}, data of "
            f"{list(data or ())[:5]} for engrams of {list(engrams)[:5]}, draws={draws}; expected all three or none, "
            "data by the same names in the same order, at least one draw"
        )
    scores = _scores(model, engrams, score, data, strength=strength, draws=draws, generator=source, progress=progress)
    behaviour = _behaviour(scores, weights, chance=chance, resamples=resamples, generator=source)
    settings = {"strength": strength, "chance": chance, "draws": draws, "permutations": PERMUTATIONS}
    return Interference(weights, behaviour, manifest | settings | {"base": fingerprint(model)})


def _scores(
    model: nn.Module,
    engrams: Mapping[str, Engram],
    score: Score,
    data: Mapping[str, Any],
    *,
    strength: float,
    draws: int,
    generator: torch.Generator,
    progress: Progress,
) -> list[Float[Tensor, "n conditions"]]:
    """Score each concept untouched, then with each engram erased, then with random ones erased in their places."""

    def once() -> list[Tensor]:
        return [_checked(score(model, one), name) for name, one in data.items()]

    conditions, done = [once()], 0
    random: list[list[Tensor]] = []
    for traces in [[engram, *(random_trace(engram, generator) for _ in range(draws))] for engram in engrams.values()]:
        found: list[list[Tensor]] = []
        for trace in traces:
            with applied(model, erase(trace, strength, limit=None)):
                found.append(once())
            done += 1
            progress(done, len(engrams) * (1 + draws), "erasures")
        conditions.append(found[0])
        random.append([torch.stack(drawn).mean(0) for drawn in zip(*found[1:], strict=True)])
    return [torch.stack(each, 1) for each in zip(*conditions, *random, strict=True)]


def _behaviour(
    scores: Sequence[Tensor], weights: Overlaps, *, chance: float, resamples: int, generator: torch.Generator
) -> Behaviour:
    count = len(scores)
    means = torch.stack([one.mean(0) for one in scores])
    low = [name for name, base in zip(weights.names, means[:, 0].tolist(), strict=True) if base <= chance]
    if low:
        raise ValueError(
            f"got scores at or below chance ({chance}) before any edit for {', '.join(low[:5])}; expected concepts "
            "that the network has; check the data and the score"
        )

    def losses(*groups: Tensor) -> Tensor:
        """Return `(..., 2, k, k)`: of the engrams, and of the random ones."""
        found = torch.stack([1 - (one[..., 1:] - chance) / (one[..., :1] - chance) for one in groups], -1)
        return found.unflatten(-2, (2, count))

    def mean(place: int, *, own: bool) -> Estimate:
        def statistic(*groups: Tensor) -> Tensor:
            chosen = losses(*groups)[..., place, :, :]
            return (chosen.diagonal(dim1=-2, dim2=-1) if own else spread(chosen)).mean(-1)

        return bootstrap(statistic, *scores, resamples=resamples, generator=generator)

    loss, control = losses(*means)
    value, edge, p = rank_correlation(weights.cosine, loss, permutations=PERMUTATIONS, generator=generator)
    return Behaviour(
        loss,
        control,
        own=mean(0, own=True),
        others=mean(0, own=False),
        control_own=mean(1, own=True),
        control_others=mean(1, own=False),
        correlation=value,
        permuted=edge,
        p=p,
    )


def _checked(scores: Tensor, name: str) -> Tensor:
    scores = scores_of(scores, name)
    require_finite(scores, f"scores of {name}")
    return scores
