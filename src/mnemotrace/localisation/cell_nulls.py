r"""What concept cells are compared with: shuffled labels, an untrained network, and the layer's random directions.

* *Shuffled labels*, the largest AUROC over units and concepts kept for each shuffle: what choosing the best of so many
  gives by chance. A unit's p is :math:`(1 + |\{s : \max_s \ge x\}|) / (1 + S)`, corrected for all units and concepts
  (Westfall and Young 1993).
* *An untrained network*: what the architecture gives to stimuli that differ anyway. Stronger than shuffling: random
  weights make a unit out of whatever pixels the digits 0 have and others do not.
* *A rotation*: the same space with other axes. What a linear probe reads is the same, exactly, for a ridge penalty does
  not see axes; only what single units hold can be lost. So units that survive are not concept *neurons* but a concept
  that fills the layer, and units that vanish say that the axes matter.

Cost: a product of ranks with labels for each shuffle; `u^3` for a rotation of `u` units.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mnemotrace.core.linalg import random_frame
from mnemotrace.localisation.held_out import Half, Tables
from mnemotrace.localisation.stimuli import members_of

# of the mean variance: enough to solve with dead units, too little to cost accuracy
RIDGE = 1e-3


def shuffle_maxima(half: Half, concepts: Sequence[Tables]) -> Float[Tensor, " p"]:
    """Return the largest AUROC over units and concepts for each shuffle of the labels."""
    found = [half.scores(mixed).mean(0).max() for mixed in concepts]
    return torch.stack(found) if found else torch.zeros(0, dtype=torch.float64)


def rotation(d: int, generator: torch.Generator) -> Float[Tensor, "d d"]:
    """Draw a rotation or reflection, uniformly, in float32, as responses are."""
    return random_frame(d, d, generator=generator, dtype=torch.float32)


def probe_accuracy(
    learn: Float[Tensor, "n u"], concepts: Int[Tensor, " n"], test: Float[Tensor, "m u"], true: Int[Tensor, " m"],
    count: int,
) -> float:  # fmt: skip
    r"""Return the share of test stimuli that ridge regression on one-hot concepts names rightly.

    In closed form, float64: :math:`X^T (X X^T + \lambda I)^{-1} Y` on centred responses, :math:`\lambda` a thousandth
    of the mean eigenvalue. A rotation of the responses changes nothing but rounding.
    """
    mean = learn.double().mean(0)
    x, z = learn.double() - mean, test.double() - mean
    y = members_of(concepts, count).double()
    centred = y - y.mean(0)
    tall = len(x) > x.shape[1]
    gram = x.T @ x if tall else x @ x.T
    gram.diagonal().add_(RIDGE * gram.diagonal().mean() + torch.finfo(torch.float64).tiny)
    solve = torch.linalg.solve
    weight = solve(gram, x.T @ centred) if tall else x.T @ solve(gram, centred)
    return float(((z @ weight + y.mean(0)).argmax(1) == true).double().mean())
