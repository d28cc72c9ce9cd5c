"""Reactivation: does the trace answer a cue with the pattern of the whole network?

For every example and site the cosine between the trace's response `P x` and the weights' response `W x`, over all
positions of the example, while the unedited network runs; then the mean over sites. The bias counts as input one.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mnemotrace.adapters.hooks import evaluating, record
from mnemotrace.adapters.linear import weight_of
from mnemotrace.adapters.rows import Unfold
from mnemotrace.core.site import Site
from mnemotrace.core.trace import Engram


def reinstatement(model: nn.Module, trace: Engram, run: Callable[[nn.Module], Any]) -> Tensor:
    """Measure reinstatement of a trace by example.

    Args:
        model: the unedited network.
        trace: the trace.
        run: puts the cues through the network, in batches with the examples first; a model called by keyword with an
            `attention_mask` has its padding left out.

    Returns:
        `(n,)` cosines in [-1, 1], in the order in which the examples went through. Sites that do not keep examples
        apart (routed experts) are left out.

    Raises:
        ValueError: no site keeps examples apart.
    """
    cosines: dict[str, list[Tensor]] = {}
    mask: list[Tensor | None] = [None]

    def note_mask(_: nn.Module, __: Any, kwargs: dict[str, Any]) -> None:
        attention = kwargs.get("attention_mask")
        mask[0] = attention if isinstance(attention, Tensor) and attention.ndim == 2 else None

    def receive(site: Site, source: Tensor, unfold: Unfold, *_: Any) -> None:
        cosines.setdefault(site.name, []).append(_by_example(model, trace, site, unfold(source), mask[0]))

    chosen = {name: lowrank.site for name, lowrank in trace.items() if lowrank.site.kind != "expert"}
    handle = model.register_forward_pre_hook(note_mask, with_kwargs=True)
    try:
        with evaluating(model), record(model, chosen, receive):
            run(model)
    finally:
        handle.remove()
    if not cosines:
        raise ValueError("got no site that keeps examples apart; expected at least one that is no routed expert")
    return torch.stack([torch.cat(parts) for parts in cosines.values()]).mean(0)


def _by_example(model: nn.Module, trace: Engram, site: Site, rows: Tensor, mask: Tensor | None) -> Tensor:
    rows = rows.float()
    if trace[site.name].has_bias:
        rows = torch.nn.functional.pad(rows, (0, 1), value=1.0)
    lowrank = trace[site.name]
    weight = weight_of(model, site, dtype=torch.float32)[:, : rows.shape[-1]]
    recalled = (rows @ lowrank.right.to(rows).T) @ lowrank.left.to(rows).T
    whole = rows @ weight.T
    if mask is not None and rows.shape[:2] == mask.shape:
        keep = mask.bool()[..., None]
        recalled, whole = recalled * keep, whole * keep
    return nn.functional.cosine_similarity(recalled.flatten(1), whole.flatten(1)).double().cpu()
