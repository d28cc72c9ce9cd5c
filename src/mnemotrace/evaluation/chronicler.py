"""Chronicler: a callback that follows the engrams of concepts while a network trains.

    follow = Chronicler(model, watched, score=right)
    for step, batch in enumerate(batches):
        train(batch)
        follow(step)
    life = follow.chronicle()

It must be called between optimiser steps. The network is left bit for bit as it was, with its training flags, its
gradients and the state of torch's random numbers, so training goes on as if nobody had looked.

Each call collects every concept's stimuli in two halves, extracts `W C_t (C_t + lambda C_r)^+` of the whole and of
each half, where what must be kept is all other concepts (and `keep`), and scores the network with the engram erased and
with random traces of equal spectrum erased. Engrams are kept at `rank` for the overlaps between times.

Cost of a call: one pass over all stimuli, three solves a concept and site, `1 + random` scorings of all held-out data a
concept. Memory: `times x concepts x rank (o + d)` numbers a site.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn

from mnemotrace.adapters.hooks import evaluating
from mnemotrace.adapters.linear import sites as all_sites
from mnemotrace.core.applying import applied
from mnemotrace.core.artifact import fingerprint, library_version
from mnemotrace.core.linalg import require_finite
from mnemotrace.core.site import Site
from mnemotrace.core.trace import Engram
from mnemotrace.evaluation.chronicle import MEASURES, Chronicle
from mnemotrace.evaluation.controls import random_trace
from mnemotrace.evaluation.runs import Score, scores_of
from mnemotrace.forgetting.erase import erase
from mnemotrace.localisation.engram import engram
from mnemotrace.localisation.reference import Reference, factor
from mnemotrace.stats.collect import Mask, collect
from mnemotrace.stats.moments import Statistics


@dataclass(frozen=True)
class Watched:
    """A concept to follow.

    Attributes:
        stimuli: batches, as the network takes them; at least two, since halves are compared: even and odd ones.
        held_out: what `score` is given with the network; no part of the stimuli.

    Raises:
        ValueError: fewer than two batches.
    """

    stimuli: Sequence[Any]
    held_out: Any

    def __post_init__(self) -> None:
        """Check before anything runs."""
        if len(self.stimuli) < 2:
            raise ValueError(
                f"got {len(self.stimuli)} batches of stimuli; expected at least two, since the engrams of two halves "
                "are compared; split them into smaller batches"
            )


class Chronicler:
    """Follows concepts in a network; call it with the step of the training, as often as you like to measure.

    Args:
        model: the network that is trained.
        concepts: what to follow, by name; at least two.
        score: `score(model, held_out)` returns one number an example, `(n,)`, larger for better known.
        sites: where to look, from `mt.sites`; None for all.
        mask: which positions of a batch are the concept, as in `mt.collect`; for `keep` too.
        keep: batches of what must be kept besides the other concepts.
        selectivity: weight of what must be kept, as in `mt.engram`.
        rcond: relative ridge of the solve; None for `width * 1.19e-7`.
        rank: kept of each engram for the overlaps between times.
        random: how many random traces each erasure stands beside.
        generator: of the random traces; None is one of seed 0.

    Raises:
        ValueError: fewer than two concepts, or a rank or number below 1.
    """

    def __init__(
        self,
        model: nn.Module,
        concepts: Mapping[str, Watched],
        *,
        score: Score,
        sites: Mapping[str, Site] | None = None,
        mask: Mask | None = None,
        keep: Sequence[Any] = (),
        selectivity: float = 1.0,
        rcond: float | None = None,
        rank: int = 8,
        random: int = 3,
        generator: torch.Generator | None = None,
    ) -> None:
        if len(concepts) < 2 or rank < 1 or random < 1:
            raise ValueError(
                f"got {len(concepts)} concepts, rank={rank}, random={random}; expected at least two concepts, for what "
                "must be kept of one is the others, and at least 1 of the others"
            )
        self.model, self.concepts, self.score = model, dict(concepts), score
        self.sites = all_sites(model) if sites is None else dict(sites)
        self.mask, self.keep, self.rank, self.random = mask, list(keep), rank, random
        self._solve = {"selectivity": selectivity, "solver": "ridge", "rcond": rcond}
        self.generator = torch.Generator().manual_seed(0) if generator is None else generator
        self._seed = self.generator.initial_seed()
        self._steps: list[int] = []
        self._rows: list[dict[str, list[float]]] = []
        self._engrams: list[list[Engram]] = []

    def __call__(self, step: int) -> dict[str, float]:
        """Measure every concept now, and return its score.

        Args:
            step: of the training; larger than the one before.

        Raises:
            ValueError: a step that does not rise.
            NonFiniteError: activations or scores that are not finite; the step is not written down.
        """
        if self._steps and step <= self._steps[-1]:
            raise ValueError(f"got step {step} after {self._steps[-1]}; expected one that rises; give the training's")
        with torch.random.fork_rng(devices=[]):
            halves = self._statistics()
            whole = {name: first + second for name, (first, second) in halves.items()}
            kept = collect(self.model, self.keep, sites=self.sites, mask=self.mask) if self.keep else None
            before = self._scores(self.concepts)
            found: list[Engram] = []
            rows: dict[str, list[float]] = {name: [] for name in MEASURES}
            for name in self.concepts:
                others = [s for other, s in whole.items() if other != name] + ([] if kept is None else [kept])
                reference = factor(reduce(lambda a, b: a + b, others))
                trace = self._engram(whole[name], reference)
                parts = [self._engram(half, reference) for half in halves[name]]
                values = self._measured(name, trace, before) | {"agreement": parts[0].overlap(parts[1])}
                for measure, value in values.items():
                    rows[measure].append(value)
                found.append(trace.truncated(rank=self.rank))
        self._steps.append(step)
        self._rows.append(rows)
        self._engrams.append(found)
        return before

    def chronicle(self) -> Chronicle:
        """Return what was measured so far.

        Raises:
            ValueError: nothing yet.
        """
        if not self._steps:
            raise ValueError("got no measurement; expected at least one call with a step of the training before")
        tables = {name: torch.tensor([rows[name] for rows in self._rows]).T for name in MEASURES}
        manifest = {
            "method": "chronicle",
            "sites": sorted(self.sites),
            "selectivity": self._solve["selectivity"],
            "rcond": self._solve["rcond"],
            "rank": self.rank,
            "random": self.random,
            "seed": self._seed,
            "base": fingerprint(self.model),
            "version": library_version(),
        }
        overlap = torch.stack([_overlaps(list(life)) for life in zip(*self._engrams, strict=True)])
        return Chronicle(tuple(self.concepts), tuple(self._steps), **tables, overlap=overlap, manifest=manifest)

    def _statistics(self) -> dict[str, tuple[Statistics, Statistics]]:
        def half(watched: Watched, start: int) -> Statistics:
            return collect(self.model, watched.stimuli[start::2], sites=self.sites, mask=self.mask)

        return {name: (half(watched, 0), half(watched, 1)) for name, watched in self.concepts.items()}

    def _engram(self, target: Statistics, reference: Reference) -> Engram:
        return engram(self.model, target=target, reference=reference, **self._solve)

    def _scores(self, names: Iterable[str]) -> dict[str, float]:
        found: dict[str, float] = {}
        with evaluating(self.model):
            for name in names:
                scores = scores_of(self.score(self.model, self.concepts[name].held_out), name)
                require_finite(scores, f"the scores of {name}")
                found[name] = float(scores.mean())
        return found

    def _measured(self, name: str, trace: Engram, before: Mapping[str, float]) -> dict[str, float]:
        def lost(erased: Engram, names: Sequence[str]) -> list[float]:
            with applied(self.model, erase(erased, limit=None)):
                after = self._scores(names)
            return [before[n] - after[n] for n in names]

        necessity, *others = lost(trace, [name, *(other for other in before if other != name)])
        chance = max(lost(random_trace(trace, self.generator), [name])[0] for _ in range(self.random))
        weights = sum(norm**2 for norm in trace.weights.values()) ** 0.5
        size = sum(norm**2 for norm in trace.norms().values()) ** 0.5
        return {
            "score": before[name],
            "necessity": necessity,
            "random": chance,
            "spared": mean(others),
            "norm": size / weights if weights else 0.0,
        }


def _overlaps(life: Sequence[Engram]) -> Tensor:
    """Cosines between one concept's engrams at all pairs of times."""
    table = torch.zeros(len(life), len(life), dtype=torch.float64)
    for s, first in enumerate(life):
        for t, second in enumerate(life[: s + 1]):
            table[s, t] = table[t, s] = first.overlap(second)
    return table
