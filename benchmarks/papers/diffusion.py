"""Diffusion as associative memory (Ambrogioni 2024): equations as printed and corrected, and recall as a posterior.

Unit patterns throughout. Fixed points: 10 patterns of 20 features, 500 starts, float64; the oracle is attention
written out. Posterior: 8 patterns of 16 features, 24 cues a noise level, each a pattern with that noise, 2,000 paths
each; total variation (TV) is between the shares of path ends, taken to the nearest pattern, and the exact posterior;
its floor is that of as many exact draws. Levels fall geometrically to the default 0.01.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.figures import Figure, main
from mnemotrace.memories.diffusion import DiffusionMemory
from mnemotrace.retrieval.sampling import bridge, euler_maruyama, heun, noise_grid

BETAS = (1.0, 4.0, 6.0, 8.0, 16.0, 64.0, 256.0, 1024.0)
VARIANCES = (0.05, 0.1, 0.2, 0.4, 1.0)
SMALLEST = 0.01


def patterns(n: int, d: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Draw random directions."""
    values = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (values / values.norm(dim=1, keepdim=True)).to(dtype)


# --- B1


def resting(step: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Iterate to rest and return the different points."""
    for _ in range(20_000):
        after = step(x)
        moved, x = float((after - x).abs().max()), after
        if moved < 1e-16:
            break
    points: list[Tensor] = []
    for row in x:
        if all(float((row - point).norm()) > 1e-6 for point in points):
            points.append(row)
    return torch.stack(points)


def hausdorff(a: Tensor, b: Tensor) -> float:
    """Largest distance from a point of one set to the other set."""
    apart = (a[:, None] - b).norm(dim=2)
    return float(torch.maximum(apart.amin(1).max(), apart.amin(0).max()))


def fixed_points(quick: bool) -> list[Figure]:
    """Zeros of scores and of the preserving drift, beside the fixed points of the network."""
    y = patterns(10, 20, 0)
    memory, starts = DiffusionMemory(y), 40 if quick else 500
    source = torch.Generator().manual_seed(1)
    exploding, preserving, drifts, counts = [], [], [], []
    for beta in (8.0, 64.0) if quick else BETAS:
        sigma, alpha = beta**-0.5, math.sqrt(beta / (1 + beta))
        x = [torch.randn(starts, 20, generator=source, dtype=torch.float64) for _ in range(4)]
        s2 = 1 - alpha**2

        def score(x: Tensor, sigma: float = sigma) -> Tensor:
            return memory.score(x, sigma=sigma, coordinates="preserving")

        rest = resting(lambda x, beta=beta: torch.softmax(beta * x @ y.T, 1) @ y, x[0])
        zero = resting(lambda x, sigma=sigma: x + sigma**2 * memory.score(x, sigma=sigma), x[1])
        kept = resting(lambda x, s2=s2, score=score: x + s2 * score(x), x[2])
        exploding.append(hausdorff(zero, rest))
        preserving.append(hausdorff(kept / alpha, rest))
        counts.append(f"{beta:g}: {len(rest)}/{len(zero)}/{len(kept)}")
        if beta >= 64:
            still = resting(lambda x, s2=s2, score=score: x + s2 * (x / 2 + score(x)), alpha * rest)
            drifts.append(2 * beta * hausdorff(still / alpha, rest))
    return [
        Figure("B1 exploding score's zeros from fixed points, most", max(exploding), "<= 1e-10", "beta 1 to 1024"),
        Figure("B1 preserving score's zeros over alpha, most", max(preserving), "<= 1e-10", "; ".join(counts)),
        Figure("B1 drift's zeros, distance times 2 beta, least", min(drifts), ">= 0.95", "beta 64, 256, 1024"),
        Figure("B1 drift's zeros, distance times 2 beta, most", max(drifts), "<= 1.05"),
    ]


# --- B2, B3, B4, B7


@dataclass(frozen=True)
class Cues:
    """Cues at one noise, with as many paths each."""

    memory: DiffusionMemory
    truth: Tensor
    cue: Tensor
    variance: float
    paths: int

    @property
    def sigma(self) -> float:
        return self.variance**0.5

    @property
    def begin(self) -> Tensor:
        """Every cue once a path."""
        return self.cue.repeat_interleave(self.paths, 0)

    def levels(self, steps: int) -> Tensor:
        return noise_grid(self.sigma, self.cue, steps=steps, smallest=SMALLEST)

    def ends(self, states: Tensor) -> Tensor:
        """Which pattern is nearest."""
        return torch.cdist(states, self.memory.patterns.values).argmin(1)

    def shares(self, states: Tensor) -> Tensor:
        """Share of paths that end at each pattern, `(cues, n)`."""
        ends = self.ends(states).view(len(self.cue), self.paths)
        return torch.stack([(ends == n).double().mean(1) for n in range(len(self.memory))], 1)

    def exact(self, source: torch.Generator) -> Tensor:
        drawn = self.memory.sample(self.cue, sigma=self.sigma, count=self.paths, generator=source)
        return self.shares(drawn.transpose(0, 1).flatten(0, 1))


def cues(memory: DiffusionMemory, variance: float, count: int, paths: int, source: torch.Generator) -> Cues:
    """Draw patterns and noise them."""
    y = memory.patterns.values
    truth = torch.randint(len(y), (count,), generator=source)
    noise = variance**0.5 * torch.randn(count, y.shape[1], generator=source)
    return Cues(memory, truth, y[truth] + noise, variance, paths)


def apart(a: Tensor, b: Tensor) -> float:
    """Total variation, mean over cues."""
    return float(0.5 * (a - b).abs().sum(1).mean())


def preserving_paths(given: Cues, steps: int, source: torch.Generator) -> Tensor:
    """Simulate the reversed variance-preserving diffusion by Euler and Maruyama, in its own coordinates."""
    noise = given.levels(steps)[:, 0, 0]
    alphas = (1 + noise**2).rsqrt()
    x = alphas[0] * given.begin
    for sigma, alpha, after in zip(noise[:-1], alphas[:-1], alphas[1:], strict=True):
        time = 2 * (after / alpha).log()
        drift = x / 2 + given.memory.score(x, sigma=sigma, coordinates="preserving")
        x = x + time * drift + time.sqrt() * torch.randn(x.shape, generator=source)
    return given.memory(x / alphas[-1], noise[-1])


def posterior(quick: bool) -> list[Figure]:
    """Paths against the exact posterior, at every noise."""
    memory, source = DiffusionMemory(patterns(8, 16, 0, torch.float32)), torch.Generator().manual_seed(2)
    figures: list[Figure] = []
    for variance in (0.2,) if quick else VARIANCES:
        given = cues(memory, variance, 4 if quick else 24, 200 if quick else 2000, source)
        chances = memory.posterior(given.cue, sigma=given.sigma).double()
        bits = float(-(chances * chances.clamp_min(1e-30).log2()).sum(1).mean())
        exact = given.exact(source)
        floor, where = apart(exact, chances), f"tau0 {variance}"
        found = {}
        for sampler, steps in ((euler_maruyama, 50), (euler_maruyama, 200), (bridge, 50)):
            states = sampler(memory, given.begin, given.levels(steps), generator=source)
            found[sampler.__name__, steps] = given.shares(states)
        excess = {key: apart(shares, chances) - floor for key, shares in found.items()}
        kept = given.shares(preserving_paths(given, 200, source))
        both = apart(found["euler_maruyama", 200], kept) - apart(exact, given.exact(source))
        note = f"floor {floor:.4f}; posterior's entropy {bits:.2f} bit"
        figures += [
            Figure(f"B2 {where}: TV above floor, 50 steps", excess["euler_maruyama", 50], "<= 0.015", note),
            Figure(f"B2 {where}: TV above floor, 200 steps", excess["euler_maruyama", 200], "<= 0.006"),
            Figure(f"B2 {where}: TV above floor, bridge, 50 steps", excess["bridge", 50]),
            Figure(f"B4 {where}: TV exploding to preserving, above floor", both, "<= 0.01", "200 steps each"),
        ]
    return figures


def answers(quick: bool) -> list[Figure]:
    """Which of the answers is right how often, and how few steps the flow needs."""
    memory, source = DiffusionMemory(patterns(8, 16, 0, torch.float32)), torch.Generator().manual_seed(3)
    figures: list[Figure] = []
    for variance in (0.2,) if quick else VARIANCES:
        given = cues(memory, variance, 200 if quick else 5000, 1, source)
        likeliest = given.ends(memory.map(given.cue, sigma=given.sigma))
        drawn = given.ends(memory.sample(given.cue, sigma=given.sigma, generator=source)[0])
        few, many = (given.ends(heun(memory, given.cue, given.levels(steps))) for steps in (10, 40 if quick else 400))
        right = [float((ends == given.truth).double().mean()) for ends in (likeliest, drawn, few)]
        same = float((few == many).double().mean())
        flow = float((few == likeliest).double().mean())
        note = f"right: map {right[0]:.3f}, sample {right[1]:.3f}, 10 Heun steps {right[2]:.3f}"
        figures += [
            Figure(f"B3 tau0 {variance}: 10 Heun steps end where 400 do", same, ">= 0.99"),
            Figure(f"B7 tau0 {variance}: map right more often than sample by", right[0] - right[1], ">= 0", note),
            Figure(f"tau0 {variance}: the flow ends at the likeliest", flow, "", "near it, and not it"),
        ]
    return figures


# --- B5, and equations as printed


def frozen(quick: bool) -> list[Figure]:
    """Equation 7 at a frozen time: the variance at rest, over that of the density."""
    quantiles = torch.special.ndtri((torch.arange(201, dtype=torch.float64) + 0.5) / 201)[:, None]
    figures = []
    for name, values in (("one pattern", torch.zeros(1, 1, dtype=torch.float64)), ("201 Gaussian patterns", quantiles)):
        memory, source = DiffusionMemory(values), torch.Generator().manual_seed(4)
        variance = 1 + float(values.var(correction=0))
        x, step = torch.randn(2000 if quick else 20_000, 1, generator=source, dtype=torch.float64), 0.02
        total = []
        for i in range(100 if quick else 600):
            z = torch.randn(x.shape, generator=source, dtype=torch.float64)
            x = x + step * memory.score(x, sigma=1.0) + step**0.5 * z
            total += [float(x.square().mean())] if i >= (50 if quick else 300) else []
        ratio = sum(total) / len(total) / variance
        figures += [
            Figure(f"B5 variance at rest over the density's, {name}", ratio, ">= 0.45", "0.5 is that of its square"),
            Figure("B5 the same, from above", ratio, "<= 0.55"),
        ]
    return figures


def _slope(y: Tensor, x: Tensor, tau: float) -> Tensor:
    """Differentiate the log-density, written out."""
    x = x.clone().requires_grad_()
    square = (x[:, None] - y).square().sum(2)
    return torch.autograd.grad(torch.logsumexp(-square / (2 * tau), 1).sum(), x)[0]


def printed(quick: bool) -> list[Figure]:
    """How far the printed equations are off, where the corrected ones hold."""
    source = torch.Generator().manual_seed(5)
    memory, x = DiffusionMemory(patterns(50, 20, 6)), torch.randn(500, 20, generator=source, dtype=torch.float64)
    spread, error = [0.0, 0.0], [0.0, 0.0]
    for tau in (0.01,) if quick else (1.0, 0.1, 0.01, 0.001):
        modern = -torch.logsumexp(x @ memory.patterns.values.T / tau, 1) * tau + x.square().sum(1) / 2
        right = memory.energy(x, sigma=tau**0.5) - modern
        wrong = right + tau * x.square().sum(1) * (1 / tau**2 - 0.5 / tau)
        spread = [max(old, float(new.max() - new.min())) for old, new in zip(spread, (right, wrong), strict=True)]
        slope = _slope(memory.patterns.values, x, tau)
        noise = (x - memory(x, tau**0.5)) / tau**0.5  # what minimises equation 9, for sigma = 1 and T - t = tau
        gaps = (slope + noise / tau**0.5, slope + noise)
        error = [max(old, float(gap.norm() / slope.norm())) for old, gap in zip(error, gaps, strict=True)]
    y = torch.randn(200, 20, generator=source, dtype=torch.float64)
    y = y * (0.2 + 2 * torch.rand(200, 1, generator=source, dtype=torch.float64))
    cue = y + 0.1 * torch.randn(y.shape, generator=source, dtype=torch.float64)
    nearest, squares = torch.cdist(cue, y).argmin(1), y.square().sum(1)
    found = {"printed": cue @ y.T + squares, "x y": cue @ y.T, "corrected": cue @ y.T - squares / 2}
    hits = {name: float((scores.argmax(1) == nearest).double().mean()) for name, scores in found.items()}
    return [
        Figure("eq 13 corrected: spread of energy less the network's", spread[0], "<= 1e-12"),
        Figure("eq 13 as printed: the same", spread[1]),
        Figure(
            "eqs 9, 10 corrected: error of the score",
            error[0],
            "<= 1e-10",
            "relative; the density written out",
        ),
        Figure("eqs 9, 10 as printed: the same", error[1]),
        Figure("eq 14 corrected: nearest pattern found, unequal norms", hits["corrected"]),
        Figure("eq 14 as printed: the same", hits["printed"], "", f"product alone: {hits['x y']:.3f}"),
    ]


def run(quick: bool) -> list[Figure]:
    """All of it."""
    torch.set_num_threads(1)
    return [figure for part in (fixed_points, posterior, answers, frozen, printed) for figure in part(quick)]


if __name__ == "__main__":
    main(run, __doc__)
