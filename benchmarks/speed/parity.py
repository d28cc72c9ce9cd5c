"""Engrams equal ai-engram's 0.11.0 at the same cut, whose total includes the target as ours always does.

All sites of random GPT-2- and Llama-shaped models; relative differences in the Frobenius norm, bias columns included.

* same second moments: both solve from one matrix a site, so only the operator is compared;
* end to end: each collects for itself, in float32. Where a site's spectrum reaches down to the cut, eps(float32) times
  the width, rounding of the sums moves the eigenvalues there, and with them the weights of either implementation in
  directions of hardly any variance, by up to 1e-3 (the last figure is the peer against a float64 collection). What the
  engrams do to the target's inputs agrees far better; that has the gate.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

import mnemotrace as mt
from benchmarks.figures import Figure, main
from benchmarks.speed import models
from mnemotrace.localisation.reference import target_rows

Pairs = Mapping[str, tuple[Tensor, Tensor]]


def matrices(mine: mt.Engram, theirs) -> dict[str, tuple[Tensor, Tensor]]:  # noqa: ANN001
    """Our matrix and `(n / N)` times the peer's by site, as (o, d) or (o, d + 1).

    Raises:
        AssertionError: the two have different sites.
    """
    if set(theirs.layers) != set(mine):
        raise AssertionError(f"the peer has other sites: {sorted(set(theirs.layers) ^ set(mine))[:3]}")
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    for name, trace in mine.items():
        layer = theirs.layers[name]
        matrix = layer.projection.T if trace.site.transposed else layer.projection
        if name in theirs.bias:
            matrix = torch.cat([matrix, theirs.bias[name][:, None]], 1)
        pairs[name] = trace.dense().double(), matrix.double() * layer.n / layer.N
    return pairs


def worst(pairs: Pairs) -> tuple[float, str]:
    """The largest relative difference at one site, and where."""
    return max((float((a - b).norm() / b.norm()), name) for name, (a, b) in pairs.items())


def worst_response(pairs: Pairs, target: mt.Statistics) -> tuple[float, str, str]:
    """The largest relative difference of responses to the target at one site, its gate, and where."""
    found: dict[str, float] = {}
    for name, (a, b) in pairs.items():
        rows = target_rows(target[name], target.sites[name].bias is not None)
        found[name] = float(((a - b) @ rows.T).norm() / (b @ rows.T).norm())
    place = max(found, key=found.__getitem__)
    return found[place], "<= 1e-4", place


def whole(pairs: Pairs) -> float:
    """Relative difference of the two engrams as vectors over all sites."""
    apart = sum(float((a - b).square().sum()) for a, b in pairs.values())
    return math.sqrt(apart / sum(float(b.square().sum()) for _, b in pairs.values()))


def from_same_moments(model, editor, target: mt.Statistics, reference: mt.Statistics) -> Pairs:  # noqa: ANN001
    """Give both the same float32 total and the same target."""
    from engram import Statistics

    kept: dict[int, mt.Moments] = {}
    given: dict[str, tuple[Tensor, Tensor]] = {}
    moments: dict[str, mt.Moments] = {}
    for name, rows in target.items():
        bias = target.sites[name].bias is not None
        n, count = rows.n, rows.n + reference[name].n
        total = ((rows.matrix(bias=bias) + reference[name].matrix(bias=bias)) / count).float()
        given[name] = (rows.matrix(bias=bias) / n).float(), total
        rest = total.double() * count - rows.matrix(bias=bias)
        d = rows.d
        moments[name] = kept.setdefault(
            id(reference[name]),
            mt.Moments(count - n, rest[-1, :d] if bias else reference[name].first, second=rest[:d, :d]),
        )
    theirs = editor.compute_engram_weights(
        Statistics({name: c for name, (c, _) in given.items()}, {name: target[name].n for name in given}),
        Statistics({n: c for n, (_, c) in given.items()}, {n: target[n].n + reference[n].n for n in given}),
    )
    mine = mt.engram(model, target=target, reference=mt.Statistics(moments, reference.sites, reference.manifest))
    return matrices(mine, theirs)


def compare(title: str, model, count: int) -> list[Figure]:  # noqa: ANN001
    """Measure all three."""
    sites, editor = mt.sites(model), models.peer_editor(model)
    reference, target = models.tokens(model, count), models.tokens(model, 64, length=64, seed=1)
    exact = {"sites": sites, "dtype": torch.float64}
    kept, found = mt.collect(model, reference, **exact), mt.collect(model, target, **exact)
    same, where = worst(from_same_moments(model, editor, found, kept))
    theirs = editor.compute_engram_weights(
        models.peer_collect(editor, target, sites), models.peer_collect(editor, [*reference, *target], sites)
    )
    ours = mt.engram(
        model, target=mt.collect(model, target, sites=sites), reference=mt.collect(model, reference, sites=sites)
    )
    pairs = matrices(ours, theirs)
    best = mt.engram(model, target=found, reference=kept)
    noise = {name: (best[name].dense().double(), b) for name, (_, b) in pairs.items()}
    at, place = worst(pairs)
    return [
        Figure(f"{title}: same second moments, worst site", same, "<= 1e-4", f"{len(pairs)} sites, {where}"),
        Figure(f"{title}: end to end, whole engram", whole(pairs), "", f"worst site {at:.1e}, {place}"),
        Figure(f"{title}: end to end, worst site's responses to the target", *worst_response(pairs, found)),
        Figure(f"{title}: peer against float64 collection, worst site", worst(noise)[0], "", worst(noise)[1]),
    ]


def measure(quick: bool) -> list[Figure]:
    """Compare both shapes."""
    small, count = ((1, 64, 256), 512) if quick else ((12, 256, 8192), 4096)
    gpt2, llama = models.gpt2(*small), models.llama(*small[:2], small[1] * 8 // 3, small[2])
    return compare("GPT-2-shaped", gpt2, count) + compare("Llama-shaped", llama, count)


if __name__ == "__main__":
    main(measure, __doc__)
