"""Splits by family: rows that belong together (a person, a picture, a template) are never on both sides.

Families are drawn label by label where every family has one label, so that each part has each label in its share; else
all together. A random-label control is dealt the same way: families swap their labels whole, so it has the same
frequencies and the same families, and nothing in common with the activations.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Split:
    """Rows to fit on, to choose the penalty with, and to test on; `family (n,)` numbers each row's family from 0."""

    fit: Int[Tensor, " f"]
    choose: Int[Tensor, " c"]
    test: Int[Tensor, " t"]
    family: Int[Tensor, " n"]

    @property
    def rows(self) -> dict[str, int]:
        """Rows of each part."""
        return {"fit": len(self.fit), "choose": len(self.choose), "test": len(self.test)}

    def shuffled(self, y: Int[Tensor, " n"], generator: torch.Generator) -> Int[Tensor, " n"]:
        """Return labels dealt anew, within each side: by family where a family has one label, else by row."""
        dealt = y.clone()
        for rows in (torch.cat([self.fit, self.choose]), self.test):
            names, member = self.family[rows].unique(return_inverse=True)
            if _pure(y[rows], member):
                label = torch.empty(len(names), dtype=y.dtype).scatter_(0, member, y[rows])
                dealt[rows] = label[torch.randperm(len(names), generator=generator)][member]
            else:
                dealt[rows] = y[rows][torch.randperm(len(rows), generator=generator)]
        return dealt


def split_families(
    y: Int[Tensor, " n"], groups: Int[Tensor, " n"] | Sequence[Any] | None, *, test: float, generator: torch.Generator
) -> Split:
    """Split rows by family.

    Args:
        y: labels.
        groups: family of each row; None: every row is its own.
        test: share of the families to test on, and of the others to choose with; at least one of each.
        generator: of the draw.

    Raises:
        ValueError: one label only, a part without one of the labels, or a share that cannot be.
    """
    classes = y.unique()
    if len(classes) < 2 or not 0 < test < 1:  # noqa: PLR2004
        raise ValueError(
            f"got labels {classes.tolist()[:4]} and test={test}; expected at least two labels and a share between 0 "
            "and 1"
        )
    family = _numbered(groups, len(y))
    count = int(family.max()) + 1
    by_label = torch.zeros(count, dtype=torch.long)
    if _pure(y, family):
        by_label.scatter_(0, family, torch.searchsorted(classes, y))
    part = torch.zeros(count, dtype=torch.long)
    for label in by_label.unique():
        names = (by_label == label).nonzero()[:, 0]
        names = names[torch.randperm(len(names), generator=generator)]
        tested = max(1, round(test * len(names)))
        chosen = max(1, round(test * (len(names) - tested)))
        part[names[:tested]], part[names[tested : tested + chosen]] = 2, 1
    rows = [(part[family] == which).nonzero()[:, 0] for which in range(3)]
    for name, some in zip(("fit", "choose", "test"), rows, strict=True):
        missing = sorted(set(classes.tolist()) - set(y[some].tolist()))
        if missing:
            raise ValueError(
                f"got no row of label {missing[0]} among the {len(some)} to {name}; expected every label in each of "
                f"three parts; give more than {count} families, at least three a label, or drop rare labels"
            )
    return Split(rows[0], rows[1], rows[2], family)


def _numbered(groups: Tensor | Sequence[Any] | None, n: int) -> Tensor:
    if groups is None:
        return torch.arange(n)
    names = groups.tolist() if isinstance(groups, Tensor) else list(groups)
    if len(names) != n:
        raise ValueError(f"got {len(names)} groups for {n} rows; expected one a row")
    numbers: dict[Any, int] = {}
    return torch.tensor([numbers.setdefault(name, len(numbers)) for name in names])


def _pure(y: Tensor, family: Tensor) -> bool:
    """Tell whether every family has one label."""
    pairs = torch.stack([family, y]).unique(dim=1).shape[1]
    return pairs == len(family.unique())
