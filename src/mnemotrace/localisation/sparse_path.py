r"""Sparse probes along their path: from no unit to many, the penalty that unseen rows choose, and `k` units of a path.

Penalties fall geometrically from :math:`\lambda_{max}` to a fiftieth; each problem starts at the last one's solution.
Of the losses on unseen rows the least has a standard error, and the *largest* penalty within one of it is chosen:
fewest units that are no worse than the best as far as can be told (Breiman et al. 1984, Hastie et al. 2009, 7.10).

The `k`-sparse probe takes the first penalty with at least `k` units, their `k` largest weights, and fits again
without the penalty. Its accuracy over `k` beside the ceiling of all units shows how far a concept is spread.

Cost: a solve a penalty, far cheaper than alone because each starts near its end.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mnemotrace.localisation.logistic import lambda_max, loss, refit
from mnemotrace.localisation.probe_rows import Rows
from mnemotrace.localisation.probe_solvers import Solution, solve

LEAST = 0.02


@dataclass(frozen=True)
class Path:
    """One path of each class.

    Attributes:
        penalties: falling, as shares of each class's largest.
        units: used at each penalty.
        loss: mean on unseen rows.
        error: its standard error over families of rows.
        chosen: which penalty, by class.
    """

    penalties: Float[Tensor, " p"]
    units: Float[Tensor, "k p"]
    loss: Float[Tensor, "k p"]
    error: Float[Tensor, "k p"]
    chosen: tuple[int, ...]

    @classmethod
    def of(cls, paths: Sequence["ClassPath"], penalties: Sequence[float]) -> "Path":
        """Put the paths of classes side by side."""
        units = [[float((w != 0).sum()) for w, _ in path.solutions] for path in paths]
        loss, error = (torch.stack([getattr(path, name) for path in paths]).float().cpu() for name in ("loss", "error"))
        return cls(torch.tensor(penalties), torch.tensor(units), loss, error, tuple(path.chosen for path in paths))


@dataclass(frozen=True, eq=False)
class ClassPath:
    """One class against the rest: solutions on all training rows, which was chosen, and it without the penalty."""

    solutions: list[Solution]
    loss: Float[Tensor, " p"]
    error: Float[Tensor, " p"]
    chosen: int
    penalty: float
    debiased: Solution

    @property
    def weights(self) -> Float[Tensor, " d"]:
        """Weights of the chosen solution, shrunk by its penalty."""
        return self.solutions[self.chosen][0]


def class_path(rows: Rows, c: int, penalties: int, backend: str) -> ClassPath:
    """Choose a penalty for a class by its path on the rows to fit on, then solve the path on all training rows."""
    y, fit, choose = rows.targets[:, c], rows.split.fit.to(rows.z.device), rows.split.choose.to(rows.z.device)
    first = list(walk(rows.z[fit], y[fit], shares(penalties), backend=backend))
    mean, error = unseen(first, rows.z[choose], y[choose], rows.split.family.to(rows.z.device)[choose])
    chosen = one_standard_error(mean, error)
    z, y = rows.z[rows.train], y[rows.train]
    solutions = list(walk(z, y, shares(penalties), backend=backend))
    debiased = refit(z, y, solutions[chosen][0] != 0)
    return ClassPath(solutions, mean, error, chosen, shares(penalties)[chosen] * lambda_max(z, y), debiased)


def shares(penalties: int) -> list[float]:
    """Return the penalties of a path as shares of the largest."""
    return [LEAST ** (i / (penalties - 1)) for i in range(penalties)]


def walk(
    x: Float[Tensor, "n d"], y: Float[Tensor, " n"], penalties: Sequence[float], *, backend: str
) -> Iterator[Solution]:
    """Solve from the largest penalty down, each from the last solution; `penalties` are shares of the largest."""
    most, start = lambda_max(x, y), None
    for share in penalties:
        # at the largest penalty the first unit is about to enter: rounding must not let it
        start = solve(x, y, max(share * most, 1e-12) * (1 + 1e-9), start=start, backend=backend)
        yield start


def unseen(
    solutions: Sequence[Solution], x: Float[Tensor, "n d"], y: Float[Tensor, " n"], family: Tensor
) -> tuple[Float[Tensor, " p"], Float[Tensor, " p"]]:
    """Return the mean loss of solutions on unseen rows, and its standard error over families (`(n,)` from 0)."""
    each = torch.stack([loss(x, y, w, b) for w, b in solutions])
    rows = torch.bincount(family).to(each)
    excess = each - each.mean(1, keepdim=True)
    by_family = torch.zeros(len(each), len(rows), dtype=each.dtype, device=each.device).index_add_(1, family, excess)
    count = int((rows > 0).sum())
    spread = by_family.square().sum(1) * count / max(count - 1, 1)
    return each.mean(1), spread.sqrt() / len(y)


def one_standard_error(mean: Float[Tensor, " p"], error: Float[Tensor, " p"]) -> int:
    """Return the first, so sparsest, place whose loss is within a standard error of the least."""
    best = int(mean.argmin())
    return int((mean <= mean[best] + error[best]).nonzero()[0])


def strongest(solutions: Sequence[Solution], k: int) -> Bool[Tensor, " d"]:
    """Return the `k` strongest units at the first penalty that uses so many; all of the last where none does."""
    w = next((w for w, _ in solutions if int((w != 0).sum()) >= k), solutions[-1][0])
    units = torch.zeros(len(w), dtype=torch.bool, device=w.device)
    units[w.abs().topk(min(k, int((w != 0).sum()))).indices] = True
    return units
