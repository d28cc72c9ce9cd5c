"""What one operation let through, its size in bits, and its form in a file. See `core.episode`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from mnemotrace.core.bits import pack_bits, unpack_bits

KINDS = ("switch", "gate", "pattern", "scale")


@dataclass(frozen=True, eq=False)
class Entry:
    """What one operation let through, for `b` samples.

    Attributes:
        operation: `max_pool2d`, `relu`, `softmax`, `layer_norm`, ...
        kind: `switch`, `gate`, `pattern` or `scale`.
        values: `(b, ...)`. A switch is the index of the cell inside its window, uint8, int16 or int32; or, of a learned
            mean, `(b, ..., cells)` probabilities. A gate is boolean or a factor. Others are real numbers.
        module: name of the module inside which it ran, for reading only.
        kept: `(b, ...)`, where a sparse trace still knows the value; None knows all.
        cells: of the window of a switch; 0 otherwise.
        place: which operation of the pass it was; with it a trace that lost entries still fits.
        strength: `(b, ...)` what the unit gave, by which `select(top=)` chooses; it is not stored in files.
    """

    operation: str
    kind: str
    values: Tensor
    module: str = ""
    kept: Bool[Tensor, "b *units"] | None = None
    cells: int = 0
    place: int = 0
    strength: Tensor | None = None

    @property
    def units(self) -> int:
        """Number of values a sample."""
        shared = self.kind == "switch" and self.values.is_floating_point()
        return self.values[0].numel() // (self.cells if shared else 1)

    def bits(self) -> float:
        """Bits of one sample, on average over samples; a learned mean belongs to no sample and has none."""
        if self.kind == "switch" and self.values.is_floating_point():
            return 0.0
        each = bits_each(self.kind, self.values.dtype, self.cells)
        n = self.units
        if self.kept is None:
            return n * each
        counts = [int(row.sum()) for row in self.kept]
        return sum(k * each + _log2_choose(n, k) for k in counts) / len(counts)

    def top(self, share: float) -> "Entry":
        """Keep the values of the strongest units of each sample; scales are kept whole."""
        if self.kind == "scale":
            return self
        if self.strength is None:
            raise ValueError(
                f"got top={share} for a trace without the strength of its units ({self.operation}); strengths are not "
                "stored in files; expected a trace fresh from episode(model, images); select first, save then"
            )
        flat = self.strength.abs().flatten(1)
        k = max(1, round(share * flat.shape[1]))
        kept = torch.zeros_like(flat, dtype=torch.bool).scatter_(1, flat.topk(k, 1).indices, True)
        return replace(self, kept=kept.view(self.strength.shape))

    def rows(self, index: Any) -> "Entry":
        """Take samples."""
        parts = {name: getattr(self, name) for name in ("values", "kept", "strength")}
        return replace(self, **{name: part if part is None else part[index] for name, part in parts.items()})


def bits_each(kind: str, dtype: torch.dtype, cells: int) -> float:
    """Bits of one value: log2 of the cells of a switch, 1 of a boolean gate, 16 of a real number."""
    if kind == "switch":
        return math.log2(max(cells, 1))
    return 1.0 if dtype == torch.bool else 16.0


def packed(entry: Entry) -> dict[str, Tensor]:
    """Return the tensors of an entry as a file holds them."""
    values = entry.values
    if values.dtype == torch.bool:
        values = pack_bits(values, 1)
    elif entry.kind == "switch" and not values.is_floating_point():
        values = pack_bits(values, _width(entry.cells))
    return {"values": values} | ({} if entry.kept is None else {"kept": pack_bits(entry.kept, 1)})


def unpacked(head: Mapping[str, Any], tensors: Mapping[str, Tensor], i: int) -> Entry:
    """Undo `packed`, given what the header says of the entry."""
    values, dtype = tensors[f"{i}.values"], getattr(torch, head["dtype"])
    if dtype == torch.bool or (head["kind"] == "switch" and not dtype.is_floating_point):
        values = unpack_bits(values, 1 if dtype == torch.bool else _width(head["cells"]), head["shape"]).to(dtype)
    kept = None if head["kept"] is None else unpack_bits(tensors[f"{i}.kept"], 1, head["kept"]).bool()
    given = {name: head[name] for name in ("operation", "kind", "module", "cells", "place")}
    return Entry(values=values, kept=kept, **given)


def _width(cells: int) -> int:
    return max(1, math.ceil(math.log2(max(cells, 2))))


def _log2_choose(n: int, k: int) -> float:
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(2)
