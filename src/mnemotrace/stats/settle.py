r"""Collect second moments until what will be solved with them stands still, and say how still.

Edits use :math:`C^{-1} k` for the key :math:`k` of a fact. So the batches go to two halves in turn, and collection ends
when

.. math:: \frac1n \sum_k \cos\bigl((C_1 + \epsilon)^{-1} k,\; (C_2 + \epsilon)^{-1} k\bigr)

is large enough at every site. Halves that agree to :math:`r` let expect :math:`2r / (1 + r)` between their sum and
another sample of its size: .9 is .95. They see only what differs within the data: text of one kind agrees with itself
and says nothing of others, so give batches in random order.

Reference: how many tokens are needed differs from model to model (FastMEMIT: 2 to 10 times the width; published
statistics hold thousands of times that); split halves are Spearman 1910 and Brown 1910. Cost: `collect`, and a solve
of `2 d^3 / 3` a half and site whenever the data has grown by half. Memory: twice the sums of `collect`, and two
float64 matrices of one site.
"""

# torch.linalg has no types of its own
# pyright: reportUnknownMemberType=false

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from mnemotrace.adapters.hooks import evaluating, forward, record
from mnemotrace.adapters.rows import Tokens, Unfold, masked_rows
from mnemotrace.core.errors import NumericalWarning
from mnemotrace.core.progress import Progress, silent
from mnemotrace.core.site import Site
from mnemotrace.stats.collect import Mask, collect, mask_of
from mnemotrace.stats.moments import RIDGE, Moments, Statistics

PROBES = 64
GROWTH = 1.5


def settle(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    sites: Mapping[str, Site],
    keys: Mapping[str, Tensor] | None = None,
    agreement: float = 0.9,
    at_least: int | None = None,
    at_most: int | None = None,
    ridge: float = RIDGE,
    mask: Mask | None = None,
    progress: Progress | None = None,
) -> Statistics:
    """Run a network over batches until the solves with the halves of the data agree.

    Args:
        model: any network; left as it was.
        batches: as for `collect`, in random order; only as many are taken as are needed.
        sites: where to listen: the maps that will be edited.
        keys: by site, `(d, n)` inputs to be solved for: the keys of facts. None sets the first batch aside and takes up
            to 64 of its rows.
        agreement: wanted mean cosine at every site, in (0, 1).
        at_least: rows before the first check; None for twice the largest width.
        at_most: rows at which to give up; None for 100 times the largest width.
        ridge: of the solve, in units of the mean eigenvalue.
        mask: as for `collect`.
        progress: called after each part, with the rows so far.

    Returns:
        Statistics of all that was read. Its manifest says under `settling` whether the halves agreed (`settled`), the
        `agreement` and the `effective_rank` (trace squared over the squared norm) of each site, `tokens` and `ridge`.

    Raises:
        ValueError: bounds out of order, keys of another site or width, or fewer than two batches; and as `collect`.

    Warns:
        NumericalWarning: the halves did not agree when the data or `at_most` ended.
    """
    goals = _goals(sites, at_least, at_most, agreement)
    source = iter(batches)
    probes = _probes(model, source, sites, mask) if keys is None else _checked(keys, sites)
    collected = partial(collect, model, sites=sites, mask=mask)
    halves: list[Statistics] = []
    agreed: dict[str, float] = {}
    for goal in goals:
        before = _rows(halves)
        halves = _grown(collected, source, halves, goal)
        if _rows(halves) == before:  # the data has ended
            break
        (progress or silent)(int(_rows(halves)), None, "rows")
        agreed = _agreement(halves[0], halves[1], probes, ridge)
        if min(agreed.values()) >= agreement:
            break
    if not halves:
        raise ValueError("got fewer than two batches; expected one for each half at least; use smaller batches")
    worst = min(agreed, key=agreed.__getitem__)
    if agreed[worst] < agreement:
        warnings.warn(
            f"the halves of {_rows(halves):g} rows agree to {agreed[worst]:.3f} at {worst}, not {agreement}; give more "
            "text, or a larger at_most, for edits that leave more as it is",
            NumericalWarning,
            stacklevel=2,
        )
    return _reported(halves, agreed, settled=agreed[worst] >= agreement, ridge=ridge)


def effective_rank(moments: Moments) -> float:
    """Return `trace(C)^2 / |C|^2`: how many directions share the energy, from 1 to the width."""
    second = moments.matrix()
    return float(second.trace().square() / second.square().sum())


def _goals(sites: Mapping[str, Site], at_least: int | None, at_most: int | None, agreement: float) -> list[float]:
    """Return the numbers of rows at which to check."""
    if not sites:
        raise ValueError("got no site; expected the maps that will be edited, such as mt.sites(model, ['mlp.c_proj'])")
    width = max(site.d for site in sites.values())
    least, most = at_least or 2 * width, at_most or 100 * width
    if not 0 < agreement < 1 or not 0 < least <= most:
        raise ValueError(
            f"got agreement={agreement}, at_least={least}, at_most={most}; expected a cosine in (0, 1) and at_least "
            "no larger than at_most"
        )
    goals = [float(least)]
    while goals[-1] < most:
        goals.append(min(GROWTH * goals[-1], most))
    return goals


def _grown(
    collected: Callable[[list[Any]], Statistics], source: Iterator[Any], halves: list[Statistics], goal: float
) -> list[Statistics]:
    """Go on reading, batches in turn to one and the other half, until both have `goal` rows or the data ends."""
    while (rows := _rows(halves)) < goal:
        batches = sum(half.manifest["batches"] for half in halves)
        part = list(islice(source, 2 * ceil((goal - rows) * batches / rows / 2) if halves else 2))
        if len(part) < 2:
            break
        parts = [collected(part[i::2]) for i in (0, 1)]
        halves = [old + new for old, new in zip(halves, parts, strict=True)] if halves else parts
    return halves


def _rows(halves: list[Statistics]) -> float:
    return max((halves[0][name].n + halves[1][name].n for name in halves[0]), default=0) if halves else 0


def _agreement(first: Statistics, second: Statistics, probes: Mapping[str, Tensor], ridge: float) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, keys in probes.items():
        solved = [_solved(half[name], keys, ridge) for half in (first, second)]
        found[name] = float(cosine_similarity(solved[0], solved[1], dim=0).mean())
    return found


def _solved(moments: Moments, keys: Tensor, ridge: float) -> Tensor:
    mean = moments.mean(ridge=ridge)
    return torch.linalg.solve(mean, keys.to(mean))


def _probes(model: nn.Module, source: Iterator[Any], sites: Mapping[str, Site], mask: Mask | None) -> dict[str, Tensor]:
    """Take rows of the first batch, evenly spaced."""
    found: dict[str, Tensor] = {}
    first = next(source, None)
    if first is None:
        raise ValueError("got no batch; expected at least three, one of them for the probes")
    chosen = mask_of(first, mask)

    def receive(site: Site, source: Tensor, unfold: Unfold, tokens: Tokens | None = None, /) -> None:
        rows = masked_rows(unfold(source), chosen, site.name, tokens)
        found[site.name] = rows[:: max(1, len(rows) // PROBES)][:PROBES].double().T

    with evaluating(model), record(model, sites, receive):
        forward(model, first)
    return found


def _checked(keys: Mapping[str, Tensor], sites: Mapping[str, Site]) -> Mapping[str, Tensor]:
    wrong = [n for n in keys.keys() | sites.keys() if n not in keys or n not in sites or len(keys[n]) != sites[n].d]
    if wrong:
        name = min(wrong)
        seen = tuple(keys[name].shape) if name in keys else None
        raise ValueError(
            f"got keys of shape {seen} for {name}; expected (d, n) for each of the {len(sites)} sites and no other; "
            "take them from `modification.keys`, by the name of the site"
        )
    return keys


def _reported(halves: list[Statistics], agreed: Mapping[str, float], *, settled: bool, ridge: float) -> Statistics:
    total = halves[0] + halves[1]
    ranks = {name: effective_rank(moments) for name, moments in total.items()}
    report = {"settled": settled, "tokens": int(_rows(halves)), "ridge": ridge}
    manifest = dict(total.manifest) | {"settling": report | {"agreement": dict(agreed), "effective_rank": ranks}}
    return replace(total, manifest=manifest)
