r"""Toy models of superposition: networks that must pack `n` sparse features into `m` dimensions, many trained at once.

:math:`y = \mathrm{relu}(W^\top W x + b)` with `W (m, n)`; each :math:`x_i` is uniform on [0, 1] with probability
`density` and else 0; the loss is :math:`E\sum_i I_i (x_i - y_i)^2` with importances :math:`I_i`. Without the ReLU
(`linear=True`) the best network is a principal component analysis: it keeps the `m` most important features and drops
the rest, at every density. That is the control.

Where features are rare most samples are empty, and what an empty sample costs is known: :math:`\sum_i I_i
\mathrm{relu}(b_i)^2`. So only samples with at least one feature are drawn (the first from its geometric law), and the
two parts are weighted by their probabilities. The expectation is the same and its noise much smaller, hence batches of
`BATCH` do.

Reference: Elhage et al. 2022, Toy Models of Superposition. Cost: all instances and restarts share one product, `steps`
times; a step draws `instances * batch * n` numbers and holds a few times as many.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.core.artifact import library_version
from mnemotrace.core.linalg import require_finite

BATCH, JUDGED = 128, 8192


@dataclass(frozen=True, eq=False)
class ToyModels:
    """A family of toy models: one for each row of `importance` and entry of `density`.

    Attributes:
        n: features.
        m: dimensions, fewer than features as a rule.
        importance: `(n,)` for all, or `(instances, n)`; not negative.
        density: probability of a feature in (0, 1], one number or `(instances,)`.
        linear: leave out the ReLU.

    Raises:
        ValueError: sizes, importances or densities that cannot be.
    """

    n: int
    m: int
    importance: Float[Tensor, "*i n"]
    density: Float[Tensor, "*i"]
    linear: bool = False

    def __post_init__(self) -> None:
        """Bring importance to `(instances, n)` and density to `(instances,)`."""
        importance = torch.as_tensor(self.importance, dtype=torch.float32)
        density = torch.as_tensor(self.density, dtype=torch.float32)
        if self.n < 1 or self.m < 1 or importance.shape[-1:] != (self.n,):
            raise ValueError(
                f"got n={self.n}, m={self.m} and importance {tuple(importance.shape)}; expected at least one feature "
                "and dimension, and an importance for each feature"
            )
        try:
            density = density.broadcast_to(torch.broadcast_shapes(density.shape, importance.shape[:-1], (1,)))
            importance = importance.broadcast_to(*density.shape, self.n)
        except RuntimeError as error:
            raise ValueError(
                f"got importance {tuple(importance.shape)} and density {tuple(density.shape)}; expected (instances, n) "
                "and (instances,), or one for all"
            ) from error
        if density.ndim != 1 or not bool(((density > 0) & (density <= 1)).all()) or not bool((importance >= 0).all()):
            raise ValueError(
                f"got density from {float(density.min()):g} to {float(density.max()):g} and least importance "
                f"{float(importance.min()):g}; expected densities above 0 and at most 1, importances not below 0"
            )
        object.__setattr__(self, "importance", importance)
        object.__setattr__(self, "density", density)

    def train(
        self,
        *,
        restarts: int = 1,
        steps: int = 2000,
        learning_rate: float = 0.03,
        generator: torch.Generator | None = None,
    ) -> "Trained":
        """Train every instance from several starts and keep the best of each, by its loss on `JUDGED` further samples.

        Args:
            restarts: starts an instance; single starts end in local minima, so take four or more where it matters.
            steps: of Adam; the rate falls along a cosine to zero.
            learning_rate: at the start; 0.03 is where 2000 steps settle.
            generator: source of starts and samples; None is one of seed 0.

        Raises:
            ValueError: no restart or no step.
        """
        if restarts < 1 or steps < 1:
            raise ValueError(f"got restarts={restarts}, steps={steps}; expected at least one of each")
        source = torch.Generator().manual_seed(0) if generator is None else generator
        seed = source.initial_seed()
        batched = ToyModels(
            self.n, self.m, self.importance.repeat(restarts, 1), self.density.repeat(restarts), self.linear
        )
        weight, bias = batched._fitted(steps, learning_rate, source)
        require_finite(weight, "weights of the toy models")
        x = draw(torch.rand(2, 1, JUDGED, self.n, generator=source), batched.density)
        losses = batched.loss(weight, bias, x).view(restarts, -1)
        best = losses.argmin(0)
        places = best * len(self.density) + torch.arange(len(self.density))
        settings = {"steps": steps, "learning_rate": learning_rate, "batch": BATCH, "linear": self.linear}
        manifest = {"method": "toy models", **settings, "seed": seed, "version": library_version()}
        return Trained(weight[places], bias[places], losses.T.contiguous(), manifest)

    def loss(self, weight: Tensor, bias: Tensor, x: Tensor) -> Float[Tensor, " i"]:
        """Return the expected loss of each instance, from samples `(instances, b, n)` that are not empty."""
        y = torch.baddbmm(bias[:, None], x @ weight.mT, weight)
        silent = bias
        if not self.linear:
            y, silent = y.relu(), silent.relu()
        empty = (1 - self.density) ** self.n
        full = ((x - y).square().mean(1) * self.importance).sum(1)
        return (1 - empty) * full + empty * (silent.square() * self.importance).sum(1)

    def _fitted(self, steps: int, rate: float, source: torch.Generator) -> tuple[Tensor, Tensor]:
        count = len(self.density)
        weight = (torch.randn(count, self.m, self.n, generator=source) / self.m**0.5).requires_grad_()
        bias = torch.zeros(count, self.n, requires_grad=True)
        optimiser = torch.optim.Adam([weight, bias], lr=rate)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for _ in range(steps):
            x = draw(torch.rand(2, count, BATCH, self.n, generator=source), self.density)
            optimiser.zero_grad()
            self.loss(weight, bias, x).sum().backward()
            optimiser.step()
            decay.step()
        return weight.detach(), bias.detach()


@dataclass(frozen=True, eq=False)
class Trained:
    """The best network of each instance.

    Attributes:
        weight: `(instances, m, n)`; column `i` is where feature `i` points.
        bias: `(instances, n)`.
        losses: `(instances, restarts)`; their spread says how often a single start ends badly.
        manifest: provenance.
    """

    weight: Float[Tensor, "i m n"]
    bias: Float[Tensor, "i n"]
    losses: Float[Tensor, "i r"]
    manifest: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def features(self) -> Float[Tensor, "i n m"]:
        """Where each feature points, as rows: what `superposition` measures."""
        return self.weight.mT

    @property
    def loss(self) -> Float[Tensor, " i"]:
        """The least loss of each instance."""
        return self.losses.amin(1)


def draw(uniform: Float[Tensor, "two i b n"], density: Float[Tensor, " i"]) -> Float[Tensor, "i b n"]:
    """Turn uniform numbers into samples with at least one feature: the first by its geometric law, then independent."""
    p, n = density[:, None, None], uniform.shape[-1]
    full = -torch.expm1(n * torch.log1p(-p))
    first = (torch.log1p(-uniform[0, ..., :1] * full) / torch.log1p(-p)).floor().clamp_max(n - 1)
    place = torch.arange(n)
    later = (1 - uniform[1] / p).clamp_min(0)
    return torch.where(place == first, uniform[1], torch.where(place < first, 0.0, later))
