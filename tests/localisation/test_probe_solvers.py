"""All solvers solve one problem: same objective, same units; the gap proves it without any of them."""

from importlib.util import find_spec

import pytest
import torch

from mnemotrace.localisation.fista import fista
from mnemotrace.localisation.logistic import gap, lambda_max, objective
from mnemotrace.localisation.probe_solvers import BACKENDS, choose, solve


def planted(n: int = 200, d: int = 40, correlated: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(3)
    x = torch.randn(n, d, generator=source, dtype=torch.float64)
    shared = torch.randn(n, 3, generator=source, dtype=torch.float64)
    x = x + correlated * shared @ torch.randn(3, d, generator=source, dtype=torch.float64)
    chance = torch.sigmoid(2 * x[:, 0] - 2 * x[:, 1] + 1.5)
    y = torch.where(torch.rand(n, generator=source, dtype=torch.float64) < chance, 1.0, -1.0).double()
    return (x - x.mean(0)) / x.std(0), y


def installed(backend: str) -> bool:
    return backend == "fista" or find_spec({"skglm": "skglm", "celer": "celer"}.get(backend, "sklearn")) is not None


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_installed_solver_reaches_the_same_objective(backend: str) -> None:
    if not installed(backend):
        pytest.skip(f"{backend} is not installed")
    x, y = planted()
    penalty = 0.2 * lambda_max(x, y)
    w, b = solve(x, y, penalty, backend=backend)
    ours, free = fista(x, y, penalty)
    assert objective(x, y, w, b, penalty=penalty) == pytest.approx(
        objective(x, y, ours, free, penalty=penalty), abs=1e-6
    )
    assert torch.equal(w.abs() > 1e-6, ours.abs() > 1e-6)


@pytest.mark.parametrize(("correlated", "share"), [(0.0, 0.5), (0.0, 0.01), (3.0, 0.3), (3.0, 0.01)])
def test_our_solver_closes_the_gap(correlated: float, share: float) -> None:
    x, y = planted(correlated=correlated)
    penalty = share * lambda_max(x, y)
    w, b = fista(x, y, penalty)
    assert 0 <= gap(x, y, w, b, penalty=penalty) + 1e-12 <= 1e-9 + 1e-12


def test_slopes_of_unused_units_are_below_the_penalty_and_of_used_ones_equal_to_it() -> None:
    x, y = planted(correlated=1.0)
    penalty = 0.1 * lambda_max(x, y)
    w, b = fista(x, y, penalty, tolerance=1e-14)
    slope = -x.T @ (y * torch.sigmoid(-y * (x @ w + b))) / len(y)
    used = w != 0
    assert 1 < int(used.sum()) < 40
    assert torch.allclose(slope[used], -penalty * w[used].sign(), atol=1e-6)
    assert float(slope[~used].abs().max()) <= penalty + 1e-6


def test_where_it_starts_does_not_matter() -> None:
    x, y = planted()
    penalty = 0.1 * lambda_max(x, y)
    cold = fista(x, y, penalty)
    warm = fista(x, y, penalty, (torch.ones(40, dtype=torch.float64), -3.0))
    assert torch.allclose(cold[0], warm[0], atol=1e-4) and cold[1] == pytest.approx(warm[1], abs=1e-4)


def test_the_best_installed_is_chosen_on_the_cpu_and_ours_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    there: set[str] = set()
    monkeypatch.setattr("mnemotrace.localisation.probe_solvers.find_spec", lambda name: name if name in there else None)
    assert choose("auto") == "fista"
    there |= {"celer", "sklearn"}
    assert choose("auto") == "celer"
    there.add("skglm")
    assert choose("auto") == "skglm" and choose("auto", "cuda:0") == "fista"
    assert choose("saga") == "saga"
    there.clear()
    with pytest.raises(ImportError, match=r"got no skglm; .* pip install 'mnemotrace\[fast-probes\]'"):
        choose("skglm")
    with pytest.raises(ImportError, match=r"got no sklearn; .* pip install 'mnemotrace\[probes\]'"):
        choose("liblinear")
    with pytest.raises(ValueError, match="got data on cuda:0 for celer; expected the CPU; move them, or take"):
        choose("celer", "cuda:0")
    with pytest.raises(ValueError, match="got backend='lars'; expected auto, skglm, celer"):
        choose("lars")


@pytest.mark.gpu
def test_our_solver_runs_on_a_gpu() -> None:
    x, y = planted()
    penalty = 0.2 * lambda_max(x, y)
    w, b = solve(x.cuda(), y.cuda(), penalty)
    assert torch.allclose(w.cpu(), fista(x, y, penalty)[0], atol=1e-5)
