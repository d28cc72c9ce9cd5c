"""Top examples: what excites each unit of a network most, and what excites it like others do, from one pass.

The largest alone mislead (a unit may be selective at its peak and vague below), so examples around other quantiles
stand beside them. A unit's value on an example is its largest over positions, and the position is kept with the part of
the input that it can depend on (`localisation.receptive_field`).

The top is exact: the `k` largest so far are merged with each batch; of equal values the earlier example wins. Quantiles
come from a uniform sample of `reservoir` examples, the same for all units (those of the smallest random keys); from all
examples where there are no more than that. The result does not depend on how examples are cut into batches.

Reference: reservoir sampling by random keys, Efraimidis and Spirakis 2006, with equal weights. Cost: the network's, and
a sort of `units x (k + b)` numbers a batch. Memory: `units x (k + reservoir)` values and positions.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mnemotrace.adapters.hooks import evaluating, forward
from mnemotrace.adapters.outputs import module_of, reading, require_units, units_first
from mnemotrace.core.artifact import Artifact, fingerprint, library_version
from mnemotrace.core.linalg import require_finite
from mnemotrace.core.progress import Progress, silent
from mnemotrace.localisation.receptive_field import receptive_fields

_TENSORS = ("values", "index", "location", "boxes", "sample")


@dataclass(frozen=True, eq=False)
class TopExamples:
    """Examples of each unit: the top, then one group for each quantile.

    Attributes:
        values: `(g, u, k)`, largest first within a group.
        index: `(g, u, k)`, which example of the stream, from 0.
        location: `(g, u, k, p)`, the position with the largest value; `p` is 0 where the module has no positions.
        boxes: `(g, u, k, q, 2)`, first index and one past the last of the receptive field on the spatial axes of the
            input; None where the input is no floating-point tensor.
        sample: `(u, m)` values over a uniform sample of examples, rising.
        units: which units, in the order of the axis `u`.
        quantiles: of the groups behind the first.
        site: name of the module; "" is the network's output.
        count: how many examples there were.
        manifest: provenance: network, settings.
    """

    values: Float[Tensor, "g u k"]
    index: Int[Tensor, "g u k"]
    location: Int[Tensor, "g u k p"]
    boxes: Int[Tensor, "g u k q 2"] | None
    sample: Float[Tensor, "u m"]
    units: tuple[int, ...]
    quantiles: tuple[float, ...]
    site: str
    count: int
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])

    kind = "top_examples"

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups: `top`, then `quantile 0.9` and so on."""
        return ("top", *(f"quantile {q:g}" for q in self.quantiles))

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        named = {name: getattr(self, name) for name in _TENSORS}
        header = {
            "units": list(self.units),
            "quantiles": list(self.quantiles),
            "site": self.site,
            "count": self.count,
            "manifest": dict(self.manifest),
        }
        return Artifact(self.kind, header, {name: tensor for name, tensor in named.items() if tensor is not None})

    @classmethod
    def unpack(cls, artifact: Artifact) -> "TopExamples":
        """Rebuild from an artifact."""
        header = artifact.header
        return cls(
            **{name: artifact.tensors.get(name) for name in _TENSORS},  # type: ignore[arg-type]
            units=tuple(header["units"]),
            quantiles=tuple(header["quantiles"]),
            site=header["site"],
            count=header["count"],
            manifest=header["manifest"],
        )


def top_examples(
    model: nn.Module,
    batches: Iterable[Any],
    site: str | None,
    *,
    units: Sequence[int] | None = None,
    k: int = 9,
    quantiles: Sequence[float] = (0.9, 0.5),
    axis: int | None = None,
    reservoir: int = 512,
    generator: torch.Generator | None = None,
    progress: Progress = silent,
) -> TopExamples:
    """Find the examples that excite units most, and those around quantiles.

    Args:
        model: the network; evaluated, and left as it was.
        batches: inputs as the network takes them; read once.
        site: name of a module whose output is `(b, units)`, `(b, t, units)` or `(b, units, h, w)`; None for the
            network's output.
        units: which; None for all.
        k: examples a unit and group.
        quantiles: between 0 and 1, a group of `k` examples around each.
        axis: of the units; None takes 1, and of three axes the last unless the module is a one-dimensional convolution
            or pool.
        reservoir: examples in the sample that quantiles come from, at least `k`.
        generator: of the sample; None is one of seed 0.
        progress: called after each batch.

    Returns:
        TopExamples.

    Raises:
        SelectionError: no such module.
        ValueError: settings that cannot be, a unit that is not there, or fewer than `k` examples.
        NonFiniteError: NaN or infinity in an output.
    """
    if k < 1 or reservoir < k or not all(0 <= q <= 1 for q in quantiles):
        raise ValueError(
            f"got k={k}, reservoir={reservoir}, quantiles={tuple(quantiles)}; expected k >= 1, reservoir >= k, "
            "quantiles from 0 to 1"
        )
    name, module = site or "", module_of(model, site)
    source = torch.Generator().manual_seed(0) if generator is None else generator
    top, some, count, first = _Kept.none(), _Kept.none(), 0, None
    chosen: list[int] | None = None if units is None else list(units)
    with evaluating(model), reading(model, {name: False}) as seen:
        for done, batch in enumerate(batches, 1):
            forward(model, batch)
            output = units_first(seen[name], axis=axis, module=module)
            if chosen is None:
                chosen = list(range(output.shape[1]))
            require_units(chosen, output.shape[1], site)
            output = output[:, chosen]
            require_finite(output, f"{name or 'the output'}, batch {done}")
            new = _Kept.of(output, count)
            keys = torch.rand(len(output), generator=source, dtype=torch.float64, device=source.device).cpu()
            top = top.merged(new).largest(k)
            some = some.merged(new.keyed(keys)).smallest_keys(reservoir)
            count, first = count + len(output), batch if first is None else first
            positions = tuple(output.shape[2:])
            progress(done, None, "top examples")
    if count < k:
        raise ValueError(
            f"got {count} examples for k={k}; expected at least {k}; give more, a fresh iterator, or less k"
        )
    groups = [top, *(some.around(q, k) for q in quantiles)]
    location = _unravelled(torch.stack([group.place for group in groups]), positions)  # pyright: ignore[reportPossiblyUnboundVariable]
    return TopExamples(
        values=torch.stack([group.values for group in groups]),
        index=torch.stack([group.index for group in groups]),
        location=location,
        boxes=_boxes(model, first, site, location, axis),
        sample=some.values.sort(1).values,
        units=tuple(chosen or ()),
        quantiles=tuple(quantiles),
        site=name,
        count=count,
        manifest={
            "method": "top examples",
            "k": k,
            "reservoir": reservoir,
            "seed": source.initial_seed(),
            "model": fingerprint(model),
            "version": library_version(),
        },
    )


@dataclass(frozen=True, eq=False)
class _Kept:
    """Examples that are kept: `(u, n)` values, indices and flat positions; `(n,)` random keys of a sample."""

    values: Tensor
    index: Tensor
    place: Tensor
    keys: Tensor | None = None

    @classmethod
    def none(cls) -> "_Kept":
        return cls(torch.empty(0, 0), torch.empty(0, 0, dtype=torch.long), torch.empty(0, 0, dtype=torch.long))

    @classmethod
    def of(cls, output: Tensor, start: int) -> "_Kept":
        """Take the largest value over positions of each unit on each example of a batch."""
        flat = output.detach().flatten(2) if output.ndim > 2 else output.detach()[:, :, None]
        place = flat.argmax(2)
        values = flat.gather(2, place[:, :, None])[:, :, 0]
        index = torch.arange(start, start + len(output)).expand(output.shape[1], -1)
        return cls(values.T.cpu(), index, place.T.cpu())

    def keyed(self, keys: Tensor) -> "_Kept":
        return _Kept(self.values, self.index, self.place, keys)

    def merged(self, new: "_Kept") -> "_Kept":
        if self.values.numel() == 0:
            return new
        parts = [torch.cat([getattr(self, name), getattr(new, name)], 1) for name in ("values", "index", "place")]
        keys = None if self.keys is None or new.keys is None else torch.cat([self.keys, new.keys])
        return _Kept(parts[0], parts[1], parts[2], keys)

    def largest(self, k: int) -> "_Kept":
        """Keep the `k` largest; a stable sort keeps the earlier of equals."""
        order = torch.sort(self.values, dim=1, descending=True, stable=True).indices[:, :k]
        return self._taken(order)

    def smallest_keys(self, m: int) -> "_Kept":
        """Keep the examples of the `m` smallest keys, in the order in which they came."""
        assert self.keys is not None
        if len(self.keys) <= m:
            return self
        rows = self.keys.argsort(stable=True)[:m].sort().values
        return _Kept(self.values[:, rows], self.index[:, rows], self.place[:, rows], self.keys[rows])

    def around(self, q: float, k: int) -> "_Kept":
        """Take `k` examples around a quantile."""
        ranked = torch.sort(self.values, dim=1, descending=True, stable=True).indices
        n = ranked.shape[1]
        begin = min(max(round((1 - q) * (n - 1)) - k // 2, 0), n - k)
        return self._taken(ranked[:, begin : begin + k])

    def _taken(self, order: Tensor) -> "_Kept":
        return _Kept(self.values.gather(1, order), self.index.gather(1, order), self.place.gather(1, order))


def _unravelled(place: Tensor, positions: tuple[int, ...]) -> Tensor:
    """Turn flat positions into an index for each spatial axis."""
    found: list[Tensor] = []
    for side in reversed(positions):
        found.append(place % side)
        place = place // side
    return torch.stack(found[::-1], -1) if found else place.new_empty((*place.shape, 0))


def _boxes(model: nn.Module, batch: Any, site: str | None, location: Tensor, axis: int | None) -> Tensor | None:
    example = batch[0] if isinstance(batch, (tuple, list)) and len(batch) == 1 else batch
    if not isinstance(example, Tensor) or not example.is_floating_point() or example.ndim < 3:
        return None
    flat = location.flatten(0, 2)
    return receptive_fields(model, example[:1], site, flat, axis=axis).unflatten(0, location.shape[:3])
