"""Where a backward recall starts: which signal is put at the network's output, or at a module inside.

A unit is a channel of an image map `(b, c, h, w)`, at every place at once; in a sequence `(b, t, d)` it is a feature of
the last token; otherwise a feature `(b, k)`. Cost: one tensor of the shape of the output.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.core.linalg import require_finite


@dataclass(frozen=True, eq=False)
class Source:
    """A pointer from which a recall starts; make one with the class methods.

    Attributes:
        kind: `unit`, `vector`, `activation`, `sparse`, `direction` or `zero`.
        site: name of the module whose output is the start; None is the network's output.
        value: what is placed there: indices, a tensor, or None.
        top: share of units that a sparse source keeps.
    """

    kind: str
    site: str | None = None
    value: Any = None
    top: float = 1.0

    @classmethod
    def unit(cls, index: int | Tensor, *, site: str | None = None) -> "Source":
        """Start from one unit, or one a sample with `(b,)` indices; the signal is 1.

        Raises:
            TypeError: no whole numbers.
        """
        value = torch.as_tensor(index)
        if value.is_floating_point() or value.dtype == torch.bool or value.ndim > 1:
            raise TypeError(
                f"got unit of {value.dtype}, shape {tuple(value.shape)}; expected an index or a (b,) tensor of "
                "indices; for other signals use Source.vector or Source.direction"
            )
        return cls("unit", site, value)

    @classmethod
    def vector(cls, value: Float[Tensor, "..."], *, site: str | None = None) -> "Source":
        """Start from a whole signal, of the shape of the output with or without samples.

        Raises:
            NonFiniteError: NaN or infinity.
        """
        require_finite(value, "the source")
        return cls("vector", site, value)

    @classmethod
    def activation(cls, site: str | None = None) -> "Source":
        """Start from the true activation of each image."""
        return cls("activation", site)

    @classmethod
    def sparse(cls, site: str | None = None, *, top: float) -> "Source":
        """Start from the strongest share of units of the true activation of each image.

        Raises:
            ValueError: a share outside (0, 1].
        """
        if not 0 < top <= 1:
            raise ValueError(f"got top={top}; expected a share of units in (0, 1], such as 0.01")
        return cls("sparse", site, top=top)

    @classmethod
    def direction(cls, value: Float[Tensor, " k"], *, site: str | None = None) -> "Source":
        """Start from a weighted sum of units, at every place of an image map.

        Raises:
            ValueError: no vector.
            NonFiniteError: NaN or infinity.
        """
        if value.ndim != 1:
            raise ValueError(f"got a direction of shape {tuple(value.shape)}; expected (k,), one weight a unit")
        require_finite(value, "the direction")
        return cls("direction", site, value)

    @classmethod
    def zero(cls, *, site: str | None = None) -> "Source":
        """Start from nothing: what comes out is owed to trace and rules alone."""
        return cls("zero", site)

    @property
    def looks(self) -> bool:
        """Whether the source is the network's own response to an image."""
        return self.kind in ("activation", "sparse")

    def __str__(self) -> str:
        place = "the output" if self.site is None else self.site
        if self.kind == "unit":
            return f"unit {self.value.tolist()} of {place}"
        top = f" (top {self.top:g})" if self.kind == "sparse" else ""
        return f"{self.kind}{top} at {place}"

    def start(self, out: Tensor, *, channels: bool) -> Tensor:
        """Return the signal at an output.

        Args:
            out: `(b, ...)`.
            channels: whether units lie on the second axis, rather than on the last.

        Raises:
            ValueError: an index or shape that does not fit the output.
        """
        if self.kind == "zero":
            return torch.zeros_like(out)
        if self.kind == "activation":
            return out.detach().clone()
        if self.kind == "sparse":
            return _strongest(out.detach(), self.top)
        if self.kind == "vector":
            value = self.value.to(out)
            if value.shape not in (out.shape, out.shape[1:]):
                raise ValueError(
                    f"got a vector of shape {tuple(value.shape)}; expected {tuple(out.shape[1:])} or "
                    f"{tuple(out.shape)}, the shape of the output it is put at"
                )
            return value.expand(out.shape).clone()
        weights = self._weights(out, channels)
        if channels and out.ndim > 2:  # noqa: PLR2004
            return weights.view(*weights.shape, *[1] * (out.ndim - 2)).expand(out.shape).clone()
        start = torch.zeros_like(out)
        start[(slice(None), *[-1] * (out.ndim - 2))] = weights
        return start

    def other(self, start: Tensor, *, channels: bool, generator: torch.Generator) -> Tensor:
        """Return a wrong signal: another unit, another image's activation, or the same numbers on other units."""
        axis = 1 if channels else start.ndim - 1
        if self.kind == "zero" or (not self.looks and start.shape[axis] == 1):
            return torch.randn(start.shape, generator=generator, device=generator.device).to(start)
        if self.looks and len(start) > 1:
            return start.roll(1, 0)
        if self.kind == "unit":
            shift = int(torch.randint(1, start.shape[axis], (), generator=generator, device=generator.device))
            return start.roll(shift, axis)
        order = torch.randperm(start.shape[axis], generator=generator, device=generator.device)
        return start.index_select(axis, order.to(start.device))

    def _weights(self, out: Tensor, channels: bool) -> Tensor:
        k = out.shape[1 if channels else -1]
        if self.kind == "direction":
            if len(self.value) != k:
                raise ValueError(f"got a direction of {len(self.value)} weights; expected {k}, the units of the output")
            return self.value.to(out).expand(len(out), -1)
        index = self.value.to(out.device)
        if index.ndim and len(index) != len(out):
            raise ValueError(f"got {len(index)} units for {len(out)} samples; expected one a sample, or a single one")
        if not bool(((index >= -k) & (index < k)).all()):
            raise ValueError(f"got unit {index.tolist()}; expected indices in 0..{k - 1}, the units of the output")
        return torch.nn.functional.one_hot(index.expand(len(out)) % k, k).to(out.dtype)


def _strongest(out: Tensor, top: float) -> Tensor:
    flat = out.flatten(1)
    found = flat.abs().topk(max(1, round(top * flat.shape[1])), 1).indices
    return torch.zeros_like(flat).scatter_(1, found, flat.gather(1, found)).view_as(out)
