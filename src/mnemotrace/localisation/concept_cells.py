"""Concept cells as a value: each unit's concept, how well it tells it on stimuli that did not choose it, and nulls.

A unit is *selective* where its held-out AUROC, the mean over views and modalities, reaches `auroc`; *invariant* where
the smallest over views and modalities reaches `invariance`; *significant* where it is above the largest that shuffled
labels gave, and above the largest of an untrained network. A cell is all three; a *strict* cell also responds to one
concept and no other by `deviations` standard deviations. Numbers come from `localisation.cells`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mnemotrace.core.artifact import Artifact
from mnemotrace.core.errors import SelectionError
from mnemotrace.localisation.association import Association, associations

_TENSORS = ("auroc", "beside", "preferred", "held", "favourites", "deviations", "index", "sparseness", "shuffled",
            "top")  # fmt: skip
_OPTIONAL = ("untrained", "rotated", "probe")


@dataclass(frozen=True, eq=False)
class SiteCells:
    """What was found at one site.

    Attributes:
        auroc: of each unit for each concept on the held-out half, mean over views and modalities.
        beside: the same with the unit's preferred concept set aside (for the preferred: with the second set aside),
            so that a unit of two concepts can show both.
        preferred: the concept of the highest AUROC on the other half.
        held: held-out AUROC of the preferred concept in each view of each modality.
        favourites: as `preferred`, by each modality alone.
        deviations: `(median of the concept - mean of the others) / sd of the others` on the held-out half, the least
            over modalities.
        index: selectivity index, from the held-out half.
        sparseness: lifetime sparseness over the held-out half.
        active: population L0: mean share of units above zero.
        shuffled: the largest AUROC of any unit for any concept, for each shuffle of the labels.
        untrained: held-out AUROC of each unit of an untrained network for its own preferred concept; None where none
            was run.
        rotated: the same of the layer's random directions; None where it was not rotated.
        probe: accuracy of a linear probe before and after rotation; with `rotated`.
        top: indices of the stimuli that excite each unit most, within each modality.
    """

    auroc: Float[Tensor, "u k"]
    beside: Float[Tensor, "u k"]
    preferred: Int[Tensor, " u"]
    held: Float[Tensor, "u s"]
    favourites: Int[Tensor, "u m"]
    deviations: Float[Tensor, "u k"]
    index: Float[Tensor, " u"]
    sparseness: Float[Tensor, " u"]
    active: float
    shuffled: Float[Tensor, " p"]
    top: Int[Tensor, "m u e"]
    untrained: Float[Tensor, " v"] | None = None
    rotated: Float[Tensor, " u"] | None = None
    probe: Float[Tensor, " 2"] | None = None

    @property
    def score(self) -> Float[Tensor, " u"]:
        """Held-out AUROC of each unit for its preferred concept."""
        return self.auroc.gather(1, self.preferred[:, None])[:, 0]

    @property
    def p(self) -> Float[Tensor, " u"]:
        """Share of shuffles, the true labels counted as one, whose largest AUROC reaches the unit's."""
        return (1 + (self.shuffled[None] >= self.score[:, None]).sum(1)).double() / (1 + len(self.shuffled))

    @property
    def bar(self) -> float:
        """The largest AUROC of shuffled labels and of the untrained network."""
        nulls = [self.shuffled, *([] if self.untrained is None else [self.untrained])]
        return max((float(one.max()) for one in nulls if len(one)), default=0.0)

    def passing(self, deviations: float) -> Int[Tensor, " u"]:
        """Count the concepts to which each unit responds by so many standard deviations."""
        return (self.deviations > deviations).sum(1)


@dataclass(frozen=True)
class Cell:
    """One concept cell: a row of the table.

    Attributes:
        site: where.
        unit: which.
        concept: its number.
        name: its name.
        auroc: held out, mean over views and modalities.
        held: held out, by "modality / view".
        p: of the shuffled labels.
        deviations: how far the median lies above the mean of the other concepts, in their standard deviations.
        concepts: to how many it responds by the required deviations.
        index: selectivity index, 0 to 1.
        sparseness: lifetime sparseness, 0 to 1.
        partners: other concepts that it tells, once the preferred is set aside.
        same: every modality alone prefers this concept.
        top: indices of the strongest stimuli, by modality.
    """

    site: str
    unit: int
    concept: int
    name: str
    auroc: float
    held: Mapping[str, float]
    p: float
    deviations: float
    concepts: int
    index: float
    sparseness: float
    partners: tuple[str, ...]
    same: bool
    top: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class Cells:
    """Concept cells of a network, site by site.

    Attributes:
        sites: by name; "" is the network's output.
        names: of the concepts.
        strata: modality and view of each column of `held`.
        modalities: in the order of `favourites` and `top`.
        auroc: least AUROC of a cell.
        invariance: least AUROC in any view of any modality.
        deviations: of a strict cell.
        manifest: provenance: seed, fingerprints, counts.
    """

    sites: Mapping[str, SiteCells]
    names: tuple[str, ...]
    strata: tuple[str, ...]
    modalities: tuple[str, ...]
    auroc: float
    invariance: float
    deviations: float
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])

    kind = "cells"

    def cells(self, concept: int | str | None = None, *, site: str | None = None, strict: bool = False) -> list[Cell]:
        """List the cells, best first.

        Args:
            concept: its number or name; None for all.
            site: None for all.
            strict: only those that respond to one concept, and to no other, by `deviations`.

        Raises:
            SelectionError: no such concept or site.
        """
        wanted = None if concept is None else self._number(concept)
        found: list[Cell] = []
        for name in self._chosen(site):
            one = self.sites[name]
            units = self.passes(name)["strict" if strict else "cell"]
            if wanted is not None:
                units = units & (one.preferred == wanted)
            found += [self._cell(name, unit) for unit in units.nonzero()[:, 0].tolist()]
        return sorted(found, key=lambda cell: -cell.auroc)

    def passes(self, site: str) -> dict[str, Tensor]:
        """Say of each unit of a site which of the criteria it meets: `(u,)` bool by name.

        Raises:
            SelectionError: no such site.
        """
        one = self.sites[self._chosen(site)[0]]
        met = {
            "selective": one.score >= self.auroc,
            "invariant": one.held.amin(1) >= self.invariance,
            "above shuffled": one.score > (float(one.shuffled.max()) if len(one.shuffled) else 0.0),
            "above untrained": one.score > (0.0 if one.untrained is None else float(one.untrained.max())),
        }
        met["cell"] = torch.stack(list(met.values())).all(0)
        own = one.deviations.gather(1, one.preferred[:, None])[:, 0] > self.deviations
        met["strict"] = met["cell"] & own & (one.passing(self.deviations) == 1)
        return met

    def counts(self) -> dict[str, dict[str, int]]:
        """Count units at each site: all, by criterion, and those of the nulls that would pass for selective."""
        found: dict[str, dict[str, int]] = {}
        for name, one in self.sites.items():
            found[name] = {"units": len(one.preferred)} | {k: int(v.sum()) for k, v in self.passes(name).items()}
            for null, scores in (("untrained selective", one.untrained), ("rotated selective", one.rotated)):
                if scores is not None:
                    found[name][null] = int((scores >= self.auroc).sum())
        return found

    def table(self) -> list[dict[str, Any]]:
        """Return the cells as rows of plain values, best first."""
        return [
            {"site": c.site, "unit": c.unit, "concept": c.name, "auroc": c.auroc, **c.held, "p": c.p,
             "deviations": c.deviations, "concepts": c.concepts, "sparseness": c.sparseness,
             "partners": ", ".join(c.partners), "same": c.same}
            for c in self.cells()
        ]  # fmt: skip

    def association(
        self, related: Tensor, *, site: str | None = None, permutations: int = 999,
        generator: torch.Generator | None = None,
    ) -> Association:  # fmt: skip
        """Ask whether related concepts share units more often than unrelated ones.

        Args:
            related: `(k, k)` bool, symmetric: which concepts go together in the world.
            site: None for all, their units counted together.
            permutations: of the concepts.
            generator: of the permutations; None is one of seed 0.
        """
        told = torch.cat([self.sites[name].beside >= self.auroc for name in self._chosen(site)])
        return associations(told, related, permutations=permutations, generator=generator)

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        names = list(self.sites)
        tensors = {
            f"{i}.{what}": value
            for i, name in enumerate(names)
            for what in (*_TENSORS, *_OPTIONAL)
            if (value := getattr(self.sites[name], what)) is not None
        }
        header = {
            "sites": [{"name": name, "active": self.sites[name].active} for name in names],
            **{what: list(getattr(self, what)) for what in ("names", "strata", "modalities")},
            **{what: getattr(self, what) for what in ("auroc", "invariance", "deviations")},
            "counts": self.counts(),
            "manifest": dict(self.manifest),
        }
        return Artifact(self.kind, header, tensors)

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Cells":
        """Rebuild from an artifact."""
        header = artifact.header
        sites = {
            site["name"]: SiteCells(
                **{what: artifact.tensors.get(f"{i}.{what}") for what in (*_TENSORS, *_OPTIONAL)},  # type: ignore[arg-type]
                active=site["active"],
            )
            for i, site in enumerate(header["sites"])
        }
        labels = {what: tuple(header[what]) for what in ("names", "strata", "modalities")}
        return cls(
            sites, **labels, **{what: header[what] for what in ("auroc", "invariance", "deviations", "manifest")}
        )

    def _chosen(self, site: str | None) -> Sequence[str]:
        if site is not None and site not in self.sites:
            raise SelectionError(f"got site={site!r}; expected one of {', '.join(map(repr, self.sites))}, or None")
        return list(self.sites) if site is None else [site]

    def _number(self, concept: int | str) -> int:
        known = self.names.index(concept) if concept in self.names else concept
        if not isinstance(known, int) or not 0 <= known < len(self.names):
            raise SelectionError(
                f"got concept={concept!r}; expected one of {', '.join(self.names[:20])}, or its number"
            )
        return known

    def _cell(self, site: str, unit: int) -> Cell:
        one = self.sites[site]
        concept = int(one.preferred[unit])
        told = [c for c in (one.beside[unit] >= self.auroc).nonzero()[:, 0].tolist() if c != concept]
        return Cell(
            site=site,
            unit=unit,
            concept=concept,
            name=self.names[concept],
            auroc=float(one.score[unit]),
            held=dict(zip(self.strata, one.held[unit].tolist(), strict=True)),
            p=float(one.p[unit]),
            deviations=float(one.deviations[unit, concept]),
            concepts=int(one.passing(self.deviations)[unit]),
            index=float(one.index[unit]),
            sparseness=float(one.sparseness[unit]),
            partners=tuple(self.names[c] for c in told),
            same=bool((one.favourites[unit] == concept).all()),
            top={name: tuple(one.top[m, unit].tolist()) for m, name in enumerate(self.modalities)},
        )
