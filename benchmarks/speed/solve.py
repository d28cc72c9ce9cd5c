"""Closed-form solve of an edit: the thin solve through a kept factor beside a dense one for every edit.

Keys of width 3,072 from a mean second moment whose spectrum falls as that of a trained MLP does. Dense: form
`weight C + K K^T` and solve, all in float64, as reference implementations do for every batch. CPU seconds, one thread.
"""

import torch
from torch import Tensor

from benchmarks.figures import Figure, cpu_seconds, main
from mnemotrace.modification.solve import Solver
from mnemotrace.stats.moments import RIDGE, Moments

OUTPUTS = 768


def dense(mean: Tensor, residual: Tensor, keys: Tensor, weight: float) -> Tensor:
    """Solve for the change as the formula is written."""
    return torch.linalg.solve(weight * mean + keys @ keys.T, keys @ residual.T).T


def measure(quick: bool) -> list[Figure]:
    """Time both ways at 1, 100 and 1,000 keys."""
    d = 256 if quick else 3072
    generator = torch.Generator().manual_seed(0)
    scale = torch.logspace(0, -3, d, dtype=torch.float64)
    moments = Moments.of(torch.randn(4 * d, d, generator=generator, dtype=torch.float64) * scale)
    once = cpu_seconds({"factor": lambda: _fresh(moments)}, 1)["factor"]
    solver, mean = Solver.of(moments), moments.mean(ridge=RIDGE)
    figures = [
        Figure("factoring once, CPU s", once, note=f"width {d}, a Cholesky factor, with its condition estimated"),
        Figure("condition number", solver.condition, note=f"ridge {RIDGE}"),
    ]
    for n in (1, 100, 1000):
        keys = (torch.randn(min(n, d), d, generator=generator, dtype=torch.float64) * scale).T
        residual = torch.randn(OUTPUTS, keys.shape[1], generator=generator, dtype=torch.float64)
        left, right = solver.update(residual, keys, weight=float(d))
        wanted = dense(mean, residual, keys, float(d))
        error = float((left @ right - wanted).norm() / wanted.norm())
        spent = cpu_seconds(
            {
                "thin": lambda k=keys, r=residual: solver.update(r, k, weight=float(d)),
                "dense": lambda k=keys, r=residual: dense(mean, r, k, float(d)),
            },
            1 if quick else 3,
        )
        gate, note = (">= 5" if n <= 100 else ""), f"{spent['dense']:.3f} s against {spent['thin']:.3f} s"
        figures += [
            Figure(f"dense / thin, {n} keys", spent["dense"] / spent["thin"], gate, note),
            Figure(f"relative error, {n} keys", error, "<= 1e-10"),
        ]
    return figures


def _fresh(moments: Moments) -> Solver:
    """Factor without what is known already."""
    return Solver.of(Moments(moments.n, moments.first, moments.second))


if __name__ == "__main__":
    main(measure, __doc__)
