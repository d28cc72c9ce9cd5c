r"""Stability selection: how often each unit is chosen again, when a probe sees only half of the families.

A unit that is used by a probe of all rows may owe it to a few of them; one of many that say the same is chosen by
chance. Fitted on random halves, a stable unit comes back nearly always, and an unstable one does not. Halves come in
pairs without a family in common, so that chance agreement is not inflated.

Of units that chance alone would choose with frequency below one half, the number with frequency above
:math:`\pi > 1/2` is expected to be at most :math:`q^2 / ((2\pi - 1) d)`, with `q` units used on average.

Reference: Meinshausen and Bühlmann 2010, Stability Selection, theorem 1; pairs by Shah and Samworth 2013. Cost: one
warm-started solve a half.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mnemotrace.localisation.probe_solvers import Solution, solve


def stability(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, " n"],
    penalty: float,
    *,
    family: Int[Tensor, " n"] | None = None,
    subsamples: int = 50,
    start: Solution | None = None,
    backend: str = "auto",
    generator: torch.Generator | None = None,
) -> Float[Tensor, " d"]:
    """Return how often each unit is used by probes of random halves.

    Args:
        x: rows, float64, standardised.
        y: labels, -1 and 1.
        penalty: the same for all halves.
        family: of each row; a half has families whole. None: every row is its own.
        subsamples: how many halves, 50 as in the reference.
        start: a solution on all rows.
        backend: see `probe_solvers.choose`.
        generator: of the halves; None is one of seed 0.

    Returns:
        Frequencies, 0 to 1; a half with one label only uses no unit.
    """
    source = torch.Generator().manual_seed(0) if generator is None else generator
    family = torch.arange(len(y)) if family is None else family.cpu()
    names = family.unique()
    used = torch.zeros(x.shape[1], dtype=torch.float64, device=x.device)
    for turn in range(subsamples):
        if turn % 2 == 0:
            order = names[torch.randperm(len(names), generator=source)]
            halves = order[: len(order) // 2], order[len(order) // 2 :]
        rows = torch.isin(family, halves[turn % 2]).nonzero()[:, 0].to(x.device)  # pyright: ignore[reportPossiblyUnboundVariable]
        if len(y[rows].unique()) > 1:
            used += solve(x[rows], y[rows], penalty, start=start, backend=backend)[0] != 0
    return used / max(subsamples, 1)


def false_units(frequency: Float[Tensor, " d"], threshold: float = 0.9) -> float:
    """Bound the expected number of false units above a frequency threshold.

    Raises:
        ValueError: a threshold that is not above one half.
    """
    if not 0.5 < threshold <= 1:  # noqa: PLR2004
        raise ValueError(f"got threshold={threshold}; expected more than 0.5, at most 1; the bound is void below")
    return float(frequency.sum()) ** 2 / ((2 * threshold - 1) * len(frequency))
