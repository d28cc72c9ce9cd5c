"""Which entries moved between a network and its fine-tuned copy, and networks with some of them moved.

The entries of largest `|theta_tuned - theta_base|` are found in one pass that holds one parameter and the best entries
so far; nothing of the size of the network is made. Cost: O(P log s) for P entries of which s are kept.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mnemotrace.core.edit import Sparse
from mnemotrace.core.errors import EditError
from mnemotrace.core.linalg import require_finite
from mnemotrace.core.mask import Mask
from mnemotrace.core.site import Selection, select_names


def eligible(model: nn.Module, select: Selection = None) -> list[str]:
    """Return the names of the parameters that a graft may take entries from, a tied one once.

    Args:
        model: any network.
        select: as for `graft`.

    Raises:
        SelectionError: none.
    """
    parameters = {name: p for name, p in model.named_parameters() if p.is_floating_point()}
    if select is None:
        named = getattr(model, "get_output_embeddings", None)
        head = named() if callable(named) else None
        ends = [m for m in model.modules() if m is head or isinstance(m, (nn.Embedding, nn.EmbeddingBag))]
        outside = {id(p) for module in ends for p in module.parameters(recurse=False)}
        parameters = {name: p for name, p in parameters.items() if id(p) not in outside}
    return select_names(parameters, select)


@dataclass(frozen=True)
class Pool:
    """Some entries of a network, by parameter, with their values in the tuned one; `(m,)` over all of them is in order.

    Attributes:
        before: all eligible parameters of the base network.
        indices: by parameter, rising.
        after: tuned values there.
    """

    before: Mapping[str, Tensor]
    indices: Mapping[str, Tensor]
    after: Mapping[str, Tensor]

    def __len__(self) -> int:
        """Count entries."""
        return sum(map(len, self.indices.values()))

    def all(self) -> Tensor:
        """Choose every entry."""
        return torch.ones(len(self), dtype=torch.bool)

    def split(self, values: Tensor) -> dict[str, Tensor]:
        """Cut a vector over all entries into those of each parameter."""
        parts = values.split([len(index) for index in self.indices.values()])
        return dict(zip(self.indices, parts, strict=True))

    def only(self, on: Tensor) -> "Pool":
        """Keep the entries that are on."""
        chosen = self.split(on)
        return replace(
            self,
            indices={name: index[chosen[name]] for name, index in self.indices.items()},
            after={name: value[chosen[name]] for name, value in self.after.items()},
        )

    def change(self, name: str) -> Tensor:
        """Return the tuned minus the base values of a parameter's entries, in float64."""
        return self.after[name].double() - self.before[name].flatten()[self.indices[name]].double()

    def values(self, on: Tensor) -> dict[str, Tensor]:
        """Return what a graft has at the entries of each parameter: the tuned value where `on`, else the base's."""
        chosen = self.split(on)
        return {
            name: torch.where(chosen[name].to(index.device), self.after[name], self.before[name].flatten()[index])
            for name, index in self.indices.items()
        }

    def parameters(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return whole parameters with these values at the entries; gradients reach the entries alone."""
        return {
            name: self.before[name].flatten().index_put((self.indices[name],), value).view_as(self.before[name])
            for name, value in values.items()
        }

    def regions(self) -> dict[str, Sparse]:
        """Return the entries with what they change by, as a `Mask` has them."""
        return {
            name: Sparse(name, tuple(self.before[name].shape), index.cpu(), self.change(name).cpu())
            for name, index in self.indices.items()
            if len(index)
        }


@dataclass(frozen=True)
class Pair:
    """The eligible parameters of the base and of the tuned network, and which entries are taken.

    Attributes:
        before: by parameter.
        after: by parameter.
        taken: flat indices, by parameter.
        total: entries of all eligible parameters.
        moved: those that differ and are free.
    """

    before: Mapping[str, Tensor]
    after: Mapping[str, Tensor]
    taken: Mapping[str, Tensor]
    total: int
    moved: int

    @classmethod
    def of(cls, base: nn.Module, tuned: nn.Module, select: Selection, protected: Mask | None) -> "Pair":
        """Check that the networks are of one layout, and count."""
        names = eligible(base, select)
        theirs = dict(tuned.named_parameters())
        before = {name: base.get_parameter(name).detach() for name in names}
        for name, value in before.items():
            other = theirs.get(name)
            if other is None or other.shape != value.shape:
                found = "no such parameter" if other is None else f"shape {tuple(other.shape)}"
                raise EditError(
                    f"got {found} at {name!r} of the tuned network; expected {tuple(value.shape)} as in the base; give "
                    "the network that was fine-tuned and what it was fine-tuned from"
                )
        after = {name: theirs[name].detach().to(before[name]) for name in names}
        taken = {} if protected is None else _taken(before, protected)
        whole = cls(before, after, taken, sum(p.numel() for p in before.values()), 0)
        return replace(whole, moved=sum(int((size > 0).sum()) for _, size in whole.sizes()))

    def sizes(self) -> Iterator[tuple[str, Tensor]]:
        """Give, parameter by parameter, how far each free entry moved; 0 where it is taken."""
        for name, before in self.before.items():
            wide = torch.promote_types(before.dtype, torch.float32)
            size = (self.after[name].to(wide) - before.to(wide)).abs().flatten()
            require_finite(size, f"the difference of base and tuned network at {name}")
            if name in self.taken:
                size[self.taken[name]] = 0
            yield name, size

    def entries(self, budget: float) -> int:
        """Turn a budget into a number of entries that can be had."""
        whole = budget >= 1 and math.isfinite(budget) and budget == int(budget)
        if not (whole or 0 < budget < 1):
            raise ValueError(f"got budget={budget}; expected a share in (0, 1) or a whole number of entries")
        count = int(budget) if whole else round(budget * self.total)
        if not 1 <= count <= self.moved:
            raise ValueError(
                f"got a budget of {count} of {self.total} entries, of which {self.moved} moved and are free; expected "
                "at least 1 and no more than these; change the budget, the selection or what is protected"
            )
        return count

    def movers(self, count: int) -> Pool:
        """Return the entries that moved most."""
        return self._largest(count, self.sizes())

    def random(self, count: int, generator: torch.Generator) -> Pool:
        """Draw entries that moved, all alike."""
        draws = (
            (name, size, torch.rand(len(size), generator=generator).to(size.device)) for name, size in self.sizes()
        )
        return self._largest(count, ((name, torch.where(size > 0, draw + 1, 0)) for name, size, draw in draws))

    def _largest(self, count: int, keys: Iterator[tuple[str, Tensor]]) -> Pool:
        """Keep the entries of largest key, holding `count` of them and one parameter at a time."""
        best, places = torch.empty(0), torch.empty(0, dtype=torch.int64)
        start = 0
        for _, key in keys:
            top = key.topk(min(count, len(key)))
            best, places = torch.cat([best, top.values.cpu()]), torch.cat([places, top.indices.cpu() + start])
            kept = best.topk(min(count, len(best))).indices
            best, places = best[kept], places[kept]
            start += len(key)
        places = places.sort().values
        ends = torch.tensor([p.numel() for p in self.before.values()]).cumsum(0)
        indices: dict[str, Tensor] = {}
        low = start = 0
        for (name, before), end in zip(self.before.items(), ends.tolist(), strict=True):
            high = int(torch.searchsorted(places, end))
            indices[name] = (places[low:high] - start).to(before.device)
            low, start = high, end
        after = {name: self.after[name].flatten()[index] for name, index in indices.items()}
        return Pool(self.before, indices, after)


def _taken(before: Mapping[str, Tensor], protected: Mask) -> dict[str, Tensor]:
    """Return the flat indices of the entries that a mask holds, by parameter."""
    regions = {name: region for name, region in protected.regions.items() if name in before}
    for name, region in regions.items():
        if region.shape != tuple(before[name].shape):
            raise EditError(
                f"got a protected region of {name!r} for shape {region.shape}; expected {tuple(before[name].shape)}; "
                "give the mask of a network of the same layout"
            )
    return {name: region.indices.to(before[name].device) for name, region in regions.items()}
