"""Responses: what each unit of a network gives for each stimulus, one number, from one pass over the stimuli.

A stimulus gives a unit a value at every position (of an image map, of a sequence); `reduce` makes one of them: the
largest, the mean, or the last that counts. Rows are stimuli in the order in which they came, columns are units. Concept
cells, probes, assemblies and discovery all start from such tables.

Cost: one forward pass. Memory: `n x units` numbers a site, in float32.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mnemotrace.adapters.hooks import evaluating, forward
from mnemotrace.adapters.outputs import module_of, reading, units_first
from mnemotrace.adapters.rows import last_of
from mnemotrace.core.linalg import require_finite
from mnemotrace.core.progress import Progress, silent
from mnemotrace.stats.collect import Mask, mask_of

REDUCTIONS = ("max", "mean", "last")


def responses(
    model: nn.Module,
    batches: Iterable[Any],
    sites: Sequence[str],
    *,
    reduce: str = "max",
    mask: Mask | None = None,
    axis: int | None = None,
    before: bool = False,
    run: Callable[[nn.Module, Any], Any] = forward,
    progress: Progress = silent,
) -> dict[str, Tensor]:
    """Run a network over stimuli and return one number a stimulus and unit, by site.

    Args:
        model: the network; evaluated, and left as it was.
        batches: inputs as the network takes them; read once.
        sites: names of modules whose output is `(b, units)`, `(b, t, units)` or `(b, units, h, w)`; "" for the output.
        reduce: over positions: `max`, `mean`, or `last`.
        mask: called with each batch, returns `(b, t)` bool, which positions count; None takes
            `batch["attention_mask"]` where there is one. Only for outputs of one position axis of that length.
        axis: of the units, see `adapters.outputs.units_first`.
        before: read what goes into a site's last activation instead of what comes out.
        run: how a batch is given to the network, for networks with several entrances: `run(model, batch)`.
        progress: called after each batch.

    Returns:
        `(n, units)`, float32 on the CPU, by site.

    Raises:
        SelectionError: no such module, or one that did not run.
        TypeError: a mask that is not boolean.
        ValueError: no site, no stimulus, an unknown reduction, a mask that does not fit or leaves a stimulus empty.
        NonFiniteError: an activation is NaN or infinite; the site is named.
    """
    if reduce not in REDUCTIONS or not sites:
        raise ValueError(
            f"got reduce={reduce!r} and sites={list(sites)}; expected one of {', '.join(REDUCTIONS)} and at least one "
            "name of a module"
        )
    modules = {name: module_of(model, name) for name in sites}
    found: dict[str, list[Tensor]] = {name: [] for name in sites}
    with evaluating(model), reading(model, dict.fromkeys(sites, before)) as seen:
        for done, batch in enumerate(batches, 1):
            run(model, batch)
            counts = mask_of(batch, mask)
            for name, module in modules.items():
                output = units_first(seen[name], axis=axis, module=module)
                require_finite(output, f"{name or 'the output'}, batch {done}")
                found[name].append(_reduced(output.float(), counts, reduce, name).cpu())
            seen.clear()
            progress(done, None, "responses")
    if not sum(map(len, found[sites[0]])):
        raise ValueError("got no stimulus; expected at least one; an iterator may have been used up before")
    return {name: torch.cat(parts) for name, parts in found.items()}


def _reduced(output: Tensor, mask: Tensor | None, reduce: str, site: str) -> Tensor:
    """Bring `(b, units, *positions)` to `(b, units)`."""
    if output.ndim == 2:
        return output
    if mask is None or mask.ndim == 1 or output.ndim > 3:  # noqa: PLR2004
        flat = output.flatten(2)
        return flat.amax(2) if reduce == "max" else flat.mean(2) if reduce == "mean" else flat[..., -1]
    if tuple(mask.shape) != (output.shape[0], output.shape[2]) or not bool(mask.any(1).all()):
        raise ValueError(
            f"got a mask of shape {tuple(mask.shape)} with {int((~mask.any(1)).sum())} empty rows at "
            f"{site or 'the output'}, which gives {output.shape[2]} positions for {output.shape[0]} stimuli; expected "
            "one entry a position and at least one position that counts in each stimulus"
        )
    counted = mask.to(output.device)[:, None]
    if reduce == "max":
        return output.masked_fill(~counted, -torch.inf).amax(2)
    if reduce == "mean":
        return (output * counted).sum(2) / counted.sum(2)
    return output[torch.arange(len(output), device=output.device), :, last_of(counted[:, 0])]
