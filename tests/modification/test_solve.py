"""The thin solve equals the dense one to ten digits, on second moments as ill-conditioned as trained ones."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.modification.solve import Solver
from mnemotrace.stats.moments import RIDGE, Moments

D, OUT = 48, 20


def _rows(generator: torch.Generator, n: int = 2000, d: int = D) -> torch.Tensor:
    """Rows whose second moment falls over six decades, as in trained MLPs and further."""
    scale = torch.logspace(0, -3, d, dtype=torch.float64)
    return torch.randn(n, d, generator=generator, dtype=torch.float64) * scale


def _problem(generator: torch.Generator, n: int) -> tuple[Moments, torch.Tensor, torch.Tensor]:
    keys = _rows(generator, n).T
    return Moments.of(_rows(generator)), torch.randn(OUT, n, generator=generator, dtype=torch.float64), keys


def _dense(moments: Moments, residual: torch.Tensor, keys: torch.Tensor, weight: float, ridge: float) -> torch.Tensor:
    mean = moments.mean(ridge=ridge)
    return torch.linalg.solve(weight * mean + keys @ keys.T, keys @ residual.T).T


@pytest.mark.parametrize("n", [1, 5, D - 1, D, 3 * D])
def test_the_thin_solve_equals_the_dense_one(generator: torch.Generator, n: int) -> None:
    moments, residual, keys = _problem(generator, n)
    left, right = Solver.of(moments).update(residual, keys, weight=7.0)
    wanted = _dense(moments, residual, keys, 7.0, RIDGE)
    assert (left @ right - wanted).norm() <= 1e-10 * wanted.norm()
    assert left.shape[1] == (n if n < D else OUT)


@given(seed=st.integers(0, 2**31), n=st.integers(1, 60), weight=st.floats(1e-3, 1e4), ridge=st.floats(1e-6, 1e-1))
def test_the_gradient_of_what_is_minimised_vanishes(seed: int, n: int, weight: float, ridge: float) -> None:
    moments, residual, keys = _problem(torch.Generator().manual_seed(seed), n)
    left, right = Solver.of(moments, ridge=ridge).update(residual, keys, weight=weight)
    change = left @ right
    pull = (residual - change @ keys) @ keys.T
    keep = weight * change @ moments.mean(ridge=ridge)
    assert (pull - keep).norm() <= 1e-8 * (residual @ keys.T).norm()


def test_without_weight_on_the_old_the_new_values_are_met_and_with_much_of_it_hardly(
    generator: torch.Generator,
) -> None:
    moments, residual, keys = _problem(generator, 5)
    solver = Solver.of(moments)
    missed = [
        float((left @ right @ keys - residual).norm() / residual.norm())
        for left, right in (solver.update(residual, keys, weight=w) for w in (1e-9, 1e6))
    ]
    assert missed[0] < 1e-8
    assert missed[1] > 0.9


def test_applying_it_inverts_the_mean_second_moment(generator: torch.Generator) -> None:
    moments, _, keys = _problem(generator, 4)
    assert torch.allclose(moments.mean(ridge=RIDGE) @ Solver.of(moments).apply(keys), keys, atol=1e-10)


def test_a_mean_does_not_depend_on_how_often_the_data_came(generator: torch.Generator) -> None:
    moments, _, keys = _problem(generator, 2)
    assert torch.allclose(Solver.of(moments + moments).apply(keys), Solver.of(moments).apply(keys), rtol=1e-9)


def test_the_same_moments_are_factored_once(generator: torch.Generator) -> None:
    moments = Moments.of(_rows(generator))
    assert Solver.of(moments) is Solver.of(moments)
    assert Solver.of(moments) is not Solver.of(moments, ridge=1e-2)


def test_the_condition_is_that_of_the_matrix(generator: torch.Generator) -> None:
    moments = Moments.of(_rows(generator))
    values = torch.linalg.eigvalsh(moments.mean(ridge=1e-4))
    assert Solver.of(moments, ridge=1e-4).condition == pytest.approx(float(values[-1] / values[0]), rel=0.2)


def test_fewer_rows_than_columns_need_a_ridge(generator: torch.Generator) -> None:
    few = Moments.of(_rows(generator, 10))
    assert Solver.of(few).condition < D / RIDGE * 2
    with pytest.raises(ValueError, match=r"10 rows, 48 wide, that has no inverse with ridge=0.0; expected a larger"):
        Solver.of(few, ridge=0.0)


def test_bad_input_is_refused(generator: torch.Generator) -> None:
    moments, residual, keys = _problem(generator, 3)
    solver = Solver.of(moments)
    with pytest.raises(ValueError, match=r"got keys of shape \(3, 48\); expected \(48, n\)"):
        solver.apply(keys.T)
    with pytest.raises(ValueError, match=r"got a residual of shape \(20, 2\) for 3 keys; expected \(o, 3\)"):
        solver.update(residual[:, :2], keys, weight=1.0)
    with pytest.raises(ValueError, match="got weight=0; expected a positive number"):
        solver.update(residual, keys, weight=0)
    with pytest.raises(ValueError, match="got ridge=-1; expected a number from 0"):
        Solver.of(moments, ridge=-1)
    keys[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="non-finite of 144 entries in the keys"):
        solver.update(residual, keys, weight=1.0)
    with pytest.raises(NonFiniteError, match="in the second moment"):
        Solver.of(Moments(1, torch.zeros(2), second=torch.full((2, 2), float("nan"))))
