"""Engram: the trace of a memory in a network's weights, as thin factors at each site. A vector space."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from mnemotrace.core.artifact import Artifact
from mnemotrace.core.lowrank import LowRank
from mnemotrace.core.site import Selection, Site, select_names


@dataclass(frozen=True, eq=False)
class Engram(Mapping[str, LowRank]):
    """A mapping from site name to thin factors; `engram[name].left @ engram[name].right` is the engram of that site.

    Engrams add, subtract and scale. With `C_total` fixed, the engrams of a partition of the data sum to the weight,
    and the engram of a union is the sum of engrams; two extracted against different totals still add as matrices,
    but that identity then no longer holds.

    Attributes:
        traces: factors by site name.
        evidence: numbers measured at extraction, by site name: `rank` kept, `condition`, `relative_norm`
            (norm over the weight's norm), `leak`, `miss`, `reinstatement`, `leverage`, counts. Sums and multiples
            of engrams drop them, since they would no longer be true.
        manifest: provenance: base-model fingerprint, method and its settings, version.
        weights: Frobenius norm of the weight at each site, so that a multiple or a sum can be judged beside it.
        rows: where `left` is the weight times the target's rows, those rows `(r, d)`, one object for sites that read
            one tensor. They make a small file possible (`mt.save(engram, path, model=model)`); like the evidence,
            sums, multiples and cuts drop them.
    """

    traces: Mapping[str, LowRank]
    evidence: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])
    rows: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor], repr=False)
    weights: Mapping[str, float] = field(default_factory=dict[str, float], repr=False)

    kind = "engram"

    def __getitem__(self, name: str) -> LowRank:
        """Return the factors of one site."""
        return self.traces[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over site names."""
        return iter(self.traces)

    def __len__(self) -> int:
        """Count sites."""
        return len(self.traces)

    def __add__(self, other: "Engram") -> "Engram":
        """Add site by site; a site that only one of them has is taken as it is."""
        traces = dict(self.traces)
        for name, trace in other.items():
            traces[name] = traces[name].plus(trace) if name in traces else trace
        return Engram(traces, manifest=_joined(self, other), weights={**other.weights, **self.weights})

    def __sub__(self, other: "Engram") -> "Engram":
        """Subtract site by site."""
        return self + (-other)

    def __neg__(self) -> "Engram":
        """Change the sign."""
        return self * -1.0

    def __mul__(self, factor: float) -> "Engram":
        """Multiply every site by one number."""
        return self.scaled(dict.fromkeys(self, factor))

    __rmul__ = __mul__

    def scaled(self, factors: Mapping[str, float]) -> "Engram":
        """Multiply each site by its own number, as the functions in `localisation.scaling` give them."""
        return self._map(lambda name, trace: trace.scaled(factors[name]))

    def select(self, select: Selection = None, layers: list[int] | None = None) -> "Engram":
        """Keep some sites, chosen as in `mt.sites`; their evidence stays."""
        names = select_names(self, select, layers)
        return replace(
            self,
            traces={name: self[name] for name in names},
            evidence={name: self.evidence[name] for name in names if name in self.evidence},
            rows={name: self.rows[name] for name in names if name in self.rows},
            weights={name: self.weights[name] for name in names if name in self.weights},
        )

    def truncated(self, *, rank: int | None = None, energy: float = 1.0) -> "Engram":
        """Keep at most `rank` per site, or the share `energy` of each site's squared norm."""
        return self._map(lambda _, trace: trace.truncated(rank=rank, energy=energy))

    def to(self, *args: Any) -> "Engram":
        """Move or cast every factor, as `Tensor.to` does; the evidence stays, the rows do not."""
        return replace(self, traces={name: trace.to(*args) for name, trace in self.items()}, rows={})

    def norms(self) -> dict[str, float]:
        """Frobenius norm by site."""
        return {name: trace.norm() for name, trace in self.items()}

    def overlap(self, other: "Engram") -> float:
        """Cosine between two engrams as vectors, over the sites of both, in [-1, 1]; 0 when either is zero."""
        inner = sum(self[name].inner(other[name]) for name in self if name in other)
        size = sum(n**2 for n in self.norms().values()) * sum(n**2 for n in other.norms().values())
        return inner / size**0.5 if size else 0.0

    @property
    def nbytes(self) -> int:
        """Bytes of all factors, counting a tensor that several sites share once."""
        tensors = {id(t): t for trace in self.values() for t in (trace.left, trace.right)}
        return sum(t.nbytes for t in tensors.values())

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        tensors, sites = pack_lowrank(self.traces)
        evidence = {name: dict(values) for name, values in self.evidence.items()}
        header = {"sites": sites, "evidence": evidence, "manifest": dict(self.manifest), "weights": dict(self.weights)}
        return Artifact(self.kind, header, tensors)

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Engram":
        """Rebuild from an artifact."""
        traces = unpack_lowrank(artifact.header["sites"], artifact.tensors)
        header = artifact.header
        return cls(traces, header["evidence"], header["manifest"], weights=header["weights"])

    def _map(self, change: Callable[[str, LowRank], LowRank]) -> "Engram":
        traces = {name: change(name, trace) for name, trace in self.items()}
        return Engram(traces, manifest=self.manifest, weights=self.weights)


def pack_lowrank(changes: Mapping[str, LowRank]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Turn factors into tensors and JSON sites."""
    tensors = {
        f"{name}.{side}": getattr(change, side) for name, change in changes.items() for side in ("left", "right")
    }
    return tensors, {name: change.site.to_json() for name, change in changes.items()}


def unpack_lowrank(sites: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, LowRank]:
    """Rebuild factors from tensors and JSON sites."""
    return {
        name: LowRank(Site.from_json(site), tensors[f"{name}.left"], tensors[f"{name}.right"])
        for name, site in sites.items()
    }


def _joined(first: Engram, second: Engram) -> dict[str, Any]:
    base = first.manifest.get("base")
    manifest: dict[str, Any] = {"method": "sum", "parts": [dict(first.manifest), dict(second.manifest)]}
    return manifest | ({"base": base} if base == second.manifest.get("base") else {})
