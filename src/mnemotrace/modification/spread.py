r"""Write many facts into several layers at once: what MEMIT and AlphaEdit share.

The goal of each fact is a hidden state :math:`z = h + \delta` after the last edited layer. Layer by layer, ascending,

.. math:: R_l = \frac{z - h^{now}}{\text{layers left}}, \qquad K_l = \text{keys of the facts, now},

and what solves for the change that adds :math:`R_l` at :math:`K_l` is the method's own. Keys and states are read again
after each layer is written; the network gets its exact weights back at the end.

Reference: Meng et al. 2023, Mass-editing memory in a transformer, section 4.3 and algorithm 1. Cost: two forward passes
a layer over the rows of `keys`. Memory: `d_k (n + p)` float64 numbers for `n` facts and `p` earlier ones.
"""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mnemotrace.adapters.decoder import decoder
from mnemotrace.adapters.facts import Fact, located
from mnemotrace.adapters.linear import weight_of
from mnemotrace.core.applying import applied, tied_names
from mnemotrace.core.artifact import fingerprint, library_version
from mnemotrace.core.edit import Edit
from mnemotrace.core.errors import SelectionError
from mnemotrace.core.lowrank import LowRank
from mnemotrace.core.progress import Progress, silent
from mnemotrace.core.site import Site
from mnemotrace.modification.contexts import Contexts, Lookup
from mnemotrace.modification.keys import keys, outputs, require_facts, site_of
from mnemotrace.modification.values import Values
from mnemotrace.stats.moments import Moments, Statistics

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Solve = Callable[[Moments, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""From a layer's moments, residual `(o, n)`, keys `(d, n)` and earlier keys `(d, p)` to factors of the change."""

BARE_WEIGHT = 0.5


def spread(
    model: nn.Module,
    tokenizer: "PreTrainedTokenizerBase",
    facts: Sequence[Fact],
    solve: Solve,
    *,
    sites: dict[int, Site],
    statistics: Statistics,
    found: Values,
    contexts: Contexts,
    lookup: Lookup = "subject",
    earlier: Sequence[Fact] = (),
    progress: Progress | None = None,
) -> tuple[tuple[LowRank, ...], list[float]]:
    """Solve layer by layer.

    Args:
        model: left as it was.
        tokenizer: of the model.
        facts: what to write.
        solve: the method.
        sites: by layer, ascending, from `checked_sites`.
        statistics: at these sites.
        found: values of the facts after the block of the last layer.
        contexts: that keys are averaged over; the bare prompt weighs one half.
        lookup: where the facts are looked up, as in `keys`.
        earlier: facts whose keys the method is also given.
        progress: called after each layer.

    Returns:
        One change a layer, and how far each fact's hidden state came: 1 at its goal, 0 where it began.
    """
    goal, last, n = found.outputs + found.deltas, max(sites), len(facts)
    changes: list[LowRank] = []
    with ExitStack() as stack:
        for done, (layer, site) in enumerate(sites.items()):
            columns = keys(
                model,
                tokenizer,
                [*facts, *earlier],
                layers=layer,
                contexts=contexts,
                lookup=lookup,
                bare_weight=BARE_WEIGHT,
            )[layer]
            residual = (goal - outputs(model, tokenizer, facts, layer=last, at="block", lookup=lookup)) / (
                len(sites) - done
            )
            left, right = solve(statistics[site.name], residual, columns[:, :n], columns[:, n:])
            dtype = torch.promote_types(model.get_parameter(site.weight).dtype, torch.float32)
            changes.append(LowRank(site, left.to(dtype), right.to(dtype)))
            stack.enter_context(applied(model, Edit((changes[-1],))))
            (progress or silent)(done + 1, len(sites), "layers")
        missed = goal - outputs(model, tokenizer, facts, layer=last, at="block", lookup=lookup)
    came = 1 - missed.norm(dim=0) / found.deltas.norm(dim=0).clamp_min(1e-30)
    return tuple(changes), came.tolist()


def checked_sites(
    model: nn.Module, layers: Sequence[int], statistics: Statistics, previous: Sequence[Edit] = ()
) -> dict[int, Site]:
    """Return the site of each layer, after checking that everything belongs to this network.

    Raises:
        ValueError: layers that do not exist, come twice or not in order, or have experts; statistics without one of
            the sites or of another network; previous edits of another network.
        SelectionError: a map is quantised, computed by a parametrisation, or shares its weight with another.
    """
    places = decoder(model)
    chosen = [places.checked(layer) for layer in layers]
    if not chosen or any(second <= first for first, second in pairwise(chosen)):
        raise ValueError(
            f"got layers={list(layers)}; expected one at least, ascending, each once; write list(range(2, 5)), say"
        )
    for layer in chosen:
        _require_own(model, layer, f"{places.down_of(layer)}.weight")
    sites = {layer: site_of(model, layer) for layer in chosen}
    _check_base(model, statistics, previous)
    missing = [site.name for site in sites.values() if site.name not in statistics]
    if missing:
        raise ValueError(
            f"got statistics without {', '.join(missing)}; expected the maps to be edited; collect with "
            f"sites=mt.sites(model, {missing})"
        )
    for site in sites.values():
        if statistics[site.name].d != site.d:
            raise ValueError(
                f"got statistics of width {statistics[site.name].d} at {site.name}; expected {site.d}; collect again"
            )
    return sites


def _require_own(model: nn.Module, layer: int, weight: str) -> None:
    shared = tied_names(model).get(weight)
    if shared:
        raise SelectionError(
            f"got layer {layer}, whose weight {weight} is shared with {', '.join(shared)}; expected one of its own, or "
            "the edit would change these too; choose another layer"
        )


def _check_base(model: nn.Module, statistics: Statistics, previous: Sequence[Edit]) -> None:
    """Statistics may be of the network as it is, or as it was before the first of the previous edits."""
    now = fingerprint(model)
    bases = [edit.manifest["base"] for edit in previous if edit.manifest.get("base") is not None]
    for base in bases:
        if base["architecture"] != now["architecture"]:
            raise ValueError(
                f"got a previous edit of network {base} and network {now}; expected edits of this one; leave it out"
            )
    base = statistics.manifest.get("base")
    if base is not None and base not in (now, *bases[:1]):
        raise ValueError(
            f"got statistics of network {base} and network {now}; expected statistics of this network as it is, or as "
            "it was before the edits in `previous`; collect again, or name these"
        )


def check_facts(facts: Sequence[Fact]) -> None:
    """Raise unless these are facts, each asked for once.

    Raises:
        ValueError: none, or one prompt twice.
        TypeError: something else than facts.
    """
    require_facts(facts)
    targets: dict[tuple[str, str | None], str | None] = {}
    for fact in facts:
        place = fact.prompt, located(fact).subject
        if place in targets:
            raise ValueError(
                f"got {fact.prompt!r} twice, with targets {targets[place]!r} and {fact.target!r}; expected each once; "
                "leave one out, or edit one after the other"
            )
        targets[place] = fact.target


def check_values(found: Values, facts: Sequence[Fact]) -> None:
    """Raise unless there is one value a fact.

    Raises:
        ValueError: another number.
    """
    if found.deltas.shape[1] != len(facts):
        raise ValueError(
            f"got {found.deltas.shape[1]} values for {len(facts)} facts; expected one each, in their order"
        )


def manifest_of(
    model: nn.Module,
    facts: Sequence[Fact],
    *,
    method: str,
    found: Values,
    contexts: Contexts,
    changes: Sequence[LowRank],
    came: Sequence[float],
) -> dict[str, Any]:
    """Say what was written, how the values were found, and how large the change is beside the weights."""
    weights = [
        float(weight_of(model, change.site, dtype=torch.float64)[:, : change.site.d].norm()) for change in changes
    ]
    return {
        "method": method,
        "base": fingerprint(model),
        "contexts": {"count": len(contexts), "hash": _hash(contexts)},
        "relative_norms": {c.site.name: short(c.norm() / w) for c, w in zip(changes, weights, strict=True)},
        "facts": [
            {
                "prompt": fact.prompt,
                "subject": located(fact).subject,
                "target": fact.target,
                "before": short(before),
                "after": short(after),
                "steps": steps,
                "came": short(share),
            }
            for fact, before, after, steps, share in zip(
                facts, found.before, found.after, found.steps, came, strict=True
            )
        ],
        "version": library_version(),
    }


def facts_of(previous: Sequence[Edit]) -> list[Fact]:
    """Return the facts that earlier edits wrote, the last word on each.

    Raises:
        ValueError: an edit does not say which.
    """
    latest: dict[tuple[str, str], Fact] = {}
    for edit in previous:
        entries = edit.manifest.get("facts")
        if not entries:
            raise ValueError(
                f"got a previous edit by {edit.manifest.get('method')!r}, which does not say which facts it wrote; "
                "expected edits from mt.rome, mt.memit or mt.alphaedit; what else must stay belongs into the statistics"
            )
        for entry in entries:
            latest[entry["prompt"], entry["subject"]] = Fact(entry["prompt"], entry["subject"], target=entry["target"])
    return list(latest.values())


def _hash(contexts: Contexts) -> str:
    return hashlib.sha256(str([list(row) for row in contexts]).encode()).hexdigest()[:16]


def short(value: float) -> float:
    """Round to four significant digits, as manifests have it."""
    return float(f"{value:.4g}")
