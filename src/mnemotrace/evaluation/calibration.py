"""Where to act and how strongly: a search over sites, strength and selectivity on held-out data.

The published setting (all sites, strength 1, selectivity 1) is seldom the best: on MNIST the last layer alone erases
more and loses nothing, and a single fact of a language model needs a selectivity below one. The search returns every
point that it measured and the frontier between what is left of the memory and what is lost elsewhere; the choice is the
best point within a stated budget of collateral loss. Calibrate on other memories than you report on.

Cost: one engram a concept and selectivity, one run of the scores a point. Strengths rise; a series stops once the
losses are far beyond the budget.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mnemotrace.core.applying import applied
from mnemotrace.core.artifact import Artifact, fingerprint, library_version
from mnemotrace.core.edit import Edit
from mnemotrace.core.progress import Progress, silent
from mnemotrace.core.site import Site, layer_of
from mnemotrace.core.trace import Engram
from mnemotrace.evaluation.criteria import Score
from mnemotrace.forgetting.erase import erase
from mnemotrace.localisation.engram import engram
from mnemotrace.localisation.reference import Reference
from mnemotrace.stats.moments import Statistics

Keep = Any | Callable[[nn.Module], Tensor]
PUBLISHED = ("all", 1.0, 1.0)
_HOPELESS = 4.0
_EQUAL = 0.1


@dataclass(frozen=True)
class Point:
    """One setting and what it did, averaged over the concepts.

    Attributes:
        sites: label of the group of sites.
        names: its sites.
        strength: factor of the engram.
        selectivity: weight of the reference.
        target: score of the memory after the edit; lower is more erased.
        kept: score of everything else after the edit, by name.
        loss: drop of those scores from the untouched network.
        within: all losses are within the budget.
        frontier: no other point erases more and loses less.
        depth: what a deeper look still finds, when one was asked for.
    """

    sites: str
    names: tuple[str, ...]
    strength: float
    selectivity: float
    target: float
    kept: Mapping[str, float]
    loss: Mapping[str, float]
    within: bool
    frontier: bool = False
    depth: float | None = None


@dataclass(frozen=True, eq=False)
class Calibration:
    """Every measured point, the frontier and the choice.

    Attributes:
        points: all of them.
        untouched: scores before any edit: `target`, `kept` by name, `depth`.
        budget: allowed loss by name.
        goal: wanted score of the target.
        depth_goal: wanted score of the deeper look, None when behaviour alone was asked for.
        chosen: index of the best point within the budget; None when every point exceeds it.
        published: index of the published setting.
        manifest: provenance.
    """

    points: tuple[Point, ...]
    untouched: Mapping[str, Any]
    budget: Mapping[str, float]
    goal: float
    depth_goal: float | None
    chosen: int | None
    published: int | None
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])

    kind = "calibration"

    @property
    def best(self) -> Point:
        """The chosen point.

        Raises:
            ValueError: no point is within the budget.
        """
        if self.chosen is None:
            raise ValueError(
                f"got no point within the budget {dict(self.budget)}; raise it, or search smaller strengths"
            )
        return self.points[self.chosen]

    @property
    def frontier(self) -> tuple[Point, ...]:
        """The points that no other dominates, most erasing first."""
        return tuple(sorted((p for p in self.points if p.frontier), key=lambda p: p.target))

    def engram(self, model: nn.Module, *, target: Statistics, reference: Statistics | Reference) -> Engram:
        """Extract a concept's engram with the chosen sites and selectivity."""
        best, solve = self.best, {k: self.manifest[k] for k in ("solver", "rcond")}
        wanted = target.select(list(best.names))
        return engram(model, target=wanted, reference=reference, selectivity=best.selectivity, **solve)

    def edit(self, model: nn.Module, *, target: Statistics, reference: Statistics | Reference) -> Edit:
        """Make the edit that erases a concept with the chosen setting."""
        return erase(self.engram(model, target=target, reference=reference), self.best.strength)

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        return Artifact(self.kind, asdict(self))

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Calibration":
        """Rebuild from an artifact."""
        values = dict(artifact.header)
        values["points"] = tuple(Point(**{**p, "names": tuple(p["names"])}) for p in values["points"])
        return cls(**values)


def calibrate(
    model: nn.Module,
    *,
    target: Statistics | Sequence[Statistics],
    reference: Statistics | Reference | Sequence[Statistics | Reference],
    score: Score,
    forget: Any,
    keep: Mapping[str, Keep] | Sequence[Mapping[str, Keep]],
    budget: float | Mapping[str, float] = 0.02,
    goal: float = 0.05,
    groups: Mapping[str, Sequence[str]] | None = None,
    strengths: Sequence[float] = (0.5, 1.0, 1.5, 2.0),
    selectivities: Sequence[float] = (0.1, 0.3, 1.0, 3.0),
    solver: str = "truncate",
    rcond: float | None = None,
    depth: Callable[[nn.Module], float] | None = None,
    depth_goal: float | None = None,
    progress: Progress | None = None,
) -> Calibration:
    """Search sites, strength and selectivity for the edit that erases most within a budget of collateral loss.

    Args:
        model: the network; left bit-exact.
        target: statistics of a concept, or of several, to find one setting for all of them.
        reference: statistics of what must be kept; one for all, or one a concept.
        score: `score(model, data)` returns `(n,)`, higher meaning better recalled.
        forget: held-out data of the concept that `score` takes; a list of such when there are several concepts.
        keep: what must not suffer, by name: data for `score`, or a callable of the model that returns scores. A list of
            such when there are several concepts.
        budget: allowed drop of each mean score from the untouched network, one number or by name.
        goal: wanted score of the target; among points that reach it, the one that loses least is chosen. Losses that
            exceed the least by less than a tenth of the budget count as equal: then the one that erases more is.
        groups: sites to try together, by label; None tries `site_groups(target)`.
        strengths: factors of the engram.
        selectivities: weights of the reference.
        solver: as in `mt.engram`.
        rcond: as in `mt.engram`.
        depth: called with the edited network, returns what a deeper look still finds (say a probe's accuracy).
        depth_goal: wanted value of that.
        progress: called after each point.

    Returns:
        Calibration with all points, the frontier and the choice.

    Raises:
        ValueError: lists of unequal length, no strength, selectivity or group, a budget that is not positive, a goal
            of depth without a look at it, or scores that are not finite.
    """
    if depth_goal is not None and depth is None:
        raise ValueError(f"got depth_goal={depth_goal} and no depth; expected a callable that measures it")
    search = _Search(model, score, _concepts(target, reference, forget, keep), budget, depth)
    groups = dict(groups) if groups is not None else site_groups(search.concepts[0].target.sites)
    if not (groups and strengths and selectivities):
        raise ValueError("got an empty search; expected at least one group of sites, strength and selectivity")
    total = len(groups) * len(strengths) * len(selectivities)
    points: list[Point] = []
    for selectivity in selectivities:
        traces = [
            engram(model, target=c.target, reference=c.reference, selectivity=selectivity, solver=solver, rcond=rcond)
            for c in search.concepts
        ]
        for label, names in groups.items():
            chosen = [trace.select(list(names)) for trace in traces]
            for strength in sorted(strengths):
                point = search.point(label, tuple(names), strength, selectivity, chosen)
                points.append(point)
                (progress or silent)(len(points), total, "points")
                if search.worst(point) > _HOPELESS:
                    break
    points = _with_frontier(points, search)
    manifest = {"solver": solver, "rcond": rcond, "concepts": len(search.concepts), "base": fingerprint(model)}
    return Calibration(
        tuple(points),
        search.untouched,
        search.budget,
        goal,
        depth_goal,
        _choice(points, search, goal, depth_goal),
        next((i for i, p in enumerate(points) if (p.sites, p.strength, p.selectivity) == PUBLISHED), None),
        manifest | {"version": library_version()},
    )


def site_groups(sites: Mapping[str, Site]) -> dict[str, list[str]]:
    """Propose groups of sites to act on together: all, each role, its early and late half, and the last sites.

    A role is a site's name without its layer's index, so `mlp.c_proj` of all layers is one group.
    """
    groups: dict[str, list[str]] = {"all": list(sites)}
    roles: dict[str, list[str]] = {}
    for name in sites:
        index = layer_of(name)
        role = name if index is None else re.sub(rf"^(.*?\.)?{index}\.", "", name)
        roles.setdefault(role, []).append(name)
    for role, names in roles.items():
        if len(names) > 1:
            groups[role] = names
        if len(names) >= 4:
            groups[f"{role}, early half"] = names[: len(names) // 2]
            groups[f"{role}, late half"] = names[len(names) // 2 :]
    if len(roles) == len(sites):
        groups |= {f"last {k}": list(sites)[-k:] for k in range(1, min(len(sites), 4))}
    return groups


@dataclass(frozen=True, eq=False)
class _Concept:
    target: Statistics
    reference: Reference
    forget: Any
    keep: Mapping[str, Keep]


def _concepts(target: Any, reference: Any, forget: Any, keep: Any) -> list[_Concept]:
    if isinstance(target, Statistics):
        target, forget, keep = [target], [forget], [keep]
    if isinstance(reference, (Statistics, Reference)):
        reference = [reference if isinstance(reference, Reference) else Reference(reference)] * len(target)
    keep = [keep] * len(target) if isinstance(keep, Mapping) else keep
    lengths = [len(target), len(reference), len(forget), len(keep)]
    if len(set(lengths)) != 1 or not target:
        raise ValueError(
            f"got {lengths} targets, references, forget sets and keep sets; expected equally many, at least one"
        )
    if any(set(names) != set(keep[0]) for names in keep):
        raise ValueError(f"got keep sets of different names ({[sorted(k) for k in keep]}); expected the same for all")
    wrapped = [r if isinstance(r, Reference) else Reference(r) for r in reference]
    return [_Concept(*parts) for parts in zip(target, wrapped, forget, keep, strict=True)]


class _Search:
    """Scores edits of all concepts and averages them."""

    def __init__(
        self,
        model: nn.Module,
        score: Score,
        concepts: list[_Concept],
        budget: float | Mapping[str, float],
        depth: Callable[[nn.Module], float] | None,
    ) -> None:
        self.model, self.score, self.concepts, self.depth = model, score, concepts, depth
        names = list(concepts[0].keep)
        self.budget = dict(budget) if isinstance(budget, Mapping) else dict.fromkeys(names, float(budget))
        missing = [name for name in names if self.budget.get(name, 0) <= 0]
        if missing or not names:
            raise ValueError(
                f"got no positive budget for {missing or 'any kept data'}; expected one for every name in keep"
            )
        self.before = [self._measure(concept) for concept in concepts]
        self.untouched = _average(self.before)

    def point(
        self, label: str, names: tuple[str, ...], strength: float, selectivity: float, traces: list[Engram]
    ) -> Point:
        after: list[dict[str, Any]] = []
        for concept, trace in zip(self.concepts, traces, strict=True):
            with applied(self.model, erase(trace, strength, limit=None)):
                after.append(self._measure(concept))
        mean = _average(after)
        loss = {name: self.untouched["kept"][name] - value for name, value in mean["kept"].items()}
        within = all(loss[name] <= self.budget[name] for name in loss)
        return Point(
            label, names, strength, selectivity, mean["target"], mean["kept"], loss, within, depth=mean.get("depth")
        )

    def worst(self, point: Point) -> float:
        """Largest loss in units of its budget."""
        return max(loss / self.budget[name] for name, loss in point.loss.items())

    def _measure(self, concept: _Concept) -> dict[str, Any]:
        kept = {name: self._mean(data) for name, data in concept.keep.items()}
        measured: dict[str, Any] = {"target": self._mean(concept.forget), "kept": kept}
        return measured | ({"depth": float(self.depth(self.model))} if self.depth else {})

    def _mean(self, data: Keep) -> float:
        scores = data(self.model) if callable(data) else self.score(self.model, data)
        mean = float(torch.as_tensor(scores).double().mean())
        if not math.isfinite(mean):
            raise ValueError(f"got scores of mean {mean}; expected finite numbers, at least one; bound the score")
        return mean


def _average(measured: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    n = len(measured)
    kept = {name: sum(m["kept"][name] for m in measured) / n for name in measured[0]["kept"]}
    mean: dict[str, Any] = {"target": sum(m["target"] for m in measured) / n, "kept": kept}
    return mean | ({"depth": sum(m["depth"] for m in measured) / n} if "depth" in measured[0] else {})


def _with_frontier(points: list[Point], search: _Search) -> list[Point]:
    costs = [(p.target, search.worst(p)) for p in points]

    def dominated(i: int) -> bool:
        t, w = costs[i]
        return any(a <= t and b <= w and (a, b) != (t, w) for a, b in costs)

    return [Point(**{**vars(p), "frontier": not dominated(i)}) for i, p in enumerate(points)]


def _choice(points: list[Point], search: _Search, goal: float, depth_goal: float | None) -> int | None:
    within = [i for i, p in enumerate(points) if p.within]
    if not within:
        return None

    def shortfall(p: Point) -> float:
        deep = max(p.depth - depth_goal, 0.0) if depth_goal is not None and p.depth is not None else 0.0
        return max(p.target - goal, 0.0) + deep

    def cost(i: int) -> float:
        return max(search.worst(points[i]), 0.0)

    nearest = min(shortfall(points[i]) for i in within)
    near = [i for i in within if shortfall(points[i]) == nearest]
    least = min(map(cost, near))
    return min((i for i in near if cost(i) < least + _EQUAL), key=lambda i: (points[i].target, cost(i)))
