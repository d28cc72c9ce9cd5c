"""The flow comes to rest where Kalman's step ends, and never raises its energy."""

import pytest
import torch
from torch import Tensor

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.modification.predictive_coding import kalman, relax


def _drawn(seed: int, d: int = 6, m: int = 4) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    h, y, o = (torch.randn(*s, generator=generator, dtype=torch.float64) for s in ((m, d), (d,), (m,)))
    p, r = (torch.rand(k, generator=generator, dtype=torch.float64) + 0.05 for k in (d, m))
    return y, p, o, r, h


@pytest.mark.parametrize("seed", range(3))
def test_rest_is_kalman_for_linear_predictions(seed: int) -> None:
    y, p, o, r, h = _drawn(seed)
    found, (mean, _) = relax(y, p, o, r, lambda x: h @ x), kalman(y, p, o, r, h)
    assert found.converged and float((found.state - mean).abs().max()) < 1e-6
    assert float((found.state - y).abs().max()) > 0.1


def test_kalman_is_the_posterior_of_the_joint_gaussian() -> None:
    y, p, o, r, h = _drawn(7)
    precision = p.reciprocal().diag() + h.T @ r.reciprocal().diag() @ h
    mean, covariance = kalman(y, p, o, r, h)
    assert torch.allclose(covariance, torch.linalg.inv(precision), atol=1e-12)
    assert torch.allclose(mean, torch.linalg.solve(precision, y / p + h.T @ (o / r)), atol=1e-12)


def test_energy_falls_to_a_minimum_of_other_predictions_too() -> None:
    y, p, o, r, h = _drawn(1)
    found = relax(y, p, o, r, lambda x: torch.tanh(h @ x))
    assert found.converged and found.steps == len(found.energy) - 1
    assert all(b <= a * (1 + 1e-12) for a, b in zip(found.energy, found.energy[1:], strict=False))

    at = found.state.requires_grad_()
    energy = 0.5 * ((o - torch.tanh(h @ at)).square() / r).sum() + 0.5 * ((at - y).square() / p).sum()
    assert energy.item() == pytest.approx(found.energy[-1])
    assert float(torch.autograd.grad(energy, at)[0].abs().max()) < 1e-6


def test_what_is_expected_moves_nothing_and_too_few_steps_say_so() -> None:
    y, p, _, r, h = _drawn(2)
    same = relax(y, p, h @ y, r, lambda x: h @ x)
    assert same.converged and same.steps == 0 and torch.equal(same.state, y)
    assert not relax(y, p, h @ y + 1, r, lambda x: h @ x, steps=2).converged


def test_bad_input_is_refused() -> None:
    y, p, o, r, h = _drawn(3)
    with pytest.raises(ValueError, match=r"got a prediction of shape \(6,\); expected \(4,\)"):
        relax(y, p, o, r, lambda x: x)
    with pytest.raises(ValueError, match=r"got tolerance=0"):
        relax(y, p, o, r, lambda x: h @ x, tolerance=0.0)
    with pytest.raises(ValueError, match=r"got a matrix \(6,\); expected a tensor \(m, d\)"):
        kalman(y, p, o, r, y)
    with pytest.raises(NonFiniteError, match="the matrix"):
        kalman(y, p, o, r, h / 0)
    with pytest.raises(ValueError, match=r"got mean of shape \(4,\)"):
        kalman(o, p, o, r, h)
