"""Erase a concept from what a network computes: fit erasers (LEACE) to its activations, and wear them.

Two kinds of places. At a *site* the eraser is for what a linear map reads, and folds into that map
(`Direction.as_edit`). At a *module* it is for what the module gives, and replaces that while the network runs
(`erasing`). Erasers of several places that are fitted at once are each for the network as it is: worn together, only
the first sees what it was fitted to. `forgetting.scrubbing` fits them one after another.

The mathematics is in `forgetting.eraser`. Cost: one pass over the data, O(n d^2) for each distinct tensor; memory `d^2`
float64 numbers each, and the read activations of one batch.
"""

from collections.abc import Callable, Generator, Hashable, Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial, reduce
from operator import add
from typing import Any

import torch
from torch import Tensor, nn

from mnemotrace.adapters.hooks import evaluating, forward, patch, record
from mnemotrace.adapters.rows import Last, Tokens, Unfold, check_mask, masked_rows
from mnemotrace.core.artifact import fingerprint
from mnemotrace.core.direction import Direction
from mnemotrace.core.errors import SelectionError
from mnemotrace.core.progress import Progress, silent
from mnemotrace.core.site import Site
from mnemotrace.forgetting.eraser import TOLERANCE, Association, Method, Shrinkage, encoded, solve

Mask = Callable[[Any], Tensor]
Labels = Tensor | Callable[[Any], Tensor]


def leace(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    labels: Labels,
    sites: Mapping[str, Site] | None = None,
    modules: Sequence[str] | None = None,
    mask: Mask | None = None,
    method: Method = "leace",
    shrinkage: Shrinkage = "oas",
    tolerance: float = TOLERANCE,
    progress: Progress | None = None,
) -> dict[str, Direction]:
    """Fit erasers at one or more places of a network in one pass over the data.

    Args:
        model: any network; it is run in evaluation mode without gradients and left as it was.
        batches: what the model takes: mappings (called by keyword), tuples (by position) or tensors.
        labels: the concept of each example, or of each position: whole numbers from 0 as classes, `(n,)` or `(n, t)`,
            or floating-point numbers with the concept's width as last axis. A tensor over all examples in the order of
            the batches, or a callable that gives a batch's.
        sites: linear maps from `mt.sites`: erasers of what they read.
        modules: names of modules: erasers of what they give (their first tensor).
        mask: called with each batch, returns a bool tensor `(b,)` or `(b, t)` that says which rows count. None takes
            the batch's `attention_mask` where there is one.
        method: as in `eraser.solve`, and so `shrinkage` and `tolerance`.
        shrinkage: of the covariance.
        tolerance: least correlation.
        progress: called after each batch.

    Returns:
        An eraser by name; sites that read one tensor share one.

    Raises:
        SelectionError: no such module, or sites that are experts.
        TypeError: a mask that is not boolean.
        ValueError: neither sites nor modules, or both; no row; labels that do not fit.
    """
    if (sites is None) == (modules is None):
        raise ValueError(
            "got both or neither of sites and modules; expected one: sites=mt.sites(model, ...) for what linear maps "
            "read, modules=[...] for what modules give"
        )
    reader, report, done = _Reader(), progress or silent, 0
    with evaluating(model), _listening(model, sites, modules, reader):
        for done, batch in enumerate(batches, 1):
            reader.begin(_labels_of(batch, labels, reader.examples), _mask_of(batch, mask))
            forward(model, batch)
            reader.close()
            report(done, None, "batches")
    if isinstance(labels, Tensor) and reader.examples != len(labels):
        raise ValueError(
            f"got {len(labels)} labels for {reader.examples} examples in {done} batches; expected one an example, in "
            "their order"
        )
    solver = partial(solve, method=method, shrinkage=shrinkage, tolerance=tolerance)
    return _solved(reader, list(modules if sites is None else sites), solver, fingerprint(model))  # type: ignore[arg-type]


def _solved(
    reader: "_Reader", names: Sequence[str], solver: Callable[[Association], Direction], base: dict[str, str]
) -> dict[str, Direction]:
    groups = {name: tuple(group for group in reader.sums if name in group) for name in names}
    silent_ones = [name for name in names if not groups[name]]
    if silent_ones:
        raise ValueError(f"got no row at {', '.join(silent_ones[:4])}; expected places that run on these batches")
    found = {parts: solver(reduce(add, (reader.sums[part] for part in parts))) for parts in set(groups.values())}
    return {
        name: replace(found[parts], manifest={**found[parts].manifest, "base": base, "place": name})
        for name, parts in groups.items()
    }


class _Reader:
    """Sums up what places give in one pass after the other; a tensor that several read is summed once."""

    def __init__(self) -> None:
        self.sums: dict[tuple[str, ...], Association] = {}
        self.examples = 0
        self._labels = torch.empty(0)
        self._mask: Tensor | None = None
        self._seen: dict[Hashable, tuple[Tensor, Association, list[str]]] = {}

    def begin(self, labels: Tensor, mask: Tensor | None) -> None:
        """Take what the next batch is about."""
        self._labels, self._mask = encoded(labels), mask
        self.examples += len(labels)

    def receive(self, site: Site, source: Tensor, unfold: Unfold, _: Tokens | None = None, /) -> None:
        """Take what a site is about to read."""
        self.take(site.name, source, unfold)

    def take(self, name: str, source: Tensor, unfold: Unfold) -> None:
        """Sum up a tensor, or note that another place has it too: the tensor is kept, so its identity stays its own."""
        key = object() if source.is_inference() else (id(source), source._version, unfold)
        if key not in self._seen:
            rows = unfold(source)
            x = masked_rows(rows, self._mask, name)
            z = masked_rows(_spread(self._labels, tuple(rows.shape[:-1]), name), self._mask, name)
            self._seen[key] = (source, Association.of(x, z), [])
        self._seen[key][2].append(name)

    def close(self) -> None:
        """Add what the pass gave to the sums."""
        for _, association, names in self._seen.values():
            group = tuple(names)
            self.sums[group] = self.sums[group] + association if group in self.sums else association
        self._seen.clear()


@contextmanager
def _listening(
    model: nn.Module, sites: Mapping[str, Site] | None, modules: Sequence[str] | None, reader: _Reader
) -> Generator[None, None, None]:
    with ExitStack() as stack:
        if sites is not None:
            experts = [name for name, site in sites.items() if site.kind == "expert"]
            if experts:
                raise SelectionError(
                    f"got experts ({', '.join(experts[:4])}), which read only some tokens; expected maps that read "
                    "all; erase what the module in front of them gives, by modules=[...]"
                )
            stack.enter_context(record(model, sites, reader.receive))
        else:
            names = list(modules or ())
            check_modules(model, names)
            stack.enter_context(patch(model, {name: partial(_given, reader, name) for name in names}))
        yield


def _given(reader: _Reader, name: str, output: Any) -> Any:
    reader.take(name, tensor_of(output, name), Last())
    return output


def _labels_of(batch: Any, labels: Labels, start: int) -> Tensor:
    if not isinstance(labels, Tensor):
        return labels(batch)
    tensors = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, (tuple, list)) else [batch]
    size = next(len(tensor) for tensor in tensors if isinstance(tensor, Tensor))
    return labels[start : start + size]


def _mask_of(batch: Any, mask: Mask | None) -> Tensor | None:
    attention = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    chosen = mask(batch) if mask is not None else attention.bool() if isinstance(attention, Tensor) else None
    if chosen is not None:
        check_mask(chosen)
    return chosen


def _spread(z: Tensor, leading: tuple[int, ...], name: str) -> Tensor:
    """Give the concept `(b, k)` or `(b, t, k)` to every row of activations `(*leading, d)`."""
    own, k = tuple(z.shape[:-1]), z.shape[-1]
    if leading[: len(own)] == own:
        return z.reshape(*own, *(1,) * (len(leading) - len(own)), k).expand(*leading, k)
    flat = z.reshape(-1, k)
    repeats, left = divmod(leading[0], max(len(flat), 1))
    if len(leading) == 1 and not left and repeats:
        return flat.repeat_interleave(repeats, 0)
    raise ValueError(
        f"got labels for {own} at {name}, which has rows {leading}; expected one an example or one a position of the "
        "same batch; whole numbers are classes, floating-point numbers have the concept's width as last axis"
    )


@contextmanager
def erasing(model: nn.Module, directions: Mapping[str, Direction]) -> Generator[None, None, None]:
    """Erase from what modules give, as long as the block lasts; the network's weights stay as they are.

    Args:
        model: the network.
        directions: by module name, from `leace(..., modules=...)` or `scrubbing.scrub`.

    Raises:
        SelectionError: no such module.
        TypeError: a module gives no tensor.
    """
    check_modules(model, directions)
    with patch(model, {name: partial(_erased, direction, name) for name, direction in directions.items()}):
        yield


def _erased(direction: Direction, name: str, output: Any) -> Any:
    erased = direction(tensor_of(output, name))
    return erased if isinstance(output, Tensor) else type(output)((erased, *output[1:]))


def tensor_of(output: Any, name: str) -> Tensor:
    """Return what a module gave: a tensor, or the first of a tuple.

    Raises:
        TypeError: something else.
    """
    found = output[0] if type(output) in (tuple, list) and output else output
    if not isinstance(found, Tensor):
        raise TypeError(
            f"got {type(output).__name__} from module {name}; expected a tensor, or a tuple that starts with one; "
            "choose a module inside it"
        )
    return found


def check_modules(model: nn.Module, names: Iterable[str]) -> None:
    """Raise unless the network has modules of these names.

    Raises:
        SelectionError: with some that it has.
    """
    known = dict(model.named_modules())
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SelectionError(
            f"got modules {', '.join(unknown[:4])}, which {type(model).__name__} lacks; expected names of its modules, "
            f"such as {', '.join(list(known)[1:5])}; see model.named_modules()"
        )
