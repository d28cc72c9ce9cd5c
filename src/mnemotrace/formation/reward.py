r"""Reward-modulated plasticity: the maps of the top layer stand for classes, and one neuron decides.

Map `j` of `m` stands for class `j mod k`. The first neuron of the top layer to spike, of the highest potential where
several are, decides for the class of its map, and it alone learns: as by `stdp` times the share of wrong decisions
where it was right (there is less to learn the more often it is), and by the opposite signs times the share of right
decisions where it was wrong,

.. math:: \Delta w = (1 - h)\, \Delta w_{\mathrm{STDP}} \quad\text{or}\quad h\, \Delta w_{\mathrm{anti}} , \qquad
   h \leftarrow h + (\text{right} - h) / n .

The fraction right `h` starts at chance and forgets over the `n` images; an image for which no neuron spikes changes
neither. Reference: Mozafari et al. 2018, section 2.3. Cost: as `stdp`, for the top layer alone.
"""

import copy

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mnemotrace.core.progress import Progress, silent
from mnemotrace.formation.stdp import Rates, Traces, orders, spikes_of, stdp
from mnemotrace.memories.spiking import SpikingHierarchy
from mnemotrace.memories.spiking_layers import require_weights

RATES = Rates(0.02, 0.015, doubling=10**9)
"""Rates that stay as they are: the reward itself slows learning down."""


@torch.no_grad()
def fit_rewarded(
    hierarchy: SpikingHierarchy,
    images: Float[Tensor, "n *c h w"],
    labels: Int[Tensor, " n"],
    *,
    iterations: int = 2000,
    rates: Rates = RATES,
    generator: torch.Generator | None = None,
    progress: Progress = silent,
) -> SpikingHierarchy:
    """Learn the weights of the top layer from right and wrong decisions; the given hierarchy is not changed.

    Args:
        hierarchy: with a top layer that spikes while it learns; layers below are as they are.
        images: grey, 0 to 255.
        labels: class of each, from 0 on; at least two classes.
        iterations: images to learn from.
        rates: those of a full reward.
        generator: of the order; None seeds one with 0.
        progress: told the image and the fraction right.

    Raises:
        TypeError: images that are no floating-point tensor, or labels that are no whole numbers.
        ValueError: no iteration, labels of another number, fewer than two classes, more classes than maps, or images
            or weights outside their range.
        NonFiniteError: NaN or infinity.
    """
    if iterations < 1:
        raise ValueError(f"got iterations={iterations}; expected at least 1")
    classes = _classes(hierarchy, images, labels)
    for weight in hierarchy.weights:
        require_weights(weight)
    source = generator or torch.Generator().manual_seed(0)
    learned, top = copy.deepcopy(hierarchy), len(hierarchy.layers) - 1
    spikes, weight, right = _below(learned, images), learned.weights[top], 1 / classes
    for done, index in enumerate(orders(len(images), iterations, source)):
        traces = Traces.of(learned, top, spikes[index : index + 1])
        winners = traces.winners(most=1, radius=max(hierarchy.shape))[:1]
        if winners:
            m = winners[0][0]
            hit = m % classes == int(labels[index])
            plus, minus = rates.at(done)
            plus, minus = ((1 - right) * plus, (1 - right) * minus) if hit else (-right * plus, -right * minus)
            before = traces.before(winners, hierarchy.layers[top].size)
            weight[m] = stdp(weight[m][None], before, plus=plus, minus=minus)[0]
            right += (hit - right) / len(images)
        progress(done + 1, iterations, f"{right:.2f} right")
    return learned


@torch.no_grad()
def decide(hierarchy: SpikingHierarchy, images: Float[Tensor, "b *c h w"], classes: int) -> Int[Tensor, " b"]:
    """Return the class that the first neuron of the top layer decides for; -1 where none spikes.

    Args:
        hierarchy: after `fit_rewarded`; the top layer spikes at its threshold of learning.
        images: grey, 0 to 255.
        classes: how many there are.

    Raises:
        ValueError: fewer than two classes, or images that do not fit. See `SpikingHierarchy.encode`.
    """
    if classes < 2:
        raise ValueError(f"got classes={classes}; expected at least 2")
    top, radius = len(hierarchy.layers) - 1, max(hierarchy.shape)
    spikes = _below(hierarchy, images)
    won = [Traces.of(hierarchy, top, one).winners(most=1, radius=radius)[:1] for one in spikes.split(1)]
    return torch.tensor([w[0][0] % classes if w else -1 for w in won])


def _below(hierarchy: SpikingHierarchy, images: Tensor) -> Tensor:
    """Return the spikes that reach the top layer."""
    times, top = hierarchy.encode(images), len(hierarchy.layers) - 1
    return torch.cat([hierarchy.raise_to(top, spikes_of(hierarchy, part), learning=True) for part in times.split(8)])


def _classes(hierarchy: SpikingHierarchy, images: Tensor, labels: Tensor) -> int:
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.dtype == torch.bool:
        what = f"a tensor of {labels.dtype}" if isinstance(labels, Tensor) else f"a {type(labels).__name__}"
        raise TypeError(f"got {what} as labels; expected whole numbers from 0 on; call .long() on it")
    maps = hierarchy.layers[-1].maps
    if labels.shape != images.shape[:1] or int(labels.min()) < 0 or not 2 <= int(labels.max()) + 1 <= maps:
        raise ValueError(
            f"got labels of shape {tuple(labels.shape)} from {labels.min()} to {labels.max()} for {len(images)} images "
            f"and {maps} maps; expected one an image, at least two classes, and no more classes than maps"
        )
    return int(labels.max()) + 1
