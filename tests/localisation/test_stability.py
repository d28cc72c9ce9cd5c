"""What is planted comes back on every half; what is not comes back by chance."""

import pytest
import torch

from mnemotrace.localisation.logistic import lambda_max
from mnemotrace.localisation.stability import false_units, stability


def test_planted_units_are_stable_and_others_are_not() -> None:
    source = torch.Generator().manual_seed(0)
    x = torch.randn(300, 20, generator=source, dtype=torch.float64)
    y = torch.where(x[:, 3] - x[:, 7] + 0.3 * torch.randn(300, generator=source, dtype=torch.float64) > 0, 1.0, -1.0)
    penalty = 0.3 * lambda_max(x, y.double())
    often = stability(x, y.double(), penalty, subsamples=10, backend="fista")
    assert often[[3, 7]].tolist() == [1.0, 1.0]
    assert float(often[[u for u in range(20) if u not in (3, 7)]].max()) <= 0.5
    assert torch.equal(often, stability(x, y.double(), penalty, subsamples=10, backend="fista"))


def test_halves_hold_families_whole() -> None:
    """A unit that marks one family of two rows is used in the halves with that family: one of each pair."""
    x = torch.zeros(40, 2, dtype=torch.float64)
    x[:2, 0] = 5.0
    y = torch.ones(40, dtype=torch.float64)
    y[::2] = -1
    y[:2] = 1.0
    family = torch.arange(20).repeat_interleave(2)
    often = stability(x, y, 0.01, family=family, subsamples=6, backend="fista")
    assert often.tolist() == [0.5, 0.0]


def test_the_bound_on_false_units_is_that_of_the_theorem() -> None:
    often = torch.tensor([1.0, 1.0, 0.5, 0.0])
    assert false_units(often, 0.75) == pytest.approx(2.5**2 / (0.5 * 4))
    with pytest.raises(ValueError, match="got threshold=0.5; expected more than 0.5"):
        false_units(often, 0.5)
