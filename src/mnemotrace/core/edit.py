"""Edit: a change of weights as a value, frozen, algebraic and reversible.

An edit is a sum of changes, each low-rank at a site, sparse in a parameter, or dense in a parameter. It knows which
model it was made for and never touches one by itself: `applied(model, edit)` and `apply(model, edit)` in
`core.applying` do, and give the exact bits back.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mnemotrace.core.artifact import Artifact
from mnemotrace.core.lowrank import LowRank
from mnemotrace.core.site import Site
from mnemotrace.core.trace import pack_lowrank, unpack_lowrank


@dataclass(frozen=True, eq=False)
class Sparse:
    """Values added at flat indices of a stored parameter.

    Attributes:
        parameter: full name.
        shape: stored shape.
        indices: `(n,)` int64, flat positions, each at most once.
        values: `(n,)` what is added.

    Raises:
        ValueError: an index points outside the parameter, or values are missing.
    """

    parameter: str
    shape: tuple[int, ...]
    indices: Tensor
    values: Tensor

    def __post_init__(self) -> None:
        """Check the indices once, so that nothing later has to."""
        size, shape = math.prod(self.shape), tuple(self.indices.shape)
        outside = self.indices.numel() and not 0 <= int(self.indices.min()) <= int(self.indices.max()) < size
        if len(shape) != 1 or shape != tuple(self.values.shape) or outside:
            raise ValueError(
                f"got {shape} indices{' out of range' if outside else ''} and {tuple(self.values.shape)} values for "
                f"{self.parameter} of shape {self.shape}; expected one value an index, each from 0 to {size - 1}"
            )

    def dense(self) -> Tensor:
        """Form the change in the stored shape."""
        flat = torch.zeros(self.shape, dtype=self.values.dtype, device=self.values.device).flatten()
        return flat.index_add(0, self.indices, self.values).view(self.shape)

    def scaled(self, factor: float) -> "Sparse":
        """Multiply by a number."""
        return replace(self, values=self.values * factor)


@dataclass(frozen=True, eq=False)
class Dense:
    """A whole tensor added to a stored parameter."""

    parameter: str
    values: Tensor

    def dense(self) -> Tensor:
        """Return the change in the stored shape."""
        return self.values

    @property
    def shape(self) -> tuple[int, ...]:
        """Stored shape."""
        return tuple(self.values.shape)

    def scaled(self, factor: float) -> "Dense":
        """Multiply by a number."""
        return replace(self, values=self.values * factor)


Change = LowRank | Sparse | Dense


@dataclass(frozen=True, eq=False)
class Edit:
    """A sum of changes with a manifest; frozen, so a copy is never needed.

    Attributes:
        changes: what is added; several changes may meet in one parameter and then add up.
        manifest: provenance: base-model fingerprint, method and its settings, evidence, version.
    """

    changes: tuple[Change, ...]
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])

    kind = "edit"

    def __add__(self, other: "Edit") -> "Edit":
        """Add two edits; changes of one form at one site or parameter are added up."""
        manifest = {"method": "sum", "parts": [dict(self.manifest), dict(other.manifest)]}
        return Edit(_merged(self.changes + other.changes), manifest | _common_base(self, other))

    def __sub__(self, other: "Edit") -> "Edit":
        """Subtract an edit."""
        return self + (-other)

    def __neg__(self) -> "Edit":
        """Change the sign."""
        return self * -1.0

    def __mul__(self, factor: float) -> "Edit":
        """Multiply by a number."""
        return replace(self, changes=tuple(change.scaled(factor) for change in self.changes))

    __rmul__ = __mul__

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that change, each once."""
        return tuple(dict.fromkeys(name for change in self.changes for name in parameters_of(change)))

    def norms(self) -> dict[str, float]:
        """Frobenius norm by site or parameter; forms no product."""
        places: dict[str, list[Change]] = {}
        for change in self.changes:
            places.setdefault(_place(change), []).append(change)
        return {name: max(_inner_sum(changes, changes), 0.0) ** 0.5 for name, changes in places.items()}

    def overlap(self, other: "Edit") -> float:
        """Cosine between two edits as vectors in parameter space, in [-1, 1]; 0 when either is zero."""
        size = self._square() * other._square()
        return _inner_sum(self.changes, other.changes) / size**0.5 if size > 0 else 0.0

    def _square(self) -> float:
        return max(_inner_sum(self.changes, self.changes), 0.0)

    @property
    def nbytes(self) -> int:
        """Bytes of the stored tensors, counting a shared tensor once."""
        return sum(tensor.nbytes for tensor in {id(t): t for t in self.pack().tensors.values()}.values())

    def to_peft(self, directory: str | Path, model: nn.Module | None = None, *, overwrite: bool = False) -> Path:
        """Write a LoRA adapter that `peft` loads; see `core.peft.to_peft`. Convolutions need the model."""
        from mnemotrace.core.peft import to_peft

        return to_peft(self, directory, model, overwrite=overwrite)

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        lowrank = {f"{i}": change for i, change in enumerate(self.changes) if isinstance(change, LowRank)}
        tensors, sites = pack_lowrank(lowrank)
        others: dict[str, Any] = {}
        for i, change in enumerate(self.changes):
            if isinstance(change, LowRank):
                continue
            others[f"{i}"] = {"parameter": change.parameter, "shape": list(change.shape)}
            tensors[f"{i}.values"] = change.values
            if isinstance(change, Sparse):
                tensors[f"{i}.indices"] = change.indices
        header = {"sites": sites, "parameters": others, "manifest": dict(self.manifest)}
        return Artifact(self.kind, header, tensors)

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Edit":
        """Rebuild from an artifact."""
        changes: dict[int, Change] = {
            int(i): change for i, change in unpack_lowrank(artifact.header["sites"], artifact.tensors).items()
        }
        for i, entry in artifact.header["parameters"].items():
            values, indices = artifact.tensors[f"{i}.values"], artifact.tensors.get(f"{i}.indices")
            name, shape = entry["parameter"], tuple(entry["shape"])
            changes[int(i)] = Dense(name, values) if indices is None else Sparse(name, shape, indices, values)
        return cls(tuple(changes[i] for i in sorted(changes)), artifact.header["manifest"])


def parameters_of(change: Change) -> tuple[str, ...]:
    """Return the names of the parameters that a change touches."""
    if not isinstance(change, LowRank):
        return (change.parameter,)
    bias = (change.site.bias,) if change.has_bias and change.site.bias else ()
    return (change.site.weight, *bias)


def inner(first: Change, second: Change) -> float:
    """Inner product of two changes as vectors in parameter space."""
    if isinstance(first, LowRank) and isinstance(second, LowRank):
        return first.inner(second) if _same_map(first.site, second.site) else 0.0
    mine, theirs = stored_delta(first), stored_delta(second)
    return sum((_inner_in_storage(mine[name], theirs[name]) for name in mine if name in theirs), 0.0)


def stored_delta(change: Change) -> dict[str, tuple[Site | None, Tensor]]:
    """Return what is added to each parameter: the site that gives its view, or None, and the change seen so."""
    if not isinstance(change, LowRank):
        return {change.parameter: (None, change.dense())}
    deltas: dict[str, tuple[Site | None, Tensor]] = {change.site.weight: (change.site, change.weight())}
    bias = change.bias()
    if bias is not None and change.site.bias:
        deltas[change.site.bias] = (change.site, bias)
    return deltas


def _inner_in_storage(first: tuple[Site | None, Tensor], second: tuple[Site | None, Tensor]) -> float:
    (site, a), (other, b) = first, second
    if site is not None and other is None:
        b = site.view(b) if a.ndim == 2 else site.bias_view(b)
    elif other is not None and site is None:
        a = other.view(a) if b.ndim == 2 else other.bias_view(a)
    return float((a.double() * b.double()).sum())


def _same_map(first: Site, second: Site) -> bool:
    return (first.weight, first.part) == (second.weight, second.part)


def _inner_sum(first: Iterable[Change], second: Iterable[Change]) -> float:
    second = tuple(second)
    return sum((inner(a, b) for a in first for b in second), 0.0)


def _place(change: Change) -> str:
    return change.site.name if isinstance(change, LowRank) else change.parameter


def _merged(changes: Iterable[Change]) -> tuple[Change, ...]:
    """Add up changes of one form in one place; low-rank ones come first."""
    found: dict[tuple[Any, ...], Change] = {}
    for change in changes:
        key = (type(change), _place(change), *(() if isinstance(change, LowRank) else change.shape))
        found[key] = _added(found[key], change) if key in found else change
    return tuple(sorted(found.values(), key=lambda change: not isinstance(change, LowRank)))


def _added(first: Change, second: Change) -> Change:
    if isinstance(first, LowRank) and isinstance(second, LowRank):
        return first.plus(second)
    if isinstance(first, Dense) and isinstance(second, Dense):
        return Dense(first.parameter, first.values + second.values.to(first.values.device))
    assert isinstance(first, Sparse) and isinstance(second, Sparse)
    values = torch.cat([first.values, second.values.to(first.values.device)])
    indices = torch.cat([first.indices, second.indices.to(first.indices.device)])
    joined = torch.sparse_coo_tensor(  # pyright: ignore[reportUnknownMemberType]
        indices[None], values, (math.prod(first.shape),), check_invariants=False
    ).coalesce()
    return replace(first, indices=joined.indices()[0], values=joined.values())


def _common_base(first: Edit, second: Edit) -> dict[str, Any]:
    base = first.manifest.get("base")
    return {"base": base} if base is not None and base == second.manifest.get("base") else {}
