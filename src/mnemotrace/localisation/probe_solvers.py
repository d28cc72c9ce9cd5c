r"""Solvers of sparse logistic regression, made interchangeable: same problem in, same objective out.

All solve `min mean log(1 + exp(-y (X w + b))) + penalty |w|_1` with an intercept that costs nothing. That is not what
all of them do by themselves:

* `skglm` (Bertrand et al. 2022): prox-Newton with working sets, a free intercept. The fastest; its first call in a
  process compiles for some ten seconds, which pays only for many or large problems.
* `celer` (Massias et al. 2018): has no intercept for this loss. Ours is one more column of ones whose penalty is 1e-8
  of the others'.
* `fista`: our own (`localisation.fista`), always there, the only one for a GPU.
* `saga`, `liblinear`: of scikit-learn. Liblinear penalises the intercept; its column is scaled by 1000, so that a
  thousandth of the penalty is left.

After each the intercept is set to the best one for its weights, so what is left of such penalties does not count at
first order. `logistic.gap` then bounds how far off any of them is.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.localisation.fista import fista
from mnemotrace.localisation.logistic import intercept

Solution = tuple[Float[Tensor, " d"], float]
Solver = Callable[[Float[Tensor, "n d"], Float[Tensor, " n"], float, Solution | None], Solution]
BACKENDS = ("skglm", "celer", "fista", "saga", "liblinear")
_TOLERANCE, _SCALE = 1e-8, 1000.0


def choose(backend: str, device: torch.device | str = "cpu") -> str:
    """Return the backend that is used: for `auto`, the first of skglm and celer that is installed, else ours.

    Raises:
        ValueError: no such backend, or one that cannot work where the data are.
        ImportError: it is not installed.
    """
    on_cpu = torch.device(device).type == "cpu"
    if backend == "auto":
        return next((name for name in ("skglm", "celer") if on_cpu and find_spec(name)), "fista")
    if backend not in BACKENDS:
        raise ValueError(f"got backend={backend!r}; expected auto, {', '.join(BACKENDS)}")
    package = {"saga": "sklearn", "liblinear": "sklearn"}.get(backend, backend)
    if backend != "fista" and not on_cpu:
        raise ValueError(f"got data on {device} for {backend}; expected the CPU; move them, or take backend='fista'")
    if backend != "fista" and find_spec(package) is None:
        extra = "probes" if package == "sklearn" else "fast-probes"
        raise ImportError(f"got no {package}; expected it for backend={backend!r}; pip install 'mnemotrace[{extra}]'")
    return backend


def solve(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, " n"],
    penalty: float,
    *,
    start: Solution | None = None,
    backend: str = "auto",
) -> Solution:
    """Solve one problem.

    Args:
        x: rows, float64, best standardised: the penalty treats all units alike.
        y: labels, -1 and 1.
        penalty: of the absolute weights, positive.
        start: a solution nearby; scikit-learn's solvers do not use it.
        backend: see `choose`.

    Returns:
        Weights and intercept, on the device of `x`.
    """
    w, b = _SOLVERS[choose(backend, x.device)](x, y, penalty, start)
    return w, intercept(x @ w, y, b)


def _skglm(x: Tensor, y: Tensor, penalty: float, start: Solution | None) -> Solution:
    from skglm.datafits import Logistic  # pyright: ignore[reportMissingImports]
    from skglm.penalties import L1  # pyright: ignore[reportMissingImports]
    from skglm.solvers import ProxNewton  # pyright: ignore[reportMissingImports]

    w, b = (x.new_zeros(x.shape[1]), 0.0) if start is None else start
    first, scores = torch.cat([w, w.new_tensor([b])]).numpy(), (x @ w + b).numpy()
    solver = ProxNewton(tol=_TOLERANCE, max_iter=100, fit_intercept=True)
    with _quiet():
        found = solver.solve(_columns(x), y.numpy(), Logistic(), L1(penalty), first, scores)[0]
    return torch.from_numpy(found[:-1].copy()), float(found[-1])


def _celer(x: Tensor, y: Tensor, penalty: float, start: Solution | None) -> Solution:
    import numpy as np
    from celer.homotopy import celer_path  # pyright: ignore[reportMissingImports]

    weights = np.ones(x.shape[1] + 1)
    weights[-1] = 1e-8
    wide = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    first = None if start is None else torch.cat([start[0], start[0].new_tensor([start[1]])]).numpy()
    options: dict[str, Any] = {"alphas": np.array([penalty * len(y)]), "weights": weights, "coef_init": first}
    with _quiet():
        found = celer_path(_columns(wide), y.numpy(), "logreg", tol=_TOLERANCE, max_iter=100, **options)[1][:, 0]
    return torch.from_numpy(found[:-1].copy()), float(found[-1])


def _fista(x: Tensor, y: Tensor, penalty: float, start: Solution | None) -> Solution:
    return fista(x, y, penalty, start)


def _saga(x: Tensor, y: Tensor, penalty: float, start: Solution | None) -> Solution:
    return _sklearn(x, y, penalty, solver="saga", tol=1e-6, max_iter=5000, random_state=0)


def _liblinear(x: Tensor, y: Tensor, penalty: float, start: Solution | None) -> Solution:
    return _sklearn(
        x, y, penalty, solver="liblinear", tol=_TOLERANCE, max_iter=1000, intercept_scaling=_SCALE, random_state=0
    )


def _sklearn(x: Tensor, y: Tensor, penalty: float, **options: Any) -> Solution:
    from sklearn.linear_model import LogisticRegression

    with _quiet():  # scikit-learn renames `penalty` between 1.5, which needs it, and 1.8, which warns of it
        model = LogisticRegression(penalty="l1", C=1 / (penalty * len(y)), **options).fit(x.numpy(), y.numpy())
    return torch.from_numpy(model.coef_[0].copy()), float(model.intercept_[0])


def _columns(x: Tensor) -> Any:
    import numpy as np

    return np.asfortranarray(x.numpy())


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep solvers from warning that they stopped early: the duality gap says by how much."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


_SOLVERS: dict[str, Solver] = {
    "skglm": _skglm,
    "celer": _celer,
    "fista": _fista,
    "saga": _saga,
    "liblinear": _liblinear,
}
