r"""Synapses between names and features: the published rule, with and without its defect, and three plain ones.

A name has one synapse with each feature. **Reference**: features are events (how often a potential was above its
threshold), and for each event of a feature, with rates :math:`a_+ = 0.007\,\eta`, :math:`a_- = 0.003\,\eta`,

.. math:: C_c \mathrel{+}= a_+ C_c (1 - C_c), \qquad C_{c'} \mathrel{-}= a_- C_{c'} (1 - C_{c'}) \quad (c' \ne c)

for the name :math:`c` that is said. The published code applies the second line to :math:`C_c` again, once for every
other name, and clamps nothing: no other name is ever depressed, and from :math:`\eta \approx 430` on
(:math:`1 + a_+ > 4`, a logistic map) it diverges. Here synapses are clamped to [0, 1] after every event, and `fixed`
does what the text says. **Log-odds**: with the weights :math:`n` of the examples (1 each, or the novelty gain),

.. math:: C_{cf} = \log\frac{n_{cf} + 1}{n_c + 2} - \log\frac{n_f + 1}{n + 2}

**Prototype**: the mean of the name's examples, compared by cosine. **Ridge**: linear regression of names on features,
solved through the `n x n` products of the examples.

Reference: naming by recollection (bendiogene/recollection_hypothesis); Kheradpisheh et al. 2018 for the soft bounds.
Cost: a reference example O(events k d); log-odds and prototype O(k d) a query; ridge O(n^2 d + n^3) once.
"""

# torch.linalg has no types of its own
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

UP, DOWN = 0.007, 0.003  # the published rates
START, SPREAD = 0.575, 0.05  # of a new synapse
MOST = 255  # events of a feature: coding has 15 steps
STRENGTH = 0.1  # of the ridge, in units of the mean squared length of an example


def events(potentials: Float[Tensor, "b t m h w"], *, threshold: float = 10.0) -> Float[Tensor, "b d"]:
    """Count the steps at which each potential is at or above a threshold; `d = m h w`.

    Args:
        potentials: of the readout, one step after another.
        threshold: the published 10.

    Raises:
        ValueError: another number of axes.
    """
    if not isinstance(potentials, Tensor) or potentials.ndim < 3:
        what = tuple(potentials.shape) if isinstance(potentials, Tensor) else type(potentials).__name__
        raise ValueError(f"got potentials {what}; expected (b, t, ...): images, steps, and the readout's own axes")
    return (potentials >= threshold).sum(1).flatten(1).to(potentials.dtype)


def require_events(x: Float[Tensor, "b d"]) -> None:
    """Raise unless features are events.

    Raises:
        ValueError: negative, broken, or very large numbers.
    """
    if not bool(((x >= 0) & (x == x.round()) & (x <= MOST)).all()):
        raise ValueError(
            f"got features from {float(x.min()):.3g} to {float(x.max()):.3g} under a reference rule; expected events, "
            f"whole numbers from 0 to {MOST}; call events(potentials), or take another rule"
        )


def born(d: int, like: Tensor, generator: torch.Generator | None) -> Float[Tensor, " d"]:
    """Return the synapses of a new name: all alike, or spread as published if there is a generator."""
    start = torch.full((d,), START, dtype=like.dtype, device=like.device)
    if generator is None:
        return start
    noise = torch.randn(d, generator=generator, device=generator.device, dtype=like.dtype)
    return (start + SPREAD * noise.to(like.device)).clamp(0, 1)


def potentiate(
    maps: Float[Tensor, "k d"], said: int, events: Float[Tensor, " d"], *, gain: float, fixed: bool
) -> Float[Tensor, "k d"]:
    """Return the synapses after one example of the name `said`.

    Args:
        maps: in [0, 1].
        said: row of the name.
        events: how often each feature was active, whole numbers.
        gain: factor of both rates.
        fixed: depress the other names, rather than the same one once more for each of them.
    """
    up, down = gain * UP, gain * DOWN
    own, others = maps[said], torch.cat([maps[:said], maps[said + 1 :]])
    for event in range(1, int(events.max()) + 1):
        active = events >= event
        own = torch.where(active, _moved(own, up), own)
        if fixed:
            others = torch.where(active, _moved(others, -down), others)
            continue
        for _ in range(len(others)):
            own = torch.where(active, _moved(own, -down), own)
    return torch.cat([others[:said], own[None], others[said:]])


def log_odds(active: Float[Tensor, "k d"], count: Float[Tensor, " k"]) -> Float[Tensor, "k d"]:
    """Return `C`, from the weight of the examples of each name that had a feature, and of all its examples."""
    named = (active + 1) / (count[:, None] + 2)
    any_name = (active.sum(0) + 1) / (count.sum() + 2)
    return named.log() - any_name.log()


def cosines(x: Float[Tensor, "b d"], patterns: Float[Tensor, "k d"]) -> Float[Tensor, "b k"]:
    """Return cosines between rows; 0 where one of them is all zero."""
    return F.normalize(x, dim=1) @ F.normalize(patterns, dim=1).T


def regression(
    x: Float[Tensor, "n d"], names: Int[Tensor, " n"], weight: Float[Tensor, " n"], k: int
) -> Float[Tensor, "k d"]:
    """Return the maps of a ridge regression of one-hot names on features, each example with its weight."""
    root = weight.double().sqrt()[:, None]
    rows, wanted = root * x.double(), root * F.one_hot(names, k)
    inner = rows @ rows.T
    inner.diagonal().add_(STRENGTH * inner.diagonal().mean() + torch.finfo(torch.float64).tiny)
    return (rows.T @ torch.linalg.solve(inner, wanted)).T.to(x)


def _moved(synapses: Tensor, rate: float) -> Tensor:
    return (synapses + rate * synapses * (1 - synapses)).clamp(0, 1)
