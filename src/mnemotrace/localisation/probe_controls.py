"""What a sparse probe is compared with: few units, all units, random labels, and its test drawn again.

The `k`-sparse curve reads the test rows at every `k`, so its best is no estimate: it is to be looked at, and the probe
itself chooses by other rows. The control learns labels that families have dealt among themselves, with as many units as
the probe has: on the test it can do no better than guessing the frequent label, unless rows leak; on the rows that it
was fitted to it shows how much of anything so many units of so many can learn by heart.

Reference: Hewitt and Liang 2019, Designing and Interpreting Probes with Control Tasks (ours are dealt by family, so a
word's label cannot be learnt in training). Cost: a path and a fit a control; a fit a `k`; five dense fits by L-BFGS.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mnemotrace.localisation.logistic import dense, refit
from mnemotrace.localisation.probe_rows import Rows
from mnemotrace.localisation.probe_solvers import Solution
from mnemotrace.localisation.sparse_path import ClassPath, shares, strongest, walk

_UNITS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_RIDGES = (1.0, 0.1, 1e-2, 1e-3)
_RESAMPLES = 1000


def curve(rows: Rows, paths: Sequence[ClassPath]) -> dict[int, float]:
    """Return the test accuracy with the `k` strongest units of each class, for `k` up to what the paths reach."""
    solutions = [path.solutions for path in paths]
    most = max(int((path[-1][0] != 0).sum()) for path in solutions)
    steps = [k for k in _UNITS if k <= most]
    return {k: _share(rows.right(*_with(rows, solutions, [k] * len(paths)))) for k in steps}


def control(
    rows: Rows, units: Sequence[int], penalties: int, backend: str, generator: torch.Generator
) -> tuple[float, float]:
    """Fit random labels with as many units; returns the accuracy on the test rows and on the training rows."""
    fake = rows.shuffled(generator)
    z, y = fake.z[fake.train], fake.targets[fake.train]
    paths: list[list[Solution]] = []
    for c, most in enumerate(units):
        paths.append([])
        for solution in walk(z, y[:, c], shares(penalties), backend=backend):
            paths[-1].append(solution)
            if int((solution[0] != 0).sum()) >= most:
                break
    w, b = _with(fake, paths, units)
    return _share(fake.right(w, b)), _share(fake.right(w, b, at=fake.train))


def ceiling(rows: Rows) -> float:
    """Test all units, with the ridge that the choosing rows like best."""
    fit, choose = rows.split.fit.to(rows.z.device), rows.split.choose.to(rows.z.device)
    start: Tensor | None = None
    found: list[tuple[float, float]] = []
    for ridge in _RIDGES:
        start = dense(rows.z[fit], rows.targets[fit], ridge=ridge, start=start)
        found.append((_share(rows.right(start[:, :-1], start[:, -1], at=choose)), ridge))
    v = dense(rows.z[rows.train], rows.targets[rows.train], ridge=max(found)[1], start=start)
    return _share(rows.right(v[:, :-1], v[:, -1]))


def interval(right: Bool[Tensor, " m"], family: Int[Tensor, " m"], generator: torch.Generator) -> tuple[float, float]:
    """Return the 2.5th and 97.5th percentile of the accuracy over test families drawn again."""
    names, member = family.unique(return_inverse=True)
    count, hits = torch.bincount(member).double(), torch.bincount(member, weights=right.double())
    drawn = torch.randint(len(names), (_RESAMPLES, len(names)), generator=generator)
    accuracy = hits[drawn].sum(1) / count[drawn].sum(1)
    low, high = accuracy.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high


def _with(
    rows: Rows, paths: Sequence[Sequence[Solution]], units: Sequence[int]
) -> tuple[Float[Tensor, "k d"], Float[Tensor, " k"]]:
    """Fit with the strongest units of each class."""
    z, y = rows.z[rows.train], rows.targets[rows.train]
    fits = [refit(z, y[:, c], strongest(path, k)) for c, (path, k) in enumerate(zip(paths, units, strict=True))]
    return torch.stack([w for w, _ in fits]), z.new_tensor([b for _, b in fits])


def _share(right: Tensor) -> float:
    return float(right.double().mean())
