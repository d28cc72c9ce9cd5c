r"""Parts of a spiking hierarchy: what a layer is, how its pool passes spikes on, which weights are allowed.

A unit of a pool spikes at each step at which a neuron in its window does. Where a pool spikes `once`, only the maps
that are first at a place spike there, all of them if several are first together.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Bool, Int
from torch import Tensor

from mnemotrace.core.linalg import require_finite
from mnemotrace.memories.coding import trains_of
from mnemotrace.memories.neurons import require_threshold


@dataclass(frozen=True)
class SpikingLayer:
    """A convolution and the pool behind it.

    Attributes:
        maps: number of features.
        size: width of the filters, odd.
        threshold: potential above which a neuron spikes when images are read; infinity in the last layer.
        learning: the same while this layer, or one above it, learns.
        pool: width of the pool's window, odd; 0 for none.
        stride: of the pool.
        once: whether a place of the pool spikes once, in all maps that are first together.
    """

    maps: int
    size: int
    threshold: float
    learning: float
    pool: int = 0
    stride: int = 1
    once: bool = False

    def __post_init__(self) -> None:
        """Check the sizes.

        Raises:
            ValueError: a size that is even or below 1, or a threshold that is not above 0.
        """
        odd = self.size > 0 and self.size % 2 == 1 and (self.pool == 0 or (self.pool > 0 and self.pool % 2 == 1))
        if not odd or self.maps < 1 or self.stride < 1:
            raise ValueError(f"got {self}; expected odd sizes, and at least 1 map and a stride of 1")
        require_threshold(self.threshold)
        require_threshold(self.learning)


def pool(times: Int[Tensor, "b m h w"], spec: SpikingLayer, steps: int) -> Bool[Tensor, "b t m i j"]:
    """Return the spikes of the pool behind a layer at each of `steps` steps, from the steps at which neurons spike."""
    if not spec.pool:
        return trains_of(times, steps)
    window, half = (spec.pool, spec.stride), spec.pool // 2
    if not spec.once:
        fired = trains_of(times, steps).flatten(0, 1).to(torch.float32)
        return (F.max_pool2d(fired, *window, padding=half) > 0).unflatten(0, (len(times), steps))
    first = steps - F.max_pool2d(steps - times.to(torch.float32), *window, padding=half)
    won = (first == first.amin(1, keepdim=True)) & (first < steps)
    return trains_of(torch.where(won, first, torch.full_like(first, steps)).to(torch.uint8), steps)


def require_weights(weight: Tensor) -> Tensor:
    """Return weights after checking that they lie in [0, 1].

    Raises:
        ValueError: weights outside [0, 1].
        NonFiniteError: NaN or infinity.
    """
    require_finite(weight, "the weights")
    low, high = float(weight.min()), float(weight.max())
    if low < 0 or high > 1:
        raise ValueError(f"got weights from {low:g} to {high:g}; expected values in [0, 1]; clamp them")
    return weight
