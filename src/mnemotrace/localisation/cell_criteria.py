r"""What makes a concept cell: a response far above the others, to one concept, sparse; from tables of responses.

A unit *responds* to a concept where the median over the concept's stimuli lies more than k standard deviations above
the mean of the responses to other concepts (Quian Quiroga et al. 2005 take k = 5, against a baseline of silence; a
network has none, so the other concepts are the baseline).

With others as the baseline a second concept raises its own bar: among ten concepts of equal size, a unit that answers
to two by 1 and else 0 has others at 0.11 with a deviation of 0.31, hence 2.8 for each: no unit can pass at 5 for two of
ten. So "one concept and no other" says little at a large k, and more at 2 and 3.

* Selectivity index: :math:`S = (\max - \overline{rest}) / (\max + \overline{rest})` of mean responses a concept
  (Morcos et al. 2018), 1 for a unit that knows one concept only.
* Lifetime sparseness: :math:`a = (1 - \bar r^2 / \overline{r^2}) / (1 - 1/n)` (Treves and Rolls 1991, in the form of
  Vinje and Gallant 2000), 0 for a unit that always responds alike, 1 for one that responds to a single stimulus.
* Population L0: the share of units above zero, mean over stimuli.

The last three are for rates, which have no sign: responses below zero count as none, and a unit that never responds
has 0. Cost: a sort a unit and concept.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mnemotrace.core.linalg import require_finite
from mnemotrace.localisation.stimuli import members_of

USUAL = (2.0, 3.0, 5.0)


def deviations(values: Float[Tensor, "n u"], concepts: Int[Tensor, " n"], count: int) -> Float[Tensor, "u k"]:
    """Say how far the median of each concept lies above the mean of the others, in their standard deviations.

    Args:
        values: response of each unit to each stimulus.
        concepts: of each stimulus, from 0.
        count: how many concepts there are; each with at least one stimulus, and two that are of another.

    Returns:
        `(u, k)` in float64; infinite where the others all respond alike and the median lies above them, 0 where it
        does not.

    Raises:
        ValueError: other sizes, a concept that is not there, or with too few others.
        NonFiniteError: NaN or infinity in the values.
    """
    member = members(values, concepts, count)
    own = member.sum(0)
    if int((len(values) - own).min()) < 2:  # noqa: PLR2004
        raise ValueError(f"got {len(values)} stimuli; expected at least two that are not of a concept; give more")
    # about their mean, so that the squares do not cancel
    centred = values.double() - values.double().mean(0)
    sums, squares = centred.T @ member, centred.square().T @ member
    others = len(values) - own
    mean = (centred.sum(0)[:, None] - sums) / others
    spread = (squares.sum(1)[:, None] - squares - others * mean.square()) / (others - 1)
    # what is left of equal values by rounding is no spread
    floor = 1e-12 * squares.sum(1)[:, None] / len(values)
    above = medians(centred, concepts, count) - mean
    scaled = above / spread.clamp(min=0).sqrt()
    return torch.where(spread > floor, scaled, torch.where(above > floor.sqrt(), torch.inf, 0.0))


def medians(values: Float[Tensor, "n u"], concepts: Int[Tensor, " n"], count: int) -> Float[Tensor, "u k"]:
    """Return the median response to each concept, the mean of the middle two where their number is even."""
    found: list[Tensor] = []
    for concept in range(count):
        ordered = values[concepts == concept].sort(0).values
        half = len(ordered) // 2
        found.append((ordered[half] + ordered[(len(ordered) - 1) // 2]) / 2)
    return torch.stack(found, 1)


def passing(deviated: Float[Tensor, "u k"], bounds: Sequence[float] = USUAL) -> Int[Tensor, "u b"]:
    """Count for each unit the concepts to which it responds by more than each bound."""
    return torch.stack([(deviated > bound).sum(1) for bound in bounds], 1)


def selectivity(values: Float[Tensor, "n u"], concepts: Int[Tensor, " n"], count: int) -> Float[Tensor, " u"]:
    """Compute the selectivity index of each unit, from 0 to 1.

    Raises:
        ValueError: other sizes, or a concept that is not there.
        NonFiniteError: NaN or infinity in the values.
    """
    member = members(values, concepts, count)
    means = values.double().clamp(min=0).T @ member / member.sum(0)
    best = means.amax(1)
    rest = (means.sum(1) - best) / (count - 1)
    return (best - rest) / (best + rest).clamp(min=torch.finfo(torch.float64).tiny)


def lifetime_sparseness(values: Float[Tensor, "n u"]) -> Float[Tensor, " u"]:
    """Compute the lifetime sparseness of each unit, from 0 to 1.

    Raises:
        ValueError: fewer than two stimuli.
        NonFiniteError: NaN or infinity in the values.
    """
    if values.ndim != 2 or len(values) < 2:  # noqa: PLR2004
        raise ValueError(f"got values {tuple(values.shape)}; expected (n, u) of at least two stimuli")
    require_finite(values, "values")
    rates = values.double().clamp(min=0)
    square = rates.square().mean(0)
    alike = rates.mean(0).square() / square.clamp(min=torch.finfo(torch.float64).tiny)
    found = (1 - alike) / (1 - 1 / len(values))
    return torch.where(square > 0, found, 0.0)


def population_share(values: Float[Tensor, "n u"]) -> float:
    """Compute the share of units above zero, mean over stimuli."""
    return float((values > 0).double().mean())


def members(values: Tensor, concepts: Tensor, count: int) -> Tensor:
    """Return `(n, k)` in float64, 1 where a stimulus is of a concept.

    Raises:
        ValueError: other sizes, fewer than two concepts, or one that is not there.
        NonFiniteError: NaN or infinity in the values.
    """
    if values.ndim != 2 or concepts.shape != values.shape[:1] or count < 2:  # noqa: PLR2004
        raise ValueError(
            f"got values {tuple(values.shape)}, concepts {tuple(concepts.shape)} and {count} concepts; expected "
            "(n, u), (n,) and at least two"
        )
    require_finite(values, "values")
    found = members_of(concepts.to(values.device), count)
    missing = (~found.any(0)).nonzero()
    if len(missing):
        raise ValueError(
            f"got no stimulus of concept {int(missing[0, 0])}; expected at least one of each; leave it out"
        )
    return found.double()
