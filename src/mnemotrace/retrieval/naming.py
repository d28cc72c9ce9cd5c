r"""From a name to a picture: its features, sent back down a spiking hierarchy.

A name calls features :math:`f` of the last layer, `(maps, height, width)`; what all things share is the background
:math:`m`. With the weights :math:`W_l` less their mean over maps (all weights are positive: without that every picture
is the same blur), each layer goes

.. math:: g_l = \operatorname{win}\bigl(\bar W_{l}^T\, \operatorname{unpool}(g_{l+1})\bigr), \qquad g_L = f - m,

backwards as it goes forwards: at each place the strongest map wins, and only if it is positive. Of the units below the
last layer only the `top` strongest are kept, for the last layer's features have hardly any place left. A pool puts its
signal at the middle of the window, the lowest one over all of it. No trace of any image is used, so this recalls a
prototype and not the example; for that, see `recollect` with a trace.

Cost: one transposed convolution a layer.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

from mnemotrace.core.linalg import require_finite
from mnemotrace.memories.spiking import SpikingHierarchy


class Names(Protocol):
    """What recalls features from a name: a `Namer`."""

    @property
    def recall(self) -> Callable[[Any], Tensor]:
        """Return the features of a name, `(d,)`."""
        ...


def picture(
    names: Names,
    hierarchy: SpikingHierarchy,
    name: Any,
    *,
    background: Float[Tensor, " d"] | None = None,
    top: int = 12,
) -> Float[Tensor, "h w"]:
    """Recall a picture from a name. Two controls belong beside it: another name, and the background itself.

    Args:
        names: a namer that learnt from the last layer, `potentials(images)[:, -1].flatten(1)`, or from events of it.
        hierarchy: that the features come from.
        name: one that was learnt.
        background: mean of unlabelled features; None takes nothing off.
        top: how many units below the last layer are kept.

    Returns:
        Contrasts, in the shape of the hierarchy's images; only their pattern means something. See `grey`.

    Raises:
        ValueError: an unknown name, or what `descend` refuses.
        NonFiniteError: NaN or infinity.
    """
    features = names.recall(name)
    return descend(features if background is None else features - background.to(features), hierarchy, top=top)


@torch.no_grad()
def descend(features: Float[Tensor, " d"], hierarchy: SpikingHierarchy, *, top: int = 12) -> Float[Tensor, "h w"]:
    """Send features of the last layer back down to an image.

    Raises:
        ValueError: features of another size than the last layer, or fewer than one unit to keep.
        NonFiniteError: NaN or infinity.
    """
    sizes, last = _sizes(hierarchy), len(hierarchy.layers) - 1
    maps, (h, w) = hierarchy.layers[last].maps, sizes[last]
    if features.numel() != maps * h * w or top < 1:
        raise ValueError(
            f"got features of shape {tuple(features.shape)} and top={top}; expected {maps * h * w} numbers, {maps} "
            f"maps of {h} x {w}, and at least 1; learn from potentials(images)[:, -1].flatten(1)"
        )
    require_finite(features, "the features")
    g = features.detach().reshape(1, maps, h, w).to(hierarchy.weights[last])
    for layer in range(last, -1, -1):
        weight = hierarchy.weights[layer]
        g = F.conv_transpose2d(g, weight - weight.mean(0, keepdim=True), padding=weight.shape[-1] // 2)
        if layer == 0:
            break
        g = g.clamp_min(0) * (g == g.amax(1, keepdim=True))
        g = _strongest(g, top) if layer == last else g
        below = hierarchy.layers[layer - 1]
        if below.pool:
            g = F.interpolate(g, size=sizes[layer - 1]) if layer == 1 else _centred(g, below.stride, sizes[layer - 1])
    return g[0, 0]


def grey(contrasts: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b h w"]:
    """Turn contrasts into grey values, 0 to 255, no contrast at 128: to look at, or for the hierarchy to read."""
    largest = contrasts.abs().amax((-2, -1), keepdim=True)
    return (128 + 127 * contrasts / torch.where(largest > 0, largest, 1.0)).clamp(0, 255)


def _sizes(hierarchy: SpikingHierarchy) -> list[tuple[int, int]]:
    """Return height and width of each layer's neurons; convolutions keep them, pools divide by their stride."""
    sizes = [hierarchy.shape]
    for layer in hierarchy.layers[:-1]:
        h, w = sizes[-1]
        sizes.append(((h - 1) // layer.stride + 1, (w - 1) // layer.stride + 1) if layer.pool else (h, w))
    return sizes


def _strongest(g: Tensor, top: int) -> Tensor:
    flat = g.flatten(1)
    value, index = flat.topk(min(top, flat.shape[1]), 1)
    return torch.zeros_like(flat).scatter_(1, index, value).view_as(g)


def _centred(g: Tensor, stride: int, size: tuple[int, int]) -> Tensor:
    """Put each unit at the middle of its window: windows are padded by half, so that is where they start."""
    out = g.new_zeros(*g.shape[:2], *size)
    out[:, :, ::stride, ::stride] = g
    return out
