"""Held out: a unit's concept is chosen on one half of the stimuli and tested on the other, view by view.

The best of many units on the stimuli that chose them is good by choice alone. So each concept in each view is halved by
items: all views of one item fall on one side. AUROC is computed within a view, where a stimulus is compared with other
concepts seen alike, and averaged over views and modalities; its least over them says how invariant a unit is.

Cost: a sort of every unit's responses, and a product with the labels. Memory: ranks of one half, float32.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mnemotrace.localisation.auroc import auroc, of_ranks, ranks
from mnemotrace.localisation.stimuli import Labels, members_of

Tables = Mapping[str, Tensor]
Known = Mapping[str, Labels]


def halves(labels: Labels, generator: torch.Generator) -> Bool[Tensor, " n"]:
    """Choose half of the items of each concept and set of views; of an odd number, the half that tests has one more."""
    keys = labels.of_items * (int(labels.keys.max()) + 1) + labels.keys
    order = torch.randperm(len(keys), generator=generator, device=generator.device).cpu()
    order = order[keys[order].argsort(stable=True)]
    begins = torch.searchsorted(keys[order], keys[order])
    chosen = torch.empty_like(keys, dtype=torch.bool)
    chosen[order] = (torch.arange(len(keys)) - begins) % 2 == 1
    return chosen[labels.items]


def shuffled(labels: Labels, generator: torch.Generator) -> Int[Tensor, " n"]:
    """Give items the concepts of others with the same views, so that each view keeps its counts of each concept."""
    order = torch.randperm(len(labels.keys), generator=generator, device=generator.device).cpu()
    mixed = order[labels.keys[order].argsort(stable=True)]
    plain = labels.keys.argsort(stable=True)
    found = torch.empty_like(labels.of_items)
    found[plain] = labels.of_items[mixed]
    return found[labels.items]


@dataclass(frozen=True, eq=False)
class Half:
    """Ranked responses to one half of the stimuli: one table for each view of each modality.

    Attributes:
        ranked: by stratum, `(u, n)`.
        views: by stratum, the modality and the rows of it.
        labels: by modality.
    """

    ranked: Sequence[Float[Tensor, "u n"]]
    views: Sequence[tuple[str, Int[Tensor, " n"]]]
    labels: Known

    @classmethod
    def of(cls, tables: Tables, labels: Known) -> "Half":
        """Rank responses within each view."""
        views = [
            (name, (known.views == view).nonzero()[:, 0])
            for name, known in labels.items()
            for view in known.views.unique().tolist()
        ]
        return cls([ranks(tables[name][rows]) for name, rows in views], views, labels)

    def scores(self, concepts: Tables | None = None) -> Float[Tensor, "s u k"]:
        """Compute AUROC in each view of each modality, for the true concepts or for others."""
        given = {name: known.concepts for name, known in self.labels.items()} if concepts is None else concepts
        return torch.stack(
            [
                of_ranks(ranked, members_of(given[name][rows], self.labels[name].count))
                for ranked, (name, rows) in zip(self.ranked, self.views, strict=True)
            ]
        )


@dataclass(frozen=True, eq=False)
class Judged:
    """A concept for each unit, chosen on one half, and how well it does on the other.

    Attributes:
        preferred: the concept with the highest AUROC on the first half.
        second: the next.
        favourites: as `preferred`, by each modality alone.
        auroc: on the second half, mean over views and modalities.
        held: on the second half, of the preferred concept in each view of each modality.
    """

    preferred: Int[Tensor, " u"]
    second: Int[Tensor, " u"]
    favourites: Int[Tensor, "u m"]
    auroc: Float[Tensor, "u k"]
    held: Float[Tensor, "u s"]

    @property
    def score(self) -> Float[Tensor, " u"]:
        """On the second half, of the preferred concept."""
        return self.auroc.gather(1, self.preferred[:, None])[:, 0]


def judge(first: Half, second: Half) -> Judged:
    """Choose a concept for each unit on the first half and test it on the second."""
    chosen, tested = first.scores(), second.scores()
    best = chosen.mean(0).topk(2, dim=1).indices
    alone = [
        torch.stack([chosen[i] for i, (name, _) in enumerate(first.views) if name == modality]).mean(0).argmax(1)
        for modality in first.labels
    ]
    held = tested.gather(2, best[None, :, :1].expand(len(tested), -1, -1))[..., 0].T
    return Judged(best[:, 0], best[:, 1], torch.stack(alone, 1), tested.mean(0), held)


def set_aside(tables: Tables, half: Half, judged: Judged) -> Float[Tensor, "u k"]:
    """Compute AUROC again with another concept left out: the preferred, and for the preferred itself the second.

    A unit of two concepts is held below one for each by the other: among ten equal concepts AUROC is at most 0.94.
    Of two concepts none can be left out, and AUROC comes back as it was.
    """
    if judged.auroc.shape[1] < 3:  # noqa: PLR2004
        return judged.auroc
    found = torch.zeros_like(judged.auroc)
    for name, rows in half.views:
        concepts, values, count = half.labels[name].concepts[rows], tables[name][rows], half.labels[name].count
        for concept in range(count):
            others = concepts != concept
            rest = [c for c in range(count) if c != concept]
            labels = members_of(concepts[others], count)[:, rest]
            for units, own in ((judged.preferred == concept, False), (judged.second == concept, True)):
                chosen = units.nonzero()[:, 0]
                if not len(chosen):
                    continue
                scores = torch.zeros(len(chosen), count, dtype=torch.float64)
                scores[:, rest] = auroc(values[others][:, chosen], labels)
                kept = torch.zeros_like(scores, dtype=torch.bool)
                kept.scatter_(1, judged.preferred[chosen][:, None], True)
                found[chosen] += torch.where(kept == own, scores, 0.0)
    return found / len(half.views)


def strata_of(labels: Known) -> tuple[str, ...]:
    """Name the views of each modality; a single view is called as the modality."""
    return tuple(
        name if len(seen) == 1 else f"{name} / {view}"
        for name, known in labels.items()
        for seen in [known.views.unique().tolist()]
        for view in seen
    )
