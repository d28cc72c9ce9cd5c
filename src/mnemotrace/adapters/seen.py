"""What a listener is told of an operation of a network, and what it answers. Cost: none."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from mnemotrace.adapters.decompositions import Windows


@dataclass(frozen=True, eq=False)
class Seen:
    """One operation that lets something through.

    Attributes:
        name: of the operation.
        kind: `switch`, `gate`, `pattern` or `scale`.
        x: what the backward signal goes to; None where the output itself is what was let through (softmax).
        y: the output, without a graph.
        shape: of the values.
        values: what was let through.
        native: the operation with its true gradient.
        reverse: `(g, values) -> signal at x`; None for switches and where x is None.
        windows: of a switch.
        index: of the maxima, into the flattened input of a switch.
        soft: whether the factor of a gate is not its slope, as in GELU.
        module: name of the module inside which it ran.
    """

    name: str
    kind: str
    x: Tensor | None
    y: Tensor
    shape: tuple[int, ...]
    values: Callable[[], Tensor]
    native: Callable[[], Tensor]
    reverse: Callable[[Tensor, Tensor], Tensor] | None = None
    windows: Windows | None = None
    index: Tensor | None = None
    soft: bool = False
    module: str = ""


class Listener(Protocol):
    """Who is told."""

    def tap(self, x: Tensor, name: str) -> Tensor:
        """Return the input of a linear map, convolution or pool, perhaps with another backward."""
        ...

    def see(self, seen: Seen) -> Tensor:
        """Return the output of an operation, with the backward that it should have."""
        ...

    def unruled(self, y: Tensor, name: str) -> None:
        """Be told of an output whose operation has no rule."""
        ...


def tensors_of(out: Any) -> Iterator[Tensor]:
    """Go through the tensors of an output."""
    if isinstance(out, Tensor):
        yield out
    elif isinstance(out, (tuple, list)):
        for part in out:
            yield from tensors_of(part)


def floating(args: Any, kwargs: dict[str, Any]) -> bool:
    """Whether the first argument of a call is a floating-point tensor."""
    x = args[0] if args else kwargs.get("input")
    return isinstance(x, Tensor) and x.is_floating_point()


def bound(names: tuple[str, ...], args: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Name the arguments of a call into torch; other keywords are left out."""
    return {**dict(zip(names, args, strict=False)), **{name: kwargs[name] for name in names if name in kwargs}}
