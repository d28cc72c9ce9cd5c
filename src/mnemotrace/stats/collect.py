"""Collect second moments at all sites in one forward pass over the data.

What makes it cheap: maps that read one tensor share one accumulator; rows wait and are folded in together; only
the upper triangle is summed; the pass ends before the vocabulary head when the head is no site. What keeps it right:
a tensor is shared only while its version counter stands still, so an in-place change between two readers is seen;
masks must be boolean; the network's training flags and hooks are given back whatever happens.

Cost: about `n d^2` multiply-adds a distinct input beside the forward pass. Memory: `d^2` numbers a distinct input.
"""

import itertools
import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from mnemotrace.adapters.hooks import evaluating, forward, record, stop_at
from mnemotrace.adapters.linear import sites as all_sites
from mnemotrace.adapters.rows import Tokens, Unfold, check_mask, masked_rows
from mnemotrace.core.artifact import Artifact, fingerprint, library_version, read, write
from mnemotrace.core.progress import Progress, silent
from mnemotrace.core.site import Site
from mnemotrace.stats.accumulate import Accumulator
from mnemotrace.stats.moments import Moments, Statistics

log = logging.getLogger(__name__)

Mask = Callable[[Any], Tensor]
_WINDOW = 8
# Which sites of a model are known to read nothing behind its head: looked up once, not in every collection.
_HEAD_IS_LAST: MutableMapping[nn.Module, set[frozenset[str]]] = WeakKeyDictionary()


def collect(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    sites: Mapping[str, Site] | None = None,
    mask: Mask | None = None,
    progress: Progress | None = None,
    dtype: torch.dtype = torch.float32,
    checkpoint: str | Path | None = None,
    every: int = 50,
    max_bytes: int | None = None,
) -> Statistics:
    """Run a network over batches once and sum up what its linear maps read.

    Args:
        model: any network; it is run in evaluation mode without gradients and left as it was.
        batches: what the model takes: mappings (called by keyword), tuples (by position) or tensors.
        sites: where to listen, from `mt.sites`; None for all.
        mask: called with each batch, returns a bool tensor that says which positions count: `(b, t)`, or `(b,)` for
            whole examples. None takes `batch["attention_mask"]` when there is one, so padding never counts.
        progress: called after each batch.
        dtype: of the sums of outer products. float32 loses about 1e-6 of the largest entries in 100,000 rows, 4e-6
            in two million; float64 takes twice the time and memory and makes the algebraic identities exact.
        checkpoint: a file to write the running sums to every `every` batches. If it exists, collection goes on where
            it stopped, provided that `batches` comes in the same order; the result is identical, bit for bit.
        every: batches between checkpoints.
        max_bytes: refuse to start when `memory_estimate` exceeds this.

    Returns:
        Statistics by site name. Sites that were never run are left out with a warning in the log.

    Raises:
        TypeError: the mask is not boolean.
        ValueError: no batch, no row, a mask that does not fit, or too much memory.
        NonFiniteError: an activation is NaN or infinite; the site is named.
    """
    chosen = dict(sites) if sites is not None else all_sites(model)
    _check_memory(chosen, dtype, max_bytes)
    head = _head(model, chosen)
    known, asked = _HEAD_IS_LAST.setdefault(model, set()), frozenset(chosen)
    collector = _Collector(dtype, head_is_last=asked in known)
    source = iter(batches)
    done = _resume(collector, model, chosen, checkpoint, source)
    report = progress or silent
    with evaluating(model), record(model, chosen, collector.receive):
        for done, batch in enumerate(source, done + 1):  # noqa: B020
            collector.mask = mask_of(batch, mask)
            head = collector.run(model, batch, head)
            if checkpoint is not None and done % every == 0:
                write(collector.pack(done, model, chosen), checkpoint)
            report(done, None, "batches")
    if head is not None and collector.head_is_last:
        known.add(asked)
    if done == 0:
        raise ValueError("got no batch; expected at least one; an iterator may have been used up before")
    manifest = {"base": fingerprint(model), "batches": done, "dtype": str(dtype), "version": library_version()}
    statistics = Statistics(_by_site(collector.accumulators, chosen), chosen, manifest)
    if checkpoint is not None:
        Path(checkpoint).unlink(missing_ok=True)
    return statistics


def memory_estimate(sites: Mapping[str, Site], dtype: torch.dtype = torch.float32) -> int:
    """Bytes that the sums need about: `d^2` numbers a site. Sites that share an input need less."""
    return sum(site.d**2 for site in sites.values()) * torch.finfo(dtype).bits // 8


@dataclass
class _Reading:
    """A tensor that was just read, its rows, and who read it."""

    source: Tensor
    rows: Tensor
    readers: list[str]


class _Collector:
    """Groups reads of one tensor, then adds its rows to the accumulator of exactly those readers."""

    def __init__(self, dtype: torch.dtype, *, head_is_last: bool) -> None:
        self.dtype = dtype
        self.mask: Tensor | None = None
        self.accumulators: dict[tuple[str, ...], Accumulator] = {}
        self._window: OrderedDict[Hashable, _Reading] = OrderedDict()
        self._past_head = False
        self.head_is_last = head_is_last

    def receive(self, site: Site, source: Tensor, unfold: Unfold, tokens: Tokens | None = None, /) -> None:
        """Take note that a site reads a tensor."""
        if self._past_head:
            self.head_is_last = False
        key = _key(source, unfold)
        reading = self._window.get(key)
        if reading is not None and site.name not in reading.readers:
            reading.readers.append(site.name)
            return
        rows = masked_rows(unfold(source), self.mask, site.name, tokens)
        rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
        if rows.untyped_storage().data_ptr() == source.untyped_storage().data_ptr():
            rows = rows.clone()
        if reading is not None:
            key = object()
        self._window[key] = _Reading(source, rows, [site.name])
        if len(self._window) > _WINDOW:
            self._close(self._window.popitem(last=False)[1])

    def run(self, model: nn.Module, batch: Any, head: nn.Module | None) -> nn.Module | None:
        """Run one batch; the first of a model whole, to see whether anything is read behind the head."""
        if head is None or self.head_is_last:
            with stop_at(head):
                forward(model, batch)
        else:
            self.head_is_last = True
            handle = head.register_forward_pre_hook(self._note_head)
            try:
                forward(model, batch)
            finally:
                handle.remove()
                self._past_head = False
            head = head if self.head_is_last else None
        self.close()
        return head

    def close(self) -> None:
        """Hand every open reading to its accumulator."""
        while self._window:
            self._close(self._window.popitem(last=False)[1])

    def _note_head(self, *_: object) -> None:
        self._past_head = True

    def _close(self, reading: _Reading) -> None:
        readers = tuple(reading.readers)
        accumulator = self.accumulators.setdefault(readers, Accumulator(self.dtype))
        accumulator.add(reading.rows, readers[0])

    def pack(self, done: int, model: nn.Module, sites: Mapping[str, Site]) -> Artifact:
        """Turn the exact running state into an artifact."""
        tensors: dict[str, Tensor] = {}
        groups: list[dict[str, Any]] = []
        for i, (readers, accumulator) in enumerate(self.accumulators.items()):
            device = "cpu" if accumulator.first is None else str(accumulator.first.device)
            counts = {"n": accumulator.n, "waiting": len(accumulator.buffer)}
            groups.append({"readers": list(readers), "device": device, **counts})
            tensors |= {f"{i}.waiting.{j}": part for j, part in enumerate(accumulator.buffer)}
            for part in ("first", "second"):
                if getattr(accumulator, part) is not None:
                    tensors[f"{i}.{part}"] = getattr(accumulator, part)
        header = {"done": done, "groups": groups, "run": _run_key(model, sites, self.dtype)}
        return Artifact("collection", header, tensors)

    def unpack(self, artifact: Artifact) -> None:
        """Take up the state again, in fresh memory: products differ in the last bit with the alignment of a file."""
        for i, group in enumerate(artifact.header["groups"]):
            mine = {
                name.removeprefix(f"{i}."): tensor.to(group["device"], copy=True)
                for name, tensor in artifact.tensors.items()
                if name.startswith(f"{i}.")
            }
            accumulator = Accumulator(self.dtype)
            accumulator.n = group["n"]
            accumulator.first, accumulator.second = mine.get("first"), mine.get("second")
            accumulator.buffer = [mine[f"waiting.{j}"] for j in range(group["waiting"])]
            accumulator.waiting = sum(len(part) for part in accumulator.buffer)
            self.accumulators[tuple(group["readers"])] = accumulator


def _key(source: Tensor, unfold: Unfold) -> Hashable:
    """Identify a tensor with its contents; inference tensors have no version, so they are never shared."""
    return object() if source.is_inference() else (id(source), source._version, unfold)


def mask_of(batch: Any, mask: Mask | None) -> Tensor | None:
    """Return which positions of a batch count, None for all; see `collect`.

    Raises:
        TypeError: the mask is not boolean.
    """
    if mask is not None:
        chosen = mask(batch)
        check_mask(chosen)
        return chosen
    if isinstance(batch, Mapping) and isinstance(batch.get("attention_mask"), Tensor):
        attention = batch["attention_mask"]
        return attention.bool() if attention.ndim == 2 else None
    return None


def _head(model: nn.Module, sites: Mapping[str, Site]) -> nn.Module | None:
    """Return the vocabulary head when it is not a site."""
    get = getattr(model, "get_output_embeddings", None)
    head = get() if callable(get) else None
    if not isinstance(head, nn.Module):
        return None
    modules = {model.get_submodule(name) for site in sites.values() for name in (site.module, *site.readers)}
    return None if head in modules else head


def _by_site(accumulators: Mapping[tuple[str, ...], Accumulator], sites: Mapping[str, Site]) -> dict[str, Moments]:
    """Give each site the sum of the accumulators that it took part in; equal parts stay one object."""
    summed: dict[tuple[tuple[str, ...], ...], Moments] = {}
    parts = {readers: acc.moments() for readers, acc in accumulators.items() if acc.n}
    moments: dict[str, Moments] = {}
    for name in sites:
        mine = tuple(readers for readers in parts if name in readers)
        if not mine:
            log.warning("site %s read no row and is left out", name)
            continue
        if mine not in summed:
            total = parts[mine[0]]
            for readers in mine[1:]:
                total = total + parts[readers]
            summed[mine] = total
        moments[name] = summed[mine]
    if not moments:
        raise ValueError(
            "got no row at any site; expected at least one; the mask may be empty or the data of length zero"
        )
    return moments


def _check_memory(sites: Mapping[str, Site], dtype: torch.dtype, max_bytes: int | None) -> None:
    needed = memory_estimate(sites, dtype)
    log.info("collecting at %d sites; the sums need about %.2f GB", len(sites), needed / 1e9)
    if max_bytes is not None and needed > max_bytes:
        raise ValueError(
            f"got {len(sites)} sites whose sums may need {needed:,} bytes; expected at most {max_bytes:,}; choose "
            "fewer with mt.sites(model, select, layers) and collect in turns"
        )


def _run_key(model: nn.Module, sites: Mapping[str, Site], dtype: torch.dtype) -> dict[str, Any]:
    return {"base": fingerprint(model), "sites": list(sites), "dtype": str(dtype)}


def _resume(
    collector: _Collector,
    model: nn.Module,
    sites: Mapping[str, Site],
    checkpoint: str | Path | None,
    batches: Iterable[Any],
) -> int:
    """Load a checkpoint when there is one, skip the batches that it holds, and return their number."""
    if checkpoint is None or not Path(checkpoint).exists():
        return 0
    artifact = read(checkpoint, "collection")
    expected = _run_key(model, sites, collector.dtype)
    if artifact.header["run"] != expected:
        raise ValueError(
            f"got a checkpoint {checkpoint} of another run; expected the same model, sites and dtype; "
            "delete it to start over"
        )
    collector.unpack(artifact)
    done = int(artifact.header["done"])
    skipped = sum(1 for _ in itertools.islice(batches, done))
    if skipped < done:
        raise ValueError(
            f"got {skipped} batches; expected at least the {done} of checkpoint {checkpoint}; give the same data"
        )
    return done
