"""Reactivation: does the trace answer a cue with the pattern of the whole network?

For every example and site the cosine between the trace's response `P x` and the weights' response `W x`, over all
positions of the example, while the network that has the memory runs; then the mean over sites. The bias counts as
input one.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mnemotrace.adapters.linear import weight_of
from mnemotrace.core.edit import Edit
from mnemotrace.core.trace import Engram
from mnemotrace.evaluation.maps import Map, maps_of
from mnemotrace.evaluation.passes import Pass, by_example


def reinstatement(model: nn.Module, trace: Engram | Edit, run: Callable[[nn.Module], Any]) -> Tensor:
    """Measure reinstatement of a trace by example.

    Args:
        model: the network with the memory.
        trace: the trace: an engram, or an edit, whose sparse and dense changes are seen through the network's sites.
        run: puts the cues through the network, in batches with the examples first; a model called by keyword with an
            `attention_mask` has its padding left out.

    Returns:
        `(n,)` cosines in [-1, 1], in the order in which the examples went through. Sites that do not keep examples
        apart (routed experts), or that not every batch reaches, are left out; so is what is no linear map.

    Raises:
        ValueError: no site keeps examples apart.
    """
    maps = maps_of(model, trace if isinstance(trace, Edit) else Edit(tuple(trace.values())))
    cosines: dict[str, list[Tensor]] = {}
    products: dict[str, Tensor] = {}

    def finish() -> None:
        for name, total in products.items():
            inner, recalled, whole = total.unbind(1)
            size = (recalled * whole).sqrt()
            cosines.setdefault(name, []).append(torch.where(size > 0, inner / size, 0.0).clamp(-1, 1))
        products.clear()

    def receive(name: str, rows: Tensor, current: Pass) -> None:
        found = _products(model, maps[name], rows, current.keep(rows))
        products[name] = products[name] + found if name in products else found

    with by_example(model, {name: one.site for name, one in maps.items()}, receive, finish):
        run(model)
    finish()
    joined = [torch.cat(parts) for parts in cosines.values()]
    if not joined:
        raise ValueError("got no site that keeps examples apart; expected at least one that is no routed expert")
    n = max(map(len, joined))
    return torch.stack([values for values in joined if len(values) == n]).mean(0)


def _products(model: nn.Module, one: Map, rows: Tensor, keep: Tensor | None) -> Tensor:
    """Return `(b, 3)`: the inner product of recalled and whole responses, and their squared norms."""
    if one.has_bias:
        rows = nn.functional.pad(rows, (0, 1), value=1.0)
    if keep is not None:
        rows = rows * keep
    weight = weight_of(model, one.site, dtype=rows.dtype)[:, : rows.shape[-1]]
    recalled = one.respond(rows).flatten(1).double()
    whole = (rows @ weight.T).flatten(1).double()
    return torch.stack([(recalled * whole).sum(1), recalled.square().sum(1), whole.square().sum(1)], 1).cpu()
