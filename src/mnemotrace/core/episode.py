r"""What a network let through for particular inputs: the trace from which a recall can run backwards.

A forward pass decides, unit by unit, where a maximum was (switch), which unit was on (gate), what looked at what
(attention pattern) and how strongly a normalisation divided (scale). These values, in the order in which the operations
ran, are all that a backward recall needs besides the weights; they, and not the pointer, carry the identity of a
picture. So they are a value of their own, sized in bits, stored, cut down and averaged.

Bits of a sample: :math:`\log_2 c` for a switch over `c` cells, 1 for a boolean gate, 16 for a real number, and
:math:`\log_2 \binom{n}{k}` to say which `k` of `n` values were kept. An upper bound: no code is fitted.

Cost: one byte a switch, a bit (in a file) or a byte (in memory) a gate, two bytes a real number.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mnemotrace.core.artifact import Artifact
from mnemotrace.core.entry import KINDS, Entry, packed, unpacked

__all__ = ["Entry", "EpisodicTrace", "MeanTrace"]


@dataclass(frozen=True, eq=False)
class EpisodicTrace:
    """Entries of `b` samples in the order in which the operations ran.

    Attributes:
        entries: what was let through.
        input_shape: of one sample, without `b`.
        manifest: provenance: the network's fingerprint, how it takes its input.
    """

    entries: tuple[Entry, ...]
    input_shape: tuple[int, ...]
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])

    kind = "episodic_trace"

    def __len__(self) -> int:
        return len(self.entries[0].values) if self.entries else int(self.manifest.get("b", 0))

    def __getitem__(self, rows: Any) -> "EpisodicTrace":
        """Take samples: an index, a slice, or a tensor of indices or of booleans."""
        index = slice(rows, rows + 1 or None) if isinstance(rows, int) else rows
        entries = tuple(entry.rows(index) for entry in self.entries)
        count = len(torch.arange(len(self))[index])
        return EpisodicTrace(entries, self.input_shape, {**self.manifest, "b": count})

    @classmethod
    def join(cls, traces: Sequence["EpisodicTrace"]) -> "EpisodicTrace":
        """Put the samples of several traces of one network one after the other.

        Raises:
            ValueError: none, or traces whose entries differ.
        """
        parts = [trace.entries for trace in traces]
        if not parts or any(_outline(part) != _outline(parts[0]) for part in parts):
            raise ValueError(
                f"got {len(parts)} traces whose entries differ in operation or shape; expected one or more of one "
                "network, cut down in the same way"
            )
        entries = tuple(_joined(same) for same in zip(*parts, strict=True))
        first = traces[0]
        return cls(entries, first.input_shape, {**first.manifest, "b": sum(len(trace) for trace in traces)})

    def bits(self) -> dict[str, float]:
        """Bits of a sample, by kind and in total."""
        found = {kind: sum(e.bits() for e in self.entries if e.kind == kind) for kind in KINDS}
        return {kind: bits for kind, bits in found.items() if bits} | {"total": sum(found.values())}

    def forgotten(self) -> "EpisodicTrace":
        """Return the trace without the strengths of its units, as a file holds it."""
        return replace(self, entries=tuple(replace(entry, strength=None) for entry in self.entries))

    def select(
        self,
        *,
        kinds: Collection[str] | None = None,
        operations: Collection[str] | None = None,
        entries: Collection[int] | None = None,
        top: float | None = None,
    ) -> "EpisodicTrace":
        """Keep a part; what is left out is not known to a recall any more.

        Args:
            kinds: of entries, such as `["switch"]`.
            operations: such as `["max_pool2d"]`.
            entries: positions among those that the other two leave.
            top: share in (0, 1] of units of each entry and sample whose values are kept, the strongest.

        Raises:
            ValueError: nothing would be left, or a share out of range, or no strengths to choose by.
        """
        if top is not None and not 0 < top <= 1:
            raise ValueError(f"got top={top}; expected a share of units in (0, 1], such as 0.1")
        left = [e for e in self.entries if (kinds is None or e.kind in kinds)]
        left = [e for e in left if operations is None or e.operation in operations]
        if entries is not None:
            left = [left[i] for i in sorted(entries) if -len(left) <= i < len(left)]
        if not left:
            listing = ", ".join(dict.fromkeys(f"{e.kind} {e.operation}" for e in self.entries)) or "none"
            raise ValueError(
                f"got kinds={kinds}, operations={operations}, entries={entries}, which leave nothing; expected some of "
                f"the {len(self.entries)} entries: {listing}"
            )
        chosen = left if top is None else [e.top(top) for e in left]
        return replace(self, entries=tuple(chosen))

    def pack(self) -> Artifact:
        """Turn into an artifact: gates eight a byte, switches at the bits that their windows need."""
        tensors: dict[str, Tensor] = {}
        heads: list[dict[str, Any]] = []
        for i, entry in enumerate(self.entries):
            tensors |= {f"{i}.{name}": part for name, part in packed(entry).items()}
            heads.append(
                {name: getattr(entry, name) for name in ("operation", "kind", "module", "cells", "place")}
                | {"shape": list(entry.values.shape), "dtype": str(entry.values.dtype).removeprefix("torch.")}
                | {"kept": None if entry.kept is None else list(entry.kept.shape)}
            )
        header = {"entries": heads, "input_shape": list(self.input_shape), "manifest": dict(self.manifest)}
        return Artifact(self.kind, header | {"b": len(self)}, tensors)

    @classmethod
    def unpack(cls, artifact: Artifact) -> "EpisodicTrace":
        """Rebuild from an artifact; strengths are gone."""
        header = artifact.header
        entries = tuple(unpacked(head, artifact.tensors, i) for i, head in enumerate(header["entries"]))
        return cls(entries, tuple(header["input_shape"]), {**header["manifest"], "b": header["b"]})


def _outline(entries: Sequence[Entry]) -> list[Any]:
    return [
        (e.operation, e.kind, e.place, e.cells, e.values.dtype, e.values.shape[1:], e.kept is None) for e in entries
    ]


def _joined(same: Sequence[Entry]) -> Entry:
    columns = {name: [getattr(entry, name) for entry in same] for name in ("values", "kept", "strength")}
    parts = {name: None if any(p is None for p in column) else torch.cat(column) for name, column in columns.items()}
    return replace(same[0], **parts)


@dataclass(frozen=True, eq=False)
class MeanTrace:
    """What a network lets through on average, for all samples or for each class: learnt, and so not of an episode.

    Attributes:
        entries: `values` of class `k` in row `k`; switches as `(k, ..., cells)` probabilities, gates as rates.
        counts: `(k,)` samples.
        input_shape: of one sample.
        manifest: of the first trace.
    """

    entries: tuple[Entry, ...]
    counts: Int[Tensor, " k"]
    input_shape: tuple[int, ...]
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def fit(
        cls, traces: Iterable[EpisodicTrace], *, labels: Int[Tensor, " n"] | None = None, classes: int | None = None
    ) -> "MeanTrace":
        """Average traces.

        Args:
            traces: batches, one after the other.
            labels: of all samples in order; None averages over all.
            classes: how many there are; None takes the largest label.

        Raises:
            ValueError: no trace, traces of several networks, or another number of labels.
        """
        k = 1 if labels is None else classes or int(labels.max()) + 1
        sums: list[Tensor] = []
        counts, first, done = torch.zeros(k, dtype=torch.long), None, 0
        for trace in traces:
            first = first or trace
            rows = torch.zeros(len(trace), dtype=torch.long) if labels is None else labels[done : done + len(trace)]
            if len(rows) < len(trace) or len(trace.entries) != len(first.entries):
                break
            done += len(trace)
            counts += torch.bincount(rows, minlength=k)
            shares = [_shares(entry) for entry in trace.entries]
            sums = sums or [share.new_zeros(k, *share.shape[1:]) for share in shares]
            for total, share in zip(sums, shares, strict=True):
                total.index_add_(0, rows, share)
        if first is None or not done or (labels is not None and done != len(labels)):
            given = "none" if labels is None else len(labels)
            raise ValueError(
                f"got {done} samples that fit together and {given} labels; expected at least one trace, all of one "
                "network, and one label a sample"
            )
        means = [total / counts.clamp_min(1).view(-1, *[1] * (total.ndim - 1)) for total in sums]
        entries = tuple(replace(e, values=m, strength=None) for e, m in zip(first.entries, means, strict=True))
        return cls(entries, counts, first.input_shape, first.manifest)

    def trace(self, classes: int | Sequence[int] | Int[Tensor, " b"] = 0) -> EpisodicTrace:
        """Return a trace whose sample `i` is the mean of class `classes[i]`.

        Raises:
            ValueError: a class of which no sample was seen.
        """
        rows = torch.as_tensor(classes).reshape(-1)
        if not bool(((rows >= 0) & (rows < len(self.counts))).all()) or bool((self.counts[rows] == 0).any()):
            seen = [k for k, count in enumerate(self.counts) if count > 0]
            raise ValueError(f"got classes {[int(row) for row in rows]}; expected classes with samples, among {seen}")
        entries = tuple(entry.rows(rows) for entry in self.entries)
        return EpisodicTrace(entries, self.input_shape, {**self.manifest, "b": len(rows)})


def _shares(entry: Entry) -> Float[Tensor, "b *units"]:
    if entry.kind == "switch" and not entry.values.is_floating_point():
        return torch.nn.functional.one_hot(entry.values.long(), entry.cells).float()
    return entry.values.float()
