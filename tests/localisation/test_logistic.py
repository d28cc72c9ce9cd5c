"""The problem of sparse probes: gradients, the closed form of the largest penalty, the duality gap, refits."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemotrace.localisation.logistic import dense, gap, intercept, lambda_max, loss, objective, refit
from mnemotrace.localisation.probe_solvers import solve


def planted(n: int = 300, d: int = 30, *, seed: int = 0, bias: float = 0.5) -> tuple[torch.Tensor, torch.Tensor]:
    """Return standard normal rows and labels that four units make, with an intercept."""
    source = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=source, dtype=torch.float64)
    chance = torch.sigmoid(x[:, :4] @ torch.tensor([2.0, -2.0, 1.5, -1.5], dtype=torch.float64) + bias)
    return x, torch.where(torch.rand(n, generator=source, dtype=torch.float64) < chance, 1.0, -1.0).double()


def test_from_the_largest_penalty_on_nothing_is_used_and_just_below_one_unit_is() -> None:
    x, y = planted()
    most = lambda_max(x, y)
    assert int((solve(x, y, most * 1.0001, backend="fista")[0] != 0).sum()) == 0
    assert int((solve(x, y, most * 0.999, backend="fista")[0] != 0).sum()) == 1


@settings(max_examples=8)
@given(seed=st.integers(0, 100), bias=st.floats(-3, 3), share=st.floats(0.05, 0.9))
def test_the_gap_bounds_the_distance_to_the_best_objective(seed: int, bias: float, share: float) -> None:
    x, y = planted(80, 10, seed=seed, bias=bias)
    if len(y.unique()) < 2:
        return
    penalty = share * lambda_max(x, y)
    best = objective(x, y, *solve(x, y, penalty, backend="fista"), penalty=penalty)
    w = torch.randn(10, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 0.3
    b = intercept(x @ w, y)
    bound = gap(x, y, w, b, penalty=penalty)
    assert objective(x, y, w, b, penalty=penalty) - best <= bound + 1e-12
    assert bound > 0


def test_the_intercept_is_where_the_loss_is_least() -> None:
    x, y = planted(bias=4.0)
    w = torch.zeros(30, dtype=torch.float64)
    w[0] = 3.0
    b = intercept(x @ w, y)
    at = [float(loss(x, y, w, b + step).mean()) for step in (-1e-3, 0, 1e-3)]
    assert at[1] < min(at[0], at[2])
    share = float((y > 0).double().mean())
    assert intercept(torch.zeros(300), y) == pytest.approx(torch.logit(torch.tensor(share)).item(), abs=1e-6)


def test_a_refit_equals_sklearns_and_leaves_other_units_alone() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    x, y = planted()
    units = torch.zeros(30, dtype=torch.bool)
    units[[0, 1, 5]] = True
    w, b = refit(x, y, units, ridge=0.01)
    model = linear.LogisticRegression(C=1 / (0.01 * 300), tol=1e-10, max_iter=1000).fit(x[:, units].numpy(), y.numpy())
    assert torch.allclose(w[units], torch.from_numpy(model.coef_[0]), atol=1e-5)
    assert b == pytest.approx(model.intercept_[0], abs=1e-5)
    assert not bool(w[~units].any())
    assert refit(x, y, torch.zeros(30, dtype=torch.bool))[1] == pytest.approx(intercept(torch.zeros(300), y), abs=1e-5)


def test_separable_rows_have_a_finite_refit() -> None:
    x = torch.tensor([[-2.0], [-1.0], [1.0], [2.0]], dtype=torch.float64)
    w, b = refit(x, x[:, 0].sign(), torch.ones(1, dtype=torch.bool))
    assert float(w) > 3 and float(w) < 100 and abs(b) < 1e-6


def test_dense_probes_fit_all_columns_at_once_as_each_alone() -> None:
    x, y = planted()
    both = dense(x, torch.stack([y, -y], 1), ridge=0.01)
    w, b = refit(x, y, torch.ones(30, dtype=torch.bool), ridge=0.01)
    assert torch.allclose(both[0], torch.cat([w, w.new_tensor([b])]), atol=1e-4)
    assert torch.allclose(both[1], -both[0], atol=1e-4)
