"""Sparse logistic regression by every solver that is installed: one problem, and a path of twenty, warm-started.

n 2000, d 512, eight planted units. P2: what `auto` takes, wrapped as we call it, over the fastest backend installed,
both after a first call: skglm compiles for some ten seconds in each process, which is reported beside. A path ends at a
fiftieth of the largest penalty. skglm and celer are optional (`pip install 'mnemotrace[fast-probes]'`).
"""

import time
from collections.abc import Callable

from torch import Tensor

from benchmarks.figures import Figure, cpu_seconds, main
from benchmarks.papers.probes import installed, planted
from mnemotrace.localisation.logistic import gap, lambda_max
from mnemotrace.localisation.probe_solvers import choose, solve
from mnemotrace.localisation.sparse_path import shares, walk


def path(x: Tensor, y: Tensor, backend: str) -> Callable[[], list[tuple[Tensor, float]]]:
    """Return what solves a whole path."""
    return lambda: list(walk(x, y, shares(20), backend=backend))


def compared(title: str, runs: dict[str, Callable[[], object]], repeats: int, note: str = "") -> list[Figure]:
    """Time each backend; P2 is the one that `auto` takes over the fastest."""
    spent = cpu_seconds(runs, repeats, warm=False)
    best, auto = min(spent, key=lambda name: spent[name]), choose("auto")
    gate = f"auto is {auto}, {1000 * spent[auto]:.1f} ms; fastest {best}, {1000 * spent[best]:.1f} ms{note}"
    return [
        Figure(f"P2 {title}: auto over the fastest", spent[auto] / spent[best], "<= 1.3", gate),
        *(Figure(f"{title}: milliseconds of {name}", 1000 * value) for name, value in spent.items()),
    ]


def measure(quick: bool) -> list[Figure]:
    """Time one problem and one path."""
    x, _, labels = planted(*((300, 64) if quick else (2000, 512)))
    y = 2.0 * labels.double() - 1
    penalty = 0.15 * lambda_max(x, y)
    names = [name for name in installed() if not (quick and name in ("skglm", "saga"))]
    figures: list[Figure] = []
    for name in names:
        started = time.process_time()
        w, b = solve(x, y, penalty, backend=name)
        first = time.process_time() - started
        note = f"duality gap {gap(x, y, w, b, penalty=penalty):.1e}, {int((w != 0).sum())} units"
        figures.append(Figure(f"first call of {name}, seconds", first, "", note))
    one = {name: lambda name=name: solve(x, y, penalty, backend=name) for name in names}
    figures += compared("one problem", one, 1 if quick else 9)
    warm = [name for name in names if name in ("skglm", "celer", "fista")]
    return [*figures, *compared("path of twenty", {name: path(x, y, name) for name in warm}, 1 if quick else 3)]


if __name__ == "__main__":
    main(measure, __doc__)
