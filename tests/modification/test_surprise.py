"""Quantiles without scipy, and one step of Kalman's."""

import math

import pytest
import torch

from mnemotrace.modification.surprise import chi_square_quantile, chi_square_share, log_density, squared_surprise, step

ALL = torch.ones(3, dtype=torch.bool)


@pytest.mark.parametrize("features", [1, 2, 16, 300])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.95, 0.995])
def test_quantiles_are_those_of_scipy_and_their_shares_come_back(share: float, features: int) -> None:
    special = pytest.importorskip("scipy.special")
    found = chi_square_quantile(share, features)
    assert found == pytest.approx(2 * float(special.gammaincinv(features / 2, share)), rel=1e-10)
    assert chi_square_share(found, features) == pytest.approx(share, rel=1e-10)


def test_the_quantile_of_nothing_is_zero_and_shares_of_one_are_refused() -> None:
    assert chi_square_quantile(0.0, 3) < 1e-100
    with pytest.raises(ValueError, match=r"got a share of 1.0 and 3 features; expected 0 <= share < 1"):
        chi_square_quantile(1.0, 3)


def test_half_way_between_equals_and_half_the_variance() -> None:
    mean, variance = step(
        torch.zeros(3).double(), torch.ones(3).double(), torch.ones(3).double(), torch.ones(3).double()
    )
    assert mean.tolist() == [0.5] * 3 and variance.tolist() == [0.5] * 3


@pytest.mark.parametrize("gain", [0.0, 0.3, 1.0])
def test_the_variance_is_that_of_the_estimate_over_many_draws(gain: float) -> None:
    generator = torch.Generator().manual_seed(0)
    p, r = torch.tensor([2.0, 0.5]).double(), torch.tensor([1.0, 3.0]).double()
    truth, seen = (torch.randn(40_000, 2, generator=generator).double() * v.sqrt() for v in (p, r))
    moved, variance = step(torch.zeros(2).double(), p, truth + seen, r, gain=gain)
    assert torch.allclose((moved - truth).var(0), variance, rtol=0.03)


def test_features_outside_the_mask_have_no_part() -> None:
    mask, error = torch.tensor([True, False, True]), torch.tensor([1.0, 100.0, 2.0]).double()
    two = torch.full((3,), 2.0).double()
    assert float(squared_surprise(error, two, mask)) == 2.5
    assert float(log_density(error, two, mask)) == pytest.approx(-1.25 - math.log(4 * math.pi))
    mean, variance = step(torch.zeros(3).double(), two, error, two, mask=mask)
    assert mean[1] == 0 and variance.tolist() == [1, 2, 1]


def test_log_density_is_that_of_independent_gaussians() -> None:
    error, spread = torch.randn(3).double(), torch.rand(3).double() + 0.1
    expected = torch.distributions.Normal(0.0, spread.sqrt()).log_prob(error).sum()
    assert torch.allclose(log_density(error, spread, ALL), expected)
