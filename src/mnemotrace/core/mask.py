"""Mask: a region of a network's entries, with what fine-tuning changed there; sets of entries, and an edit.

A graft puts the tuned values of a few entries into the base network (Panigrahi et al. 2023, "Task-specific skill
localization in fine-tuned language models"):

    theta_graft = theta_base + gamma * (theta_tuned - theta_base),    gamma in {0, 1}

The mask holds, for each parameter, where gamma is 1 and the difference there. The difference is kept in float64, since
in float32 `base + (tuned - base)` often misses `tuned` by a bit; in float64 the sum rounds back to exactly `tuned` for
parameters of at most 32 bits, unless `tuned` is smaller than `base` by a factor of more than 2^29, where it is off by
at most 2^-53 of `base`. Parameters of 64 bits get the rounding of one subtraction.

Memory: 16 bytes an entry of the region; sets of n and m entries meet in O((n + m) log(n + m)) time.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mnemotrace.core.artifact import Artifact
from mnemotrace.core.edit import Edit, Sparse


@dataclass(frozen=True, eq=False)
class Mask:
    """A region of entries with the change that a graft makes there. `&`, `|` and `-` work on the regions.

    Attributes:
        regions: by parameter, the flat indices of its entries, rising, and the tuned minus the base value of each.
        total: entries that could have been chosen, of all eligible parameters; what `fraction` is a fraction of.
        manifest: provenance: fingerprints of base and tuned network, method, settings, evidence.

    Raises:
        ValueError: indices of a parameter that do not rise, a region under another parameter's name, or more entries
            than `total`.
    """

    regions: Mapping[str, Sparse]
    total: int
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])

    kind = "mask"

    def __post_init__(self) -> None:
        """Check once that each region is a set of entries of its parameter."""
        for name, region in self.regions.items():
            if region.parameter != name or not bool((region.indices.diff() > 0).all()):
                raise ValueError(
                    f"got indices of {region.parameter!r} under the name {name!r} that may repeat; expected those of "
                    "one parameter, rising, each once; sort them and drop repetitions"
                )
        if len(self) > self.total:
            raise ValueError(f"got {len(self)} entries out of {self.total}; expected no more than could be chosen")

    def __len__(self) -> int:
        """Count entries."""
        return sum(len(region.indices) for region in self.regions.values())

    @property
    def fraction(self) -> float:
        """Share of the eligible entries that are in the mask, in [0, 1]."""
        return len(self) / self.total if self.total else 0.0

    @property
    def nbytes(self) -> int:
        """Bytes of indices and values."""
        return sum(region.indices.nbytes + region.values.nbytes for region in self.regions.values())

    def edit(self) -> Edit:
        """Make the edit that grafts: the base network gets the tuned values in the region, another copy the change."""
        changes = tuple(region for region in self.regions.values() if len(region.indices))
        return Edit(changes, {**self.manifest, "entries": len(self), "total": self.total})

    def __and__(self, other: "Mask") -> "Mask":
        """Keep the entries that are in both, with this mask's values."""
        return self._with((_kept(region, _inside(region, other)) for region in self.regions.values()), other, "and")

    def __sub__(self, other: "Mask") -> "Mask":
        """Keep the entries that the other mask lacks."""
        return self._with((_kept(region, ~_inside(region, other)) for region in self.regions.values()), other, "minus")

    def __or__(self, other: "Mask") -> "Mask":
        """Join the entries of both; where both have one, with this mask's value."""
        further = (other - self).regions
        names = dict.fromkeys((*self.regions, *further))
        joined = (_joined([m[name] for m in (self.regions, further) if name in m]) for name in names)
        return self._with(joined, other, "or")

    def isdisjoint(self, other: "Mask") -> bool:
        """Say whether no entry is in both."""
        return self._shared(other) == 0

    def overlap(self, other: "Mask") -> float:
        """Jaccard index of the two regions: entries in both over entries in either, in [0, 1]; 0 for two empty ones."""
        shared = self._shared(other)
        either = len(self) + len(other) - shared
        return shared / either if either else 0.0

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        shapes = {name: {"shape": list(region.shape)} for name, region in self.regions.items()}
        tensors = {f"{name}.indices": region.indices for name, region in self.regions.items()}
        tensors |= {f"{name}.values": region.values for name, region in self.regions.items()}
        return Artifact(
            self.kind, {"parameters": shapes, "total": self.total, "manifest": dict(self.manifest)}, tensors
        )

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Mask":
        """Rebuild from an artifact."""
        header, tensors = artifact.header, artifact.tensors
        regions = {
            name: Sparse(name, tuple(entry["shape"]), tensors[f"{name}.indices"], tensors[f"{name}.values"])
            for name, entry in header["parameters"].items()
        }
        return cls(regions, header["total"], header["manifest"])

    def _shared(self, other: "Mask") -> int:
        return sum(int(_inside(region, other).sum()) for region in self.regions.values())

    def _with(self, regions: Iterable[Sparse], other: "Mask", word: str) -> "Mask":
        found = {region.parameter: region for region in regions if len(region.indices)}
        manifest: dict[str, Any] = {"method": word, "parts": [dict(self.manifest), dict(other.manifest)]}
        base = self.manifest.get("base")
        if base is not None and base == other.manifest.get("base"):
            manifest["base"] = base
        count = sum(len(region.indices) for region in found.values())
        return Mask(found, max(self.total, other.total, count), manifest)


def _inside(region: Sparse, other: Mask) -> Tensor:
    """Say of each entry of a region whether the other mask has it."""
    theirs = other.regions.get(region.parameter)
    if theirs is None:
        return torch.zeros_like(region.indices, dtype=torch.bool)
    if theirs.shape != region.shape:
        raise ValueError(
            f"got {region.parameter!r} of shape {region.shape} and of shape {theirs.shape}; expected masks of networks "
            "of one layout; compare masks of copies of one network"
        )
    return torch.isin(region.indices, theirs.indices)


def _kept(region: Sparse, keep: Tensor) -> Sparse:
    return Sparse(region.parameter, region.shape, region.indices[keep], region.values[keep])


def _joined(parts: list[Sparse]) -> Sparse:
    indices, order = torch.cat([part.indices for part in parts]).sort()
    return Sparse(parts[0].parameter, parts[0].shape, indices, torch.cat([part.values for part in parts])[order])
