"""Extended, semantic and episodic memories: C1-C6, and three readings of equation 25 on the same episodes.

Sixteen features, six of them kept; a semantic memory of four Gaussians with full covariances; twelve episodes drawn
from it, with 0.9 of the mass. What is recalled is compared with the conditional distribution by its textbook formula,
computed here and not by the library. Numbers are means over the twelve episodes; the worst one stands in the note.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.figures import Figure, main
from mnemotrace.core.errors import UnboundedEnergyError
from mnemotrace.memories.core_memory import Core
from mnemotrace.memories.extended import Affine, Point
from mnemotrace.memories.gaussian import GaussianMixture
from mnemotrace.memories.mixture import Landscape, Mixture
from mnemotrace.memories.shapes import Samples, Sphere
from mnemotrace.retrieval.dynamics import recall
from mnemotrace.retrieval.reconstruction import reconstruct
from mnemotrace.retrieval.sampling import euler_maruyama, noise_grid, overwriting

D, W, EPISODES, KINDS = 16, 6, 12, 4
KNOWN = torch.arange(D) < W
BETA = 50.0
Gaps = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class World:
    """A semantic memory, what happened, and the cores that were kept."""

    semantic: GaussianMixture
    events: Tensor
    memory: Mixture

    def conditional(self, event: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights, means, covariances of the free features given the core of an event; textbook formula."""
        xi, logs, means, covariances = self.events[event, :W], [], [], []
        for weight, mean, cov in zip(
            self.semantic.weights, self.semantic.means, self.semantic.covariances, strict=True
        ):
            gain = cov[W:, :W] @ torch.linalg.inv(cov[:W, :W])
            means.append(mean[W:] + gain @ (xi - mean[:W]))
            covariances.append(cov[W:, W:] - gain @ cov[:W, W:])
            likelihood = torch.distributions.MultivariateNormal(mean[:W], cov[:W, :W]).log_prob(xi)
            logs.append(weight.log() + likelihood)
        return torch.stack(logs).softmax(0), torch.stack(means), torch.stack(covariances), xi

    def mode(self, event: int) -> Tensor:
        """Highest place of the density of the free features given the core, by ascent from each mean."""
        weights, means, covariances, _ = self.conditional(event)
        parts = torch.distributions.MultivariateNormal(means, covariances)
        mixture = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(weights), parts)
        x = means.clone().requires_grad_()
        ascent = torch.optim.LBFGS([x], max_iter=200, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            ascent.zero_grad()
            total = -mixture.log_prob(x).sum()
            total.backward()
            return total

        ascent.step(loss)  # pyright: ignore[reportArgumentType]
        return x.detach()[mixture.log_prob(x.detach()).argmax()]


def world(generator: torch.Generator) -> World:
    """Draw one; features have a variance of about one."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    roots = normal(KINDS, D, D) / D**0.5
    covariances = 0.45 * roots @ roots.mT + 0.05 * torch.eye(D, dtype=torch.float64)
    semantic = GaussianMixture(normal(KINDS, D) * 0.5**0.5, covariances)
    kind = torch.randint(KINDS, (EPISODES,), generator=generator)
    events = semantic.means[kind] + torch.einsum("nk,nkd->nd", normal(EPISODES, D), semantic.factors[kind])
    cores = [Core(KNOWN, event[:W], semantic) for event in events]
    weights = torch.tensor([0.9 / EPISODES] * EPISODES + [0.1], dtype=torch.float64)
    return World(semantic, events, Mixture([*cores, semantic], weights=weights))


def gaps(given: World, samples: Tensor) -> Gaps:
    """Of each episode: error of the mean in standard deviations, of the covariance, and the ratio of variances."""
    rows = []
    for event, drawn in enumerate(samples[..., W:]):
        weights, means, covariances, _ = given.conditional(event)
        mean = weights @ means
        offsets = means - mean
        cov = torch.einsum("n,nij->ij", weights, covariances) + (weights * offsets.T) @ offsets
        found, spread = torch.cov(drawn.T), cov.diagonal().sqrt()
        off = ((drawn.mean(0) - mean) / spread).square().mean().sqrt()
        rows.append((off, (found - cov).norm() / cov.norm(), (found.diagonal() / cov.diagonal()).mean()))
    return tuple(torch.stack(column) for column in zip(*rows, strict=True))  # pyright: ignore[reportReturnType]


def rms(samples: Tensor, events: Tensor) -> float:
    """Root mean square error of the core."""
    return float((samples[..., :W] - events[:, None, :W]).square().mean().sqrt())


def subspaces(generator: torch.Generator) -> list[Figure]:
    """C1: the two ends of subspaces. C2: a circle by points."""
    x = torch.randn(1000, D, generator=generator, dtype=torch.float64)
    origin, none = torch.zeros(D, dtype=torch.float64), torch.zeros(0, D, dtype=torch.float64)
    whole = Affine(origin, torch.randn(D, D, generator=generator, dtype=torch.float64))
    line, point = Affine(origin, none).explain(x, 0.5), Point(origin).explain(x, 0.5)
    same = max(float((line.mean - point.mean).abs().max()), float((line.log_kernel - point.log_kernel).abs().max()))
    angle = 2 * torch.pi * torch.rand(20_000, generator=generator, dtype=torch.float64)
    circle, drawn = Sphere(origin[:2], radius=1.0), Samples(torch.stack([angle.cos(), angle.sin()], 1))
    states = 1.5 * torch.randn(500, 2, generator=generator, dtype=torch.float64)
    wanted = circle(states, 0.3)
    return [
        Figure("C1 subspace of 0 dimensions beside a point", same, "<= 1e-12"),
        Figure("C1 score, flat prior on all dimensions", float(((whole(x, 0.5) - x) / 0.25).abs().max()), "<= 1e-12"),
        Figure(
            "C2 20,000 points of a circle beside the sphere",
            float((drawn(states, 0.3) - wanted).norm() / wanted.norm()),
            "<= 0.02",
        ),
    ]


def recalled(given: World, generator: torch.Generator, *, count: int, steps: int, gated: bool) -> list[Figure]:
    """C3: cores recalled, the rest reconstructed."""
    found = reconstruct(
        given.memory, given.events, known=KNOWN, sigma=0.2, count=count, steps=steps, generator=generator
    )
    right = (found.episode == torch.arange(EPISODES)[:, None]).double().mean(1)
    mean, covariance, variance = gaps(given, found.samples)
    floor = f"sampling alone {count**-0.5:.3f}; worst {float(mean.max()):.3f}"
    name = f"C3 {steps} steps: "
    figures = [
        Figure(name + "right core", float(right.mean()), ">= 0.99", f"worst {float(right.min()):.3f}"),
        Figure(name + "core, root mean square error", rms(found.samples, given.events), "<= 0.005"),
        Figure(name + "mean of the rest, in standard deviations", float(mean.mean()), "<= 0.08", floor),
        Figure(
            name + "covariance, relative", float(covariance.mean()), "<= 0.15", f"worst {float(covariance.max()):.3f}"
        ),
        Figure(name + "variance ratio", float(variance.mean()), ">= 0.85"),
        Figure(
            name + "variance ratio, from above",
            float(variance.mean()),
            "<= 1.1",
            f"{float(variance.min()):.3f} to {float(variance.max()):.3f}",
        ),
    ]
    return figures if gated else [Figure(f.name, f.value, "", f.note) for f in figures]


def overwritten(given: World, generator: torch.Generator, *, count: int, steps: int) -> list[Figure]:
    """C4: the same memory, known features written over at every level."""
    drawn = []
    for event in given.events:
        cue = event.expand(count, -1)
        begin = 10 * torch.randn(count, D, generator=generator, dtype=torch.float64)
        levels = noise_grid(10.0, begin, steps=steps, smallest=0.01)
        denoiser = overwriting(given.memory, cue, known=KNOWN, generator=generator)
        drawn.append(euler_maruyama(denoiser, begin, levels, generator=generator))
    mean, covariance, variance = gaps(given, torch.stack(drawn))
    return [
        Figure("C4 overwriting fails C3: mean of the rest", float(mean.mean()), ">= 0.08", "in standard deviations"),
        Figure("C4 overwriting: covariance, relative", float(covariance.mean())),
        Figure("C4 overwriting: variance ratio", float(variance.mean())),
    ]


def readings(given: World, generator: torch.Generator, *, starts: int, steps: int) -> list[Figure]:
    """Equation 25 read in three ways: descent at one noise, from the core with the rest drawn anywhere."""
    sigma = BETA**-0.5
    products = [Core(KNOWN, event[:W], given.semantic, form="product") for event in given.events]
    product = Mixture(products)  # the sum of products is the product of the sum
    kept = torch.cat([given.events[:, :W], torch.zeros(EPISODES, D - W, dtype=torch.float64)], 1)
    constant = 0.5 * D * torch.log(torch.tensor(2 * torch.pi / BETA))

    def additive(x: Tensor) -> Tensor:
        cores = -0.5 * BETA * torch.cdist(x, kept).square()
        return torch.logaddexp(torch.logsumexp(cores, 1), given.semantic.log_kernel(x, sigma) + constant)

    def slope(log: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        return torch.autograd.grad(log(x).sum(), x)[0]

    free = torch.randn(EPISODES, starts, D - W, generator=generator, dtype=torch.float64)
    begin = torch.cat([given.events[:, None, :W].expand(-1, starts, -1), free], -1).flatten(0, 1)
    ends = {"A additive": begin.clone(), "B product": begin.clone()}
    for _ in range(steps):
        ends["A additive"] += 0.4 * sigma**2 * slope(additive, ends["A additive"])
        ends["B product"] += 0.4 * (product(ends["B product"], sigma) - ends["B product"])
    ends["C conditional"] = recall(Landscape(given.memory, sigma), begin, sweeps=8 * steps, tolerance=1e-8).state
    modes = torch.stack([given.mode(event) for event in range(EPISODES)])
    figures = []
    for name, end in ends.items():
        rows = end.view(EPISODES, starts, D)
        off = (rows[..., W:] - modes[:, None]).norm(dim=-1).mean()
        figures.append(Figure(f"{name}: core, root mean square error", rms(rows, given.events), "", "descent, beta 50"))
        figures.append(Figure(f"{name}: rest, distance to its likeliest", float(off)))
    typical = float(given.events.norm(dim=1).mean())
    return [*figures, Figure("typical norm of an event, for comparison", typical)]


def unbounded(given: World) -> list[Figure]:
    """C5: additive as printed has no lower bound."""
    core = Core(KNOWN, given.events[0, :W], given.semantic, form="additive")
    curvature = BETA * float(torch.linalg.eigvalsh(given.semantic.covariances).max()) - 1
    try:
        core.log_kernel(given.events, BETA**-0.5)
        raised = 0
    except UnboundedEnergyError:
        raised = 1
    return [Figure("C5 additive as printed is refused", raised, ">= 1", f"beta * lambda_max - 1 = {curvature:.0f}")]


def glass(generator: torch.Generator, *, count: int) -> list[Figure]:
    """C6: a crash without broken glass, recalled by one whose semantic memory has glass at 0.8 of crashes."""
    scenes = torch.tensor([[1, 1, 0, 1], [1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]], dtype=torch.float64)
    weights = torch.tensor([0.4, 0.1, 0.3, 0.2], dtype=torch.float64)
    spread = 0.0025 * torch.eye(4, dtype=torch.float64).expand(4, 4, 4)
    semantic, kept = GaussianMixture(scenes, spread, weights=weights), torch.tensor([True, True, True, False])
    memory = Mixture([Core(kept, scenes[1][kept], semantic), semantic])
    asked = torch.tensor([True, True, False, False])
    found = reconstruct(memory, scenes[1], known=asked, sigma=0.1, count=count, generator=generator)
    told = found.asserted()
    share, flagged = float(told.share[0, 3]), float(told.semantic[0, 3])
    return [
        Figure("C6 glass asserted", share, ">= 0.77", "absent in the event; 0.8 at crashes"),
        Figure("C6 glass asserted, from above", share, "<= 0.83"),
        Figure("C6 of these, flagged semantic", flagged / share, ">= 1"),
        Figure("C6 confabulation rate over all features", float(found.confabulated(scenes[1][None]).mean())),
    ]


def run(quick: bool) -> list[Figure]:
    """Measure C1-C6 and the three readings."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    given = world(generator)
    count = 40 if quick else 1500
    figures = subspaces(generator)
    for steps in (10,) if quick else (20, 50, 120):
        figures += recalled(given, generator, count=count, steps=steps, gated=steps == 120)
    figures += overwritten(given, generator, count=count, steps=10 if quick else 120)
    figures += readings(given, generator, starts=1 if quick else 8, steps=10 if quick else 400)
    return [*figures, *unbounded(given), *glass(generator, count=50 if quick else 20_000)]


if __name__ == "__main__":
    main(run, __doc__)
