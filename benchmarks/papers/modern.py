"""Modern Hopfield network: energy, gradient, norms, forgetting, and the temperature that is chosen by itself.

The corrected equations of Ambrogioni 2024 (5, 14, and 14 for general norms), with the printed forms beside them
where they differ. Everything in float64.
"""

import math

import torch
from torch import Tensor

from benchmarks.figures import Figure, main
from mnemotrace.memories.diffusion import DiffusionMemory
from mnemotrace.memories.modern import ModernHopfield
from mnemotrace.retrieval.diffusion import recall_by_diffusion


def normal(source: torch.Generator, *shape: int) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(shape, generator=source, dtype=torch.float64)


def spread(source: torch.Generator, n: int, d: int) -> Tensor:
    """Directions with lengths from 0.2 to 5, evenly in the logarithm."""
    lengths = torch.logspace(math.log10(0.2), math.log10(5), n, dtype=torch.float64)
    return torch.nn.functional.normalize(normal(source, n, d), dim=1) * lengths[:, None]


def rest(memory: ModernHopfield, x: Tensor, steps: int = 50) -> Tensor:
    """Sweep until nothing moves, or `steps` times."""
    for _ in range(steps):
        before, x = x, memory.sweep(x)
        if (x - before).abs().max() < 1e-9:
            break
    return x


def descent(nets: int) -> list[Figure]:
    """A1 and A3 over random networks with weights, norms and temperatures of all sizes."""
    source = torch.Generator().manual_seed(0)
    rise, gap = -math.inf, 0.0
    for _ in range(nets):
        n, d = (int(torch.randint(1, top, (), generator=source)) for top in (60, 40))
        beta = float(10 ** (4 * torch.rand((), generator=source) - 1))
        memory = ModernHopfield(spread(source, n, d), beta=beta, weights=normal(source, n).exp())
        x = 2 * normal(source, 8, d)
        leaf = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(memory.energy(leaf).sum(), leaf)
        gap = max(gap, float((gradient - (x - memory.sweep(x))).abs().max()))
        for _ in range(5):
            before, x = memory.energy(x), memory.sweep(x)
            rise = max(rise, float((memory.energy(x) - before).max()))
    return [
        Figure(
            f"A1: largest rise of the energy in a sweep, {nets} networks", rise, "<= 1e-10", "weights, norms 0.2 to 5"
        ),
        Figure("A3: x - sweep(x) and autograd's gradient apart", gap, "<= 1e-10", "largest entry"),
    ]


def identity(states: int) -> list[Figure]:
    """A4: the energies of diffusion and of the network, and equation 13 as printed."""
    source = torch.Generator().manual_seed(1)
    worst, constant, general, printed = 0.0, 0.0, 0.0, math.inf
    for d, n in ((3, 5), (20, 50), (128, 1000)):
        any_norm = spread(source, n, d)
        unit, x = torch.nn.functional.normalize(any_norm, dim=1), normal(source, states, d)
        for beta in (1.0, 10.0, 100.0, 1e3, 1e4):
            energy = ModernHopfield(unit, beta=beta, norms=False).energy(x)
            gap = naive(x, unit, beta) - energy
            worst = max(worst, float(gap.max() - gap.min()))
            constant = max(constant, float((gap - 0.5 - math.log(n) / beta).abs().max()))
            other = naive(x, any_norm, beta) - ModernHopfield(any_norm, beta=beta).energy(x)
            general = max(general, float(other.max() - other.min()))
            as_printed = naive(x, unit, beta) - (energy + (beta - 0.5) * x.square().sum(1))
            printed = min(printed, float(as_printed.max() - as_printed.min()))
    return [
        Figure("A4: spread of u_DM / (sigma^2 beta) - u_MH, unit norms", worst, "<= 1e-12", "beta 1 to 1e4; (5), (14)"),
        Figure("A4: constant and 1/2 + log N / beta apart", constant, "<= 1e-12"),
        Figure("A4: spread for norms 0.2 to 5", general, "<= 1e-12", "(14) corrected for norms"),
        Figure(
            "A4: spread with equation 13 as printed, least", printed, ">= 1", "|x|^2 / (T - t)^2: must be no constant"
        ),
    ]


def naive(x: Tensor, patterns: Tensor, beta: float) -> Tensor:
    """`-log p(x) / beta` of Gaussians around the patterns, from the distances."""
    squared = (x[:, None] - patterns).square().sum(2)
    return -(torch.logsumexp(-0.5 * beta * squared, 1) - math.log(len(patterns))) / beta


def forgetting(nets: int) -> list[Figure]:
    """A6: removed, against never stored."""
    source = torch.Generator().manual_seed(2)
    state, energy = 0.0, 0.0
    for _ in range(nets):
        patterns, x = spread(source, 100, 32), normal(source, 50, 32)
        memory, never = ModernHopfield(patterns), ModernHopfield(patterns[10:])
        memory.patterns.remove([*memory.patterns.add(x[:5], weight=2.0), *range(10)])
        energy = max(energy, float((memory.energy(x) - never.energy(x)).abs().max()))
        state = max(state, float((rest(memory, x) - rest(never, x)).abs().max()))
    return [
        Figure("A6: removed and never stored apart, recalled states", state, "<= 1e-6", 'beta="auto"'),
        Figure("A6: removed and never stored apart, energies", energy, "<= 1e-6"),
    ]


def nearest(cues: int) -> list[Figure]:
    """A7: recall at beta = 1e4 is the nearest pattern; the printed limits are not."""
    source = torch.Generator().manual_seed(3)
    patterns, x = spread(source, 200, 10), normal(source, cues, 10)
    wanted = torch.cdist(x, patterns).argmin(1)

    def share(chosen: Tensor) -> float:
        return float((chosen == wanted).double().mean())

    ends = torch.cdist(rest(ModernHopfield(patterns, beta=1e4), x), patterns).argmin(1)
    published = torch.cdist(rest(ModernHopfield(patterns, beta=1e4, norms=False), x), patterns).argmin(1)
    return [
        Figure(
            f"A7: recall is the nearest of 200 patterns, {cues} cues", share(ends), ">= 1", "beta 1e4, norms 0.2 to 5"
        ),
        Figure("A7: the same without norms, as published", share(published)),
        Figure("A7: argmax of x y", share((x @ patterns.T).argmax(1))),
        Figure("A7: argmax of x y + |y|^2, as printed", share((x @ patterns.T + patterns.square().sum(1)).argmax(1))),
    ]


def temperature(n: int, cues: int) -> list[Figure]:
    """A8: half-erased cues of 64 signs; annealed diffusion and the nearest pattern beside it."""
    source = torch.Generator().manual_seed(4)
    patterns = torch.randint(0, 2, (n, 64), generator=source).double() * 2 - 1
    wanted = patterns[torch.randint(n, (cues,), generator=source)]
    cue = torch.where(torch.rand(cues, 64, generator=source) < 0.5, wanted, 0.0)

    def share(found: Tensor) -> float:
        return float((found.sign() == wanted).all(1).double().mean())

    chosen = ModernHopfield(patterns)
    annealed = share(recall_by_diffusion(DiffusionMemory(patterns), cue, sigma=math.sqrt(0.5), steps=20).state)
    ours, setting = share(rest(chosen, cue)), f"N = {n}, D = 64, {cues} cues, every bit right"
    return [
        Figure('A8: recall with beta="auto" / annealed diffusion', ours / annealed, ">= 0.95", setting),
        Figure('A8: recall with beta="auto"', ours, "", f"beta {chosen.beta:.3f}"),
        Figure("A8: recall by annealed diffusion", annealed, "", "exact score, 20 Heun steps from tau = 0.5"),
        Figure("A8: recall by the nearest pattern", share(patterns[(cue @ patterns.T).argmax(1)]), "", "ceiling"),
        Figure("A8: recall with beta = 0.25", share(rest(ModernHopfield(patterns, beta=0.25), cue))),
    ]


def run(quick: bool) -> list[Figure]:
    """All of it."""
    figures = descent(20 if quick else 1000) + identity(20 if quick else 500) + forgetting(2 if quick else 20)
    return figures + nearest(200 if quick else 4000) + temperature(256 if quick else 8192, 50 if quick else 500)


if __name__ == "__main__":
    main(run, __doc__)
