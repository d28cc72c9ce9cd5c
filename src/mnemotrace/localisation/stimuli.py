"""Stimuli: what a network is shown, and which concept each shows, from which view, of which thing.

Concepts are numbers from 0; every concept must come in every view, several times, for half of the stimuli choose a
unit's concept and the other half test it. `items` says which stimuli show one and the same thing: a picture and its
shifted copy are one item in two views, and must not stand on both sides.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

LEAST = 2


@dataclass(frozen=True, eq=False)
class Stimuli:
    """What is shown in one modality, and what it shows.

    Attributes:
        batches: inputs as the network takes them; read once for each network, so no iterator that is used up.
        concepts: of each stimulus, from 0, in the order of the batches.
        views: of each stimulus, from 0: a pose, a voice, a script; None where there is one.
        names: of the concepts; numbers where there are none.
        run: how a batch is given to the network, `run(model, batch)`; None calls it.
        items: which thing each stimulus shows; None where each shows another.

    Raises:
        ValueError: the labels do not fit each other, a number below 0, fewer names than concepts, or an iterator.
        TypeError: labels that are no integers.
    """

    batches: Sequence[Any]
    concepts: Int[Tensor, " n"]
    views: Int[Tensor, " n"] | None = None
    names: tuple[str, ...] = ()
    run: Callable[[nn.Module, Any], Any] | None = None
    items: Int[Tensor, " n"] | None = None

    def __post_init__(self) -> None:
        """Check the labels once, so that nothing later has to."""
        if not isinstance(self.batches, Sequence) and not hasattr(self.batches, "__len__"):
            raise ValueError(
                f"got batches of type {type(self.batches).__name__}; expected a list, or anything that can be read "
                "again, for the untrained network sees them too; give list(batches)"
            )
        _ = self.labels  # checks them

    @cached_property
    def labels(self) -> "Labels":
        """What the stimuli show, without the stimuli."""
        return Labels.of(self.concepts, self.views, self.items, self.names)


@dataclass(frozen=True, eq=False)
class Labels:
    """Concept, view and item of each stimulus of a modality, all present, counted from 0."""

    concepts: Int[Tensor, " n"]
    views: Int[Tensor, " n"]
    items: Int[Tensor, " n"]
    count: int

    @classmethod
    def of(
        cls, concepts: Tensor, views: Tensor | None = None, items: Tensor | None = None, names: Sequence[str] = ()
    ) -> "Labels":
        """Check labels and fill in what was left out.

        Raises:
            ValueError: lengths that differ, a number below 0, fewer than two concepts, a concept or a view without
                enough stimuli, an item of two concepts.
            TypeError: labels that are no integers.
        """
        n = len(concepts)
        given = {"concepts": concepts, "views": views, "items": items}
        for what, values in given.items():
            _check(values, what, n)
        views = torch.zeros(n, dtype=torch.long) if views is None else views.long().cpu()
        items = torch.arange(n) if items is None else torch.unique(items.cpu(), return_inverse=True)[1]
        count = int(concepts.max()) + 1
        if count < 2 or (names and len(names) < count):  # noqa: PLR2004
            raise ValueError(
                f"got {count} concepts and {len(names)} names; expected at least two concepts, numbered from 0, and a "
                "name for each or none"
            )
        found = cls(concepts.long().cpu(), views, items, max(count, len(names)))
        found._require_enough(names)
        return found

    @cached_property
    def keys(self) -> Tensor:
        """`(items,)` which items have the same views equally often, hence may change places."""
        seen = torch.zeros(int(self.items.max()) + 1, int(self.views.max()) + 1, dtype=torch.long)
        seen.index_put_((self.items, self.views), torch.ones(len(self.items), dtype=torch.long), accumulate=True)
        return torch.unique(seen, dim=0, return_inverse=True)[1]

    @cached_property
    def of_items(self) -> Tensor:
        """`(items,)` the concept of each item."""
        found = torch.zeros(int(self.items.max()) + 1, dtype=torch.long)
        found[self.items] = self.concepts
        return found

    def rows(self, chosen: Tensor) -> "Labels":
        """Keep some stimuli."""
        items = torch.unique(self.items[chosen], return_inverse=True)[1]
        return Labels(self.concepts[chosen], self.views[chosen], items, self.count)

    def _require_enough(self, names: Sequence[str]) -> None:
        if not bool((self.of_items[self.items] == self.concepts).all()):
            wrong = int(self.items[(self.of_items[self.items] != self.concepts).nonzero()[0, 0]])
            raise ValueError(f"got item {wrong} with two concepts; expected one; give each its own number")
        views = int(self.views.max()) + 1
        pairs = torch.unique(torch.stack([self.concepts * views + self.views, self.items]), dim=1)[0]
        counts = torch.bincount(pairs, minlength=self.count * views).view(self.count, views)
        short = (counts < LEAST).nonzero()
        if len(short):
            concept, view = short[0].tolist()
            raise ValueError(
                f"got {int(counts[concept, view])} stimuli of concept {names[concept] if names else concept} in view "
                f"{view}; expected at least {LEAST} of each concept in each view, one to choose a unit's concept by "
                "and one to test it; give more, or leave the concept or the view out"
            )


def _check(values: Tensor | None, what: str, n: int) -> None:
    if values is None:
        return
    if values.is_floating_point() or values.dtype == torch.bool or values.is_complex():
        raise TypeError(f"got {what} of type {values.dtype}; expected integers, a number for each stimulus")
    if values.ndim != 1 or len(values) != n or n == 0 or int(values.min()) < 0:
        raise ValueError(
            f"got {what} of shape {tuple(values.shape)} for {n} stimuli"
            + (f", the smallest {int(values.min())}" if values.numel() else "")
            + "; expected one number from 0 for each stimulus"
        )


def members_of(concepts: Int[Tensor, " n"], count: int) -> Bool[Tensor, "n k"]:
    """Say which of `n` examples are of which concept."""
    return concepts[:, None] == torch.arange(count, device=concepts.device)


def modalities(stimuli: "Stimuli | Mapping[str, Stimuli]") -> dict[str, Stimuli]:
    """Return stimuli by modality; those of one are called "stimuli".

    Raises:
        ValueError: no modality, or names of concepts that differ between modalities.
    """
    found = {"stimuli": stimuli} if isinstance(stimuli, Stimuli) else dict(stimuli)
    named = {one.names for one in found.values()}
    if len(named) != 1:
        raise ValueError(
            f"got {len(found)} modalities with {len(named)} lists of names; expected at least one modality, and one "
            "list of names for all; the same concept must have the same number everywhere"
        )
    return found
