"""What reconsolidation did to a memory, what it keeps to take it back, and both as tensors for a file.

A `Change` is for reading; a `Saved` holds the bits that were there before; a `Trace` is what is known of a memory
beside its row in the store. Cost: a change keeps a few rows of `d` numbers, whatever the size of the store.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Regime = Literal["retrieved", "strengthened", "updated", "stored", "ignored"]


@dataclass(frozen=True, eq=False)
class Trace:
    """What is known of one memory beside its row.

    Attributes:
        mean: `(d,)` float64; the row is this in the store's precision, or its sign where the store is binary.
        variance: `(d,)` float64 of that mean.
        changed: time at which the variance was right; None before any.
        reactivated: time at which it was last retrieved or stored; None where it never was.
    """

    mean: Float[Tensor, " d"]
    variance: Float[Tensor, " d"]
    changed: float | None = None
    reactivated: float | None = None


@dataclass(frozen=True, eq=False)
class Saved:
    """The bits that a change replaced.

    Attributes:
        handle: of the memory; None where nothing was changed.
        row: `(d,)` of the store, in its own precision; None where the memory was not there.
        weight: its weight, in its own precision, `()`.
        written: `(d,)` what took the row's place, by which a change from outside is noticed.
        trace: as it was; None where there was none.
    """

    handle: int | None
    row: Tensor | None = None
    weight: Tensor | None = None
    written: Tensor | None = None
    trace: Trace | None = None


@dataclass(frozen=True, eq=False)
class Change:
    """One entry of the log.

    Attributes:
        time: when.
        regime: `"retrieved"` (the window opened, nothing else changed), `"strengthened"` (surer and heavier, the same
            content), `"updated"` (the content moved), `"stored"` (a new memory; the old one was left), or `"ignored"`
            (no memory was labile, so nothing changed).
        handle: of the memory that was retrieved, changed or stored; None where it was ignored.
        surprise: squared, `d^2`, to the likeliest labile memory; None where none was labile or nothing was observed.
        before: `(d,)` float64 content of `handle`; None where it was not there.
        after: `(d,)` float64 content of it now.
        observed: `(d,)` what was seen, 0 where it was not; None for a retrieval.
        mask: `(d,)` which features were seen.
        bounds: the two values of `d^2` between which content is updated.
        gain: of the labile window, 0 to `lability`.
        causes: probability of each labile memory as the cause, by handle; `"new"` for none of them.
        compared: handle of the labile memory that the surprise is measured to.
        note: the same in words.
    """

    time: float
    regime: Regime
    handle: int | None
    surprise: float | None = None
    before: Float[Tensor, " d"] | None = None
    after: Float[Tensor, " d"] | None = None
    observed: Float[Tensor, " d"] | None = None
    mask: Bool[Tensor, " d"] | None = None
    bounds: tuple[float, float] | None = None
    gain: float = 0.0
    causes: Mapping[int | str, float] = field(default_factory=dict[int | str, float])
    compared: int | None = None
    note: str = ""


_PLAIN = ("time", "regime", "handle", "surprise", "gain", "compared", "note")
_ROWS = ("before", "after", "observed", "mask")


def pack_log(log: Sequence[Change], saved: Sequence[Saved]) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """Return a header entry a change, and the tensors of all, named by their place in the log."""
    header: list[dict[str, Any]] = []
    tensors: dict[str, Tensor] = {}
    for i, (change, kept) in enumerate(zip(log, saved, strict=True)):
        entry = {name: getattr(change, name) for name in _PLAIN}
        entry |= {"bounds": list(change.bounds or ()), "causes": [[k, v] for k, v in change.causes.items()]}
        entry["saved"] = {"handle": kept.handle}
        rows = {name: getattr(change, name) for name in _ROWS}
        rows |= {f"saved.{name}": getattr(kept, name) for name in ("row", "weight", "written")}
        if kept.trace is not None:
            entry["saved"] |= {"changed": kept.trace.changed, "reactivated": kept.trace.reactivated}
            rows |= {"saved.mean": kept.trace.mean, "saved.variance": kept.trace.variance}
        tensors |= {f"log.{i}.{name}": row for name, row in rows.items() if row is not None}
        header.append(entry)
    return header, tensors


def unpack_log(header: Sequence[Mapping[str, Any]], tensors: Mapping[str, Tensor]) -> tuple[list[Change], list[Saved]]:
    """Undo `pack_log`."""
    log: list[Change] = []
    saved: list[Saved] = []
    for i, entry in enumerate(header):
        given: dict[str, Any] = {name: entry[name] for name in _PLAIN}
        given |= {name: tensors.get(f"log.{i}.{name}") for name in _ROWS}
        causes: dict[int | str, float] = dict(entry["causes"])
        bounds = tuple(entry["bounds"]) or None
        log.append(Change(**given, bounds=bounds, causes=causes))
        kept, mean = entry["saved"], tensors.get(f"log.{i}.saved.mean")
        times = kept.get("changed"), kept.get("reactivated")
        trace = None if mean is None else Trace(mean, tensors[f"log.{i}.saved.variance"], *times)
        bits = {name: tensors.get(f"log.{i}.saved.{name}") for name in ("row", "weight", "written")}
        saved.append(Saved(kept["handle"], **bits, trace=trace))
    return log, saved


def pack_traces(traces: Mapping[int, Trace]) -> tuple[list[list[Any]], dict[str, Tensor]]:
    """Return handles with their times, and means and variances as two tensors."""
    header: list[list[Any]] = [[handle, trace.changed, trace.reactivated] for handle, trace in traces.items()]
    if not traces:
        return header, {}
    rows = {f.name: torch.stack([getattr(t, f.name) for t in traces.values()]) for f in fields(Trace)[:2]}
    return header, {f"trace.{name}": tensor for name, tensor in rows.items()}


def unpack_traces(header: Sequence[Sequence[Any]], tensors: Mapping[str, Tensor]) -> dict[int, Trace]:
    """Undo `pack_traces`."""
    return {
        int(handle): Trace(tensors["trace.mean"][i], tensors["trace.variance"][i], changed, reactivated)
        for i, (handle, changed, reactivated) in enumerate(header)
    }
