"""A table of responses scanned for concept cells: the same halves, shuffles and labels for every site of a network.

The steps are in `localisation.cells`; here they are put together for responses that are already there. Cost: as there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mnemotrace.core.artifact import library_version
from mnemotrace.core.linalg import require_finite
from mnemotrace.localisation.cell_criteria import deviations as deviate
from mnemotrace.localisation.cell_criteria import lifetime_sparseness, population_share, selectivity
from mnemotrace.localisation.cell_nulls import probe_accuracy, rotation, shuffle_maxima
from mnemotrace.localisation.concept_cells import Cells, SiteCells
from mnemotrace.localisation.held_out import Half, Known, Tables, halves, judge, set_aside, shuffled, strata_of
from mnemotrace.localisation.stimuli import Labels

TOP, LEAST_SHUFFLES = 8, 19


@dataclass(frozen=True, eq=False)
class Plan:
    """What is the same for every table: labels, halves, shuffled labels, bounds.

    Attributes:
        labels: by modality.
        first: by modality, the stimuli that choose a unit's concept.
        mixed: for each shuffle, concepts of the other stimuli by modality.
        bounds: least AUROC, least in any view, deviations of a strict cell.
        rotate: whether layers are rotated.
        generator: of the rotations.
        seed: of the generator at the start.
    """

    labels: Known
    first: Tables
    mixed: Sequence[Tables]
    bounds: tuple[float, float, float]
    rotate: bool
    generator: torch.Generator
    seed: int

    @classmethod
    def of(
        cls, labels: Known, bounds: tuple[float, float, float], *, shuffles: int, rotate: bool,
        generator: torch.Generator,
    ) -> "Plan":  # fmt: skip
        """Halve the stimuli and shuffle the labels of the half that tests.

        Raises:
            ValueError: bounds or a number of shuffles that cannot be, or modalities that differ in their concepts.
        """
        if not all(0 < bound <= 1 for bound in bounds[:2]) or shuffles < LEAST_SHUFFLES:
            raise ValueError(
                f"got auroc={bounds[0]}, invariance={bounds[1]}, shuffles={shuffles}; expected bounds above 0 and up "
                f"to 1, and at least {LEAST_SHUFFLES} shuffles, so that p can be 0.05"
            )
        numbers = {name: one.count for name, one in labels.items()}
        if len(set(numbers.values())) != 1:
            raise ValueError(
                f"got {', '.join(f'{count} concepts in {name}' for name, count in numbers.items())}; expected the same "
                "concepts in every modality"
            )
        seed = generator.initial_seed()
        first = {name: halves(one, generator) for name, one in labels.items()}
        rest = {name: one.rows(~first[name]) for name, one in labels.items()}
        mixed = [{name: shuffled(one, generator) for name, one in rest.items()} for _ in range(shuffles)]
        return cls(labels, first, mixed, bounds, rotate, generator, seed)

    def site(self, tables: Tables, untrained: Tables | None) -> SiteCells:
        """Judge the units of one site.

        Raises:
            TypeError: tables that are no floating-point numbers.
            ValueError: tables that do not fit the labels or each other.
            NonFiniteError: NaN or infinity in a table.
        """
        self._check(tables)
        first, second = self._half(tables, True), self._half(tables, False)
        judged = judge(first, second)
        rest = {name: values[~self.first[name]] for name, values in tables.items()}
        concepts = {name: one.concepts for name, one in second.labels.items()}
        count = judged.auroc.shape[1]

        def least(of: Mapping[str, Tensor]) -> Tensor:
            return torch.stack(list(of.values())).amin(0)

        together = torch.cat(list(rest.values()))
        rotated, probe = self._rotated(tables) if self.rotate else (None, None)
        return SiteCells(
            auroc=judged.auroc,
            beside=set_aside(rest, second, judged),
            preferred=judged.preferred,
            held=judged.held,
            favourites=judged.favourites,
            deviations=least({name: deviate(rest[name], concepts[name], count) for name in rest}),
            index=least({name: selectivity(rest[name], concepts[name], count) for name in rest}),
            sparseness=lifetime_sparseness(together),
            active=population_share(together),
            shuffled=shuffle_maxima(second, self.mixed),
            top=_top(tables),
            untrained=None if untrained is None else self._scores(untrained),
            rotated=rotated,
            probe=probe,
        )

    def result(self, sites: Mapping[str, SiteCells], names: Sequence[str], manifest: Mapping[str, Any]) -> Cells:
        """Put sites together; concepts without names are called by their numbers."""
        count = next(iter(self.labels.values())).count
        strata = strata_of(self.labels)
        called = tuple(names) or tuple(map(str, range(count)))
        return Cells(sites, called, strata, tuple(self.labels), *self.bounds, manifest)

    def manifest(self) -> dict[str, Any]:
        """Say how it was done."""
        return {
            "method": "concept cells",
            "seed": self.seed,
            "shuffles": len(self.mixed),
            "rotate": self.rotate,
            "stimuli": {name: len(one.concepts) for name, one in self.labels.items()},
            "tested": {name: int((~one).sum()) for name, one in self.first.items()},
            "version": library_version(),
        }

    def _half(self, tables: Tables, first: bool) -> Half:
        chosen = {name: one if first else ~one for name, one in self.first.items()}
        return Half.of(
            {name: values[chosen[name]] for name, values in tables.items()},
            {name: one.rows(chosen[name]) for name, one in self.labels.items()},
        )

    def _scores(self, tables: Tables) -> Tensor:
        self._check(tables)
        return judge(self._half(tables, True), self._half(tables, False)).score

    def _rotated(self, tables: Tables) -> tuple[Tensor, Tensor]:
        width = next(iter(tables.values())).shape[1]
        turn = rotation(width, self.generator)
        turned = {name: values.float() @ turn for name, values in tables.items()}
        accuracy = [
            torch.tensor([self._accuracy(name, values[name]) for name in tables], dtype=torch.float64).mean()
            for values in (tables, turned)
        ]
        return self._scores(turned), torch.stack(accuracy)

    def _accuracy(self, name: str, values: Tensor) -> float:
        first, concepts, count = self.first[name], self.labels[name].concepts, self.labels[name].count
        return probe_accuracy(values[first], concepts[first], values[~first], concepts[~first], count)

    def _check(self, tables: Tables) -> None:
        if set(tables) != set(self.labels):
            raise ValueError(f"got tables of {sorted(tables)}; expected one for each of {sorted(self.labels)}")
        for name, values in tables.items():
            if not values.is_floating_point():
                raise TypeError(f"got responses of {values.dtype} in {name}; expected floating-point numbers")
            wanted = len(self.labels[name].concepts), next(iter(tables.values())).shape[-1]
            if tuple(values.shape) != wanted or not wanted[1]:
                raise ValueError(
                    f"got responses {tuple(values.shape)} in {name}; expected {wanted}, a row for each stimulus and "
                    "the same units in every modality"
                )
            require_finite(values, f"responses in {name}")


def _top(tables: Tables) -> Tensor:
    """Return the indices of the strongest stimuli of each unit, strongest first."""
    kept = min(TOP, *(len(values) for values in tables.values()))
    order = [values.T.topk(kept, dim=1).indices for values in tables.values()]
    return torch.stack(order)


def scan(
    tables: Tensor | Tables,
    concepts: Tensor | Tables,
    *,
    views: Tensor | Tables | None = None,
    items: Tensor | Tables | None = None,
    names: Sequence[str] = (),
    untrained: Tensor | Tables | None = None,
    site: str = "",
    auroc: float = 0.95,
    invariance: float = 0.90,
    deviations: float = 5.0,
    shuffles: int = 99,
    rotate: bool = True,
    generator: torch.Generator | None = None,
) -> Cells:
    """Find concept cells in tables of responses, stimuli by units.

    Args:
        tables: `(n, u)`, or one for each modality with the same units.
        concepts: `(n,)` from 0, or by modality.
        views: as `concepts`; None where there is one view.
        items: which thing each stimulus shows, as `concepts`; None where each shows another.
        names: of the concepts; numbers where there are none.
        untrained: tables of an untrained network for the same stimuli; None goes without.
        site: what the units are called.
        auroc: as in `cells`, as are the others.
        invariance: likewise.
        deviations: likewise.
        shuffles: likewise.
        rotate: likewise.
        generator: of the halves, shuffles and rotation; None is one of seed 0.

    Raises:
        TypeError: labels that are no integers, or tables that are no floating-point numbers.
        ValueError: labels that do not fit the tables, too few stimuli, or settings that cannot be.
        NonFiniteError: NaN or infinity in a table.
    """
    source = torch.Generator().manual_seed(0) if generator is None else generator
    given = named(tables)
    known = [named(one, tuple(given)) for one in (concepts, views, items)]
    labels = {name: Labels.of(*(one.get(name) for one in known), names=names) for name in given}  # type: ignore[arg-type]
    plan = Plan.of(labels, (auroc, invariance, deviations), shuffles=shuffles, rotate=rotate, generator=source)
    found = plan.site(given, None if untrained is None else named(untrained, tuple(given)))
    return plan.result({site: found}, tuple(names), plan.manifest())


def named(given: "Tensor | Tables | None", names: Sequence[str] = ("stimuli",)) -> dict[str, Tensor]:
    """Return a table by modality; of a single one, by the name there is.

    Raises:
        ValueError: a single table for several modalities, or names that differ.
    """
    if given is None:
        return {}
    found = {names[0]: given} if isinstance(given, Tensor) and len(names) == 1 else given
    if isinstance(found, Tensor) or (names != ("stimuli",) and set(found) != set(names)):
        raise ValueError(
            f"got {'one table' if isinstance(found, Tensor) else sorted(found)} for the modalities {sorted(names)}; "
            "expected one for each"
        )
    return dict(found)
