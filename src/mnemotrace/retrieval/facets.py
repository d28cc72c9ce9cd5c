r"""Facets of a unit: pictures of one kind among those that excite it.

A facet asks for one kind of what excites a unit: with a linear probe `w` at a lower site, whose output is `g(x)`,

.. math:: u(x) + \lambda\, w \cdot \left(g(x) \odot \nabla_g u\right)

the gradient taken as a constant; only what excites the unit by way of the facet counts.

The cheaper way starts at the means of clusters of the unit's top examples (`cluster_means`).

Reference: Goh et al. 2021, Multimodal neurons in artificial neural networks (faceted feature visualisation); Nguyen,
Yosinski, Clune 2016, Multifaceted feature visualization. Cost: a facet needs one more backward pass a step.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemotrace.adapters.hooks import evaluating, forward
from mnemotrace.adapters.outputs import module_of, reading, units_first

_RIDGE, _ROUNDS = 1e-2, 50


@dataclass(frozen=True, eq=False)
class Facet:
    """A linear probe at a lower site, for one kind of what excites a unit.

    Attributes:
        site: name of a module below the objective's.
        probe: `(units,)`, the same at all positions, or of the shape that the module gives, without the batch.
        weight: what the facet counts beside the objective.
        name: for reading.
    """

    site: str
    probe: Tensor
    weight: float = 1.0
    name: str = "facet"

    @classmethod
    @torch.no_grad()
    def fit(
        cls,
        model: nn.Module,
        examples: Float[Tensor, "n c *s"],
        others: Float[Tensor, "m c *s"],
        *,
        site: str,
        weight: float = 1.0,
        name: str = "facet",
    ) -> "Facet":
        """Fit the probe: the ridge solution that tells examples from others by means over positions.

        Args:
            model: the network.
            examples: inputs that show the facet, as the network takes them.
            others: inputs that do not.
            site: name of a module.
            weight: above 0.
            name: for reading.

        Raises:
            SelectionError: no such module.
        """
        means: list[Tensor] = []
        with evaluating(model), reading(model, {site: False}) as seen:
            for inputs in (examples, others):
                forward(model, inputs)
                units = units_first(seen[site], module=module_of(model, site)).double()
                means.append(units.flatten(2).mean(2) if units.ndim > 2 else units)
        x = torch.cat(means)
        y = torch.cat([torch.ones(len(examples)), -torch.ones(len(others))]).to(x)
        x, y = x - x.mean(0), y - y.mean()
        gram = x.T @ x
        ridge = _RIDGE * gram.diagonal().mean().clamp_min(1e-12) * torch.eye(len(gram), dtype=x.dtype, device=x.device)
        probe = torch.linalg.solve(gram + ridge, x.T @ y)
        return cls(site, (probe / probe.norm().clamp_min(1e-12)).to(examples.dtype), weight, name)

    def value(self, output: Tensor, gradient: Tensor, module: nn.Module) -> Float[Tensor, " n"]:
        """Return `w . (g * gradient)` a picture; the gradient is a constant.

        Raises:
            ValueError: the probe does not fit the output.
        """
        product = units_first(output * gradient.detach(), module=module)
        probe = self.probe.to(product)
        if probe.shape == product.shape[1:2]:
            probe = probe.view(-1, *[1] * (product.ndim - 2))
        if probe.ndim != product.ndim - 1 or probe.shape[0] != product.shape[1]:
            raise ValueError(
                f"got a probe of shape {tuple(self.probe.shape)} at {self.site!r}; expected ({product.shape[1]},) or "
                f"{tuple(product.shape[1:])}"
            )
        return (probe * product).flatten(1).sum(1)


def cluster_means(
    examples: Float[Tensor, "n *d"], k: int, *, features: Tensor | None = None, generator: torch.Generator
) -> Float[Tensor, "k *d"]:
    """Cluster examples and return the mean of each cluster, largest cluster first.

    Args:
        examples: a unit's top examples.
        k: how many kinds.
        features: `(n, ...)` what to cluster by, such as a deep layer's output; None clusters the examples themselves.
        generator: of the first centres (k-means++).

    Raises:
        ValueError: more clusters than examples, or features of another number.
    """
    n = len(examples)
    if not 1 <= k <= n or (features is not None and len(features) != n):
        size = None if features is None else len(features)
        raise ValueError(f"got k={k}, {n} examples and features of {size}; expected 1 <= k <= {n}, a feature each")
    x = (examples if features is None else features).flatten(1).double()
    centres = x[torch.randint(n, (1,), generator=generator)]
    while len(centres) < k:
        apart = torch.cdist(x, centres).amin(1) ** 2 + 1e-12
        centres = torch.cat([centres, x[torch.multinomial(apart, 1, generator=generator)]])
    for _ in range(_ROUNDS):
        nearest = torch.cdist(x, centres).argmin(1)
        new = torch.stack([x[nearest == j].mean(0) if bool((nearest == j).any()) else centres[j] for j in range(k)])
        if torch.equal(new, centres):
            break
        centres = new
    sizes = torch.bincount(nearest, minlength=k)  # pyright: ignore[reportPossiblyUnboundVariable]
    order = [int(j) for j in sizes.argsort(descending=True, stable=True) if sizes[j] > 0]
    return torch.stack([examples[nearest == j].mean(0) for j in order])  # pyright: ignore[reportPossiblyUnboundVariable]
