r"""Merge task vectors so that they stand in each other's way less than in a plain sum.

TIES: each edit keeps only its largest entries (a share `density` of all that it changes, over the whole network); each
entry of the network takes the sign with the larger sum over the edits; the mean of those that have this sign is the
result, times `weight` (where the sum is exactly zero no sign is elected, and the result is 0):

.. math:: \tau = \lambda\,\frac{\sum_i a_i \hat\tau_i}{\sum_i a_i},
   \qquad a_i = [\mathrm{sign}\,\hat\tau_i = s], \quad s = \mathrm{sign} \sum_i \hat\tau_i

DARE: of one edit every entry is dropped with probability `p` and the rest divided by `1 - p`, so that the mean stays.
Most entries can go, and those of several edits then seldom meet: `dare(a, ...) + dare(b, ...)`, or `ties` of them.

Both work on entries as they are stored. Results are sparse where that is smaller than whole. Reference: Yadav et al.
2023, TIES-merging, algorithm 1; Yu et al. 2024, Language models are super Mario, section 3. Cost: a selection of the
largest among all entries, O(n m) for n edits of m entries; memory n copies of one parameter, and one of all magnitudes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mnemotrace.core.artifact import library_version
from mnemotrace.core.edit import Change, Dense, Edit, Sparse
from mnemotrace.core.errors import EditError
from mnemotrace.core.lowrank import LowRank

SPARSE_BELOW = 1 / 3  # an index takes twice the bytes of a float32 value


def ties(edits: Sequence[Edit], *, density: float, weight: float = 1.0) -> Edit:
    """Merge edits of one network: trim each, elect a sign for each entry, average those that agree.

    Args:
        edits: two or more, such as task vectors.
        density: share in (0, 1] of each edit's entries to keep, the largest; 0.2 is the paper's default.
        weight: scale of the result.

    Raises:
        ValueError: fewer than two edits, or a density out of range.
        EditError: a change that does not say how it is stored, or changes of different shapes.
    """
    if len(edits) < 2:  # noqa: PLR2004
        raise ValueError(f"got {len(edits)} edits; expected at least two to merge; one alone is its own merger")
    if not 0 < density <= 1:
        raise ValueError(f"got density={density}; expected a share of entries above 0, at most 1, such as 0.2")
    trimmed = [_trimmed(_whole(edit), density) for edit in edits]
    names = dict.fromkeys(name for entries in trimmed for name in entries)
    merged = {name: weight * _agreed([entries[name] for entries in trimmed if name in entries]) for name in names}
    manifest = {"method": "ties", "density": density, "weight": weight, "parts": [dict(e.manifest) for e in edits]}
    bases = [edit.manifest.get("base") for edit in edits]
    if bases[0] is not None and all(base == bases[0] for base in bases):
        manifest["base"] = bases[0]
    return Edit(tuple(_stored(name, values) for name, values in merged.items()), manifest | _version())


def dare(edit: Edit, *, drop: float, generator: torch.Generator | None = None) -> Edit:
    """Drop entries of an edit at random and scale up the others, so that every entry keeps its mean.

    Args:
        edit: a task vector, say.
        drop: probability in [0, 1) of each entry to be dropped.
        generator: source of randomness; None seeds one with 0.

    Raises:
        ValueError: a probability out of range.
        EditError: a change that does not say how it is stored.
    """
    if not 0 <= drop < 1:
        raise ValueError(f"got drop={drop}; expected a probability from 0 to below 1, such as 0.9")
    generator = generator or torch.Generator().manual_seed(0)
    changes: list[Change] = []
    for name, values in _whole(edit).items():
        kept = torch.rand(values.shape, generator=generator, device=generator.device).to(values.device) >= drop
        changes.append(_stored(name, values * kept / (1 - drop)))
    manifest = {"method": "dare", "drop": drop, "seed": generator.initial_seed(), "of": dict(edit.manifest)}
    base = {"base": edit.manifest["base"]} if "base" in edit.manifest else {}
    return Edit(tuple(changes), manifest | base | _version())


def _whole(edit: Edit) -> dict[str, Tensor]:
    """Return the whole change of each parameter, as stored."""
    found: dict[str, Tensor] = {}
    for change in edit.changes:
        for name, values in _entries(change).items():
            if name in found and found[name].shape != values.shape:
                raise EditError(_unlike(name, found[name], values))
            found[name] = found[name] + values if name in found else values
    return found


def _entries(change: Change) -> dict[str, Tensor]:
    if not isinstance(change, LowRank):
        return {change.parameter: change.dense()}
    site, bias = change.site, change.bias()
    if site.part is not None or site.bias_part is not None or site.kind == "convolution":
        raise EditError(
            f"got a low-rank change at {site.name}, a part of {site.weight} or a convolution; expected changes that "
            "say how they are stored; make the task vector without a rank"
        )
    weight = change.weight()
    return {site.weight: weight.T if site.transposed else weight} | (
        {site.bias: bias} if bias is not None and site.bias else {}
    )


def _trimmed(entries: dict[str, Tensor], density: float) -> dict[str, Tensor]:
    """Keep the largest entries of all parameters together."""
    sizes = torch.cat([values.flatten().abs().float().cpu() for values in entries.values()])
    kept = torch.zeros(len(sizes), dtype=torch.bool)
    kept[sizes.topk(max(1, int(density * len(sizes)))).indices] = True
    parts = kept.split([values.numel() for values in entries.values()])
    return {
        name: values * part.view(values.shape).to(values.device)
        for (name, values), part in zip(entries.items(), parts, strict=True)
    }


def _agreed(parts: Sequence[Tensor]) -> Tensor:
    """Average the entries that have the elected sign; 0 where none has."""
    for part in parts[1:]:
        if part.shape != parts[0].shape:
            raise EditError(_unlike("one parameter", parts[0], part))
    stacked = torch.stack([part.to(parts[0].device) for part in parts])
    agrees = stacked.sign() == stacked.sum(0).sign()
    count = (agrees & (stacked != 0)).sum(0)
    return (stacked * agrees).sum(0) / count.clamp_min(1)


def _unlike(name: str, first: Tensor, second: Tensor) -> str:
    return (
        f"got changes of {name} of shapes {tuple(first.shape)} and {tuple(second.shape)}; expected one shape; all "
        "edits must be of networks of one layout"
    )


def _stored(name: str, values: Tensor) -> Change:
    indices = values.flatten().nonzero()[:, 0]
    if len(indices) >= SPARSE_BELOW * values.numel():
        return Dense(name, values)
    return Sparse(name, tuple(values.shape), indices, values.flatten()[indices])


def _version() -> dict[str, str]:
    return {"version": library_version()}
