"""Ten concepts end to end, and one more concept at d = 3072, beside ai-engram 0.11.0; CPU time, one thread.

The peer decomposes the total again for every concept. Here the reference is factored once (`mt.factor`) and a concept
costs one n-row solve. Both are given the same tokens and the same sites.
"""

import torch
from torch import Tensor, nn

import mnemotrace as mt
from benchmarks.figures import Figure, cpu_seconds, main
from benchmarks.speed import models
from mnemotrace.core.site import Site


def ours(model: nn.Module, reference: models.Batches, targets: list[models.Batches], solver: str) -> None:
    """Collect and factor the reference, then collect and extract every concept."""
    sites = mt.sites(model)
    kept = mt.factor(mt.collect(model, reference, sites=sites))
    for target in targets:
        mt.engram(model, target=mt.collect(model, target, sites=sites), reference=kept, solver=solver)


def theirs(model: nn.Module, reference: models.Batches, targets: list[models.Batches]) -> None:
    """The same with the peer; its total is reference and target merged, as ours."""
    editor, sites = models.peer_editor(model), mt.sites(model)
    kept = models.peer_collect(editor, reference, sites)
    for target in targets:
        found = models.peer_collect(editor, target, sites)
        editor.compute_engram_weights(found, editor.merge_statistics(kept, found))


def end_to_end(quick: bool) -> list[Figure]:
    """Ten concepts of 64 tokens on a mini GPT-2, 4 x 256, against 2,048 tokens of reference."""
    model = models.gpt2(1, 64, 256) if quick else models.gpt2(4, 256, 8192)
    count, concepts = (256, 2) if quick else (2048, 10)
    reference = models.tokens(model, count)
    targets = [models.tokens(model, 64, seed=1 + i) for i in range(concepts)]
    variants = {solver: lambda s=solver: ours(model, reference, targets, s) for solver in ("ridge", "truncate")}
    variants["peer"] = lambda: theirs(model, reference, targets)
    spent = cpu_seconds(variants, 1 if quick else 3, warm=quick)
    title = f"{concepts} concepts end to end"
    return _ratios(title, spent, {"ridge": ">= 9"})


def _ratios(title: str, spent: dict[str, float], gates: dict[str, str]) -> list[Figure]:
    reasons = {"ridge": "", "truncate": "; without a gap at the cut each concept needs a decomposition of its own"}
    notes = {s: f"{spent['peer']:.2f} / {spent[s]:.3f} s{why}" for s, why in reasons.items()}
    return [Figure(f"{title}, peer / {s}", spent["peer"] / spent[s], gates.get(s, ""), notes[s]) for s in notes]


def covariance(d: int, power: float, seed: int = 0) -> Tensor:
    """Second moment with eigenvalues i^-power in random directions."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(d, d, generator=generator))[0]
    return (basis * torch.arange(1, d + 1, dtype=torch.float32).pow(-power)) @ basis.T


def wide(d: int) -> tuple[nn.Module, dict[str, Site]]:
    """One map without bias, `d` x `d`."""
    model = nn.Sequential(nn.Linear(d, d, bias=False)).requires_grad_(False)
    model[0].weight.copy_(torch.randn(d, d, generator=torch.Generator().manual_seed(1)) / d**0.5)
    return model, mt.sites(model)


def marginal(d: int, n: int, power: float, repeats: int, *, gated: bool) -> list[Figure]:
    """One more concept of `n` rows, the reference being collected and factored before."""
    model, sites = wide(d)
    name = next(iter(sites))
    total = covariance(d, power) * 4 * d
    rows = torch.linalg.cholesky(total.double() + 1e-9 * torch.eye(d).double()).float()
    target = torch.randn(n, d, generator=torch.Generator().manual_seed(2)) @ rows.T / d**0.5
    kept = mt.factor(mt.Statistics({name: mt.Moments(4 * d, total.sum(0).double(), second=total)}, sites))
    found = mt.Statistics({name: mt.Moments.of(target)}, sites)
    editor = models.peer_editor(model)
    from engram import Statistics

    mine = Statistics({name: target.T @ target / n}, {name: n})
    everything = Statistics({name: (total + target.T @ target) / (4 * d + n)}, {name: 4 * d + n})
    variants = {
        "ridge": lambda: mt.engram(model, target=found, reference=kept, solver="ridge"),
        "truncate": lambda: mt.engram(model, target=found, reference=kept, solver="truncate"),
        "peer": lambda: editor.compute_engram_weights(mine, everything),
    }
    variants["ridge"](), variants["truncate"]()
    spent = cpu_seconds(variants, repeats, warm=False)
    title = f"one more concept, d = {d}, n = {n}, spectrum i^-{power:g}"
    return _ratios(title, spent, {"ridge": ">= 100"} if gated else {})


def measure(quick: bool) -> list[Figure]:
    """Measure both."""
    figures = end_to_end(quick)
    if quick:
        return figures + marginal(96, 8, 1.5, 1, gated=False)
    figures += marginal(3072, 64, 2.0, 3, gated=True)
    figures += marginal(3072, 256, 2.0, 1, gated=False)
    return figures + marginal(3072, 64, 0.5, 1, gated=False)


if __name__ == "__main__":
    main(measure, __doc__)
