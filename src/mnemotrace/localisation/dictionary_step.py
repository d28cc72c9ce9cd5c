r"""One step of training a dictionary: the loss and its gradient, written out, so that only active latents cost.

With rows scaled to :math:`x`, targets :math:`y`, residuals :math:`r = \hat y - y` and `f` prefixes (one, but for
Matryoshka), the loss is

.. math::  \frac{1}{f}\sum_f \frac{\lVert r_f \rVert^2}{n d}
           + \alpha\,\frac{\lVert r + \sum_{j \text{ dead}} z_j d_j \rVert^2}{\lVert r \rVert^2}
           + \left(\frac{L_0}{k} - 1\right)^2

where the second term lets the :math:`k_{aux}` strongest dead latents explain what is left over (AuxK, Gao et al. 2024;
:math:`r` is a constant there) and the third is JumpReLU's only. For an entry of row `i` and latent `j` with
:math:`g = \partial L / \partial \hat y`,

.. math::  \partial_{z} = g_i \cdot d_j, \quad \partial_{d_j} = \sum_i z_{ij} g_i, \quad
           \partial_{W_j} = \sum_i \partial_{z_{ij}} x_i, \quad \partial_{b_e} = \sum_i \partial_{z_{ij}}

Cost: one dense product, `n m d` for the pre-activations; all else `O(n k d)`. A dense step takes five. Memory: `n m`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mnemotrace.localisation.active import Active
from mnemotrace.localisation.dictionary_variants import chosen, threshold_gradient


@dataclass(frozen=True, eq=False)
class Parameters:
    """What is learned, in scaled units; gradients have the same form."""

    encoder: Float[Tensor, "m d"]
    encoder_bias: Float[Tensor, " m"]
    decoder: Float[Tensor, "m d_out"]
    output_bias: Float[Tensor, " d_out"]
    threshold: Float[Tensor, " m"] | None = None

    def tensors(self) -> list[Tensor]:
        """List what there is."""
        some = (self.encoder, self.encoder_bias, self.decoder, self.output_bias, self.threshold)
        return [tensor for tensor in some if tensor is not None]

    def zeros(self) -> "Parameters":
        """Make a gradient to add to."""
        return Parameters(*(torch.zeros_like(tensor) for tensor in self.tensors()))


@dataclass(frozen=True)
class Rule:
    """How latents are chosen and what is paid for.

    Attributes:
        variant: one of `dictionary_variants.TRAINED`.
        k: active latents a row.
        prefixes: sizes of the first latents that reconstruct alone, the last is all.
        bandwidth: of JumpReLU's rectangle.
        alpha: weight of the dead latents' loss.
        spare: how many dead latents a row may explain what is left over with.
    """

    variant: str
    k: int
    prefixes: tuple[int, ...]
    bandwidth: float
    alpha: float
    spare: int


@dataclass(frozen=True, eq=False)
class Step:
    """What one batch gives: gradients, which latents were on, and numbers to report."""

    gradient: Parameters
    on: Bool[Tensor, " m"]
    error: float
    l0: float


def step(
    now: Parameters, x: Float[Tensor, "n d"], y: Float[Tensor, "n d_out"], rule: Rule, dead: Bool[Tensor, " m"]
) -> Step:
    """Compute the loss on a batch and its gradient.

    Args:
        now: the parameters.
        x: rows, scaled and without their bias.
        y: targets, scaled.
        rule: what is chosen.
        dead: latents that have long been off.

    Returns:
        Step; `error` is the squared error a row of the whole dictionary.
    """
    p = torch.addmm(now.encoder_bias, x, now.encoder.T)
    active = chosen(p, rule.variant, rule.k, now.threshold, rule.bandwidth)
    l0 = float(active.on.sum()) / len(x)
    price = 2 * (l0 / rule.k - 1) / (rule.k * len(x))
    gradient, pull = now.zeros(), torch.zeros_like(y)
    ranges = list(zip((0, *rule.prefixes), rule.prefixes, strict=False))
    residuals = _residuals(now, active, y, ranges)
    for (low, high), residual in zip(reversed(ranges), reversed(residuals), strict=True):
        pull.add_(residual, alpha=2 / (y.numel() * len(residuals)))  # what all prefixes with these latents ask of them
        _collect(gradient, now, active.within(low, high), x, pull, bandwidth=rule.bandwidth, price=price)
    gradient.output_bias.copy_(pull.sum(0))
    if rule.alpha and bool(dead.any()):
        _revive(gradient, now, p, x, residual=residuals[-1], rule=rule, dead=dead)
    gradient.decoder.sub_((gradient.decoder * now.decoder).sum(1, keepdim=True) * now.decoder)  # rows keep their length
    return Step(
        gradient=gradient,
        on=torch.zeros_like(dead).index_fill_(0, active.column[active.on], True),
        error=float(residuals[-1].square().sum()) / len(x),
        l0=l0,
    )


def _residuals(now: Parameters, active: Active, y: Tensor, ranges: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Reconstruct from one more range of latents after the other."""
    found = [now.output_bias - y]
    for low, high in ranges:
        found.append(found[-1] + active.within(low, high).sums(now.decoder))
    return found[1:]


def _collect(
    into: Parameters, now: Parameters, active: Active, x: Tensor, pull: Tensor, *, bandwidth: float, price: float
) -> None:
    """Add the gradient of active latents, given that of the reconstruction."""
    by_value = active.dots(now.decoder, pull)
    by_pre = torch.where(active.on, by_value, 0)
    into.encoder.add_(active.spread(by_pre, x))
    into.encoder_bias.add_(active.total(by_pre))
    into.decoder.add_(active.spread(active.values, pull))
    if now.threshold is not None and into.threshold is not None:
        into.threshold.add_(threshold_gradient(active, by_value, now.threshold, bandwidth, price))


def _revive(
    into: Parameters, now: Parameters, p: Tensor, x: Tensor, *, residual: Tensor, rule: Rule, dead: Tensor
) -> None:
    """Add the gradient of the dead latents' loss, which is nobody else's."""
    which = dead.nonzero()[:, 0]
    few = Active.largest(p[:, which], min(rule.spare, len(which)))
    active = Active(which[few.column], few.start, few.before, few.on, len(dead))
    left = residual + active.sums(now.decoder)
    size = residual.square().sum().clamp_min(torch.finfo(residual.dtype).tiny)
    _collect(into, replace(now, threshold=None), active, x, left * (2 * rule.alpha / size), bandwidth=0.0, price=0.0)
