r"""What a picture is to please: a unit, a direction, a mean over channels, or any function of what a module gives.

An objective reads one number a picture, and is read before the activation where the site ends in one: a closed ReLU
has no gradient. :math:`u(x)` of a unit with positions is the mean over them, the value at one, or the largest.

Reference: Olah, Mordvintsev, Schubert 2017, Feature visualization. Cost: none beyond the network's.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemotrace.adapters.outputs import require_units, units_first
from mnemotrace.core.linalg import require_finite

Position = Literal["mean", "max", "centre"] | tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Objective:
    """One number a picture, read from what a module gives; made by `unit`, `direction`, `mean` or `of`.

    Attributes:
        name: for reading.
        site: name of the module; "" is the network's output.
        read: turns the output into `(n,)`; gets the module too.
        before: whether the input of the activation is read, where the site ends in one.
    """

    name: str
    site: str
    read: Callable[[Tensor, nn.Module], Tensor]
    before: bool = True

    @classmethod
    def unit(
        cls, index: int, *, site: str | None = None, position: Position = "mean", axis: int | None = None
    ) -> "Objective":
        """Choose one unit: a channel, a channel at a position, a logit.

        Args:
            index: of the unit.
            site: name of a module; None for the network's output.
            position: "mean" or "max" over positions, "centre", or an index an axis; of no meaning without positions.
            axis: that the units lie on; see `mnemotrace.adapters.outputs.units_first`.
        """

        def read(output: Tensor, module: nn.Module) -> Tensor:
            units = units_first(output, axis=axis, module=module)
            require_units([index], units.shape[1], site)
            return _at(units[:, index], position)

        return cls(f"unit {index} of {site or 'the output'}{_where(position)}", site or "", read)

    @classmethod
    def direction(
        cls,
        vector: Float[Tensor, " units"],
        *,
        site: str | None = None,
        position: Position = "mean",
        axis: int | None = None,
    ) -> "Objective":
        """Choose a direction in what a module gives: the inner product with a vector; arguments as of `unit`."""
        require_finite(vector, "the direction")

        def read(output: Tensor, module: nn.Module) -> Tensor:
            units = units_first(output, axis=axis, module=module)
            if vector.shape != units.shape[1:2]:
                raise ValueError(
                    f"got a direction of shape {tuple(vector.shape)}; expected ({units.shape[1]},), one number a unit "
                    f"of {site or 'the output'}"
                )
            return _at(torch.einsum("nu...,u->n...", units, vector.to(units)), position)

        return cls(f"a direction in {site or 'the output'}{_where(position)}", site or "", read)

    @classmethod
    def mean(
        cls, channels: Iterable[int] | None = None, *, site: str | None = None, axis: int | None = None
    ) -> "Objective":
        """Choose the mean over channels, all or some, and over positions; arguments as of `unit`."""
        chosen = None if channels is None else list(channels)

        def read(output: Tensor, module: nn.Module) -> Tensor:
            units = units_first(output, axis=axis, module=module)
            require_units(chosen or [], units.shape[1], site)
            return (units if chosen is None else units[:, chosen]).flatten(1).mean(1)

        which = "all channels" if chosen is None else f"channels {', '.join(map(str, chosen))}"
        return cls(f"mean of {which} of {site or 'the output'}", site or "", read)

    @classmethod
    def of(cls, function: Callable[[Tensor], Tensor], *, site: str | None = None, name: str = "") -> "Objective":
        """Choose any function of what a module gives: `(n,)`, or `(n, ...)`, of which the mean is taken.

        A latent of a dictionary, say: `Objective.of(lambda y: dictionary.encode(y)[..., 5], site="layer3")`.
        """
        title = name or f"{getattr(function, '__name__', 'a function')} of {site or 'the output'}"

        def read(output: Tensor, _module: nn.Module) -> Tensor:
            value = function(output)
            if value.ndim == 0 or len(value) != len(output):
                raise ValueError(
                    f"got shape {tuple(value.shape)} from {title} for {len(output)} pictures; expected ({len(output)}, "
                    "...); return one number a picture"
                )
            return value.flatten(1).mean(1) if value.ndim > 1 else value

        return cls(title, site or "", read, before=False)


def _at(values: Tensor, position: Position) -> Tensor:
    """Take one number a picture from `(n, *positions)`."""
    if values.ndim == 1:
        return values
    if position == "mean":
        return values.flatten(1).mean(1)
    if position == "max":
        return values.flatten(1).amax(1)
    sides: Sequence[int] = values.shape[1:]
    place: Any = tuple(side // 2 for side in sides) if position == "centre" else position
    fits = isinstance(place, tuple) and len(place) == len(sides)
    if not fits or not all(-s <= p < s for p, s in zip(place, sides, strict=True)):
        raise ValueError(
            f"got position={position!r} for positions {tuple(sides)}; expected 'mean', 'max', 'centre' or a tuple of "
            f"{len(sides)} indices within them"
        )
    return values[(slice(None), *place)]


def _where(position: Position) -> str:
    return {"mean": "", "max": ", at its largest", "centre": ", at the centre"}.get(str(position), f", at {position}")
