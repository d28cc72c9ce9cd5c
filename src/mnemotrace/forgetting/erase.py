"""Take an engram out of a network, or put it in: engrams as edits.

Erasing at strength a is `W - a P`; injecting is `W + a P`. Both give an `Edit`, a value: nothing is changed until it
is applied. An edit that is large beside its weight is a sign that the target lies outside the reference, or that the
inverse was hardly regularised, and is refused.
"""

import math
import warnings

import torch
from torch import nn

from mnemotrace.adapters.linear import weight_of
from mnemotrace.core.artifact import fingerprint
from mnemotrace.core.edit import Change, Dense, Edit
from mnemotrace.core.errors import EditError, NumericalWarning
from mnemotrace.core.trace import Engram

LOUD = 1.0
REFUSED = 10.0


def erase(engram: Engram, strength: float = 1.0, *, limit: float | None = REFUSED) -> Edit:
    """Make the edit that removes an engram.

    Args:
        engram: from `mt.engram`, or a sum of such.
        strength: 1 subtracts it once; calibrate with `mt.calibrate`. Negative strengths intensify.
        limit: refuse when the change at any site exceeds this many times the norm of its weight; None neither refuses
            nor warns, for searches that measure what happens.

    Returns:
        The edit, with the engram's manifest.

    Raises:
        ValueError: the strength is not finite.
        EditError: the change is out of bounds at some site; the sites are named.

    Warns:
        NumericalWarning: the change is larger than the weight at some site.
    """
    return _edit(engram, -strength, "erase", limit)


def inject(engram: Engram, strength: float = 1.0, *, limit: float | None = REFUSED) -> Edit:
    """Make the edit that adds an engram: to a null network, or to intensify a memory. As `erase`, with a plus."""
    return _edit(engram, strength, "inject", limit)


def null(model: nn.Module, engram: Engram) -> Edit:
    """Make the edit that sets the weights and biases of an engram's sites to zero: the network without memories there.

    `null(model, e) + inject(e)` leaves the engram alone in those maps, which is how sufficiency is measured.
    """
    changes: list[Change] = []
    for parameter in dict.fromkeys(n for t in engram.values() for n in (t.site.weight, t.site.bias) if n is not None):
        stored = model.get_parameter(parameter).detach()
        mask = torch.zeros(stored.shape, dtype=torch.bool, device=stored.device)  # contiguous: seen through views
        for trace in engram.values():
            if trace.site.weight == parameter:
                trace.site.view(mask).fill_(True)
            elif trace.site.bias == parameter:
                trace.site.bias_view(mask).fill_(True)
        changes.append(Dense(parameter, torch.where(mask, -stored, torch.zeros_like(stored))))
    return Edit(tuple(changes), {"method": "null", "base": fingerprint(model)})


def relative_norms(model: nn.Module, engram: Engram) -> dict[str, float]:
    """Norm of an engram over the norm of the weight it would change, by site, measured on a model."""
    norms = {name: float(weight_of(model, trace.site, dtype=torch.float32).norm()) for name, trace in engram.items()}
    return {name: _share(trace.norm(), norms[name]) for name, trace in engram.items()}


def _edit(engram: Engram, factor: float, method: str, limit: float | None) -> Edit:
    if not math.isfinite(factor):
        raise ValueError(f"got strength={abs(factor)}; expected a finite number; 1 subtracts the engram once")
    if limit is not None:
        _check_size(engram, factor, limit)
    manifest = dict(engram.manifest) | {"method": method, "strength": abs(factor), "of": dict(engram.manifest)}
    return Edit(tuple(trace.scaled(factor) for trace in engram.values()), manifest)


def _share(part: float, whole: float) -> float:
    if part == 0:
        return 0.0
    return part / whole if whole else float("inf")


def _check_size(engram: Engram, factor: float, limit: float) -> None:
    sizes = {name: abs(factor) * _share(engram[name].norm(), engram.weights[name]) for name in engram.weights}
    over = {name: size for name, size in sizes.items() if size > limit}
    if over:
        name, size = max(over.items(), key=lambda item: item[1])
        raise EditError(
            f"got a change of {size:.1f} times the weight at {name} ({len(over)} sites above the limit); "
            f"expected at most {limit}; give a reference that covers the target, a larger rcond, or a higher limit "
            "if you mean it"
        )
    if sizes and not any(sizes.values()):
        warnings.warn(
            f"the change is zero at all {len(sizes)} sites, so nothing will happen; the target may be silent there, or "
            "wholly inside a reference that is kept at any price",
            NumericalWarning,
            stacklevel=4,
        )
    loud = [name for name, size in sizes.items() if size > LOUD]
    if loud:
        worst = max(loud, key=sizes.__getitem__)
        warnings.warn(
            f"the change is larger than the weight at {len(loud)} sites, {sizes[worst]:.1f} times at {worst}",
            NumericalWarning,
            stacklevel=4,
        )
