"""Reactivation: does the trace answer a cue with the pattern of the whole network?

For every example and site the cosine between the trace's response `P x` and the weights' response `W x`, over all
positions of the example, while the unedited network runs; then the mean over sites. The bias counts as input one.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mnemotrace.adapters.linear import weight_of
from mnemotrace.core.lowrank import LowRank
from mnemotrace.core.trace import Engram
from mnemotrace.evaluation.passes import Pass, by_example


def reinstatement(model: nn.Module, trace: Engram, run: Callable[[nn.Module], Any]) -> Tensor:
    """Measure reinstatement of a trace by example.

    Args:
        model: the unedited network.
        trace: the trace.
        run: puts the cues through the network, in batches with the examples first; a model called by keyword with an
            `attention_mask` has its padding left out.

    Returns:
        `(n,)` cosines in [-1, 1], in the order in which the examples went through. Sites that do not keep examples
        apart (routed experts), or that not every batch reaches, are left out.

    Raises:
        ValueError: no site keeps examples apart.
    """
    cosines: dict[str, list[Tensor]] = {}
    products: dict[str, Tensor] = {}

    def finish() -> None:
        for name, total in products.items():
            inner, recalled, whole = total.unbind(1)
            size = (recalled * whole).sqrt()
            cosines.setdefault(name, []).append(torch.where(size > 0, inner / size, 0.0).clamp(-1, 1))
        products.clear()

    def receive(name: str, rows: Tensor, current: Pass) -> None:
        found = _products(model, trace[name], rows, current.keep(rows))
        products[name] = products[name] + found if name in products else found

    with by_example(model, {name: lowrank.site for name, lowrank in trace.items()}, receive, finish):
        run(model)
    finish()
    joined = [torch.cat(parts) for parts in cosines.values()]
    if not joined:
        raise ValueError("got no site that keeps examples apart; expected at least one that is no routed expert")
    n = max(map(len, joined))
    return torch.stack([values for values in joined if len(values) == n]).mean(0)


def _products(model: nn.Module, lowrank: LowRank, rows: Tensor, keep: Tensor | None) -> Tensor:
    """Return `(b, 3)`: the inner product of recalled and whole responses, and their squared norms."""
    if lowrank.has_bias:
        rows = nn.functional.pad(rows, (0, 1), value=1.0)
    if keep is not None:
        rows = rows * keep
    weight = weight_of(model, lowrank.site, dtype=rows.dtype)[:, : rows.shape[-1]]
    recalled = ((rows @ lowrank.right.to(rows).T) @ lowrank.left.to(rows).T).flatten(1).double()
    whole = (rows @ weight.T).flatten(1).double()
    return torch.stack([(recalled * whole).sum(1), recalled.square().sum(1), whole.square().sum(1)], 1).cpu()
