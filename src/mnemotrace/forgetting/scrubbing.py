"""Erase a concept in many places of a network, in the order they run, and fold the erasers into its weights.

Erased in one place a concept comes back from what runs beside it. Scrubbing erases in many, each eraser fitted to what
the erasures before it leave. Folded into the weights the erasers cost nothing when the network runs, and are an edit
like any other: it adds, saves, reverts.

Cost: `scrub` takes one pass over the data a module, `fold` four passes of one batch.
Reference: Belrose et al. 2023, section 6, concept scrubbing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial, reduce
from operator import add
from typing import Any

import torch
from torch import Tensor, nn

from mnemotrace.adapters.hooks import evaluating, forward, patch, record
from mnemotrace.adapters.linear import sites as all_sites
from mnemotrace.core.applying import applied
from mnemotrace.core.artifact import fingerprint, library_version
from mnemotrace.core.direction import Direction
from mnemotrace.core.edit import Edit
from mnemotrace.core.errors import EditError
from mnemotrace.core.progress import Progress, silent
from mnemotrace.core.site import Site
from mnemotrace.forgetting.concept import Labels, Mask, check_modules, erasing, leace, tensor_of
from mnemotrace.forgetting.eraser import TOLERANCE, Method, Shrinkage

AGREEMENT = 0.01


def scrub(
    model: nn.Module,
    batches: Sequence[Any],
    *,
    labels: Labels,
    modules: Sequence[str],
    mask: Mask | None = None,
    method: Method = "leace",
    shrinkage: Shrinkage = "oas",
    tolerance: float = TOLERANCE,
    progress: Progress | None = None,
) -> dict[str, Direction]:
    """Erase a concept in many places, each fitted to what the erasures before it leave.

    Args:
        model: any network; only run, and left as it was.
        batches: as in `leace`; gone through once a module.
        labels: as in `leace`, and so `mask`, `method`, `shrinkage` and `tolerance`.
        modules: names of modules in the order in which they run, such as the norms in front of attentions and MLPs, or
            the blocks.
        mask: which rows count.
        method: of the eraser.
        shrinkage: of the covariance.
        tolerance: least correlation.
        progress: called after each module.

    Returns:
        An eraser by module, for `erasing` and `fold`. Where the concept does not arrive any more its rank is 0.

    Raises:
        ValueError: no module; otherwise as `leace`.
    """
    found: dict[str, Direction] = {}
    if not modules:
        raise ValueError("got no module; expected names in the order in which they run")
    for done, name in enumerate(modules, 1):
        with erasing(model, found):
            found |= leace(
                model,
                batches,
                labels=labels,
                modules=[name],
                mask=mask,
                method=method,
                shrinkage=shrinkage,
                tolerance=tolerance,
            )
        (progress or silent)(done, len(modules), "modules")
    return found


def fold(model: nn.Module, directions: Mapping[str, Direction], batch: Any, *, keep_mean: bool = True) -> Edit:
    """Turn erasers of what modules give into one edit of the maps that read it: the same network without any hook.

    The maps are found by running one batch: all that read the very tensor that a module gave. That nothing else reads
    it is checked by running the batch with the edit and with the erasers; both must give the same.

    Args:
        model: the network; only run.
        directions: by module, from `leace(..., modules=...)` or `scrub`.
        batch: one batch that the model takes.
        keep_mean: False folds the erasers without their constant, for maps without a bias; see `Direction.linear`.

    Raises:
        EditError: nothing, or something besides linear maps, reads what a module gives; or a map that cannot take it.
    """
    erasers = {name: direction if keep_mean else direction.linear() for name, direction in directions.items()}
    readers = _readers(model, erasers, batch)
    edit = reduce(add, (eraser.as_edit(model, readers[name]) for name, eraser in erasers.items()))
    with evaluating(model):
        with erasing(model, erasers):
            wanted = _first(forward(model, batch))
        with applied(model, edit):
            folded = _first(forward(model, batch))
        plain = _first(forward(model, batch))
    rounding = 100 * torch.finfo(plain.dtype).eps * wanted.norm()
    if float((folded - wanted).norm()) > float(AGREEMENT * (wanted - plain).norm() + rounding):
        raise EditError(
            f"got modules {', '.join(list(erasers)[:4])}, which more than linear maps read: folded, the network gives "
            "something else than with the erasers; expected modules such as norms; keep the erasers, with `erasing`"
        )
    manifest = {"method": "fold", "keep_mean": keep_mean, "base": fingerprint(model), "version": library_version()}
    return replace(edit, manifest=manifest | {"of": {name: dict(d.manifest) for name, d in directions.items()}})


def _readers(model: nn.Module, modules: Iterable[str], batch: Any) -> dict[str, dict[str, Site]]:
    """Find the sites that read the very tensor that a module gave."""
    given: dict[str, Tensor] = {}
    readers: dict[str, dict[str, Site]] = {name: {} for name in modules}

    def keep(name: str, output: Any) -> Any:
        given[name] = tensor_of(output, name)
        return output

    def receive(site: Site, source: Tensor, *_: Any) -> None:
        for name, tensor in given.items():
            if source is tensor:
                readers[name][site.name] = site

    check_modules(model, readers)
    watch = patch(model, {name: partial(keep, name) for name in readers})
    with evaluating(model), watch, record(model, all_sites(model), receive):
        forward(model, batch)
    unread = [name for name, found in readers.items() if not found]
    if unread:
        raise EditError(
            f"got modules {', '.join(unread[:4])}, whose output no linear map reads as it is; expected modules in "
            "front of linear maps, such as norms; keep the erasers, with `erasing`"
        )
    return readers


def _first(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]
