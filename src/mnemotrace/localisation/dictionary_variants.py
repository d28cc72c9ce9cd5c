r"""Variants of dictionaries: which latents of a batch are active, and how a threshold is learned.

* **TopK** (Gao et al. 2024): the `k` largest of each row.
* **BatchTopK** (Bussmann et al. 2024): the `n k` largest of the batch, so that a rich row gets more. Outside training
  there is no batch: a latent is on above the mean, over batches, of the smallest that was kept.
* **Matryoshka** (Bussmann et al. 2025): BatchTopK whose first latents must reconstruct alone: the loss is the mean over
  prefixes.
* **JumpReLU** (Rajamanoharan et al. 2024): each latent has its own threshold :math:`\theta_j`. The step has no
  gradient, so a rectangle of width :math:`\varepsilon` stands for its derivative: within it,
  :math:`\partial z / \partial\theta \approx -\theta / \varepsilon` and
  :math:`\partial \mathbb 1[p > \theta] / \partial\theta \approx -1 / \varepsilon`. Active latents cost
  :math:`(L_0 / k - 1)^2`, so `k` means what it means elsewhere.

The `n k` largest are found without a sort of the batch: a bound from a sample of entries, the entries above it, and the
exact smallest among these. They are the same entries as a whole sort gives, in a quarter of its time.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.localisation.active import Active

TRAINED = ("topk", "batch_topk", "jump_relu", "matryoshka")
_SAMPLE, _SPARE = 2**18, 1.2


def chosen(
    p: Float[Tensor, "n m"], variant: str, k: int, threshold: Tensor | None = None, bandwidth: float = 0.0
) -> Active:
    """Choose the active latents of a batch while training.

    Args:
        p: pre-activations.
        variant: one of `TRAINED`.
        k: latents a row.
        threshold: of each latent, `(m,)`, for `jump_relu`.
        bandwidth: width of the rectangle; latents within it count for thresholds, on or off.
    """
    if variant == "topk":
        return Active.largest(p, k)
    if threshold is None:
        return largest_of_batch(p, k)
    near = Active.of((p > (threshold - bandwidth / 2).clamp_min(0)).view(-1).nonzero()[:, 0], p)
    return Active(near.column, near.start, near.before, near.before > threshold[near.column], near.width)


def largest_of_batch(p: Float[Tensor, "n m"], k: int) -> Active:
    """Take the `n k` largest positive entries of a batch; of equal ones at the end, all."""
    flat, want = p.view(-1), len(p) * k
    some = flat[:: max(1, flat.numel() // _SAMPLE) | 1]
    share = _SPARE * want / flat.numel()
    while True:
        rank = int(len(some) * share) + 1
        bound = some.topk(rank).values[-1].clamp_min(0) if rank < len(some) else flat.new_zeros(())
        place = (flat > bound).nonzero()[:, 0]
        if len(place) >= want or bound == 0:
            break
        share *= 2
    if len(place) > want:
        above = flat[place]
        place = place[above >= above.kthvalue(len(above) - want + 1).values]
    return Active.of(place, p)


def threshold_gradient(
    active: Active, value_gradient: Float[Tensor, " e"], threshold: Float[Tensor, " m"], bandwidth: float, price: float
) -> Float[Tensor, " m"]:
    """Give the gradient of thresholds, with a rectangle for the derivative of the step.

    Args:
        active: with the entries that are off, within the rectangle.
        value_gradient: of the loss by the value of each entry.
        threshold: of each latent.
        bandwidth: width of the rectangle, in units of pre-activations.
        price: of one more active entry.
    """
    own = threshold[active.column]
    inside = (active.before - own).abs() < bandwidth / 2
    return active.total(torch.where(inside, -(own * value_gradient + price) / bandwidth, 0))


def prefixes_of(m: int, k: int) -> tuple[int, ...]:
    """Give a quarter, half and all of `m`, but nothing below `k`: sizes of Matryoshka's prefixes."""
    return (*(size for size in (m // 4, m // 2) if size >= k), m)
