r"""Second moments of a map's inputs: `n` rows, their sum, and :math:`C = \sum_i x_i x_i^T`, uncentred.

Sums and not means, so that adding is merging - of batches, shards, processes and concepts - and no factor `n/N` can be
forgotten. While there are fewer rows than columns the rows themselves are kept: smaller, and exact. The bias border
:math:`\tilde x = [x; 1]` is added when it is asked for, from `n` and the sum, so maps with and without bias share.

Memory: `d^2` numbers a distinct input, or `n d` while n < d; files hold the upper triangle.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from mnemotrace.core.artifact import Artifact
from mnemotrace.core.linalg import require_finite
from mnemotrace.core.site import Selection, Site, select_names

RIDGE = 1e-4
"""Default ridge of solves, in units of the mean eigenvalue; trained MLPs read for long have hardly any below."""


@dataclass(frozen=True, eq=False)
class Moments:
    """What is known of the inputs at a site; immutable.

    Attributes:
        n: number of rows; the sum of their weights after `weighted`, then not always whole.
        first: `(d,)` their sum, float64.
        second: `(d, d)` sum of outer products, or None while the rows are kept.
        rows: `(n, d)` the rows themselves, or None.
    """

    n: float
    first: Tensor
    second: Tensor | None = None
    rows: Tensor | None = None

    @classmethod
    def of(cls, rows: Tensor) -> "Moments":
        """Measure rows `(n, d)`, in float32 at least; few rows are copied.

        Raises:
            ValueError: not two-dimensional.
            NonFiniteError: NaN or infinity among them.
        """
        if rows.ndim != 2:
            raise ValueError(f"got rows of shape {tuple(rows.shape)}; expected (n, d); flatten the leading axes")
        require_finite(rows, "rows")
        few = len(rows) < rows.shape[1]
        rows = rows.detach().to(torch.promote_types(rows.dtype, torch.float32), copy=few)
        kept = cls(len(rows), rows.sum(0, dtype=torch.float64), rows=rows)
        return kept if few else replace(kept, second=rows.T @ rows, rows=None)

    @property
    def d(self) -> int:
        """Width, without the bias border."""
        return len(self.first)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.first.nbytes + sum(t.nbytes for t in (self.second, self.rows) if t is not None)

    def __add__(self, other: "Moments") -> "Moments":
        """Merge: as if all rows had been seen at once.

        Raises:
            ValueError: the widths differ.
        """
        if self.d != other.d:
            raise ValueError(
                f"got moments of widths {self.d} and {other.d}; expected equal widths; merge one site only"
            )
        n, first = self.n + other.n, self.first + other.first
        if self.rows is not None and other.rows is not None and n < self.d:
            return Moments(n, first, rows=torch.cat([self.rows, other.rows.to(self.rows.device)]))
        mine, theirs = self._second(), other._second()
        dtype = torch.promote_types(mine.dtype, theirs.dtype)
        return Moments(n, first, second=mine.to(dtype) + theirs.to(mine.device, dtype))

    def weighted(self, weight: float) -> "Moments":
        """Count every row `weight` times; a matrix is formed where rows were kept.

        Raises:
            ValueError: the weight is not a positive number.
        """
        if not 0 < weight < float("inf"):
            raise ValueError(f"got weight={weight}; expected a positive number; leave the statistics out instead of 0")
        return Moments(weight * self.n, weight * self.first, second=weight * self._second())

    def matrix(self, *, bias: bool = False) -> Tensor:
        """Return `C` in float64, `(d, d)` or bordered `(d + 1, d + 1)`."""
        second = self._second(torch.float64)
        if not bias:
            return second
        corner = torch.tensor([float(self.n)], dtype=second.dtype, device=second.device)
        first = self.first.to(second.device)
        return torch.cat([torch.cat([second, first[:, None]], 1), torch.cat([first, corner])[None]])

    def mean(self, *, ridge: float = 0.0) -> Tensor:
        """Return `C / n` in float64, with `ridge` times its mean eigenvalue added to the diagonal.

        Raises:
            ValueError: a ridge that is negative or not finite.
            NonFiniteError: NaN or infinity in the moment.
        """
        if not 0 <= ridge < float("inf"):
            raise ValueError(f"got ridge={ridge}; expected a number from 0; it is in units of the mean eigenvalue")
        mean = self._second(torch.float64) / self.n
        require_finite(mean, "the second moment")
        mean.diagonal().add_(ridge * mean.diagonal().mean())
        return mean

    def design(self, *, bias: bool = False) -> Tensor | None:
        """Return the rows in float64 with a column of ones for the bias, or None when only `C` is kept."""
        if self.rows is None:
            return None
        rows = self.rows.double()
        return torch.nn.functional.pad(rows, (0, 1), value=1.0) if bias else rows

    def _second(self, dtype: torch.dtype | None = None) -> Tensor:
        if self.second is not None:
            return self.second if dtype is None else self.second.to(dtype)
        if self.rows is None:
            raise AssertionError("moments hold either rows or a second moment")
        rows = self.rows if dtype is None else self.rows.to(dtype)
        return rows.T @ rows


@dataclass(frozen=True, eq=False)
class Statistics(Mapping[str, Moments]):
    """Moments by site name; `a + b` merges two collections on one network.

    Attributes:
        moments: by site name; sites that read the same tensors share one object.
        sites: the sites by name.
        manifest: provenance: base-model fingerprint, batches, dtype, version.
    """

    moments: Mapping[str, Moments]
    sites: Mapping[str, Site]
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])

    kind = "statistics"

    def __getitem__(self, name: str) -> Moments:
        """Return the moments at one site."""
        return self.moments[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over site names."""
        return iter(self.moments)

    def __len__(self) -> int:
        """Count sites."""
        return len(self.moments)

    def __add__(self, other: "Statistics") -> "Statistics":
        """Merge site by site; sharing survives.

        Raises:
            ValueError: they come from different networks or hold different sites.
        """
        bases = self.manifest.get("base"), other.manifest.get("base")
        if None not in bases and bases[0] != bases[1]:
            raise ValueError(
                f"got statistics of two networks, {bases[0]} and {bases[1]}; expected one; collect both on it"
            )
        if set(self) != set(other):
            raise ValueError(
                f"got different sites ({sorted(set(self) ^ set(other))[:4]} in only one); expected the same; "
                "use .select() on both"
            )
        merged: dict[tuple[int, int], Moments] = {}
        moments: dict[str, Moments] = {}
        for name, mine in self.items():
            pair = id(mine), id(other[name])
            if pair not in merged:
                merged[pair] = mine + other[name]
            moments[name] = merged[pair]
        batches = self.manifest.get("batches", 0) + other.manifest.get("batches", 0)
        return Statistics(moments, self.sites, dict(self.manifest) | {"batches": batches})

    def weighted(self, weight: float) -> "Statistics":
        """Count every row `weight` times: `reference = rest + near.weighted(10)` keeps what is near with more force."""
        shared = {id(moments): moments for moments in self.values()}
        weighted = {key: moments.weighted(weight) for key, moments in shared.items()}
        return Statistics({name: weighted[id(m)] for name, m in self.items()}, self.sites, self.manifest)

    def select(self, select: Selection = None, layers: list[int] | None = None) -> "Statistics":
        """Keep some sites, chosen as in `mt.sites`."""
        names = select_names(self, select, layers)
        return Statistics({n: self[n] for n in names}, {n: self.sites[n] for n in names}, self.manifest)

    @property
    def nbytes(self) -> int:
        """Bytes held, counting shared moments once."""
        return sum(m.nbytes for m in {id(m): m for m in self.values()}.values())

    def pack(self) -> Artifact:
        """Turn into an artifact; second moments as upper triangles."""
        packed: dict[int, dict[str, Tensor]] = {}
        tensors: dict[str, Tensor] = {}
        sites: dict[str, Any] = {}
        for name, moments in self.items():
            if id(moments) not in packed:
                packed[id(moments)] = _packed(moments)
            parts = packed[id(moments)]
            tensors |= {f"{name}.{part}": tensor for part, tensor in parts.items()}
            sites[name] = self.sites[name].to_json() | {"n": moments.n, "rows": moments.rows is not None}
        return Artifact(self.kind, {"sites": sites, "manifest": dict(self.manifest)}, tensors)

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Statistics":
        """Rebuild from an artifact; sharing survives."""
        shared: dict[int, Moments] = {}
        moments: dict[str, Moments] = {}
        sites: dict[str, Site] = {}
        for name, entry in artifact.header["sites"].items():
            values = dict(entry)
            n, rows = values.pop("n"), values.pop("rows")
            sites[name] = Site.from_json(values)
            body = artifact.tensors[f"{name}.{'rows' if rows else 'triangle'}"]
            first = artifact.tensors[f"{name}.first"]
            if id(body) not in shared:
                shared[id(body)] = Moments(
                    n, first, None if rows else _square(body, len(first)), body if rows else None
                )
            moments[name] = shared[id(body)]
        return cls(moments, sites, artifact.header["manifest"])


def _packed(moments: Moments) -> dict[str, Tensor]:
    if moments.rows is not None:
        return {"first": moments.first, "rows": moments.rows}
    second = moments.second
    if second is None:
        raise AssertionError("moments hold either rows or a second moment")
    i, j = torch.triu_indices(moments.d, moments.d, device=second.device)
    return {"first": moments.first, "triangle": second[i, j]}


def _square(triangle: Tensor, d: int) -> Tensor:
    second = triangle.new_zeros(d, d)
    i, j = torch.triu_indices(d, d)
    second[i, j] = triangle
    second[j, i] = triangle
    return second
