r"""Memories with a mean, a variance and a window: what reconsolidation knows beside the rows of a store.

A `Trace` is made when a memory is first retrieved, so that a store of any size costs nothing until then. Its window is

.. math:: g(t) = g_0\, e^{-(t - t_m) / \lambda}, \qquad 0 \text{ below a hundredth of } g_0,

and its variance grows by `drift` a unit of time. Cost: O(n d) time to look a cue up or to write a row, which copies the
rows, as `Patterns.add` does, so that whoever holds the old tensor keeps it.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.memories.dense import DenseMemory
from mnemotrace.memories.hopfield import Hopfield
from mnemotrace.memories.patterns import Patterns
from mnemotrace.modification.changes import Saved, Trace
from mnemotrace.modification.surprise import log_density, squared_surprise

SHUT = 0.01


def store_under(memory: Any) -> Patterns:
    """Return the patterns of a memory.

    Raises:
        TypeError: it has none.
        ValueError: a network that cannot hold weights.
    """
    store = memory if isinstance(memory, Patterns) else getattr(memory, "patterns", None)
    if not isinstance(store, Patterns):
        raise TypeError(
            f"got a {type(memory).__name__} without stored patterns; expected Patterns or a memory of them, such as "
            "DiffusionMemory; couplings alone do not say which memory is meant"
        )
    if isinstance(memory, Hopfield) and memory.rule != "hebb":
        raise ValueError(
            f"got a Hopfield network with rule={memory.rule!r}; expected 'hebb': strength is the weight of a pattern, "
            "and only Hebb's rule is a weighted sum"
        )
    return store


class Labile:
    """A store, and a trace of each memory that was retrieved.

    Attributes:
        memory: whose store it is.
        variance: `(d,)` of a memory without a trace.
        traces: by handle.
    """

    def __init__(self, memory: Any, variance: Tensor, *, lability: float, window: float, drift: float) -> None:
        """See `Reconsolidation`."""
        self.memory = memory
        self.variance = variance
        self.lability, self.window, self.drift = lability, window, drift
        self.traces: dict[int, Trace] = {}

    @property
    def patterns(self) -> Patterns:
        """The store as it is now."""
        return store_under(self.memory)

    def stored(self) -> list[int]:
        """Return the handles of traces whose memory is still there."""
        there = set(self.patterns.handles.tolist())
        return [handle for handle in self.traces if handle in there]

    def open(self, time: float) -> dict[int, float]:
        """Return the gain of each memory whose window is open, by handle."""
        gains = {handle: self.gain(self.traces[handle], time) for handle in self.stored()}
        return {handle: gain for handle, gain in gains.items() if gain > 0}

    def gain(self, trace: Trace, time: float) -> float:
        """Return the share of a Kalman step that is left, 0 where the window is shut."""
        if trace.reactivated is None or time < trace.reactivated:
            return 0.0
        share = math.exp(-(time - trace.reactivated) / self.window)
        return self.lability * share if share >= SHUT else 0.0

    def grown(self, trace: Trace, time: float) -> Float[Tensor, " d"]:
        """Return the variance of a memory at a time."""
        waited = 0.0 if trace.changed is None else max(time - trace.changed, 0.0)
        return trace.variance + self.drift * waited

    def place(self, handle: int) -> int:
        """Return the position of a memory.

        Raises:
            KeyError: no such memory.
        """
        found = (self.patterns.handles == handle).nonzero()
        if len(found) == 0:
            raise KeyError(f"handle {handle}, which is not among the {len(self.patterns)} stored patterns")
        return int(found[0])

    def trace(self, handle: int) -> Trace:
        """Return what is known of a memory; a row that was changed by other means counts anew."""
        row, known = self.patterns.values[self.place(handle)], self.traces.get(handle)
        if known is not None and torch.equal(self.row(known.mean), row):
            return known
        times = (None, None) if known is None else (known.changed, known.reactivated)
        return Trace(row.double(), self.variance, *times)

    def row(self, mean: Tensor) -> Tensor:
        """Return what the store holds of a mean."""
        shown = torch.where(mean < 0, -1.0, 1.0) if isinstance(self.memory, Hopfield | DenseMemory) else mean
        return shown.to(self.patterns.values)

    def write(self, handle: int, mean: Float[Tensor, " d"], weight: float, trace: Trace | None) -> Saved:
        """Put a mean into the store, make it heavier, and return the bits and the trace that were there."""
        place, row = self.place(handle), self.row(mean)
        saved = Saved(handle, self.patterns.values[place].clone(), self.patterns.weights[place].clone(), row, trace)
        self._put(place, row, self.patterns.weights[place] + weight)
        return saved

    def restore(self, saved: Saved) -> None:
        """Put back what `saved` holds; a memory that was not there before is taken out, and so is its handle."""
        if saved.handle is None:
            return
        if saved.trace is None:
            self.traces.pop(saved.handle, None)
        else:
            self.traces[saved.handle] = saved.trace
        if saved.row is not None and saved.weight is not None:
            self._put(self.place(saved.handle), saved.row, saved.weight)
        elif saved.written is not None:
            self._take_out(saved.handle)

    def require_untouched(self, saved: Sequence[Saved]) -> None:
        """Require that all rows that would be restored are what was written, and that one memory is left.

        Raises:
            ValueError: they are not.
        """
        now: dict[int, Tensor | None] = {}
        for entry in reversed(saved):
            if entry.handle is None or entry.written is None:
                continue
            row = now[entry.handle] if entry.handle in now else self._stored_row(entry.handle)
            if row is None or not torch.equal(row, entry.written):
                what = "removed" if row is None else "changed"
                raise ValueError(
                    f"got memory {entry.handle}, {what} by other means since it was logged; expected it as it was "
                    "left; take that back first, or undo fewer entries"
                )
            now[entry.handle] = entry.row
        gone = sum(row is None for row in now.values())
        if gone >= len(self.patterns):
            raise ValueError(f"got {gone} memories to take out of {len(self.patterns)}; expected one to be left")

    def _stored_row(self, handle: int) -> Tensor | None:
        found = (self.patterns.handles == handle).nonzero()
        return self.patterns.values[int(found[0])] if len(found) else None

    def _put(self, place: int, row: Tensor, weight: Tensor) -> None:
        """Write a row and its weight; the store's tensors become new ones, those that others hold stay as they are."""
        store = self.patterns
        values, weights = store.values.clone(), store.weights.clone()
        values[place], weights[place] = row, weight
        store.values, store.weights = values, weights

    def _take_out(self, handle: int) -> None:
        """Remove a memory; its handle is free again if no other was given since."""
        store = self.patterns
        store.remove(handle)
        if int(store.following) == handle + 1:
            store.following = store.following - 1

    def compared(
        self, handles: list[int], seen: Tensor, mask: Tensor, noise: Tensor, now: float
    ) -> tuple[dict[int, float], dict[int, float]]:
        """Return squared surprise, and log weight plus log-density, of an observation to each memory."""
        traces = [self.trace(handle) for handle in handles]
        error = seen - torch.stack([trace.mean for trace in traces])
        spread = torch.stack([self.grown(trace, now) for trace in traces]) + noise
        weights = torch.stack([self.patterns.weights[self.place(handle)] for handle in handles]).double()
        distances = squared_surprise(error, spread, mask).tolist()
        densities = (weights.log() + log_density(error, spread, mask)).tolist()
        return dict(zip(handles, distances, strict=True)), dict(zip(handles, densities, strict=True))

    def nearest(self, seen: Float[Tensor, " d"], mask: Tensor, noise: Float[Tensor, " d"], now: float) -> int:
        """Return the likeliest memory; memories without a trace of their own share one variance."""
        store = self.patterns
        spread = self.variance + noise
        at_best = float(log_density(torch.zeros_like(seen), spread, mask))
        distances = (store.values - seen).square_() @ (mask / spread)  # in place, for there may be many rows
        fits = store.weights.double().log() + at_best - 0.5 * distances
        if known := self.stored():
            _, densities = self.compared(known, seen, mask, noise, now)
            for handle, density in densities.items():
                fits[self.place(handle)] = density
        return int(store.handles[fits.argmax()])
