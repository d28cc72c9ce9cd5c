r"""Spike-timing-dependent plasticity: a spiking hierarchy learns features from images without names.

.. math::
   \Delta w = \begin{cases} +a_+\, w (1 - w) & \text{the input spiked at or before the step of the neuron's spike} \\
   -a_-\, w (1 - w) & \text{it did not} \end{cases}

The factor bounds weights softly; they are clamped to [0, 1] besides. One neuron of a map learns from an image, the
first to spike, of the highest potential where several are; it then keeps neurons of all maps within a radius from
learning from this image. Layers learn one after another, on the spikes of those below. Whether a layer has settled says
:math:`C = \sum w (1 - w) / n`, 0.25 at most and 0 where every weight is 0 or 1.

What an image leaves at the synapses (`Traces`: the inputs that have spiked by each step, the steps at which the layer
spiked) is made anew for every image, so nothing has to be reset.

The published code changes weights between the steps of an image, counts an input as often as it spiked, and goes
through its images in the order of their classes; here weights change after an image, an input has spiked or not, and
the order is drawn. As published, rates double every 500 images up to 0.15.

Reference: Kheradpisheh et al. 2018, section 2.4.
Cost: a convolution of one layer an image; the spikes below are computed once for all images and kept, 45 kB an image.
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mnemotrace.core.progress import Progress, silent
from mnemotrace.memories.coding import trains_of
from mnemotrace.memories.neurons import compete
from mnemotrace.memories.spiking import SpikingHierarchy
from mnemotrace.memories.spiking_layers import require_weights


@dataclass(frozen=True)
class Rates:
    """How fast one layer learns, and how its neurons compete.

    Attributes:
        plus: rate of potentiation at first, in `(0, 1]`.
        minus: rate of depression at first, in `[0, 1]`.
        winners: maps that may learn in one step of an image.
        radius: distance, in rows and columns, within which no other neuron learns from the same image.
        doubling: images after which both rates double.
        largest: the potentiation never exceeds this; the depression keeps its ratio.
    """

    plus: float
    minus: float
    winners: int = 1
    radius: int = 0
    doubling: int = 500
    largest: float = 0.15

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ValueError: a rate outside its range, no winner, a negative radius, or no image before doubling.
        """
        rates = 0 < self.plus <= 1 and 0 <= self.minus <= 1 and 0 < self.largest <= 1
        if not rates or self.winners < 1 or self.radius < 0 or self.doubling < 1:
            raise ValueError(
                f"got {self}; expected rates between 0 and 1, and at least 1 winner, a radius of 0 and 1 image"
            )

    def at(self, done: int) -> tuple[float, float]:
        """Return both rates after so many images."""
        plus = min(self.plus * 2.0 ** min(done // self.doubling, 60), max(self.largest, self.plus))
        return plus, self.minus * plus / self.plus


PUBLISHED = (Rates(0.008, 0.006, 10, 5), Rates(0.0004, 0.0003, 4, 2), Rates(0.0004, 0.0003, 2, 5))
"""Rates of `SpikingHierarchy.sdnn`; the first layer's are doubled by the published code before its first image."""

ITERATIONS = (3000, 5000, 6000)
"""Images that each of its layers learns from."""


def stdp(
    weight: Float[Tensor, "m *in"], before: Bool[Tensor, "m *in"], *, plus: float, minus: float
) -> Float[Tensor, "m *in"]:
    """Return weights after one spike of each of `m` neurons.

    Args:
        weight: in `[0, 1]`.
        before: whether each input spiked at or before that spike.
        plus: rate where it did.
        minus: rate, taken off, where it did not.
    """
    rate = torch.where(before, weight.new_tensor(plus), weight.new_tensor(-minus))
    return (weight + rate * weight * (1 - weight)).clamp(0, 1)


def unsettled(weight: Tensor) -> float:
    """Return the mean of `w (1 - w)`: 0.25 at most, 0 where a layer has settled."""
    return float((weight * (1 - weight)).mean())


@dataclass(frozen=True, eq=False)
class Traces:
    """What one image leaves at the synapses of a layer.

    Attributes:
        pre: `(t, m, h, w)` inputs that have spiked by each step.
        post: `(n, h, w)` step of each neuron's spike; `t` for none.
        strength: `(n, h, w)` potential at that step.
    """

    pre: Bool[Tensor, "t m h w"]
    post: Int[Tensor, "n h w"]
    strength: Float[Tensor, "n h w"]

    @classmethod
    def of(cls, hierarchy: SpikingHierarchy, layer: int, spikes: Bool[Tensor, "1 t m h w"]) -> "Traces":
        """Run one image's spikes through a layer that learns."""
        threshold = hierarchy.layers[layer].learning
        post, strength = compete(hierarchy.sums(layer, spikes), threshold=threshold)
        return cls(spikes[0].cumsum(0, dtype=torch.uint8) > 0, post[0], strength[0])

    def winners(self, *, most: int, radius: int) -> list[tuple[int, int, int, int]]:
        """Return `(map, row, column, step)` of the neurons that learn, the first to spike first.

        Args:
            most: of one step.
            radius: within which, in rows and columns, no two of them lie.
        """
        steps = len(self.pre)
        found = (self.post < steps).nonzero()
        when = self.post[self.post < steps].long()
        falling = torch.argsort(self.strength[self.post < steps], descending=True, stable=True)
        order = falling[torch.argsort(when[falling], stable=True)]
        found, when = found[order], when[order]
        free, chosen, taken = torch.ones_like(when, dtype=torch.bool), [], [0] * steps
        while bool(free.any()):
            index = int(free.to(torch.uint8).argmax())
            m, y, x = (int(v) for v in found[index])
            step = int(when[index])
            chosen.append((m, y, x, step))
            taken[step] += 1
            near = ((found[:, 1] - y).abs() <= radius) & ((found[:, 2] - x).abs() <= radius)
            free &= ~near & (found[:, 0] != m)
            if taken[step] >= most:
                free &= when != step
        return chosen

    def before(self, winners: Sequence[tuple[int, int, int, int]], size: int) -> Bool[Tensor, "k m size size"]:
        """Return which inputs of each winner had spiked by its spike."""
        padded = F.pad(self.pre, (size // 2,) * 4)
        return torch.stack([padded[step, :, y : y + size, x : x + size] for _, y, x, step in winners])


@torch.no_grad()
def fit_stdp(
    hierarchy: SpikingHierarchy,
    images: Float[Tensor, "n *c h w"],
    *,
    layers: Sequence[int] | None = None,
    iterations: int | Sequence[int] = ITERATIONS,
    rates: Rates | Sequence[Rates] = PUBLISHED,
    generator: torch.Generator | None = None,
    progress: Progress = silent,
) -> SpikingHierarchy:
    """Learn the weights of layers, one after another from the lowest; the given hierarchy is not changed.

    Args:
        hierarchy: where to begin.
        images: grey, 0 to 255; gone through in drawn orders, as often as needed.
        layers: indices of those that learn; None is all.
        iterations: images that each of them learns from; one number, or one each.
        rates: one for all, or one each.
        generator: of the orders; None seeds one with 0.
        progress: told the image, how many there are, and how far the layer has settled.

    Returns:
        A new hierarchy.

    Raises:
        TypeError: images that are no floating-point tensor.
        ValueError: a layer that is not there, no iteration, another number of them, images of another shape or below
            zero, or weights outside [0, 1].
        NonFiniteError: NaN or infinity.
    """
    chosen = sorted(range(len(hierarchy.layers)) if layers is None else set(layers))
    if not chosen or chosen[0] < 0 or chosen[-1] >= len(hierarchy.layers):
        raise ValueError(f"got layers={layers}; expected indices from 0 to {len(hierarchy.layers) - 1}")
    counts = [iterations] * len(chosen) if isinstance(iterations, int) else list(iterations)
    given = [rates] * len(chosen) if isinstance(rates, Rates) else list(rates)
    if len(counts) != len(chosen) or len(given) != len(chosen) or min(counts) < 1:
        raise ValueError(
            f"got iterations={iterations} and {len(given)} rates for {len(chosen)} layers; expected at least one "
            "iteration each, and one number or one a layer"
        )
    for weight in hierarchy.weights:
        require_weights(weight)
    source = generator or torch.Generator().manual_seed(0)
    learned, spikes, reached = copy.deepcopy(hierarchy), hierarchy.encode(images), 0
    for layer, count, rate in zip(chosen, counts, given, strict=True):
        spikes, reached = _carry(learned, spikes, reached, layer), layer
        told = _learn(learned, layer, spikes, orders(len(spikes), count, source), rate)
        for done, what in enumerate(told, 1):
            progress(done, count, what)
    return learned


def spikes_of(hierarchy: SpikingHierarchy, stored: Tensor) -> Bool[Tensor, "b t m h w"]:
    """Return spikes from either form in which `fit_stdp` keeps them: steps of the code, or spikes at each step."""
    return stored if stored.dtype == torch.bool else trains_of(stored, hierarchy.bins + 1)


def _carry(hierarchy: SpikingHierarchy, stored: Tensor, start: int, layer: int) -> Tensor:
    if start == layer:
        return stored
    parts = [spikes_of(hierarchy, part) for part in stored.split(8)]
    return torch.cat([hierarchy.raise_to(layer, part, start=start, learning=True) for part in parts])


def orders(n: int, count: int, source: torch.Generator) -> Iterator[int]:
    """Go through `n` images in drawn orders until there were `count`."""
    for start in range(0, count, n):
        yield from torch.randperm(n, generator=source)[: count - start].tolist()


def _learn(
    hierarchy: SpikingHierarchy, layer: int, stored: Tensor, order: Iterable[int], rates: Rates
) -> Iterator[str]:
    """Change the weights of a layer in place; tells after each image how far they have settled."""
    weight = hierarchy.weights[layer]
    for done, index in enumerate(order):
        traces = Traces.of(hierarchy, layer, spikes_of(hierarchy, stored[index : index + 1]))
        winners = traces.winners(most=rates.winners, radius=rates.radius)
        if winners:
            plus, minus = rates.at(done)
            maps = [m for m, *_ in winners]
            before = traces.before(winners, hierarchy.layers[layer].size)
            weight[maps] = stdp(weight[maps], before, plus=plus, minus=minus)
        yield f"layer {layer}, settled to {unsettled(weight):.3f}"
