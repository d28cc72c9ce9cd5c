"""What stands behind each operation while a network runs for a recall: who records, and who replaces the backward.

`Recorder` writes down what each operation lets through. `Reversal` gives each operation another backward, a
`torch.autograd.Function` that keeps the output as it is; what it lets through is either its own, or taken from a trace,
entry by entry in the order of the operations.

Cost: the recorder copies outputs (for `EpisodicTrace.select`); the reversal keeps gates and switches, no activations.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mnemotrace.adapters.seen import Seen
from mnemotrace.core.entry import KINDS, Entry, bits_each
from mnemotrace.core.episode import EpisodicTrace
from mnemotrace.retrieval.rules import Rules, draw, placed, unpool

Reverse = Callable[[Tensor], Tensor]


class _Reversed(torch.autograd.Function):
    """An operation with a given output and a given backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, reverse: Reverse) -> Tensor:  # noqa: ARG004
        ctx.reverse = reverse
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return ctx.reverse(grads[0]), None, None


def reversed_(x: Tensor, y: Tensor, reverse: Reverse) -> Tensor:
    """Return `y` so that a signal at it goes on to `x` through `reverse`."""
    return _Reversed.apply(x, y, reverse) if x.requires_grad else y  # pyright: ignore[reportReturnType]


class Recorder:
    """Writes an episodic trace."""

    def __init__(self, b: int) -> None:
        self.b = b
        self.place = 0
        self.entries: list[Entry] = []

    def tap(self, x: Tensor, name: str) -> Tensor:  # noqa: ARG002
        """Leave the input as it is."""
        return x

    def unruled(self, y: Tensor, name: str) -> None:
        """Leave the output as it is."""

    def see(self, seen: Seen) -> Tensor:
        """Write down what was let through; the output stays as it is."""
        if not fits(seen.shape, self.b):
            return seen.y
        values = seen.values()
        if values.is_floating_point():
            most = torch.finfo(torch.float16).max
            values = values.clamp(-most, most).half()
        rows = to_rows(values, self.b)
        strength = None if seen.kind == "scale" else values if seen.kind == "pattern" else seen.y.clone()
        entry = Entry(seen.name, seen.kind, rows, seen.module, None, cells_of(seen), self.place)
        self.entries.append(entry if strength is None else replace(entry, strength=to_rows(strength, self.b)))
        self.place += 1
        return seen.y


class Reversal:
    """Gives operations the backward of the rules.

    Attributes:
        bits: of what the rules took from the trace, a sample, by kind.
        unreversed: operations without a rule, through which a signal came back with its true gradient.
    """

    def __init__(
        self,
        rules: Rules,
        b: int,
        *,
        trace: EpisodicTrace | None,
        own: bool,
        seen: bool,
        generator: torch.Generator,
    ) -> None:
        self.rules = rules
        self.b = b
        self.own = own
        self.seen = seen
        self.generator = generator
        self.place = 0
        self.bits = dict[str, float]((kind, 0.0) for kind in KINDS)
        self.unreversed: dict[str, None] = {}
        self.trace = trace
        self.entries = {} if trace is None else {entry.place: entry for entry in trace.entries}

    def tap(self, x: Tensor, name: str) -> Tensor:
        """Normalise, clamp and choose the winner in what comes back to this input."""
        if not self.rules.taps or not x.requires_grad:
            return x
        return reversed_(x, x.detach(), lambda g: self.rules.after(g, name))

    def unruled(self, y: Tensor, name: str) -> None:
        """Note the operation once a signal comes back through it."""

        def note(_: Tensor) -> None:
            self.unreversed.setdefault(name)

        y.register_hook(note)

    def see(self, seen: Seen) -> Tensor:
        """Return the output with its new backward."""
        if not fits(seen.shape, self.b):
            return seen.native()
        entry = self._entry(seen)
        self.place += 1
        if not self.rules.frozen and (seen.soft or seen.kind in ("pattern", "scale")):
            self._require_image(seen)
            return seen.native()
        if seen.x is None:
            return self._values(seen, entry).to(seen.y)
        if not seen.x.requires_grad:
            return seen.y
        return reversed_(seen.x, seen.y, self._reverse(seen, entry))

    def finish(self) -> None:
        """Check that the whole trace was used.

        Raises:
            ValueError: entries are left over.
        """
        rest = [entry for place, entry in self.entries.items() if place >= self.place]
        if rest:
            raise ValueError(
                f"got a trace with {rest[0].operation} as entry {rest[0].place}; the network has only {self.place} "
                "such operations; expected a trace of this network; make it with episode(model, images)"
            )

    def _reverse(self, seen: Seen, entry: Entry | None) -> Reverse:
        rules = self.rules
        if seen.kind == "gate":
            gate = self._values(seen, entry) if rules.needs("gate") else None
            return lambda g: rules.at_gate(g, gate)
        if seen.kind == "switch":
            return self._unpooled(seen, entry)
        reverse = seen.reverse
        assert reverse is not None
        values = self._values(seen, entry)
        return lambda g: reverse(g, values.to(g))

    def _unpooled(self, seen: Seen, entry: Entry | None) -> Reverse:
        windows, rules, index = seen.windows, self.rules, seen.index
        assert windows is not None and index is not None
        cells = kept = None
        if rules.needs("switch"):
            if self.own:
                self._count(seen, windows.dtype, index.numel())
                return lambda g: placed(g, index, None, windows, overwrite=rules.pool == "switch")
            if self.trace is None:
                raise ValueError(_WITHOUT.format(kind="switch", name=seen.name))
            cells = None if entry is None else self._values(seen, entry)
            kept = None if entry is None or entry.kept is None else from_rows(entry.kept, seen.shape)
        if rules.pool == "random":  # once, so that controls go through the same cells
            cells = draw(seen.shape, windows, self.generator, index.device)
        return lambda g: unpool(g, windows, rules.pool, cells=cells, kept=kept)

    def _count(self, seen: Seen, dtype: torch.dtype, units: int) -> None:
        self.bits[seen.kind] += bits_each(seen.kind, dtype, cells_of(seen)) * units / self.b

    def _values(self, seen: Seen, entry: Entry | None) -> Tensor:
        if self.own:
            values = seen.values()
            self._count(seen, values.dtype, values.numel())
            return values
        if entry is None:
            raise ValueError(_WITHOUT.format(kind=seen.kind, name=seen.name))
        self.bits[seen.kind] += entry.bits()
        values = entry.values
        if entry.kept is not None and seen.kind != "switch":
            values = values * entry.kept
        return from_rows(values, seen.shape).to(seen.y.device)

    def _entry(self, seen: Seen) -> Entry | None:
        entry = self.entries.get(self.place)
        if entry is None:
            return None
        found = tuple(entry.values.shape)
        wanted = rows_shape(seen.shape, self.b)
        mean = (*wanted, cells_of(seen)) if seen.kind == "switch" else wanted
        same = (entry.operation, entry.kind, entry.cells) == (seen.name, seen.kind, cells_of(seen))
        if same and found in (wanted, mean):
            return entry
        raise ValueError(
            f"got a trace whose entry {self.place} is {entry.operation} (a {entry.kind} of shape {found}); the network "
            f"runs {seen.name} ({seen.kind}, {wanted}) there, in module {seen.module!r}; expected a trace of this "
            "network and of as many samples of this size; make it with episode(model, images)"
        )

    def _require_image(self, seen: Seen) -> None:
        if not self.seen:
            raise ValueError(
                f"got frozen=False, which takes the true gradient of {seen.name}, and a trace without the image; "
                "expected the images as trace=, or x=; or hold it fixed with frozen=True"
            )


_WITHOUT = (
    "got no {kind} for {name}; expected a trace that has it: give the images or a whole trace as trace=, or rules "
    "that need none"
)


def cells_of(seen: Seen) -> int:
    """Cells of the window of a switch, else 0."""
    return 0 if seen.windows is None else seen.windows.cells


def fits(shape: tuple[int, ...], b: int) -> bool:
    """Whether values of this shape belong to samples: on the first axis, alone or together with another, or second."""
    return bool(shape) and (shape[0] % b == 0 or (len(shape) > 1 and shape[1] == b))


def rows_shape(shape: tuple[int, ...], b: int) -> tuple[int, ...]:
    """Return the shape `(b, ...)` of values that an operation gives as `shape`."""
    if shape[0] == b:
        return shape
    if shape[0] % b == 0:
        return (b, shape[0] // b, *shape[1:])
    return (b, shape[0], *shape[2:])


def to_rows(values: Tensor, b: int) -> Tensor:
    """Return values with samples on the first axis."""
    shape = tuple(values.shape)
    return values.reshape(rows_shape(shape, b)) if shape[0] % b == 0 else values.movedim(1, 0)


def from_rows(rows: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Undo `to_rows`; further axes stay at the end."""
    b = len(rows)
    if shape[0] % b == 0:
        return rows.reshape(*shape, *rows.shape[len(rows_shape(shape, b)) :])
    return rows.movedim(0, 1)
