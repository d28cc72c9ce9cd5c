r"""Latency code: an image becomes spikes, the strongest contrast first.

.. math::
   c = G_{\sigma_1} * x - G_{\sigma_2} * x, \qquad s(c) = \left\lceil r(c)\, k / n \right\rceil ,

where :math:`r` is the rank (0, 1, ...) of a contrast among the :math:`n` of an image that reach the threshold, and
:math:`k` the number of bins. Every pixel spikes once or never, and each bin after the first holds the same number of
spikes whatever the illumination; by this definition step 0 holds the one strongest pixel. Equal contrasts keep the
order of the pixels. A single centre polarity is coded, as published.

Reference: Kheradpisheh et al. 2018, section 2.1; Thorpe and Gautrais 1998.
Cost: one small convolution and one sort an image.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Bool, Float, Int
from torch import Tensor


def difference_of_gaussians(size: int = 7, *, narrow: float = 1.0, wide: float = 2.0) -> Float[Tensor, "size size"]:
    """Build an on-centre filter: zero mean, largest value 1, float64.

    Args:
        size: width of the window, odd, in pixels.
        narrow: standard deviation of the centre, in pixels.
        wide: that of the surround; larger.

    Raises:
        ValueError: an even window, or deviations that are not `0 < narrow < wide`.
    """
    if size < 3 or size % 2 == 0 or not 0 < narrow < wide:
        raise ValueError(
            f"got size={size}, narrow={narrow}, wide={wide}; expected an odd size of at least 3 and 0 < narrow < wide"
        )
    x = torch.arange(size, dtype=torch.float64) - size // 2
    squares = x[:, None] ** 2 + x**2
    values = (-squares / (2 * narrow**2)).exp() / narrow - (-squares / (2 * wide**2)).exp() / wide
    values = values - values.mean()
    return values / values.max()


def contrasts(
    images: Float[Tensor, "b h w"], kernel: Float[Tensor, "size size"], *, threshold: float, border: int = 5
) -> Float[Tensor, "b h w"]:
    """Filter images; what stays below the threshold, or lies in the border, becomes 0.

    Args:
        images: grey values.
        kernel: `difference_of_gaussians`.
        threshold: smallest contrast that is coded, in grey values.
        border: rows and columns at the edges that are not coded, because the filter sees the padding there.
    """
    padding = len(kernel) // 2
    filtered = F.conv2d(images[:, None], kernel.to(images)[None, None], padding=padding)[:, 0]
    inside = torch.zeros_like(filtered[0], dtype=torch.bool)
    inside[border : inside.shape[0] - border, border : inside.shape[1] - border] = True
    return filtered.where(inside & (filtered >= threshold), filtered.new_zeros(()))


def rank_bins(strength: Float[Tensor, "b *space"], bins: int) -> Int[Tensor, "b *space"]:
    """Turn strengths into steps `0 ... bins`, the strongest first; where there is none, the step is `bins + 1` (never).

    Raises:
        ValueError: fewer than one bin.
    """
    if bins < 1:
        raise ValueError(f"got bins={bins}; expected at least 1; give more steps than the hierarchy has stages")
    rows = strength.flatten(1)
    count = (rows > 0).sum(1, keepdim=True)
    order = torch.sort(rows, dim=1, descending=True, stable=True).indices
    rank = torch.arange(rows.shape[1], device=rows.device).expand_as(rows)
    step = torch.ceil(rank.double() * bins / count.clamp(min=1)).clamp(max=bins).to(torch.uint8)
    step = torch.where(rank < count, step, torch.full_like(step, bins + 1))
    return torch.empty_like(step).scatter_(1, order, step).view_as(strength)


def trains_of(times: Int[Tensor, "b *units"], steps: int) -> Bool[Tensor, "b t *units"]:
    """Return the spikes at each of `steps` steps, from the step at which each unit spikes; `steps` or more is never."""
    at = torch.arange(steps, dtype=times.dtype, device=times.device)
    return times[:, None] == at.view(1, -1, *[1] * (times.ndim - 1))
